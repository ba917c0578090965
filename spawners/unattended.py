"""In a session's own server: where nobody comes, it tells the hub why and ends, so that its place is another's.

A server extension of Jupyter's, beside ``spawners/session_api.py``. Somebody has come when any request was authenticated: a
page, a program with a token. The hub's own question whether the server answers is none.
"""

from __future__ import annotations

import asyncio
import http.client
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from spawners.identity import session_context
from spawners.singleuser import persistently, post

__all__ = ["Attendance"]


class Attendance:
    """Whether somebody has come to this server. ``tell`` says to the hub that nobody has, ``end`` ends the server."""

    def __init__(self, minutes: int, tell: Callable[[], Awaitable[None]], end: Callable[[], None]) -> None:
        self.minutes = minutes
        self.somebody_came = False
        self._tell = tell
        self._end = end

    def saw(self, handler: Any) -> None:
        """A request was answered."""
        # Not the property, which asks anew where nobody was asked for.
        if getattr(handler, "_jupyter_current_user", None):
            self.somebody_came = True

    async def judge(self) -> None:
        """The time is over: end, unless somebody has come, or comes while the hub is told."""
        if self.somebody_came:
            return
        await self._tell()
        if not self.somebody_came:
            self._end()


async def tell_hub(minutes: int, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the hub that this session releases itself. Where it can not be told, the session ends all the same."""
    url = f"{environ['JUPYTERHUB_API_URL']}/studiolo/released"
    body = {"session": environ.get("STUDIOLO_SESSION", ""), "minutes": minutes}

    def ask() -> None:
        post(url, body, environ["JUPYTERHUB_API_TOKEN"], session_context()).close()

    try:
        await asyncio.get_running_loop().run_in_executor(None, persistently, ask)
    except (OSError, http.client.HTTPException) as error:
        print(f"studiolo: the hub was not told why this session ends ({error})", flush=True)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "spawners.unattended"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Begin to watch, where the site wants it; the time counts from the event loop's first turn, when the server listens."""
    minutes = int(os.environ.get("STUDIOLO_UNATTENDED_MINUTES") or 0)
    if not minutes:
        return

    def end() -> None:
        server.log.warning("studiolo: nobody came within %d min: this session is released", minutes)
        server.stop()

    attendance = Attendance(minutes, lambda: tell_hub(minutes), end)
    settings = server.web_app.settings
    settings["studiolo_attendance"] = attendance
    logged = settings.get("log_function", lambda handler: None)

    def watch(handler: Any) -> None:
        attendance.saw(handler)
        logged(handler)

    settings["log_function"] = watch
    loop = server.io_loop
    loop.add_callback(lambda: loop.call_later(60 * minutes, lambda: loop.add_callback(attendance.judge)))
