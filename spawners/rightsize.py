"""After a session: what was asked for, what was used, and the smaller request that would have done.

What was used is accounting's word, asked for once for all sessions that end within some seconds. It knows the mean use of
CPUs and the most of memory, and, where Slurm gathers it, the mean use of GPUs; the most of CPUs and GPUs is what the session's
own server had reported. A look at GPUs is of one moment, so that "no GPU" is advised of looks only where they cover the session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from spawners.usage import LOOK_SECONDS, Usage
from studiolo.errors import SlurmError
from studiolo.request import Request
from studiolo.rightsize import IDLE_GPU
from studiolo.slurm.usage import JobUsage

__all__ = ["LookBack", "Used", "asked_of", "record"]

log = logging.getLogger(__name__)

# Whoever uses a GPU for a fifth of the time is missed by this many looks once in a hundred sessions (0.8 ** 20).
LEAST_LOOKS = 20
# The hub forgets looks when it restarts, and nodes are slow at times: so much of a session's time must have been looked at.
COVERED = 0.8


class Accounting(Protocol):
    """What is asked."""

    async def used(self, jobs: Iterable[int]) -> dict[int, JobUsage]: ...


class LookBack:
    """Asks one cluster's accounting what sessions used that have just ended: once for all of them."""

    # Accounting hears of a job's end some seconds after everybody else; what is not there at the last time never comes.
    PAUSES = (5.0, 15.0, 60.0)

    def __init__(self, source: Accounting) -> None:
        self._source = source
        self._asked: dict[int, asyncio.Future[JobUsage | None]] = {}
        self._tries: dict[int, int] = {}
        self._due: dict[int, float] = {}
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def usage(self, job: int) -> JobUsage | None:
        """What a job used, in a while; ``None`` where accounting does not tell."""
        loop = asyncio.get_running_loop()
        if job not in self._asked:
            self._asked[job], self._tries[job] = loop.create_future(), 0
            self._due[job] = loop.time() + self.PAUSES[0]
            self._ended.set()  # it may be due before those that are waited for
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        return await asyncio.shield(self._asked[job])

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._asked:
            self._ended.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended.wait(), min(self._due.values()) - clock())
                continue
            asked = list(self._asked)
            due = [job for job in asked if self._due[job] <= clock()]
            found = await self._ask(asked)
            for job in due:
                self._tries[job] += 1
                self._due[job] = clock() + self.PAUSES[min(self._tries[job], len(self.PAUSES) - 1)]
            # Another's turn is none of a job's own: it would be given up before accounting has heard of it.
            for job in asked:
                if job in found or self._tries[job] >= len(self.PAUSES):
                    future = self._asked.pop(job)
                    del self._tries[job], self._due[job]
                    if not future.done():
                        future.set_result(found.get(job))

    async def _ask(self, jobs: list[int]) -> dict[int, JobUsage]:
        try:
            return await self._source.used(jobs)
        except SlurmError as error:
            log.warning("%s (of %d session(s) that ended)", error, len(jobs))
            return {}
        except Exception:  # one odd answer must not end this for all others
            log.exception("what sessions used was not understood")
            return {}


def asked_of(request: Request) -> dict[str, int]:
    """What a request asks for, as numbers."""
    return {
        "cpus": request.cpus,
        "memory_mb": request.memory,
        "gpus": request.gpus,
        "shards": request.shards,
        "minutes": request.minutes,
    }


@dataclass(frozen=True)
class Used:
    """What a session used: ``seconds`` it ran, CPUs in the mean and at most, memory at most (mebibytes), GPUs in the mean and
    at most (0 to 1); ``None`` where nobody knows, or has looked too seldom to tell."""

    seconds: int
    cpus: float | None = None
    most_cpus: float | None = None
    memory_mb: int | None = None
    mean_gpu: float | None = None
    most_gpu: float | None = None

    @classmethod
    def found(cls, told: JobUsage, seen: Usage | None, cpus: int) -> Used:
        """From accounting's word and what was reported while the session ran with its ``cpus``."""
        mean = told.cpu_seconds / told.seconds if told.cpu_seconds is not None and told.seconds else None
        most = seen.most_cpu * cpus if seen and seen.most_cpu is not None else None
        memory = [held for held in (told.memory, seen.most_memory_mb if seen else None) if held]
        # Of too few looks one thing is certain all the same: that there was use.
        tells = (
            seen is not None and seen.most_gpu is not None and (covers(seen, told.seconds) or seen.most_gpu > IDLE_GPU)
        )
        most_gpu = seen.most_gpu if seen and tells else None
        return cls(told.seconds, mean, most, max(memory, default=None), told.gpu, most_gpu)

    def as_json(self) -> dict[str, float | int | None]:
        """As it is kept and told."""
        return {
            "seconds": self.seconds,
            "cpus": None if self.cpus is None else round(self.cpus, 2),
            "most_cpus": None if self.most_cpus is None else round(self.most_cpus, 2),
            "memory_mb": self.memory_mb,
            "mean_gpu": None if self.mean_gpu is None else round(self.mean_gpu, 3),
            "most_gpu": None if self.most_gpu is None else round(self.most_gpu, 3),
        }


def covers(seen: Usage, seconds: int) -> bool:
    """Whether the looks at a session's GPUs speak for the whole of its ``seconds``."""
    return seen.gpu_looks >= LEAST_LOOKS and seen.gpu_looks * LOOK_SECONDS >= COVERED * seconds


def record(name: str, options: Mapping[str, object], request: Request, used: Used, ended: float) -> dict[str, Any]:
    """What is kept of a session that has ended, as JSON: in the hub's database, until the next one of that name ends."""
    return {
        "name": name,
        "profile": request.profile,
        "asked": asked_of(request),
        "used": used.as_json(),
        "options": {key: value for key, value in options.items() if isinstance(value, (str, int, float, list))},
        "ended": int(ended),
    }
