"""The jobs of one Dask cluster at Slurm: each question is asked to its end, though nobody waits for it any more.

A notebook that closes its cluster does not wait for a Slurm that says nothing. What was on its way then must not stay: a job
that Slurm takes after the end is cancelled at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Literal, TypeVar

from studiolo.desk import Desk
from studiolo.errors import NoWorkers, SlurmError, SlurmUnavailable
from studiolo.request import Request
from studiolo.script import Job
from studiolo.slurm.states import JobState

__all__ = ["CLOSED", "ClusterJobs"]

_Value = TypeVar("_Value")

AT_ONCE = 8  # submissions under way; more only wait for each other
BOOKS_SECONDS = (0.5, 1.0, 2.0, 0.0)  # accounting hears of an end somewhat later than the queue
PAUSE_SECONDS = 2.0
LONGEST_PAUSE = 60.0
CLOSED = "The cluster was closed before Slurm had taken this worker."


class ClusterJobs:
    """Those of one Dask cluster, on the desk's loop; ``cluster`` is Slurm's, ``name`` what their tag holds."""

    def __init__(self, at: Desk, cluster: str, name: str) -> None:
        self.cluster, self.name = cluster, name
        self._desk = at
        self._jobs: set[int] = set()
        self._unanswered = False
        self._closed = asyncio.Event()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def submit(self, request: Request, job: Job) -> int:
        """Ask for a job; returns its number. Raises what the desk does, and ``NoWorkers`` once the cluster is closed."""
        return await self._until_closed(self._submit(request, job))

    async def cancel(self, jobs: Iterable[int]) -> None:
        """Cancel some of them. Raises what the desk does, and ``NoWorkers`` once the cluster is closed, which cancels all."""
        await self._until_closed(self._cancel(list(jobs)))

    async def follow(self, job: int, tell: Callable[[JobState], None]) -> None:
        """Tell whatever becomes of a job, until it is over."""
        watcher = self._desk.watchers[self.cluster]
        watcher.follow(job)
        try:
            async for state in watcher.changes(job):
                if state.is_over:
                    self._jobs.discard(job)
                tell(state)
        finally:
            watcher.forget(job)

    def settle(self, job: int | None) -> None:
        """From any thread: a worker has come, of its job nothing is expected for long."""
        self._tell_watcher("settle", job)

    def hurry(self, job: int | None) -> None:
        """From any thread: something has become of a worker, Slurm will say what."""
        self._tell_watcher("hurry", job)

    def _tell_watcher(self, what: Literal["settle", "hurry"], job: int | None) -> None:
        if job is not None:
            self._desk.loop.call_soon_threadsafe(getattr(self._desk.watchers[self.cluster], what), job)

    async def used(self, job: int) -> float | None:
        """The most memory (mebibytes) that a job held, by the books; ``None`` where they do not say."""
        for pause in BOOKS_SECONDS:
            with suppress(SlurmError):
                found = await self._desk.slurm[self.cluster].used([job])
                if job in found:
                    return found[job].memory
            await asyncio.sleep(pause)
        return None

    async def close(self, seconds: float) -> bool:
        """Cancel all, and take no more. Returns whether that is done after so many seconds: it is tried until it is.

        Raises :class:`~studiolo.errors.SlurmError` where Slurm answers, and refuses.
        """
        self._closed.set()
        ending = self._keep(self._end())
        await asyncio.wait({ending}, timeout=seconds)
        if not ending.done():
            return False
        ending.result()
        return True

    async def _submit(self, request: Request, job: Job) -> int:
        async with self._at_once:
            if self._closed.is_set():
                raise NoWorkers(CLOSED)
            try:
                number = await self._desk.submit(request, job, {})
            except SlurmUnavailable:
                self._unanswered = True  # it may have been taken all the same
                if self._closed.is_set():
                    await self._end()
                raise
        self._jobs.add(number)
        if self._closed.is_set():
            await self._end()
        return number

    async def _cancel(self, jobs: list[int]) -> None:
        if jobs:
            await self._desk.cancel(self.cluster, jobs)
            self._jobs.difference_update(jobs)

    async def _end(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            try:
                if self._unanswered:
                    found = await self._desk.slurm[self.cluster].tagged()
                    self._jobs.update(job.job for job in found if (job.kind, job.name) == ("dask", self.name))
                    self._unanswered = False
                await self._cancel(list(self._jobs))
                return
            except SlurmUnavailable:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _until_closed(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Wait for ``work`` as long as the cluster lives. It is never cut in the middle: nobody would know what came of it."""
        task, closed = self._keep(work), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
        if not task.done():
            raise NoWorkers(CLOSED)
        return task.result()

    def _keep(self, work: Coroutine[Any, Any, _Value]) -> asyncio.Task[_Value]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # those who waited know; nobody else has to
