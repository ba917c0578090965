"""The proxy dies: sessions go on, and can be reached again without anybody's doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from chaos import Chaos, visitor
from hubclient import Hub, until

LEARN = {"profile": "learn"}


def test_it_comes_back_and_sessions_can_be_reached_again(
    hub: Hub, chaos: Chaos, ada: str, access: Mapping[str, Any]
) -> None:
    hub.start(ada, LEARN)
    hub.ready(ada)
    job = hub.job(ada)
    with visitor(hub, access, ada) as browser:
        lab = browser.get(f"user/{ada}/lab")
        assert lab.status_code == 200
        chaos.kill("proxy")
        again = browser.get(f"user/{ada}/lab")
        assert again.status_code == 200
        assert again.url.path == lab.url.path
    assert httpx.get(f"{hub.url}user/{ada}/api", timeout=10).status_code == 200
    assert hub.jobs(ada) == [job]
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_a_start_under_way_goes_on_without_it(hub: Hub, chaos: Chaos, ada: str) -> None:
    hub.start(ada, LEARN)
    job = hub.job(ada)
    chaos.kill("proxy")
    until("the proxy", chaos.hub_answers)
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    until(
        "the session behind the new proxy", lambda: httpx.get(f"{hub.url}user/{ada}/api", timeout=10).status_code == 200
    )
    hub.stop(ada)
    chaos.no_trace(ada, job)
