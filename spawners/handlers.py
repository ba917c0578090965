"""The hub's HTTP border to sessions: what a job may fetch and report, and the gate in front of the REST API.

:func:`install` also unregisters batchspawner's own callback, which lets a session set more than its port.
"""

from __future__ import annotations

import json
import secrets
from typing import Any, cast

from jupyterhub import apihandlers
from jupyterhub import handlers as page_handlers
from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers.base import UserUrlHandler
from jupyterhub.handlers.login import LogoutHandler
from jupyterhub.handlers.pages import HomeHandler, SpawnHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from spawners.callers import JsonHandler
from spawners.certificates import RequestNotUsable
from spawners.engine import SITE_SETTING, digest, engine_for
from spawners.extend import ExtendHandler
from spawners.failure import RequestRefused
from spawners.home import HomePage
from spawners.named import NamedSessions, SpawnPage, name_refusal
from spawners.offers import EstimateHandler, OffersEventsHandler, OffersHandler
from spawners.presets import PresetsHandler
from spawners.release import ReleasedHandler
from spawners.room import must_have_room
from spawners.server import NotPlaced, StudioloSpawner
from spawners.sessions import SessionEvents, SessionsHandler
from spawners.stopping import let_go, stopped_by
from spawners.usage import UsageHandler
from studiolo.errors import RequestError, shown
from studiolo.request import check

__all__ = ["BootstrapHandler", "GatedServerHandler", "ListeningHandler", "LogoutPage", "SessionPage", "install"]

MIN_PORT = 1024
SERVER_FIELDS = {"display_name", "user_options"}
NOT_AWAITED = "this secret is not awaited: the session was stopped, or has begun already"
PATCH_FIELDS = {"name", *SERVER_FIELDS}
STOCK_CALLBACK = r"/api/batchspawner"


class BootstrapHandler(JsonHandler):
    """A job that has just started exchanges its one-time secret for its server's environment.

    So the API token is in no script, in no job's environment, in no accounting: what Slurm sees is worthless once used.
    """

    async def post(self) -> None:
        """Answer ``{"secret": …}`` with ``{"environment": {…}, "outline": TEXT}``, once; 403 for any secret not awaited.

        The outline is what sessions are told of the site (:mod:`studiolo.outline`).

        With TLS inside, the request also holds a ``csr``, and the answer ``certificate`` and ``authorities`` (PEM); 503
        while Slurm does not say where the job runs, or where the hub has just begun and will await the secret in a moment:
        ask again, nothing is used up.
        """
        tls = bool(self.settings["internal_ssl"])
        body = self.body("secret", "csr") if tls else self.body("secret")
        secret = body["secret"]
        if not isinstance(secret, str):
            raise web.HTTPError(400, "secret must be a string")
        engine = engine_for(self.settings[SITE_SETTING])
        if engine.cut_off.awaits(digest(secret)):
            raise web.HTTPError(503, "the hub has just begun; ask again in a moment")
        spawner = engine.awaited(secret)
        if spawner is None:
            raise web.HTTPError(403, NOT_AWAITED)
        answer: dict[str, Any] = {}
        if tls:
            try:
                answer = await spawner.certify(body["csr"])
            except RequestNotUsable as error:
                raise web.HTTPError(400, str(error)) from error
            except NotPlaced as error:
                raise web.HTTPError(503, str(error)) from error
        if self.request.connection.stream.closed():
            return  # the node has given up waiting and asks again: nothing is used up
        if engine.redeem(secret) is not spawner:  # meanwhile stopped, or somebody was faster
            raise web.HTTPError(403, NOT_AWAITED)
        self.set_header("Cache-Control", "no-store")
        told = {"environment": spawner.session_environment(), "outline": engine.outline}
        self.finish(json.dumps(told | answer))


class ListeningHandler(JsonHandler):
    """A session's server reports the port that it listens on: of the caller's own pending server, once, nothing else."""

    @web.authenticated
    async def post(self) -> None:
        """Take ``{"port": number}``; 400 for any other body, 404 where no start of this caller waits for one.

        The answer 204 means that the hub has it in its database. A server that has not heard it asks again, and hears it
        again: the hub may have ended between the two.
        """
        port = self.body("port")["port"]
        if type(port) is not int or not MIN_PORT <= port <= 65535:
            raise web.HTTPError(400, f"port must be a whole number from {MIN_PORT} to 65535")
        spawner = self._own_spawner()
        # The token of an earlier hub process belongs to no spawner here; its server is one that is written down.
        if not (spawner.served_port == port if spawner else self._recorded(port)):
            if spawner is None or not spawner.cluster:
                raise web.HTTPError(404, "no start of yours waits for a port")
            if port not in spawner.ports:
                raise web.HTTPError(
                    400, f"port must lie from {spawner.ports[0]} to {spawner.ports[-1]} on this cluster"
                )
            if not await spawner.listening(port):
                raise web.HTTPError(404, "no start of yours waits for a port")
        self.set_status(204)
        self.finish()

    def _recorded(self, port: int) -> bool:
        """Whether one of the caller's servers has reported this very port before."""
        return any(
            isinstance(spawner, StudioloSpawner) and spawner.served_port == port
            for spawner in getattr(self.current_user, "spawners", {}).values()
        )

    def _own_spawner(self) -> StudioloSpawner | None:
        """The one spawner of the caller whose token this is."""
        token = self.get_auth_token() or ""
        spawners = getattr(self.current_user, "spawners", {})
        for spawner in spawners.values():
            if spawner.api_token and secrets.compare_digest(spawner.api_token, token):
                return spawner if isinstance(spawner, StudioloSpawner) else None
        return None


class GatedServerHandler(NamedSessions, UserServerAPIHandler):  # type: ignore[misc]
    """JupyterHub's handler of servers, with the request checked before anything is stored or started."""

    def get_server_json_body(self) -> dict[str, Any]:
        """The body, its ``user_options`` passed through the gate (400 with every fault)."""
        raw = super().get_json_body()
        if isinstance(raw, dict) and SERVER_FIELDS & set(raw):
            _refuse_unknown(raw, SERVER_FIELDS)
        body: dict[str, Any] = super().get_server_json_body()
        self._check(body.get("user_options"))
        must_have_room(engine_for(self.settings[SITE_SETTING]).site)
        return body

    def get_json_body(self) -> Any:
        """The same for PATCH, which reads its body by itself."""
        body = super().get_json_body()
        if self.request.method == "PATCH" and isinstance(body, dict):
            _refuse_unknown(body, PATCH_FIELDS)
            if "name" in body and (refusal := name_refusal(body["name"])):
                raise web.HTTPError(400, refusal)
            self._check(body.get("user_options"))
        return body

    @needs_scope("delete:servers")  # type: ignore[untyped-decorator]
    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Stop a server, and keep for its owner who did; one being started is first let go of, for as long as that takes."""
        user = self.find_user(user_name)
        if user is not None and server_name in user.spawners:
            stopped_by(user.spawners[server_name], self.current_user)
        await let_go(engine_for(self.settings[SITE_SETTING]), user, user_name, server_name)
        await super().delete(user_name, server_name)

    def _check(self, options: object) -> None:
        if options is None:
            return
        try:
            check(cast("dict[str, object]", options), engine_for(self.settings[SITE_SETTING]).site)
        except RequestError as error:
            raise RequestRefused(error) from error


def _refuse_unknown(body: dict[str, Any], known: set[str]) -> None:
    if unknown := set(body) - known:
        names = ", ".join(sorted(map(shown, unknown)))
        raise web.HTTPError(400, f"unknown: {names}; known are: {', '.join(sorted(known))}")


class SessionPage(UserUrlHandler):  # type: ignore[misc]
    """Where the proxy sends whoever asks for a session that it knows no way to.

    For a ready session that means: the proxy has died and come back, and remembers nothing. JupyterHub would send people
    to and fro until it calls that a redirect loop; its own look at all routes comes twice a minute.
    """

    async def _redirect_to_user_server(self, user: Any, spawner: Any) -> None:
        await self.proxy.add_user(user, spawner.name)
        await super()._redirect_to_user_server(user, spawner)


class LogoutPage(LogoutHandler):  # type: ignore[misc]
    """Tells whoever logs out that they have, and that their sessions go on and count.

    JupyterHub has a page for that, and shows it only where people are logged in by themselves; elsewhere they would see the
    form for logging in, without a word.
    """

    async def render_logout_page(self) -> None:
        self.finish(await self.render_template("logout.html"))


def install(*further: tuple[Any, ...]) -> None:
    """Put our routes before JupyterHub's and take batchspawner's away. Called once, before the hub reads its routes.

    ``further`` are routes of pages: JupyterHub has a setting for those, which it calls deprecated at each start.
    """
    ours = [
        (r"/api/studiolo/bootstrap", BootstrapHandler),
        (r"/api/studiolo/listening", ListeningHandler),
        (r"/api/studiolo/presets(?:/([^/]+))?", PresetsHandler),
        (r"/api/studiolo/offers", OffersHandler),
        (r"/api/studiolo/offers/events", OffersEventsHandler),
        (r"/api/studiolo/estimate", EstimateHandler),
        (r"/api/studiolo/sessions", SessionsHandler),
        (r"/api/studiolo/sessions/events", SessionEvents),
        (r"/api/studiolo/extend", ExtendHandler),
        (r"/api/studiolo/usage", UsageHandler),
        (r"/api/studiolo/released", ReleasedHandler),
    ]
    kept = [route for route in apihandlers.default_handlers if route[0] != STOCK_CALLBACK and route not in ours]
    apihandlers.default_handlers[:] = ours + [
        (route[0], GatedServerHandler) if route[1] is UserServerAPIHandler else route for route in kept
    ]
    pages = page_handlers.default_handlers
    instead = {
        HomeHandler: HomePage,
        LogoutHandler: LogoutPage,
        SpawnHandler: SpawnPage,
        UserUrlHandler: SessionPage,
    }
    kept = [(route[0], instead.get(route[1], route[1]), *route[2:]) for route in pages if route not in further]
    pages[:] = [*further, *kept]
