"""The hub's process ends and comes again: running sessions go on, what had not begun is cleaned up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from hubclient import Hub, until

from slurmbox import box as slurmbox


def restart(hub: Hub, box: Any) -> None:
    """Restart the hub alone, as an operator would, and wait until it answers."""
    slurmbox.supervisor(box).restart("hub")
    until("the hub", lambda: answers(hub))


def answers(hub: Hub) -> bool:
    try:
        return hub.call("GET", "").status_code == 200
    except httpx.TransportError:
        return False


def test_a_running_session_goes_on_and_can_be_stopped(hub: Hub, box: Any, ada: str) -> None:
    hub.start(ada, {"profile": "learn"})
    hub.ready(ada)
    job = hub.job(ada)
    restart(hub, box)
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert httpx.get(f"{hub.url}user/{ada}/api", timeout=10).status_code == 200
    hub.stop(ada)
    assert hub.jobs(ada) == []


def test_a_session_that_had_not_begun_leaves_no_job_and_starts_again(
    hub: Hub, box: Any, person: Callable[..., str]
) -> None:
    name = person("company", 2)
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(name, {"profile": "learn"})
        hub.job(name)
        restart(hub, box)
        until("the end of the waiting job", lambda: hub.jobs(name) == [])
        until("the end of the start", lambda: not hub.server(name))
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert hub.start(name, {"profile": "learn"}).status_code == 202
    hub.ready(name)
    hub.stop(name)
