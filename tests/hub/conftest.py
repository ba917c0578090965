"""The running hub and its people, for tests that talk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hubclient import Hub


@pytest.fixture(scope="session")
def hub(access: Mapping[str, Any], box: Any) -> Hub:
    """The running hub."""
    return Hub(access["url"], access["hub_api_token"], box.state, box.slurm_conf)


@pytest.fixture(scope="session")
def person(access: Mapping[str, Any]) -> Callable[[str, int], str]:
    """The n-th person of a role, by name."""
    return lambda role, number=0: [u["name"] for u in access["users"] if u["role"] == role][number]


@pytest.fixture
def ada(hub: Hub, person: Callable[..., str]) -> Iterator[str]:
    """A person of a company, left without a server afterwards."""
    name = person("company")
    yield name
    if hub.server(name):
        hub.stop(name)


@pytest.fixture(scope="module")
def running(hub: Hub, person: Callable[..., str]) -> Iterator[str]:
    """Another person with a ready CPU session, for the tests of one file."""
    name = person("researcher")
    assert hub.start(name, {"profile": "learn"}).status_code == 202
    hub.ready(name)
    yield name
    hub.stop(name)
