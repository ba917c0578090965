"""A session's job ends against its owner's will: they read why and what to do, and nothing stays behind.

All are ended together, since Slurm and the hub look at such things at intervals, and each is then looked at by a test of
its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from chaos import Chaos, eater, preemption, read, visitor
from hubclient import Hub, until

LEARN: Mapping[str, Any] = {"profile": "learn"}


@dataclass(frozen=True)
class End:
    """One way to lose a session: what its owner asks for, Slurm's word for it, and what its owner must read."""

    slurm: str
    words: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=lambda: LEARN)


ENDS = {
    "cancelled by an operator": End("CANCELLED", ("The job was cancelled", "start again")),
    "node died": End(
        "NODE_FAIL", ("The node that it ran on failed", "Slurm will choose another node"), {"profile": "quarter-gpu"}
    ),
    "out of memory": End(
        "OUT_OF_MEMORY", ("needed more memory than it had", "Start again with more memory"), LEARN | {"memory": "1G"}
    ),
    "walltime": End("TIMEOUT", ("reached the end of its time", "with more time if you need it")),
    "preempted": End("PREEMPTED", ("made way for one of higher priority", "it will wait for its turn")),
    "put back into the queue": End("CANCELLED", ("was put back into the queue", "start again")),
    "shut down from within": End("COMPLETED", ("was shut down from within", "Start again")),
}


@dataclass(frozen=True)
class Lost:
    """A session that ended: whose, its job, and how."""

    user: str
    job: int
    end: End


@pytest.fixture(scope="module")
def lost(hub: Hub, box: Any, person: Callable[..., str]) -> Iterator[dict[str, Lost]]:
    """One session for each way, each ended in its way; the hub knows of all of them."""
    chaos = Chaos(hub, box)
    who = {way: person("learner", 10 + n) for n, way in enumerate(ENDS)}
    try:
        with preemption(chaos), eater(who["out of memory"]) as trigger:
            jobs = begin(hub, chaos, who)
            end(hub, chaos, who, jobs, trigger, person("company"))
            for way, user in who.items():
                until(f"the hub's notice that the session was {way}", lambda user=user: not hub.server(user), 120)
        chaos.repair()
        yield {way: Lost(user, jobs[way], ENDS[way]) for way, user in who.items()}
    finally:
        chaos.repair()
        chaos.forget()
        chaos.whole()


def begin(hub: Hub, chaos: Chaos, who: Mapping[str, str]) -> dict[str, int]:
    """Start one session for each; the one that will be preempted has a node of its own."""
    hub.slurm("scontrol", "update", "NodeName=cpu1", "State=DRAIN", "Reason=test")
    hub.start(who["preempted"], LEARN)
    until("a node for the job", lambda: chaos.job_state(hub.job(who["preempted"])) == "RUNNING")
    hub.slurm("scontrol", "update", "NodeName=cpu1", "State=RESUME")
    hub.slurm("scontrol", "update", "NodeName=cpu2", "State=DRAIN", "Reason=test")
    for way, user in who.items():
        if way != "preempted":
            assert hub.start(user, ENDS[way].options).status_code in (201, 202)
    for user in who.values():
        hub.ready(user)
    hub.slurm("scontrol", "update", "NodeName=cpu2", "State=RESUME")
    return {way: hub.job(user) for way, user in who.items()}


def end(hub: Hub, chaos: Chaos, who: Mapping[str, str], jobs: Mapping[str, int], trigger: Path, preemptor: str) -> None:
    """End each session in its way."""
    hub.slurm("scontrol", "update", f"JobId={jobs['walltime']}", "EndTime=now+2")
    hub.slurm("scancel", str(jobs["cancelled by an operator"]))
    trigger.touch()

    node = chaos.node_of(jobs["node died"])
    os.kill(chaos.pid(f"slurmd-{node}"), signal.SIGKILL)
    chaos.boss.stop(f"slurmd-{node}")
    for process in chaos.processes(who["node died"]):
        os.kill(process, signal.SIGKILL)
    hub.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    job = str(jobs["put back into the queue"])
    hub.slurm("scontrol", "update", f"JobId={job}", "Requeue=1")
    hub.slurm("scontrol", "requeue", job)

    user = who["shut down from within"]
    token = hub.call("POST", f"users/{user}/tokens", json={"note": "test", "expires_in": 60}).json()["token"]
    answer = httpx.post(f"{hub.url}user/{user}/api/shutdown", headers={"Authorization": f"token {token}"}, timeout=30)
    assert answer.status_code == 200

    node = chaos.node_of(jobs["preempted"])
    urgent = hub.slurm(
        "sbatch", "--parsable", f"--uid={preemptor}", "-p", "cpu", "-w", node, "--exclusive", "-A", "fast-lane",
        "-q", "fast-lane", "--mem=100", "-t", "5", "-D", "/", "-o", "/dev/null", "--wrap", "sleep 60",
    ).strip()  # fmt: skip
    until("the preemption", lambda: chaos.job_state(jobs["preempted"]) == "PREEMPTED")
    hub.slurm("scancel", urgent)


@pytest.mark.parametrize("way", ENDS)
def test_its_owner_reads_what_happened_and_what_to_do(
    lost: dict[str, Lost], hub: Hub, access: Mapping[str, Any], way: str
) -> None:
    session = lost[way]
    with visitor(hub, access, session.user) as browser:

        def told() -> str:
            text = read(browser, f"user/{session.user}/lab")
            return text if all(words in text for words in session.end.words) else ""

        # Accounting, which alone knows whose doing a cancellation was (not where it was root's), may lag behind.
        text = until(f"the words {session.end.words}", told)
    assert "Your notebook is not running" in text
    assert str(session.job) in text


@pytest.mark.parametrize("way", ENDS)
def test_nothing_stays_behind(lost: dict[str, Lost], hub: Hub, chaos: Chaos, way: str) -> None:
    session = lost[way]
    if way == "node died":
        chaos.await_slurm()  # a dead node can not tidy up: that is done with the next job after it is back
        hub.slurm(
            "sbatch", "--wait", f"--uid={session.user}", "-p", "gpu", "--mem=100", "-D", "/", "-o", "/dev/null",
            "--wrap", "true",
        )  # fmt: skip
    chaos.no_trace(session.user, session.job)
    assert chaos.ended_in_accounting(session.job).split()[0] == session.end.slurm
