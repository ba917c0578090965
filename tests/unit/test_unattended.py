"""A session that nobody comes to: when it judges so, what it tells the hub, and what the hub makes of it."""

from __future__ import annotations

import asyncio
import urllib.error
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from spawners import unattended
from spawners.release import RELEASE_SECONDS, limit_of, released_minutes
from spawners.unattended import Attendance, tell_hub
from studiolo.site import SiteError, parse

USER = SimpleNamespace(_jupyter_current_user={"name": "ada"})
NOBODY = SimpleNamespace(_jupyter_current_user=None)


class Server:
    """Notes what becomes of it."""

    def __init__(self, while_told: Callable[[Attendance], None] = lambda attendance: None) -> None:
        self.acts: list[str] = []
        self._while_told = while_told
        self.attendance = Attendance(15, self.tell, lambda: self.acts.append("ends"))

    async def tell(self) -> None:
        self.acts.append("tells")
        self._while_told(self.attendance)


def test_where_nobody_came_the_hub_is_told_and_then_it_ends() -> None:
    server = Server()
    asyncio.run(server.attendance.judge())
    assert server.acts == ["tells", "ends"]


def test_where_somebody_came_nothing_happens() -> None:
    server = Server()
    server.attendance.saw(USER)
    asyncio.run(server.attendance.judge())
    assert server.acts == []


@pytest.mark.parametrize("handler", [NOBODY, SimpleNamespace()])
def test_a_request_that_nobody_signed_is_nobodys_coming(handler: object) -> None:
    server = Server()
    server.attendance.saw(handler)
    asyncio.run(server.attendance.judge())
    assert server.acts == ["tells", "ends"]


def test_somebody_who_comes_at_the_last_moment_keeps_it() -> None:
    server = Server(lambda attendance: attendance.saw(USER))
    asyncio.run(server.attendance.judge())
    assert server.acts == ["tells"]


def test_the_hub_is_told_which_session_and_after_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def post(*what: Any) -> Any:
        sent.append(what[:3])
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(unattended, "post", post)
    monkeypatch.setattr(unattended, "session_context", lambda: None)
    environ = {"JUPYTERHUB_API_URL": "http://hub/hub/api", "JUPYTERHUB_API_TOKEN": "t", "STUDIOLO_SESSION": "s"}
    asyncio.run(tell_hub(15, environ))
    assert sent == [("http://hub/hub/api/studiolo/released", {"session": "s", "minutes": 15}, "t")]


def test_a_hub_that_refuses_or_stays_away_keeps_no_session_alive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_what: Any) -> Any:
        raise urllib.error.URLError("refused")

    monkeypatch.setattr(unattended, "persistently", lambda ask: ask())
    monkeypatch.setattr(unattended, "post", refuse)
    monkeypatch.setattr(unattended, "session_context", lambda: None)
    asyncio.run(tell_hub(15, {"JUPYTERHUB_API_URL": "http://hub/hub/api", "JUPYTERHUB_API_TOKEN": "t"}))
    assert "was not told" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("released", "state", "ended", "minutes"),
    [
        ((1000.0, 15), "COMPLETED", 1003.0, 15),
        ((1000.0, 15), "COMPLETED", 998.0, 15),  # Slurm's clock is another
        ((1000.0, 15), "COMPLETED", 1000.0 + RELEASE_SECONDS, 0),  # it went on, and ended of something else
        ((1000.0, 15), "CANCELLED", 1003.0, 0),
        (None, "COMPLETED", 1003.0, 0),
    ],
)
def test_only_a_session_that_ended_right_after_saying_so_was_released(
    released: tuple[float, int] | None, state: str, ended: float, minutes: int
) -> None:
    assert released_minutes(released, state, ended) == minutes


@pytest.mark.parametrize(
    ("key", "minutes"), [("", 15), ('unattended_limit = "30m"', 30), ('unattended_limit = "never"', 0)]
)
def test_the_site_says_how_long_a_session_waits_for_somebody(
    edited: Callable[..., str], key: str, minutes: int
) -> None:
    site = parse(edited(("[authentication]", f"[hub]\n{key}\n[authentication]")))
    assert limit_of(site, {}) == minutes
    assert limit_of(site, {"profile": "no such"}) == minutes


def test_a_profile_may_say_otherwise(site_text: str) -> None:
    head, found, rest = site_text.partition("[profiles.")
    name, _end, tail = rest.partition("]\n")
    site = parse(f'{head}{found}{name}]\nunattended_limit = "never"\n{tail}')
    assert limit_of(site, {"profile": name}) == 0


@pytest.mark.parametrize("value", ["-1", "true", '"soon"'])
def test_a_limit_that_is_no_time_is_refused(edited: Callable[..., str], value: str) -> None:
    with pytest.raises(SiteError, match=r"hub\.unattended_limit"):
        parse(edited(("[authentication]", f"[hub]\nunattended_limit = {value}\n[authentication]")))
