"""For the home page: which of a person's sessions did not start or ended otherwise than by their own will, in a line each.

The whole of it, with what to do, is on the session's own page (``spawners/explain.py``). Asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jupyterhub.utils import url_escape_path, url_path_join

from spawners.explain import known
from spawners.failure import RequestRefused, SessionFailed, sentences
from studiolo.language import _

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["KEPT_SECONDS", "endings", "in_a_line"]

KEPT_SECONDS = 7 * 24 * 3600
# What somebody did themselves, they know.
_OWN_DOING = frozenset({"shut-down", "cancelled-by-you"})


def endings(user: Any, hub_url: str, now: float) -> list[dict[str, Any]]:
    """``{"name", "title", "failed", "what", "at", "url"}`` of each session that has something to tell, until it starts anew."""
    found = list(_endings(user, hub_url, now))
    return sorted(found, key=lambda one: (one["name"] != "", one["title"].casefold()))


def _endings(user: Any, hub_url: str, now: float) -> Iterator[dict[str, Any]]:
    for kept in user.orm_user._orm_spawners:
        end = (kept.state or {}).get("last_end") or {}
        if kept.name not in user.spawners and not end:
            continue
        spawner = user.spawners[kept.name]
        if spawner.active:
            continue
        error = spawner._failed or None
        at = int(end.get("at") or 0)
        if error is None and at < now - KEPT_SECONDS:
            continue
        if what := in_a_line(spawner, error):
            name = url_escape_path(kept.name)
            # The hub's own address: below /user/ a session without a name that runs would answer for one with a name.
            where = "spawn-pending" if error is not None else "user"
            yield {
                "name": kept.name,
                "title": str(spawner.display_name or kept.name or _("My session")),
                "failed": error is not None,
                "what": what,
                "at": at or None,
                "url": f"{url_path_join(hub_url, where, user.escaped_name, name)}{'' if error is not None else '/'}",
            }


def in_a_line(spawner: StudioloSpawner, error: BaseException | None) -> str:
    """What happened, in one sentence; empty where nothing did that its owner does not know."""
    if isinstance(error, RequestRefused):
        return _("The site does not grant what was asked for.")
    # A log is read for its cause; once is enough, however often somebody looks.
    key: object = error if error is not None else spawner.last_end
    if spawner.ending is None or spawner.ending[0] is not key:
        spawner.ending = (key, known(spawner, error)[0])
    cause = spawner.ending[1]
    if cause is None:
        return error.what if isinstance(error, SessionFailed) else ""
    return "" if cause.kind in _OWN_DOING else sentences(cause)[0]
