"""The running hub and people in sessions of it, for tests of what a notebook does from within one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hubclient import Hub
from kernels import Kernel, kernel, kernel_in


@pytest.fixture(scope="session")
def hub(access: Mapping[str, Any], box: Any) -> Hub:
    """The running hub."""
    return Hub(access["url"], access["hub_api_token"], box.state, box.slurm_conf)


@pytest.fixture(scope="session")
def person(access: Mapping[str, Any]) -> Callable[[str, int], str]:
    """The n-th person of a role, by name."""
    return lambda role, number=0: [u["name"] for u in access["users"] if u["role"] == role][number]


@pytest.fixture(scope="module")
def session(hub: Hub, person: Callable[..., str]) -> Iterator[Kernel]:
    """A person's small session without a GPU, with a kernel in it, for the tests of one file."""
    with kernel(hub, person("researcher"), {"profile": "learn"}) as running:
        yield running


@pytest.fixture
def notebook(session: Kernel) -> Iterator[Kernel]:
    """A fresh kernel in that session, for one test."""
    with kernel_in(session.hub, session.person, session.server) as fresh:
        yield fresh
