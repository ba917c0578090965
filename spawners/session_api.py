"""In a session's own server: what has happened in it, when it ends, and when it will be stopped for being idle.

A server extension of Jupyter's. ``GET BASE/studiolo/session`` tells, ``POST`` keeps: it counts as activity. The page's
part is ``spawners/labextension``.

Something happens in a session while a cell runs, however silently; while a program runs in a terminal; when something
is typed in one; when a page changes or saves anything. That a page is open, asks and reads is nothing: it does so by
itself, day and night; and so do widgets that a notebook keeps up to date.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from spawners.dead_kernels import DeadKernels, end_clusters, processes
from spawners.identity import session_context
from spawners.reporter import Reporter
from spawners.singleuser import post
from studiolo.meter import Meter

__all__ = ["Activity", "Doings", "SessionHandler", "told"]

CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
SETTING = "studiolo_activity"
REPORTER = "studiolo_reporter"


class Activity:
    """What happens in this server. ``settings`` are its web application's, where Jupyter keeps the time of each kind."""

    def __init__(self, settings: dict[str, Any], last_activity: Callable[[], datetime]) -> None:
        self._settings = settings
        self._last_activity = last_activity

    def last(self) -> datetime:
        """When something happened last: now, where something does."""
        if self._busy_kernel() or self._busy_terminal():
            self.touch()
        return self._last_activity()

    def touch(self) -> None:
        """Something happens now."""
        # Jupyter takes every setting of such a name into account.
        self._settings["studiolo_last_activity"] = datetime.now(timezone.utc)

    def _busy_kernel(self) -> bool:
        # Jupyter's own measure forgets a cell that computes for hours and prints nothing.
        kernels = self._settings["kernel_manager"].list_kernels()
        return any(kernel.get("execution_state") == "busy" for kernel in kernels)

    def _busy_terminal(self) -> bool:
        manager = self._settings.get("terminal_manager")
        terminals = getattr(manager, "terminals", {}).values()
        return any(has_children(terminal.ptyproc.pid) for terminal in terminals)


class Doings:
    """Which messages of kernels are somebody's doing, in the place of Jupyter's own ``track_message_type``.

    Jupyter asks it about each message, and, where that says no, about the message that this one answers. A widget that a
    thread keeps up to date (a panel, Dask's) answers the cell that made it, long ago: that is nobody's doing. One that changes
    since somebody moves it answers a message of its page's.
    """

    WIDGETS = frozenset({"comm_open", "comm_msg", "comm_close"})

    def __init__(self, tracked: Callable[[str], bool]) -> None:
        self._tracked = tracked
        self._asked: str | None = None  # the message itself, where its parent is asked about next

    def __call__(self, message_type: str) -> bool:
        if (message := self._asked) is None:
            if message_type not in self.WIDGETS and self._tracked(message_type):
                return True
            self._asked = message_type
            return False
        self._asked = None
        if message in self.WIDGETS:
            return message_type in self.WIDGETS
        return self._tracked(message_type)


def has_children(pid: int) -> bool:
    """Whether a shell runs a program."""
    try:
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").strip())
    except OSError:  # it has ended
        return False


def told(
    now: float, last_activity: float, environ: Mapping[str, str], by_slurm: int | None = None
) -> dict[str, int | None]:
    """What the page is told, in seconds since 1970: ``None`` where nothing of the kind will happen.

    ``by_slurm`` is the session's end as the hub has told it last, which an extension may have moved; before, what was asked
    for counts from the server's start.
    """
    limit = 60 * int(environ.get("STUDIOLO_IDLE_MINUTES") or 0)
    warning = 60 * int(environ.get("STUDIOLO_IDLE_WARNING_MINUTES") or 0)
    ends = environ.get("STUDIOLO_ENDS")
    stopped = int(last_activity) + limit
    return {
        "now": int(now),
        "ends": by_slurm or (int(ends) if ends else None),
        "idle_since": int(last_activity),
        "warned_at": stopped - warning if limit and warning else None,
        "culled_at": stopped if limit else None,
    }


class SessionHandler(APIHandler):
    """``BASE/studiolo/session``, for the session's page."""

    _track_activity = False  # the page asks by itself

    @web.authenticated
    def get(self) -> None:
        """Tell when this session ends, since when it is idle, when its page warns and when it is stopped for that."""
        activity: Activity = self.settings[SETTING]
        now = datetime.now(timezone.utc).timestamp()
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(told(now, activity.last().timestamp(), os.environ, self.settings[REPORTER].ends)))

    @web.authenticated
    def post(self) -> None:
        """Somebody is there: not idle from now on."""
        self.settings[SETTING].touch()
        self.get()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "spawners.session_api"}]


def _load_jupyter_server_extension(server: Any) -> None:
    application = server.web_app
    activity = Activity(application.settings, application.last_activity)
    application.settings[SETTING] = activity
    os.environ["JUPYTER_SERVER_ROOT"] = server.root_dir  # for links to files: Jupyter tells it to terminals alone
    manager = server.kernel_manager
    manager.track_message_type = Doings(manager.track_message_type)
    application.last_activity = activity.last  # what JupyterHub's extension reports to the hub
    reporter = Reporter(Meter(os.environ), send_report)
    application.settings[REPORTER] = reporter
    if os.environ.get("JUPYTERHUB_API_TOKEN"):
        server.io_loop.add_callback(reporter.run)
    if os.environ.get("STUDIOLO_SESSION"):
        server.io_loop.add_callback(DeadKernels(lambda: processes(manager), end_clusters).run)
    count_changes_only()
    application.add_handlers(
        ".*$", [(url_path_join(application.settings["base_url"], "studiolo", "session"), SessionHandler)]
    )


def send_report(report: dict[str, Any]) -> Any:
    """Tell the hub what this session uses; its answer. Raises ``OSError`` or ``ValueError`` where that fails."""
    url = f"{os.environ['JUPYTERHUB_API_URL']}/studiolo/usage"
    with post(url, report, os.environ["JUPYTERHUB_API_TOKEN"], session_context()) as answer:
        return json.load(answer)


def is_change(method: str, path: str) -> bool:
    """Whether a request is somebody's doing. JupyterLab itself saves where its windows are, every ten seconds."""
    return method in CHANGES and "/lab/api/workspaces/" not in path


def count_changes_only() -> None:
    """Have Jupyter's handlers count what changes something, and not the questions that an open page asks for ever."""
    counted = APIHandler.update_api_activity
    if getattr(counted, "changes_only", False):
        return

    def update_api_activity(self: APIHandler) -> None:
        if is_change(self.request.method or "", self.request.path):
            counted(self)

    update_api_activity.changes_only = True  # type: ignore[attr-defined]
    APIHandler.update_api_activity = update_api_activity  # type: ignore[method-assign]
