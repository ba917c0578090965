"""One watcher for all jobs of a cluster: asks once for everybody, at growing intervals, and wakes who is concerned.

"I could not ask" is never "it is gone": while Slurm does not answer, every job keeps its last known state and the
watcher asks less and less often. A job that the queue no longer holds is looked up in accounting, not guessed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from studiolo.errors import SlurmError
from studiolo.slurm.states import JobState

__all__ = ["Pace", "QueueWatcher", "next_interval"]

log = logging.getLogger(__name__)


class Source(Protocol):
    """What the watcher asks."""

    async def queue(self, jobs: Iterable[int]) -> dict[int, JobState]: ...
    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]: ...


@dataclass(frozen=True)
class Pace:
    """How often to ask, in seconds: from ``first`` after a submission, growing by ``growth`` up to ``waiting`` while
    somebody waits for a job, ``quiet`` otherwise; ``silent`` at most while Slurm does not answer."""

    first: float = 0.25
    growth: float = 1.4
    waiting: float = 3.0
    quiet: float = 30.0
    silent: float = 60.0


def next_interval(pace: Pace, previous: float, *, waiting: bool, failures: int) -> float:
    """Decide how long to sleep before the next question; ``previous`` is the interval slept last (0 after a kick)."""
    if failures:
        return min(pace.silent, pace.waiting * 2.0 ** min(failures - 1, 10))
    if not waiting:
        return pace.quiet
    return min(pace.waiting, max(pace.first, previous * pace.growth))


@dataclass
class _Watched:
    state: JobState | None = None
    waiting: bool = True
    unknown: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class QueueWatcher:
    """Follows jobs by number. Runs on the event loop of whoever calls :meth:`follow`; ends when nothing is followed.

    ``heard`` is when the last answered question was put, ``silent_since`` when the first of those in vain since failed (seconds
    since 1970; ``None`` while Slurm answers), ``trouble`` why.
    """

    # Accounting can lag behind the queue: so many answers must agree that a job is unknown before it is called gone.
    VANISHED_AFTER = 5

    def __init__(self, source: Source, pace: Pace | None = None) -> None:
        self.source = source
        self.pace = pace or Pace()
        self.trouble: SlurmError | None = None
        self.heard = 0.0
        self.silent_since: float | None = None
        self._jobs: dict[int, _Watched] = {}
        self._kicked = asyncio.Event()
        self._accounting_from = 0.0
        self._accounting_failures = 0
        self._task: asyncio.Task[None] | None = None

    def follow(self, job: int) -> None:
        """Begin to follow a job, at the faster pace; asks at once."""
        self._jobs.setdefault(job, _Watched())
        self.kick()

    def follow_quietly(self, job: int) -> None:
        """Follow a job that nobody waits for, one found again after a restart say; a followed one stays as it is."""
        if job not in self._jobs:
            self._jobs[job] = _Watched(waiting=False)
            self.kick()

    def forget(self, job: int) -> None:
        """Follow a job no longer; whoever waits for its changes is woken and finds nothing."""
        if watched := self._jobs.pop(job, None):
            watched.changed.set()

    def settle(self, job: int) -> None:
        """Nobody waits for this job any more: the quiet pace will do."""
        if watched := self._jobs.get(job):
            watched.waiting = False

    def hurry(self, job: int) -> None:
        """Somebody waits for this job again, for its end say; asks at once."""
        if watched := self._jobs.get(job):
            watched.waiting = True
            self.kick()

    def state(self, job: int) -> JobState | None:
        """The last known state; ``None`` before the first answer."""
        watched = self._jobs.get(job)
        return watched.state if watched else None

    def states(self) -> Counter[str]:
        """How many of those followed are in which state; ``"UNKNOWN"`` before the first answer."""
        return Counter(watched.state.state if watched.state else "UNKNOWN" for watched in self._jobs.values())

    async def first_answer(self, job: int, seconds: float) -> JobState | None:
        """The last known state, waiting ``seconds`` at most for the first answer about a job just followed."""
        try:
            return await asyncio.wait_for(_first(self.changes(job)), seconds)
        except asyncio.TimeoutError:
            return None

    async def change(self, job: int, seconds: float) -> None:
        """Return when the job's state changes, and after ``seconds`` at the latest; one that is not followed never changes."""
        watched = self._jobs.get(job)
        # Never at once: whoever asks again and again would leave the event loop to nobody else.
        changed = watched.changed if watched else asyncio.Event()
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except asyncio.TimeoutError:
            return

    async def changes(self, job: int) -> AsyncIterator[JobState]:
        """Yield the job's state now and whenever it changes, until it is over or no longer followed."""
        seen: JobState | None = None
        while watched := self._jobs.get(job):
            event = watched.changed
            if watched.state is not None and watched.state != seen:
                seen = watched.state
                yield seen
                if seen.is_over:
                    return
            elif watched.changed is event:
                await event.wait()

    def kick(self) -> None:
        """Ask at once."""
        self._kicked.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Stop asking."""
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        interval, failures = 0.0, 0
        while self._jobs:
            if self._kicked.is_set():
                self._kicked.clear()
                interval = 0.0
            try:
                await self._ask()
                failures = 0
                self.trouble = self.silent_since = None
            except SlurmError as error:
                failures += 1
                self.trouble = error
                self.silent_since = self.silent_since or time.time()
                log.warning("%s (time %d in a row; every session keeps its last known state)", error, failures)
            except Exception:
                # A bug in here must not leave everybody waiting for ever: it is told, and the asking goes on.
                failures += 1
                log.exception("the watcher stumbled; it goes on, and every session keeps its last known state")
            waiting = any(w.waiting and not (w.state and w.state.is_over) for w in self._jobs.values())
            interval = next_interval(self.pace, interval, waiting=waiting, failures=failures)
            try:
                await asyncio.wait_for(self._kicked.wait(), interval)
            except asyncio.TimeoutError:
                continue
        self.trouble = self.silent_since = None  # nobody asks any more: what it was then is no news

    async def _ask(self) -> None:
        live = [job for job, watched in self._jobs.items() if not (watched.state and watched.state.is_over)]
        if not live:
            return
        asked = time.time()
        answer = await self.source.queue(live)
        self.heard = asked
        for job, state in answer.items():
            self._learn(job, state)
        missing = [job for job in live if job not in answer]
        if missing and asyncio.get_running_loop().time() >= self._accounting_from:
            await self._look_up(missing)

    async def _look_up(self, missing: list[int]) -> None:
        """Ask accounting. Where it does not answer, those jobs keep their state, and the others are followed as before."""
        try:
            found = await self.source.finished(missing)
        except SlurmError as error:
            pause = min(self.pace.silent, self.pace.waiting * 2.0 ** min(self._accounting_failures, 10))
            self._accounting_failures += 1
            self._accounting_from = asyncio.get_running_loop().time() + pause
            log.warning("%s (%d job(s) keep their last known state)", error, len(missing))
            return
        self._accounting_failures = 0
        for job in missing:
            state = found.get(job)
            if state is None or state.is_over:
                self._learn(job, state)
            else:  # accounting lags behind the queue, or slurmctld has lost a job for good: with much patience
                self._learn(job, None, self.VANISHED_AFTER * 12)

    def _learn(self, job: int, state: JobState | None, patience: int = VANISHED_AFTER) -> None:
        watched = self._jobs.get(job)
        if watched is None:
            return
        if state is None:
            watched.unknown += 1
            if watched.unknown < patience:
                return
            state = JobState(job, "VANISHED")
        else:
            watched.unknown = 0
        if state != watched.state:
            watched.state = state
            watched.changed.set()
            watched.changed = asyncio.Event()


async def _first(changes: AsyncIterator[JobState]) -> JobState | None:
    async for state in changes:
        return state
    return None
