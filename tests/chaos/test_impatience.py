"""People who click twice, change their mind, and have two tabs open."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from chaos import Chaos
from hubclient import Hub, until

from spawners.engine import SUBMISSIONS_AT_ONCE

LEARN = {"profile": "learn"}


def test_a_double_start_is_one_session(hub: Hub, chaos: Chaos, ada: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(hub.start, ada, LEARN) for _ in range(8)]
    assert {answer.result().status_code for answer in answers} <= {201, 202}
    hub.ready(ada)
    (job,) = hub.jobs(ada)
    late = hub.start(ada, LEARN)
    assert late.status_code == 400
    assert "already running" in late.text
    hub.stop(ada)
    chaos.no_trace(ada, job)
    everything = hub.slurm("squeue", "-h", "-t", "all", "-u", ada, "-S", "-i", "-o", "%A").split()
    assert max(map(int, everything)) == job


def test_a_double_stop_is_one_end(hub: Hub, chaos: Chaos, ada: str) -> None:
    hub.start(ada, LEARN)
    hub.ready(ada)
    job = hub.job(ada)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(hub.call, "DELETE", f"users/{ada}/server") for _ in range(4)]
    assert {answer.result().status_code for answer in answers} <= {202, 204}
    chaos.no_trace(ada, job)


def test_stop_while_it_waits(hub: Hub, chaos: Chaos, ada: str) -> None:
    with chaos.closed():
        hub.start(ada, LEARN)
        job = hub.job(ada)
        hub.stop(ada)
        chaos.no_trace(ada, job)
    assert chaos.ended_in_accounting(job).startswith("CANCELLED")


def test_stop_while_it_is_submitted(hub: Hub, chaos: Chaos, ada: str) -> None:
    """The job is not yet known by its number when its owner changes their mind."""
    with ThreadPoolExecutor() as pool:
        with chaos.mute("slurmctld"):
            hub.start(ada, LEARN)
            chaos.await_submission(ada)
            answer = pool.submit(hub.call, "DELETE", f"users/{ada}/server")
            until("the interruption", lambda: hub.server(ada).get("pending") == "stop")
        assert answer.result().status_code in (202, 204)
    chaos.no_trace(ada)


def test_stop_while_it_stands_in_line(hub: Hub, chaos: Chaos, access: Mapping[str, Any], ada: str) -> None:
    """Others are at the door to the scheduler. Who leaves the line is gone at once, and those before them are not."""
    learners = [user["name"] for user in access["users"] if user["role"] == "learner"]
    before = learners[: SUBMISSIONS_AT_ONCE + 1]
    try:
        with chaos.mute("slurmctld"):
            for name in before:
                assert hub.start(name, LEARN).status_code in (201, 202)
            assert hub.start(ada, LEARN).status_code in (201, 202)
            hub.progress(ada, " 1 before you.")
            hub.stop(ada)
            assert hub.processes(ada) == []
        chaos.no_trace(ada)
        until("a job of everybody else", lambda: all(hub.jobs(name) for name in before))
        assert hub.start(ada, LEARN).status_code in (201, 202)
        hub.ready(ada)
    finally:
        for name in before:
            hub.stop(name)
    hub.stop(ada)
    chaos.no_trace(ada)


def test_stop_while_it_begins(hub: Hub, chaos: Chaos, ada: str) -> None:
    hub.start(ada, LEARN)
    job = hub.job(ada)
    chaos.freeze_session(ada, job)
    chaos.thaw()
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_start_and_stop_in_quick_turns(hub: Hub, chaos: Chaos, ada: str) -> None:
    """Whatever moment each stop hits, no turn leaves a job, and the last start becomes ready."""
    for _ in range(6):
        assert hub.start(ada, LEARN).status_code in (201, 202)
        hub.stop(ada)
    chaos.no_trace(ada)
    assert hub.start(ada, LEARN).status_code in (201, 202)
    hub.ready(ada)
    (job,) = hub.jobs(ada)
    assert httpx.get(f"{hub.url}user/{ada}/api", timeout=10).status_code == 200
    hub.stop(ada)
    chaos.no_trace(ada, job)
