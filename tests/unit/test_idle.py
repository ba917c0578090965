"""When a session counts as idle, who says so, and when it is stopped."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from jupyterhub.proxy import ConfigurableHTTPProxy

from hub_config.idle import environment, is_due, limits, margin_seconds, report_seconds
from hub_config.routes import RoutesProxy
from spawners.idleness import idle_limit
from spawners.session_api import Activity, Doings, has_children, is_change, told
from studiolo.site import Site, parse

LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def site_with(edited: Callable[..., str]) -> Callable[..., Site]:
    """The test site with these lines in ``[hub]`` and in its first profile."""

    def make(hub: str = "", profile: str = "") -> Site:
        return parse(
            edited(
                ("[authentication]", f"[hub]\n{hub}\n[authentication]"),
                ("[profiles.learn]", f"[profiles.learn]\n{profile}"),
            )
        )

    return make


# --- The hub's side --------------------------------------------------------------------------------------------------


def test_a_profile_may_have_a_limit_of_its_own(site_with: Callable[..., Site]) -> None:
    site = site_with("idle_limit = 60", "idle_limit = 'never'")
    other = next(name for name in site.profiles if name != "learn")
    assert idle_limit(site, {"profile": "learn"}) == 0
    assert idle_limit(site, {"profile": other}) == 60
    assert limits(site) == [60]


@pytest.mark.parametrize("options", [None, {}, {"profile": "gone"}, {"profile": ["learn"]}, "learn", 7])
def test_strange_options_have_the_first_profiles_limit(site_with: Callable[..., Site], options: object) -> None:
    assert idle_limit(site_with("idle_limit = 60", "idle_limit = 30"), options) == 30


@pytest.mark.parametrize(
    ("hub", "seconds"),
    [("", 600), ("idle_limit = 'never'", 600), ("idle_limit = 10", 60), ("idle_limit = 1\nidle_warning = 1", 15)],
)
def test_sessions_report_ten_times_within_the_shortest_limit_and_not_too_often(
    site_with: Callable[..., Site], hub: str, seconds: int
) -> None:
    assert report_seconds(site_with(hub)) == seconds


def test_a_session_is_told_its_own_limit(site_with: Callable[..., Site]) -> None:
    told_to = environment(site_with("idle_limit = 60\nidle_warning = 5", "idle_limit = 30"))
    spawner = SimpleNamespace(user_options={"profile": "learn"})
    values = {name: value(spawner) if callable(value) else value for name, value in told_to.items()}
    assert values == {
        "JUPYTERHUB_ACTIVITY_INTERVAL": "180",
        "STUDIOLO_IDLE_MINUTES": "30",
        "STUDIOLO_IDLE_WARNING_MINUTES": "5",
    }


@pytest.mark.parametrize(
    ("inactive", "limit", "awake", "due"),
    [
        (3600, 60, 9999, False),  # it may have reported since
        (3699, 60, 9999, False),
        (3700, 60, 9999, True),
        (9999, 60, 99, False),  # a hub that was away has not heard of anybody yet
        (9999, 60, 100, True),
        (10**9, 0, 9999, False),  # never
        (None, 60, 9999, False),
    ],
)
def test_a_session_is_stopped_once_its_last_word_has_surely_come(
    inactive: int | None, limit: int, awake: float, due: bool
) -> None:
    since = None if inactive is None else timedelta(seconds=inactive)
    assert is_due(since, limit, margin=100, awake=awake) is due


def test_the_margin_is_longer_than_the_longest_interval_of_jupyterhub(site_with: Callable[..., Site]) -> None:
    for hub in ("", "idle_limit = 10", "idle_limit = 1\nidle_warning = 1"):
        site = site_with(hub)
        assert margin_seconds(site) > report_seconds(site) * 1.1


def test_the_proxys_activity_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = {"/user/ada/": {"routespec": "/user/ada/", "data": {"user": "ada", "last_activity": "2026-01-01"}}}

    async def asked(self: object) -> dict[str, Any]:
        return routes

    monkeypatch.setattr(ConfigurableHTTPProxy, "get_all_routes", asked)
    proxy = RoutesProxy.__new__(RoutesProxy)
    assert asyncio.run(proxy.get_all_routes()) == {"/user/ada/": {"routespec": "/user/ada/", "data": {"user": "ada"}}}


# --- The session's side ----------------------------------------------------------------------------------------------


def activity(kernels: list[str], terminals: tuple[int, ...] = ()) -> Activity:
    """A server with kernels in these states and terminals whose shells have these process ids."""
    settings: dict[str, Any] = {
        "kernel_manager": SimpleNamespace(list_kernels=lambda: [{"execution_state": s} for s in kernels])
    }
    if terminals:
        shells = {str(pid): SimpleNamespace(ptyproc=SimpleNamespace(pid=pid)) for pid in terminals}
        settings["terminal_manager"] = SimpleNamespace(terminals=shells)
    return Activity(settings, lambda: settings.get("studiolo_last_activity", LONG_AGO))


def recent(moment: datetime) -> bool:
    return datetime.now(timezone.utc) - moment < timedelta(minutes=1)


def test_a_busy_kernel_is_activity_however_silent() -> None:
    assert recent(activity(["idle", "busy"]).last())


@pytest.mark.parametrize("kernels", [[], ["idle"], ["starting", "dead", "unknown"]])
def test_kernels_that_wait_are_none(kernels: list[str]) -> None:
    assert activity(kernels).last() == LONG_AGO


def test_a_shell_that_runs_a_program_is_activity_and_a_waiting_one_is_not() -> None:
    with subprocess.Popen(["sleep", "100"]) as waiting:
        assert recent(activity([], (os.getpid(),)).last())
        assert activity([], (waiting.pid,)).last() == LONG_AGO
        waiting.kill()
    assert not has_children(waiting.pid), "gone"


def test_who_says_so_is_there() -> None:
    server = activity([])
    server.touch()
    assert recent(server.last())


@pytest.mark.parametrize(
    ("method", "path", "change"),
    [
        ("GET", "/user/ada/api/kernels", False),
        ("HEAD", "/user/ada/api/contents", False),
        ("PUT", "/user/ada/api/contents/a.ipynb", True),
        ("POST", "/user/ada/api/kernels", True),
        ("DELETE", "/user/ada/api/sessions/1", True),
        ("PATCH", "/user/ada/api/contents/a.ipynb", True),
        ("PUT", "/user/ada/lab/api/workspaces/default", False),
        ("PUT", "/user/ada/lab/api/settings/theme", True),
    ],
)
def test_what_changes_something_is_somebodys_doing(method: str, path: str, change: bool) -> None:
    assert is_change(method, path) is change


def test_the_page_is_told_when_it_warns_and_when_it_is_stopped() -> None:
    environ = {"STUDIOLO_IDLE_MINUTES": "60", "STUDIOLO_IDLE_WARNING_MINUTES": "10", "STUDIOLO_ENDS": "9000"}
    assert told(1010.9, 1000.9, environ) == {
        "now": 1010,
        "ends": 9000,
        "idle_since": 1000,
        "warned_at": 1000 + 3000,
        "culled_at": 1000 + 3600,
    }


@pytest.mark.parametrize("environ", [{}, {"STUDIOLO_IDLE_MINUTES": "0", "STUDIOLO_IDLE_WARNING_MINUTES": "10"}])
def test_where_nothing_of_the_kind_happens_nothing_is_told(environ: dict[str, str]) -> None:
    assert told(10, 5, environ) == {"now": 10, "ends": None, "idle_since": 5, "warned_at": None, "culled_at": None}


# --- Widgets ---------------------------------------------------------------------------------------------------------


def counted(message: str, parent: str) -> bool:
    """Whether Jupyter counts a message of an idle kernel's: it asks about the message, and then about its parent."""
    manager = MappingKernelManager()
    doings = Doings(manager.track_message_type)
    for _again in range(2):  # nothing stays of one message for the next
        found = doings(message) or doings(parent)
    return found


@pytest.mark.parametrize(
    ("message", "parent", "counts"),
    [
        ("comm_msg", "execute_request", False),  # a thread keeps a widget up to date
        ("comm_open", "execute_request", False),
        ("comm_msg", "comm_msg", True),  # somebody moves it
        ("status", "comm_msg", True),
        ("status", "execute_request", True),
        ("execute_input", "execute_request", True),
        ("stream", "execute_request", True),
        ("execute_reply", "execute_request", True),
        ("status", "kernel_info_request", False),
        ("comm_info_reply", "comm_info_request", False),
    ],
)
def test_a_widget_that_changes_by_itself_is_nobodys_doing(message: str, parent: str, counts: bool) -> None:
    assert counted(message, parent) is counts
