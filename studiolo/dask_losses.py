"""What the losses of a Dask cluster's workers have in common, beyond each one's own reason. Asks nobody."""

from __future__ import annotations

import asyncio
import time

from studiolo.dask_crew import Worker

__all__ = ["Losses"]

FAILURES = 3
"""So many workers in a row that end before they could begin, and no more are asked for."""

TOGETHER_SECONDS = 4.0
"""Workers that are cancelled within so long of each other were cancelled together: somebody wants an end to them."""


class Losses:
    """Counts them. ``failed_starts`` is how many workers in a row ended before they could begin."""

    def __init__(self) -> None:
        self.failed_starts = 0
        self._cancelled: list[float] = []

    @property
    def too_many(self) -> bool:
        """Whether the next worker would not begin either."""
        return self.failed_starts >= FAILURES

    def begin(self) -> None:
        """A worker has begun, or somebody asks for workers anew."""
        self.failed_starts = 0

    def count(self, worker: Worker) -> None:
        """This one is lost."""
        self.failed_starts = 0 if worker.came else self.failed_starts + 1

    async def cancelled_together(self) -> int:
        """One was just cancelled by somebody else: wait a little, and return how many were, this one counted."""
        now = time.monotonic()
        self._cancelled = [*(when for when in self._cancelled if now - when < 2 * TOGETHER_SECONDS), now]
        await asyncio.sleep(TOGETHER_SECONDS)
        return sum(abs(when - now) < TOGETHER_SECONDS for when in self._cancelled)
