"""A session reports that nobody came to it: of itself alone, as often as it likes, and with no other effect than words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from chaos import Chaos, read, visitor
from hubclient import Hub, until
from reconfigured import reconfigured, restart


def own(hub: Hub, user: str) -> tuple[str, str]:
    """The token and the name of somebody's running session, as its server has them."""
    created = hub.call("POST", f"users/{user}/tokens", json={"note": "test", "expires_in": 300}).json()["token"]
    answer = httpx.post(
        f"{hub.url}user/{user}/api/kernels", headers={"Authorization": f"token {created}"}, json={}, timeout=30
    )
    assert answer.status_code == 201, answer.text
    environment = until("a kernel", lambda: hub.environment(user, "ipykernel"))
    return environment["JUPYTERHUB_API_TOKEN"], environment["STUDIOLO_SESSION"]


def report(hub: Hub, token: str | None, body: Any) -> int:
    headers = {"Authorization": f"token {token}"} if token else {}
    return httpx.post(f"{hub.url}hub/api/studiolo/released", headers=headers, json=body, timeout=30).status_code


def test_only_the_sessions_own_token_speaks_for_it(hub: Hub, running: str, person: Callable[..., str]) -> None:
    token, session = own(hub, running)
    good = {"session": session, "minutes": 15}
    other = person("company", 1)
    theirs = hub.call("POST", f"users/{other}/tokens", json={"note": "x", "expires_in": 60}).json()["token"]
    mine = hub.call("POST", f"users/{running}/tokens", json={"note": "x", "expires_in": 60}).json()["token"]
    assert report(hub, None, good) == 403
    assert report(hub, "x" * 32, good) == 403
    assert report(hub, theirs, good) == 404
    assert report(hub, mine, good) == 404
    assert report(hub, hub.token, good) == 404
    assert report(hub, token, {"session": "0" * 16, "minutes": 15}) == 404
    assert report(hub, token, {"session": "", "minutes": 15}) == 404
    assert hub.server(running)["ready"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "x",
        None,
        {"session": "s"},
        {"session": "s", "minutes": 15, "state": "x"},
        {"session": 7, "minutes": 15},
        {"session": "s", "minutes": "15"},
        {"session": "s", "minutes": True},
        {"session": "s", "minutes": 0},
        {"session": "s", "minutes": -1},
        {"session": "s", "minutes": 10**9},
        {"session": "s", "minutes": 1.5},
    ],
)
def test_any_other_body_is_refused(hub: Hub, running: str, body: Any) -> None:
    token, _session = own(hub, running)
    assert report(hub, token, body) == 400


def test_a_long_body_is_refused(hub: Hub, running: str) -> None:
    token, _session = own(hub, running)
    assert report(hub, token, {"session": "x" * 5000, "minutes": 15}) == 413


def test_what_is_reported_ends_nothing_and_can_be_said_twice(hub: Hub, running: str) -> None:
    token, session = own(hub, running)
    for _n in range(2):
        assert report(hub, token, {"session": session, "minutes": 15}) == 204
    assert hub.server(running)["ready"]
    assert httpx.get(f"{hub.url}user/{running}/api", timeout=30).status_code == 200


def test_a_session_that_nobody_came_to_ends_by_itself_though_the_hub_was_restarted_meanwhile(
    hub: Hub, box: Any, access: Mapping[str, Any], ada: str
) -> None:
    with reconfigured(hub, box, unattended_limit=1):
        hub.start(ada, {"profile": "learn"})
        hub.ready(ada)
        job = hub.job(ada)
        restart(hub, box)
        assert hub.ready(ada)
        until("its release", lambda: not hub.server(ada), seconds=150)
        chaos = Chaos(hub, box)
        chaos.no_trace(ada, job)
        assert chaos.ended_in_accounting(job) == "COMPLETED"
        with visitor(hub, access, ada) as browser:
            assert "Nobody came within 1 min, so it was released." in read(browser, f"user/{ada}/lab")


def test_the_limit_can_be_switched_off(hub: Hub, box: Any, ada: str) -> None:
    with reconfigured(hub, box, unattended_limit="never"):
        hub.start(ada, {"profile": "learn"})
        hub.ready(ada)
        own(hub, ada)
        assert hub.environment(ada, "ipykernel")["STUDIOLO_UNATTENDED_MINUTES"] == "0"
        hub.stop(ada)
