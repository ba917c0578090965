"""Starts that a hub's end has cut off: kept once, handed over once, and begun again as soon as the hub answers itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from jupyterhub.httpclient import JupyterHubHTTPClient

from spawners import adoption
from spawners.adoption import CutOff, CutOffStarts, begin_again

Virtually = Callable[..., Any]
TOKEN = "token-of-the-hub-itself"


def cut_off(person: str = "ada", server_name: str = "", session: str = "s1", digest: str = "d1") -> CutOff:
    return CutOff(person, server_name, {"session_id": session, "secret_digest": digest, "cluster": "c"})


# --- Laid aside ------------------------------------------------------------------------------------------------------


def test_a_start_that_is_laid_aside_is_handed_over_once() -> None:
    starts, start = CutOffStarts(), cut_off()
    assert not starts.holds("ada", "")
    assert starts.lay_aside(start)
    assert starts.holds("ada", "")
    assert starts.sessions() == ["s1"]
    assert starts.take("ada", "") is start
    assert starts.take("ada", "") is None
    assert not starts.holds("ada", "")
    assert starts.sessions() == []


def test_a_start_that_is_cut_off_twice_is_not_tried_for_ever() -> None:
    starts = CutOffStarts()
    starts.lay_aside(cut_off())
    assert not starts.lay_aside(cut_off())
    starts.take("ada", "")
    assert not starts.lay_aside(cut_off())
    assert not starts.holds("ada", "")


def test_servers_and_people_are_told_apart() -> None:
    starts = CutOffStarts()
    laid = [cut_off("ada", "", "s1"), cut_off("ada", "b", "s2"), cut_off("ab", "", "s3"), cut_off("a", "b", "s4")]
    assert all(map(starts.lay_aside, laid))
    assert starts.sessions() == ["s1", "s2", "s3", "s4"]
    assert starts.take("ada", "b") is laid[1]
    assert starts.take("a", "b") is laid[3]
    assert not starts.holds("b", "")
    assert starts.sessions() == ["s1", "s3"]


def test_a_job_whose_start_is_laid_aside_is_awaited_until_it_is_taken() -> None:
    starts = CutOffStarts()
    starts.lay_aside(cut_off(digest="d1"))
    starts.lay_aside(cut_off("bob", session="s2", digest="d2"))
    assert starts.awaits("d1")
    assert starts.awaits("d2")
    assert not starts.awaits("d3")
    starts.take("ada", "")
    assert not starts.awaits("d1")
    assert starts.awaits("d2")


def test_a_record_without_a_digest_has_an_empty_one() -> None:
    assert CutOff("ada", "", {"session_id": "s1"}).digest == ""


# --- Begun again -----------------------------------------------------------------------------------------------------


class Hub:
    """A real HTTP server on loopback that answers with one status after the other, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.asked: list[tuple[str, str, str]] = []
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, and not listening: it refuses
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/hub/api"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.raw_path, request.headers.get("Authorization", "")))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, text=f"words of status {status} " + "x" * 5000)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Hands out what makes it listen."""
        runner = web.ServerRunner(web.Server(self.answer))
        await runner.setup()
        try:
            yield web.SockSite(runner, self.socket).start
        finally:
            await JupyterHubHTTPClient.loop_instance().close()
            await runner.cleanup()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "PAUSE_SECONDS", 0)


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(202)
    yield hub
    hub.socket.close()


def begun_again(hub: Hub, *statuses: int, start: CutOff | None = None) -> bool:
    """Whether the start goes on with a hub that answers so."""
    hub.statuses = list(statuses)

    async def ask() -> bool:
        async with hub.begun() as listen:
            await listen()
            return await begin_again(hub.url, TOKEN, start or cut_off())

    return asyncio.run(ask())


@pytest.mark.parametrize("status", [201, 202])
def test_the_hub_is_asked_once_with_the_token_and_the_start_goes_on(hub: Hub, status: int) -> None:
    assert begun_again(hub, status)
    assert hub.asked == [("POST", "/hub/api/users/ada/server", f"token {TOKEN}")]


@pytest.mark.parametrize(
    ("person", "server_name", "path"),
    [
        ("ada", "second", "/hub/api/users/ada/servers/second"),
        ("ada", "a b/../c?d#e", "/hub/api/users/ada/servers/a%20b%2F..%2Fc%3Fd%23e"),
        ("a/b@c.org", "", "/hub/api/users/a%2Fb@c.org/server"),
        ("ada", "50%", "/hub/api/users/ada/servers/50%25"),
        ("ada", "zwölf", "/hub/api/users/ada/servers/zw%C3%B6lf"),
    ],
)
def test_no_name_leads_to_another_place(hub: Hub, person: str, server_name: str, path: str) -> None:
    assert begun_again(hub, 202, start=cut_off(person, server_name))
    assert [asked[1].lower() for asked in hub.asked] == [path.lower()]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_hub_that_is_not_ready_or_full_is_asked_again(hub: Hub, status: int) -> None:
    assert begun_again(hub, status, status, 202)
    assert len(hub.asked) == 3


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_ends_it_and_is_told_in_the_hubs_words(
    hub: Hub, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert not begun_again(hub, status, 202)
    assert len(hub.asked) == 1
    (error,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert f"words of status {status}" in error
    assert "ada/" in error
    assert len(error) < 1000


def test_a_hub_that_does_not_listen_yet_is_asked_until_it_does(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.statuses = [503, 202]
    fetch, refused = adoption.fetch, []

    async def ask() -> bool:
        async with hub.begun() as listen:

            async def noted(url: str, **arguments: Any) -> Any:
                try:
                    return await fetch(url, **arguments)
                except aiohttp.ClientConnectorError as error:
                    refused.append(error)
                    if len(refused) == 2:
                        await listen()
                    raise

            monkeypatch.setattr(adoption, "fetch", noted)
            return await begin_again(hub.url, TOKEN, cut_off())

    assert asyncio.run(ask())
    assert len(refused) == 2
    assert len(hub.asked) == 2


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(aiohttp.ServerDisconnectedError(), id="disconnected"),
        pytest.param(asyncio.TimeoutError(), id="timed out"),
        pytest.param(ConnectionResetError(), id="reset"),
    ],
)
def test_a_hub_that_stays_away_is_given_up_after_so_long(
    virtually: Virtually, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    asked = []

    async def away(url: str, **arguments: Any) -> Any:
        asked.append(url)
        raise error

    monkeypatch.setattr(adoption, "fetch", away)
    monkeypatch.setattr(adoption, "PAUSE_SECONDS", 10)
    monkeypatch.setattr(adoption, "PATIENCE_SECONDS", 300)

    async def ask() -> float:
        assert not await begin_again("http://127.0.0.1:1/hub/api", TOKEN, cut_off("ada", "second"))
        return asyncio.get_running_loop().time()

    with caplog.at_level(logging.DEBUG):
        assert virtually(ask()) == 300
    assert len(asked) == 30
    (told,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert "ada/second" in told
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("statuses", [(202,), (403,), (503, 202)])
def test_the_token_is_never_logged(hub: Hub, statuses: tuple[int, ...], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        begun_again(hub, *statuses)
    assert hub.asked
    assert TOKEN not in caplog.text


def test_a_start_that_nobody_wants_any_more_is_not_asked_for(virtually: Virtually) -> None:
    assert not virtually(begin_again("http://127.0.0.1:1/hub/api", TOKEN, cut_off(), lambda: False))
