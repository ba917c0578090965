"""One run as it is now: its own files beside what this process's desk has heard of its job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record
from studiolo.batch.parts import LARGEST_JOB, Arrays, read_arrays
from studiolo.batch.progress import ENDED, Progress, read_progress
from studiolo.batch.state import Verdict, judge
from studiolo.desk import Desk, desk
from studiolo.errors import OutsideSession
from studiolo.slurm.states import JobState
from studiolo.slurm.watcher import QueueWatcher

__all__ = ["Follower", "here"]

ANSWER_SECONDS = 5.0
LOOK_SECONDS = 1.0
LAG_SECONDS = 5.0


def here() -> Desk | None:
    """This process's desk; ``None`` outside of a session, where runs are known by their files alone."""
    try:
        return desk()
    except OutsideSession:
        return None


class Follower:
    """Follows the job of the run at ``place``, and says what is true of it. Safe from any thread."""

    def __init__(self, place: Place, record: Record) -> None:
        self.place, self.record = place, record
        self.cancelled = False
        self._arrays = Arrays()
        self._end: JobState | None = None
        self._verdict: Verdict | None = None

    # --- What is known -----------------------------------------------------------------------------------------------

    def progress(self) -> Progress | None:
        """How far it is, by its own word."""
        return read_progress(folder.read_json(self.place.own / folder.STATE))

    def number(self, progress: Progress | None = None) -> int | None:
        """What its job is followed by; ``None`` where nobody knows one."""
        told = self.arrays().number(self.place.index)
        if told is not None:
            return told
        # Whoever submitted it was cut off, or had no room: the run itself knows.
        progress = progress or self.progress()
        return progress.job if progress is not None and 0 < progress.job < LARGEST_JOB else None

    def arrays(self) -> Arrays:
        """The jobs of all that was submitted with it; kept once all are known, as its folder may go."""
        if not self._arrays.holds(len(self.record.points)):
            self._arrays = read_arrays(folder.read_json(self.place.base / folder.JOB))
        return self._arrays

    def slurm(self, number: int | None, wait: float = 0.0) -> JobState | None:
        """What Slurm says of its job, waiting ``wait`` seconds at most for a first answer; ``None`` where it said nothing yet."""
        self._end = self._end or _read_end(folder.read_json(self.place.own / folder.END))
        if self._end is not None:
            return self._end
        watcher = self.watcher()
        if watcher is None or number is None:
            return None
        state = watcher.state(number)
        if state is None:
            at = desk()
            if wait:
                at.do(_first_answer(watcher, number, wait))
            else:
                at.loop.call_soon_threadsafe(watcher.follow_quietly, number)
            state = watcher.state(number)
        if state is not None and state.is_over and state.state != "VANISHED":
            self._end = state
            # So that nobody has to ask again, also when accounting has long forgotten it.
            with suppress(OSError):
                folder.write_json(self.place.own / folder.END, asdict(state))
        return state

    def watcher(self) -> QueueWatcher | None:
        """Who follows the jobs of its cluster."""
        at = here()
        return at.watchers.get(self.record.cluster) if at is not None else None

    def verdict(self, wait: float = 0.0) -> Verdict:
        """What is true of it now. Asks Slurm nothing; waits ``wait`` seconds at most for the desk's first answer."""
        if self._verdict is not None:
            return self._verdict
        progress = self.progress()
        number = self.number(progress)
        slurm = None
        # Its own last word is enough, but for a kernel that died, whose reason Slurm knows.
        said = progress is not None and (
            progress.phase == "done"
            or (
                progress.phase == "failed"
                and progress.trouble is not None
                and progress.trouble.name != "DeadKernelError"
            )
        )
        if not said:
            slurm = self.slurm(number, wait)
            if slurm is not None and slurm.is_over and (progress is None or progress.phase not in ENDED):
                progress = self.progress()  # it may have ended between the two looks
            if slurm is not None and progress is not None and self._has_begun_since(progress, slurm):
                slurm = None
        removed = progress is None and folder.is_gone(self.place)
        verdict = judge(
            progress,
            slurm,
            submitted=number is not None or (not removed and time.time() - self.record.submitted < 3600),
            cancelled=self.cancelled
            or any(folder.read_json(where / folder.JOB).get("cancelled") for where in self._told),
            silent=(watcher := self.watcher()) is not None and watcher.silent_since is not None,
            recent=slurm is not None and slurm.end is not None and time.time() - slurm.end < LAG_SECONDS,
            removed=removed,
        )
        if verdict.is_over:
            self._verdict = verdict
        return verdict

    def _has_begun_since(self, progress: Progress, slurm: JobState) -> bool:
        """Whether Slurm was asked before the run began, and still tells that it waits: while nobody waits, it is asked seldom."""
        watcher = self.watcher()
        begun = slurm.is_pending and progress.phase in ("starting", "running")
        return begun and watcher is not None and progress.updated > watcher.heard

    @property
    def _told(self) -> set[Path]:
        """Where it is kept that somebody has asked for its end: at the run, or at the sweep that it belongs to."""
        return {self.place.base, self.place.own}

    # --- What is done ------------------------------------------------------------------------------------------------

    async def until_over(self, at: Desk, seconds: float | None) -> None:
        """Return once it is over. Raises ``TimeoutError``. On the desk's own loop."""
        deadline = None if seconds is None else time.monotonic() + seconds
        watcher = at.watchers.get(self.record.cluster)
        number = await asyncio.to_thread(self.number)
        if watcher is not None and number is not None:
            watcher.follow(number)
            watcher.hurry(number)
        try:
            # A home on a slow file system must not keep everybody else on this loop waiting.
            while not (await asyncio.to_thread(self.verdict)).is_over:
                left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                pause = min(LOOK_SECONDS, left)
                await (
                    watcher.change(number, pause)
                    if watcher is not None and number is not None
                    else asyncio.sleep(pause)
                )
        finally:
            if watcher is not None and number is not None:
                watcher.settle(number)

    def cancel(self, numbers: Collection[int], followed: Collection[int] = ()) -> None:
        """Have Slurm end the jobs or tasks ``numbers``, and look soon how they are, or those ``followed`` in their place.

        Raises :class:`~studiolo.errors.SlurmError`.
        """
        if not numbers:
            return
        at = desk()
        self.cancelled = True
        told = folder.read_json(self.place.own / folder.JOB)
        with suppress(OSError):  # a hint for other kernels, no more
            folder.write_json(self.place.own / folder.JOB, {**told, "cancelled": time.time()})
        at.do(_cancel(at, self.record.cluster, list(numbers), followed or numbers))


async def _first_answer(watcher: QueueWatcher, number: int, seconds: float) -> None:
    watcher.follow_quietly(number)
    await watcher.first_answer(number, seconds)


async def _cancel(at: Desk, cluster: str, numbers: list[int], followed: Collection[int]) -> None:
    await at.cancel(cluster, numbers)
    watcher = at.watchers[cluster]
    for number in followed:
        watcher.follow(number)
        watcher.hurry(number)


def _read_end(data: dict[str, Any]) -> JobState | None:
    """What was kept of a job's end; ``None`` where that makes no sense."""
    if not isinstance(data.get("state"), str) or not isinstance(data.get("job"), int):
        return None
    texts, numbers = ("state", "reason", "node"), ("job", "start", "end", "exit_code", "signal")
    kept = {item.name: data.get(item.name) for item in fields(JobState)}
    if not all(isinstance(kept[name], str) for name in texts):
        return None
    if not all(
        kept[name] is None or (isinstance(kept[name], int) and folder.plausible(kept[name])) for name in numbers
    ):
        return None
    state = JobState(**kept)  # type: ignore[arg-type]
    return state if state.is_over else None
