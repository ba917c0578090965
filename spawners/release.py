"""The hub's side of sessions that nobody came to: how long each waits, and what such a session reports before it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jupyterhub.apihandlers import APIHandler
from tornado import web

from studiolo.site import Site

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["ReleasedHandler", "limit_of", "released_minutes"]

MAX_BODY = 1024
MAX_MINUTES = 366 * 24 * 60
# A session that reports its release ends within seconds. One that went on for longer had another end.
RELEASE_SECONDS = 300


def limit_of(site: Site, options: Mapping[str, object]) -> int:
    """How many minutes a session with these options waits for somebody to come; 0 for any time."""
    profile = site.profiles.get(str(options.get("profile")), site.profiles[site.default_profile])
    return site.hub.unattended_limit if profile.unattended_limit is None else profile.unattended_limit


def released_minutes(released: tuple[float, int] | None, state: str, ended: float) -> int:
    """After how many minutes a job released itself that ended as ``state`` at ``ended``; 0 where it ended otherwise.

    ``released`` is when it reported that, and its minutes.
    """
    if released is None or state != "COMPLETED" or not -RELEASE_SECONDS < ended - released[0] < RELEASE_SECONDS:
        return 0
    return released[1]


class ReleasedHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """A session's server reports that nobody came and that it ends: of the caller's own running session, nothing else.

    It ends nothing: what is taken here is only told to the session's owner, once the job is over by itself.
    """

    @web.authenticated
    def post(self) -> None:
        """Take ``{"session": name, "minutes": number}``, as often as it is sent; 400 for any other body, 404 where this
        token's server is not that session."""
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413, "the body is too long")
        body = self.get_json_body()
        if not isinstance(body, dict) or set(body) != {"session", "minutes"}:
            raise web.HTTPError(400, "the body must be a JSON object with exactly: session, minutes")
        session, minutes = body["session"], body["minutes"]
        if not isinstance(session, str) or type(minutes) is not int or not 1 <= minutes <= MAX_MINUTES:
            raise web.HTTPError(400, f"session must be a string, minutes a whole number from 1 to {MAX_MINUTES}")
        spawner = self._spawner_of(session)
        if spawner is None:
            raise web.HTTPError(404, "this is no running session of yours")
        spawner.released = spawner.released or (time.time(), minutes)
        self.set_status(204)
        self.finish()

    def _spawner_of(self, session: str) -> StudioloSpawner | None:
        """The running session of this name whose own token this is; a person's other tokens speak for no session."""
        # By its note, as JupyterHub writes it: after a restart the hub has forgotten the token itself.
        note = getattr(self.get_token(), "note", None)
        for spawner in getattr(self.current_user, "spawners", {}).values():
            if spawner.served_port and session and spawner.session_id == session:
                return spawner if note == spawner.token_note else None
        return None
