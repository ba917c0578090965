"""Several sessions a person: what a name may be, and how many there may be at once.

JupyterHub calls them named servers. Its own limit counts names, whether their session runs or not, and leaves out the
session without a name. The site's counts what runs, waits or is being stopped, of both kinds: that is what a centre
has to offer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.scopes import needs_scope
from jupyterhub.slugs import is_valid_display_name, is_valid_safe_slug, normalise_unicode, safe_slug
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

from spawners.engine import SITE_SETTING, engine_for
from spawners.form import choice_words
from spawners.offers import kept, offers
from spawners.presets import PresetsUnreadable, presets_of
from spawners.startpage import link_options, start_page
from spawners.stopping import stop
from studiolo.errors import shown
from studiolo.language import _

__all__ = ["NamedSessions", "SpawnPage", "free_name", "kept_names", "limit_refusal", "name_refusal", "title_refusal"]


NO_LINK = ("next", "display_name")  # what may stand in the address of the page besides options
# A session that is stopped keeps its name and its last choice until its owner deletes it; so many at most, whoever
# sends names by the thousand.
KEPT_NAMES = 20
LONGEST_TITLE = 60  # fits on the pages
LONGEST_NAME = 30
STOP_FIRST = "studiolo-stop-first"  # the button of a form; no option of a session has such a name


def kept_names(limit: int) -> int:
    """How many names a person may keep where ``limit`` sessions may be there at once."""
    return max(KEPT_NAMES, limit)


def name_refusal(name: object) -> str:
    """Why this can not be the name of a new session; empty where it can."""
    if isinstance(name, str) and is_valid_safe_slug(name):
        return ""
    return _(
        "%(name)s can not be a session's name: use up to 30 small letters, digits and single hyphens, "
        "a letter first and no hyphen last",
        name=shown(name),
    )


def title_refusal(title: object) -> str:
    """Why this can not be what people see as a session's name; empty where it can."""
    if isinstance(title, str) and len(title) <= LONGEST_TITLE and is_valid_display_name(normalise_unicode(title)):
        return ""
    return _(
        "%(title)s can not be a session's title: use up to %(most)s printable characters",
        title=shown(title),
        most=LONGEST_TITLE,
    )


def free_name(title: str, taken: Any) -> str:
    """A name for a new session of that title. Titles that differ only in what an address can not hold are different ones."""
    slug: str = safe_slug(title, avoid_collisions=False)
    name, number = slug, 2
    while name in taken:
        end = f"-{number}"
        name = slug[: LONGEST_NAME - len(end)].rstrip("-") + end
        number += 1
    return name


def limit_refusal(others: Sequence[str], limit: int) -> str:
    """Why no further session may begin while ``others`` (their names) are there; empty where one may."""
    if len(others) < limit:
        return ""
    names = ", ".join(name or _("the one without a name") for name in others)
    if limit == 1:
        return _("You have a session already, and one is what a person may have here. Stop it first.")
    return _(
        "You have %(count)s sessions (%(names)s), and %(most)s at once are what a person may have here. Stop one first.",
        count=len(others),
        names=names,
        most=limit,
    )


class NamedSessions:
    """A mix-in for JupyterHub's handlers that start sessions: refuses names, and too many sessions, in words."""

    settings: dict[str, Any]
    request: Any
    path_args: list[str]

    @property
    def allow_named_servers(self) -> bool:
        """JupyterHub's. What began while a person could have several sessions goes on, and is stopped, where they may have
        but one."""
        if self.sessions_per_person > 1 or self.request.method == "DELETE":
            return True
        return len(self.path_args) == 2 and engine_for(self.settings[SITE_SETTING]).cut_off.holds(*self.path_args)

    @property
    def sessions_per_person(self) -> int:
        """The site's limit."""
        return engine_for(self.settings[SITE_SETTING]).site.hub.sessions_per_person

    def over_limit(self, user: Any, name: str) -> str:
        """Why ``user`` may not start the session ``name`` beside what is there; empty where it may."""
        others = [spawner.name for spawner in user.spawners.values() if spawner.active and spawner.name != name]
        return limit_refusal(sorted(others), self.sessions_per_person)

    async def spawn_single_user(
        self, user: Any, server_name: str = "", display_name: str = "", options: dict[str, Any] | None = None
    ) -> None:
        """JupyterHub's start of a session, refused with 409 where there are enough."""
        if refusal := self.over_limit(user, server_name):
            raise web.HTTPError(409, refusal)
        await super().spawn_single_user(user, server_name, display_name, options)  # type: ignore[misc]

    async def _check_named_server_request(
        self, user: Any, server_name: object, display_name: object, check_limit: bool = True
    ) -> None:
        """JupyterHub's own check of a name, after ours, which says what is allowed."""
        if not self.allow_named_servers:
            raise web.HTTPError(400, _("Sessions have no names here: one at a time is what a person may have."))
        kept = user.orm_spawners
        if server_name not in kept:
            refusal = name_refusal(server_name) or title_refusal(display_name)
            names = len(set(kept) - {""})
            if not refusal and check_limit and names >= kept_names(self.sessions_per_person):
                refusal = _(
                    "You have %(count)s named sessions, running or not, and no more are kept. Delete one first.",
                    count=names,
                )
            if refusal:
                raise web.HTTPError(400, refusal)
        elif display_name and (refusal := title_refusal(display_name)):
            raise web.HTTPError(400, refusal)
        await super()._check_named_server_request(user, server_name, display_name, check_limit)  # type: ignore[misc]


class SpawnPage(NamedSessions, SpawnHandler):  # type: ignore[misc]  # JupyterHub has no types
    """The start page, ``/hub/spawn/USER/NAME``."""

    _link: dict[str, object] | None = None

    @property
    def session_name(self) -> str:
        """The name in the address; empty for the session without one."""
        return self.path_args[1] if len(self.path_args) > 1 else ""

    async def prepare(self) -> None:
        """Refuse what is no text: JupyterHub would fail over it, with a bare 500."""
        await super().prepare()
        for values in (*self.request.query_arguments.values(), *self.request.body_arguments.values()):
            try:
                for value in values:
                    value.decode()
            except UnicodeDecodeError as error:
                raise web.HTTPError(400, _("This address or form holds letters that are not UTF-8.")) from error

    def _get_user_options(self, query_options: dict[str, list[str]]) -> dict[str, object]:
        """A launch link fills the page in and never starts anything: a click on a stranger's link must not cost.

        So JupyterHub, which would start a session with what stands in the address, is told that nothing does.
        """
        if link := link_options(query_options):
            self._link = link
        return {}

    def append_query_parameters(self, url: str, exclude: Sequence[str] | None = None) -> str:
        """JupyterHub's, which would have the form's proof against forgery stand in the next page's address."""
        told: str = super().append_query_parameters(url, exclude=[*(exclude or ()), "_xsrf"])
        return told

    @needs_scope("servers")  # type: ignore[untyped-decorator]
    async def _get(self, user_name: str, server_name: str, display_name: str) -> None:
        """The page; or, where a link leads to a session that is there already, what to do about it."""
        user = self.find_user(user_name)
        if user is not None and server_name in user.spawners and user.spawners[server_name].active:
            query = {key: [value.decode() for value in values] for key, values in self.request.query_arguments.items()}
            if link := link_options({key: values for key, values in query.items() if key not in NO_LINK}):
                await self._ask_first(user, server_name, link)
                return
        await super()._get(user_name=user_name, server_name=server_name, display_name=display_name)

    async def _ask_first(self, user: Any, name: str, link: dict[str, object], trouble: str = "") -> None:
        """A link neither opens nor stops anything by itself, and what it holds is not lost."""
        site, spawner = engine_for(self.settings[SITE_SETTING]).site, user.spawners[name]
        state = "stopping" if spawner.pending == "stop" else "ready" if spawner.ready else "starting"
        profile = site.profiles.get(str(link.get("profile") or site.default_profile))
        another = free_name(profile.title if profile else "link", user.orm_spawners)
        may = self.sessions_per_person > 1 and not self.over_limit(user, another)
        page = await self.render_template(
            "spawn_running.html",
            state=state,
            choice=choice_words(site, link),
            open_url=user.server_url(name) if state == "ready" else self._get_pending_url(user, name),
            another_url=f"{self._address_of(user, another)}?{self.request.query}" if may else "",
            url=self.request.uri,
            stop_field=STOP_FIRST,
            trouble=trouble,
        )
        self.set_header("Cache-Control", "no-store")
        self.finish(page)

    def _address_of(self, user: Any, name: str) -> str:
        return str(url_path_join(self.hub.base_url, "spawn", user.escaped_name, url_escape_path(name)))

    @needs_scope("delete:servers")  # type: ignore[untyped-decorator]
    async def _stop_first(self, user_name: str, server_name: str) -> None:
        """Stop what a link's page has asked about, and come back to the link."""
        user = self.find_user(user_name)
        if user is not None and server_name in user.spawners and user.spawners[server_name].active:
            await stop(self, engine_for(self.settings[SITE_SETTING]), user, server_name)
        self.redirect(self.request.uri, status=303)

    @needs_scope("servers")  # type: ignore[untyped-decorator]
    async def _post(self, user_name: str, server_name: str, display_name: str) -> None:
        """Start; or, where another tab has done so already, go to what is on its way instead of refusing."""
        if self.get_body_argument(STOP_FIRST, ""):
            await self._stop_first(user_name=user_name, server_name=server_name)
            return
        user = self.find_user(user_name)
        if user is not None and server_name in user.spawners and user.spawners[server_name].active:
            self.redirect(self._get_pending_url(user, server_name))
            return
        await super()._post(user_name=user_name, server_name=server_name, display_name=display_name)

    async def _render_form(
        self, for_user: Any, spawner_options_form: str, message: str = "", html_message: str = ""
    ) -> str:
        """The page with the form, which says at once where nothing can be started.

        The form is made here and not by JupyterHub, which shows the unnamed session's after a refusal: what was typed
        would be lost.
        """
        spawner = for_user.spawners[self.session_name]
        engine = engine_for(self.settings[SITE_SETTING])
        engine.choosing.renew()
        submitted = None
        if self.request.method == "POST":
            body = self.request.body_arguments.items()
            submitted = {key: [value.decode() for value in values] for key, values in body}
        elif not message and not html_message:
            message = self.over_limit(for_user, self.session_name)
        try:
            presets, presets_fault = presets_of(engine.site, self.current_user.name).all(), ""
        except PresetsUnreadable as error:
            self.log.error("%s", error)
            presets, presets_fault = {}, _("Your presets can not be read at the moment. The support has to mend this.")
        self._page = start_page(
            engine.site,
            last=dict(spawner.user_options or {}),
            presets=presets,
            link=self._link,
            preset=self.get_query_argument("preset", None),
            submitted=submitted,
            # What is known at this moment; the page's script asks for more.
            live=self._live(spawner.user_options or {}, presets),
        ) | {
            "session_title": spawner.display_name or self.session_name,
            "presets_fault": presets_fault,
            "session": self.session_name if for_user.name == self.current_user.name else None,
            "url": self._own_address(),
        }
        page: str = await super()._render_form(for_user, str(self._page["form"]), message, html_message)
        return page

    def _live(self, last: dict[str, object], presets: dict[str, dict[str, object]]) -> dict[str, Any]:
        choosing, person, now = engine_for(self.settings[SITE_SETTING]).choosing, self.current_user.name, time.time()
        told = offers(choosing, person, now, may_ask=False)
        return {**told, "kept": kept(choosing, last, presets, person, now, may_ask=False)}

    def _own_address(self) -> str:
        """Where the form is sent to: this page, less what filled it in."""
        kept = {
            key: self.get_query_argument(key) for key in ("next", "display_name") if self.get_query_argument(key, "")
        }
        return str(url_concat(self.request.path, {**kept, "_xsrf": self.xsrf_token.decode("ascii")}))

    def render_template(self, name: str, sync: bool = False, **values: Any) -> Any:
        """JupyterHub's, with what this page says beside."""
        return super().render_template(name, sync=sync, **(values | getattr(self, "_page", {})))
