"""How a sweep is one or several job arrays: Slurm takes so many tasks in one and no more. Plain values and functions.

Each array counts its tasks from 0, and Slurm itself writes the log of task 7 of the third array. So an array that is not the only
one has ten, a hundred or a thousand tasks: then the number of a run is the number of its array with that of its task behind it,
and Slurm can name the run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studiolo.slurm.arrays import task

__all__ = ["Arrays", "Part", "parts_of", "read_arrays"]

LARGEST_JOB = 1 << 32


@dataclass(frozen=True)
class Part:
    """One job array: ``count`` runs from the run ``first`` on, as the ``number``-th of arrays of ``size``."""

    number: int
    size: int
    count: int

    @property
    def first(self) -> int:
        """The number of its first run."""
        return self.number * self.size

    @property
    def folder(self) -> str:
        """The folder of each run, in Slurm's notation for the name of a log."""
        digits = len(str(self.size)) - 1
        if not self.number:
            return "%a"
        return f"{self.number}%{digits}a" if digits else str(self.number)


def parts_of(tasks: int, most: int) -> tuple[Part, ...]:
    """The arrays of a sweep of ``tasks`` runs, where one may have ``most``, which is at least 1."""
    if tasks <= most:
        return (Part(0, tasks, tasks),)
    size = 10 ** (len(str(most)) - 1)
    return tuple(Part(number, size, min(size, tasks - number * size)) for number in range(-(-tasks // size)))


@dataclass(frozen=True)
class Arrays:
    """The jobs of a run or a sweep, as far as they are in the queue: the numbers of its job arrays, of ``size`` runs each."""

    jobs: tuple[int, ...] = ()
    size: int = 0

    def number(self, index: int | None) -> int | None:
        """What run ``index`` is followed by, or the only run (``None``); ``None`` where nobody knows."""
        if index is None:
            return self.jobs[0] if self.jobs else None
        part, rest = divmod(index, self.size) if self.size else (0, index)
        return task(self.jobs[part], rest) if part < len(self.jobs) else None

    def holds(self, runs: int) -> bool:
        """Whether these are all arrays of so many runs."""
        return bool(self.jobs) and (not self.size or len(self.jobs) * self.size >= runs)

    def as_json(self) -> dict[str, Any]:
        """What ``job.json`` holds of them."""
        return {"job": self.jobs[0], "arrays": list(self.jobs), "size": self.size}


def read_arrays(told: Mapping[str, Any]) -> Arrays:
    """Read ``job.json``; what makes no sense counts as nothing."""
    jobs, size = told.get("arrays"), told.get("size")
    if isinstance(jobs, list) and jobs and all(map(_is_job, jobs)) and _is_count(size):
        return Arrays(tuple(jobs), int(size or 0))
    return Arrays((told["job"],)) if _is_job(told.get("job")) else Arrays()


def _is_job(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < LARGEST_JOB


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_JOB
