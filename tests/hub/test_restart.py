"""The hub's process ends, in the middle of whatever, and comes again: every session goes on with the job that it has."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from hubclient import Hub, until

from slurmbox import box as slurmbox
from spawners.engine import SUBMISSIONS_AT_ONCE


def restart(hub: Hub, box: Any) -> None:
    """Kill the hub outright, have it started again, and wait until it answers."""
    boss = slurmbox.supervisor(box)
    old = boss.state("hub").pid
    os.kill(old, signal.SIGKILL)
    until("another hub process", lambda: boss.state("hub").pid not in (0, old))
    until("the hub", lambda: answers(hub))


def answers(hub: Hub) -> bool:
    try:
        return hub.call("GET", "").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def closed(hub: Hub) -> Iterator[Callable[[], None]]:
    """A partition that starts nothing until the test opens it."""

    def open_again() -> None:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")

    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    yield open_again
    open_again()


def server_tokens(hub: Hub, user: str) -> list[str]:
    """Names of the tokens that the hub still honours for the user's servers."""
    tokens = hub.call("GET", f"users/{user}/tokens").json()["api_tokens"]
    return [token["id"] for token in tokens if token["note"].startswith("Server at")]


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
    assert server_tokens(hub, ada) == []


def test_however_many_wait_a_restarted_hub_takes_new_starts(
    hub: Hub, box: Any, access: Mapping[str, Any], ada: str, closed: Callable[[], None]
) -> None:
    """Those that go on with their job do not stand at the door to the scheduler any more."""
    learners = [user["name"] for user in access["users"] if user["role"] == "learner"]
    waiting = learners[: SUBMISSIONS_AT_ONCE + 1]
    try:
        for name in waiting:
            hub.start(name, {"profile": "learn"})
        jobs = {name: hub.job(name) for name in waiting}
        restart(hub, box)
        until("all starts to go on", lambda: all(hub.server(name).get("pending") == "spawn" for name in waiting))
        hub.start(ada, {"profile": "learn"})
        hub.job(ada)
        assert {name: hub.job(name) for name in waiting} == jobs
        hub.progress(waiting[-1], "PartitionDown")
    finally:
        for name in [*waiting, ada]:
            hub.stop(name)


def test_a_waiting_session_keeps_its_job_and_becomes_ready_by_itself(
    hub: Hub, box: Any, ada: str, closed: Callable[[], None]
) -> None:
    hub.start(ada, {"profile": "learn"})
    job = hub.job(ada)
    restart(hub, box)
    until("the start to go on", lambda: hub.server(ada).get("pending") == "spawn")
    assert hub.jobs(ada) == [job]
    closed()
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert len(server_tokens(hub, ada)) == 1
    hub.stop(ada)
    assert hub.jobs(ada) == []
    assert server_tokens(hub, ada) == []


def test_a_session_whose_server_is_beginning_becomes_ready(hub: Hub, box: Any, ada: str) -> None:
    hub.start(ada, {"profile": "learn"})
    job = hub.job(ada)
    until("the exchange", lambda: any("studiolo" in name for name in os.listdir("/tmp") if f"-{job}-" in name))
    restart(hub, box)
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    hub.stop(ada)
    assert [name for name in os.listdir("/tmp") if f"-{job}-" in name] == []
    assert server_tokens(hub, ada) == []


def test_a_waiting_session_that_is_cancelled_while_the_hub_is_away_ends_in_words(
    hub: Hub, box: Any, ada: str, closed: Callable[[], None]
) -> None:
    hub.start(ada, {"profile": "learn"})
    job = hub.job(ada)
    boss = slurmbox.supervisor(box)
    boss.stop("hub")
    hub.slurm("scancel", str(job))
    until("the end of the job", lambda: hub.jobs(ada) == [])
    boss.start("hub")
    until("the hub", lambda: answers(hub))
    closed()

    def begins() -> list[int]:
        """Who starts in the moment in which the old start goes on, and ends, has started nothing yet."""
        assert hub.start(ada, {"profile": "learn"}).status_code in (201, 202, 400)
        return [number for number in hub.jobs(ada) if number != job]

    until("a new job", begins)
    hub.ready(ada)


def test_a_job_of_this_hub_that_no_server_names_is_cancelled_and_others_are_left_alone(
    hub: Hub, box: Any, ada: str, person: Callable[..., str], site_file: Any
) -> None:
    from studiolo.site import load

    site = load(site_file)
    neighbour = person("company", 1)
    tags = {site.tag("session", "0" * 16): ada, "studiolo:00000000:session:" + "0" * 16: neighbour, "mine": neighbour}
    jobs = [
        int(hub.slurm("sbatch", "--parsable", "-p", "cpu", "-A", "playground", "--uid", owner, "--mem=50M", "--chdir=/",
                      "--output=/dev/null", f"--comment={tag}", "--wrap", "sleep 300").split(";")[0])
        for tag, owner in tags.items()
    ]  # fmt: skip
    try:
        restart(hub, box)
        until("the orphan's end", lambda: hub.jobs(ada) == [])
        assert sorted(hub.jobs(neighbour)) == jobs[1:]
    finally:
        hub.slurm("scancel", *map(str, jobs))
