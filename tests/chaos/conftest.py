"""The running platform, whole again after each test of this folder whatever that one has broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from chaos import Chaos
from hubclient import Hub, until


@pytest.fixture(scope="session")
def hub(access: Mapping[str, Any], box: Any) -> Hub:
    """The running hub."""
    return Hub(access["url"], access["hub_api_token"], box.state, box.slurm_conf)


@pytest.fixture(scope="session")
def person(access: Mapping[str, Any]) -> Callable[[str, int], str]:
    """The n-th person of a role, by name."""
    return lambda role, number=0: [u["name"] for u in access["users"] if u["role"] == role][number]


@pytest.fixture
def chaos(hub: Hub, box: Any) -> Iterator[Chaos]:
    """What breaks things. Afterwards all parts run again, and every session that a failed test has left is ended."""
    breaker = Chaos(hub, box)
    yield breaker
    breaker.repair()
    breaker.forget()
    breaker.whole()


@pytest.fixture
def ada(hub: Hub, person: Callable[..., str]) -> str:
    """A person of a company, without a job that an earlier file has left to end."""
    name = person("company")
    until(f"an end of {name}'s earlier jobs", lambda: not hub.jobs(name))
    return name


@pytest.fixture
def ben(person: Callable[..., str]) -> str:
    """A second one."""
    return person("company", 1)
