"""The tasks of a job array, each followed like a job of its own: their names, and what the queue and accounting say of them.

A task that waits has no number of its own yet: Slurm knows it as ``123_4``. Whoever follows jobs by number follows task 4 of
array 123 by :func:`task`, which no job's number can be. Plain functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from studiolo.slurm.parse import parse_ended
from studiolo.slurm.states import JobState

__all__ = [
    "TASK_ACCOUNTING_FORMAT",
    "TASK_QUEUE_FORMAT",
    "name_of",
    "parse_most_tasks",
    "parse_task_accounting",
    "parse_task_queue",
    "split",
    "task",
]

# The queue's first fields are those of :data:`studiolo.slurm.parse.QUEUE_FORMAT`; no field can hold a person's text.
TASK_QUEUE_FORMAT = "%A|%T|%r|%B|%S|%e|%F|%K"
TASK_ACCOUNTING_FORMAT = "JobID,State,ExitCode,NodeList,Start,End"
_SHIFT = 32  # a job's number has no more bits


def task(array: int, index: int) -> int:
    """The number by which task ``index`` of the job array ``array`` is followed."""
    return (index + 1) << _SHIFT | array


def split(number: int) -> tuple[int, int | None]:
    """The job or job array, and the index of the task or ``None``."""
    index = number >> _SHIFT
    return number & ((1 << _SHIFT) - 1), index - 1 if index else None


def name_of(number: int) -> str:
    """The name that Slurm's commands know it by: ``"123"``, ``"123_4"``."""
    job, index = split(number)
    return str(job) if index is None else f"{job}_{index}"


def parse_task_queue(output: str, wanted: Iterable[int]) -> dict[int, JobState]:
    """Read ``squeue --array`` in :data:`TASK_QUEUE_FORMAT`: those wanted, by the number they are followed by.

    Raises ``ValueError`` on half a line.
    """
    known, found = set(wanted), {}
    for line in output.splitlines():
        if not line.strip():
            continue
        number, state, reason, node, start, end, array, index = line.split("|")
        key = task(int(array), int(index)) if index.isdigit() else int(number)
        if key in known:
            found[key] = JobState(
                job=key,
                state=state,
                reason=reason or "None",
                node="" if node in ("n/a", "(null)") else node,
                start=_seconds(start),
                end=_seconds(end),
            )
    return found


def parse_task_accounting(output: str, wanted: Iterable[int]) -> dict[int, JobState]:
    """Read ``sacct -X -P -n`` in :data:`TASK_ACCOUNTING_FORMAT`: those wanted, by the number they are followed by."""
    known, found = set(wanted), {}
    for line in output.splitlines():
        if not line.strip():
            continue
        name, *fields = line.split("|")
        array, _, index = name.partition("_")
        # Tasks that never began stand together in one line: "123_[5-9%2]".
        indices = _indices(index) if index else [None]
        for each in indices:
            key = int(array) if each is None else task(int(array), each)
            ended = parse_ended(key, fields)
            if key in known:
                found[key] = ended
    return found


def parse_most_tasks(output: str) -> int:
    """Read ``scontrol show config``: how many tasks one job array may have, 0 where there are none. Raises ``ValueError``."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)\s*$", output, re.MULTILINE | re.ASCII)
    if match is None:
        raise ValueError("no MaxArraySize")
    return int(match[1])  # the highest index is one less, and the lowest is 0


def _indices(text: str) -> list[int | None]:
    """``4`` or ``[5-9,12%2]``."""
    found: list[int | None] = []
    for part in text.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        step = last.partition(":")
        if first.isdigit() and (not last or step[0].isdigit()):
            found += range(int(first), int(step[0] or first) + 1, int(step[2] or 1))
    return found


def _seconds(text: str) -> int | None:
    return int(text) if text.isdigit() else None
