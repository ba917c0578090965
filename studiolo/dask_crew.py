"""The workers of a Dask cluster as frozen values, and what follows from what Slurm says of their jobs. Runs nothing.

Times are seconds since 1970, memory is in mebibytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from studiolo.errors import printable
from studiolo.slurm.reasons import pending_words
from studiolo.slurm.states import JobState
from studiolo.units import memory_words

__all__ = ["Event", "Phase", "Worker", "handover_seconds", "how_lost", "last_line", "learn", "sentence"]

Phase = Literal["asked", "pending", "starting", "running", "leaving", "released", "lost"]
"""``asked``: on its way to Slurm; ``starting``: has its resources, and has not reached the notebook yet; ``leaving``: told to end
by the notebook, as one that is ``released`` was; ``lost`` is one that ended against its will."""

LONGEST_LINE = 300


@dataclass(frozen=True)
class Worker:
    """One worker: its ``job`` in Slurm (``None`` before it has a number), and ``words`` about its phase, for people.

    ``expected`` is when it probably starts, ``started`` when it did, ``came`` when it reached the notebook, ``ends`` when its
    walltime is over (``None``: not yet, or nobody knows). ``successor`` is the name of the worker that takes over from it.
    """

    name: str
    phase: Phase
    words: str
    asked: float
    job: int | None = None
    expected: float | None = None
    node: str = ""
    started: float | None = None
    came: float | None = None
    ends: float | None = None
    successor: str = ""


@dataclass(frozen=True)
class Event:
    """One line of a cluster's history: ``when`` something happened to which ``worker`` (empty: to the cluster), in words."""

    when: float
    worker: str
    job: int | None
    phase: Phase | Literal["cluster"]
    words: str

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.when))
        who = f"{self.worker} (job {self.job})" if self.job else self.worker or "cluster"
        return f"{clock} {who}: {self.words}"


def learn(worker: Worker, state: JobState) -> Worker:
    """The worker, after one answer of Slurm's about its job, which is not over."""
    if state.is_pending:
        words = pending_words(state.reason)
        return replace(worker, phase=_not_back(worker, "pending"), words=words, expected=state.start)
    known = replace(
        worker,
        node=state.node or worker.node,
        started=state.start or worker.started,
        ends=state.end or worker.ends,
        expected=None,
    )
    if worker.phase in ("asked", "pending"):
        return replace(known, phase="starting", words=f"starting on {state.node}" if state.node else "starting")
    return known


def _not_back(worker: Worker, phase: Phase) -> Phase:
    """What Slurm told late does not take a worker back that is there already, or told to end."""
    return phase if worker.phase in ("asked", "pending", "starting") else worker.phase


def how_lost(worker: Worker, state: JobState, asked: int, used: float | None, line: str, *, ours: bool = False) -> str:
    """Why a worker was lost, in words. ``asked`` and ``used`` are memory, ``line`` is the last one of its log.

    ``ours``: the notebook itself has cancelled its job, after it could not be reached for a while.
    """
    where = f" on {worker.node}" if worker.node else ""
    # Its own log says best why, where it has said anything.
    status = f" with status {state.exit_code}" if state.exit_code else ""
    told = f"it ended{status}{where}: {line}" if line else f"it ended{status}{where} without a word ({state.state})"
    if state.state == "OUT_OF_MEMORY":
        # What was held is looked at now and then: a figure from before it grew says nothing.
        seen = used is not None and used > 0.75 * asked
        held = f"{used / 1024:.1f} of {asked / 1024:.1f} GB" if used and seen else f"it had {memory_words(asked)}"
        told = f"out of memory ({held}): ask for more memory for each worker, or make its tasks smaller"
    elif state.state == "CANCELLED":
        told = (
            f"it lost its connection to the notebook{where}" if ours else "its job was cancelled, not by this notebook"
        )
    elif state.state == "COMPLETED" and worker.came:
        told = "it has handed over and ended"
    if state.state in _LOST:
        told = _LOST[state.state].format(node=f"its node {worker.node}" if worker.node else "its node")
    return told


_LOST = {
    "NODE_FAIL": "{node} failed",
    "BOOT_FAIL": "{node} failed",
    "TIMEOUT": "it reached the end of its time",
    "DEADLINE": "it reached the end of its time",
    "PREEMPTED": "it made way for a job of higher priority",
    "VANISHED": "Slurm does not know its job any more",
}


def last_line(log: str) -> str:
    """The last line of a log that says something, fit for a message."""
    for line in reversed(log.splitlines()):
        if text := line.strip():
            return printable(text)[:LONGEST_LINE]
    return ""


def handover_seconds(walltime: float) -> tuple[float, float]:
    """How long before the end of a worker's walltime (in seconds) its successor is asked for, and it hands over.

    A tenth and a thirtieth of it, but neither seconds nor hours: moving data takes a while, however short the walltime.
    """
    hand_over = min(max(walltime / 30, 20.0), 300.0)
    return min(max(walltime / 10, 2 * hand_over), 1800.0), hand_over


def sentence(workers: Iterable[Worker], wanted: int) -> str:
    """The state of a cluster in one sentence."""
    known = tuple(workers)
    running = [worker for worker in known if worker.phase == "running"]
    told = [f"{len(running)} of {wanted} workers run" if wanted != 1 else f"{len(running)} of 1 worker runs"]
    if starting := [worker for worker in known if worker.phase in ("asked", "starting")]:
        told.append(f"{len(starting)} {'is' if len(starting) == 1 else 'are'} starting")
    if pending := [worker for worker in known if worker.phase == "pending"]:
        first = min(pending, key=lambda worker: worker.expected or float("inf"))
        verb = "waits" if len(pending) == 1 else "wait"
        told.append(f"{len(pending)} {verb}: {first.words}")
    return ", ".join(told)
