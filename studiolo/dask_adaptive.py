"""Scaling by the work there is, calmly: jobs keep their place in the queue, and workers stay for a while after their work.

Dask's own takes a waiting job back within seconds of the work going away, and asks anew when it comes again: on a machine
with a queue, that is a new place at its end.
"""

from __future__ import annotations

import time
from typing import Any

from distributed.deploy.adaptive import Adaptive

from studiolo.errors import StudioloError

__all__ = ["CalmAdaptive", "surplus"]


def surplus(waiting: list[str], too_many: int) -> list[str]:
    """Which of the workers that have not come to take back: those asked for last. ``waiting`` is in the order of asking."""
    return waiting[-too_many:] if too_many > 0 else []


class CalmAdaptive(Adaptive):  # type: ignore[misc]  # Dask is not followed by mypy here
    """Dask's, with two patiences in seconds: ``idle`` for a worker without work, ``keep`` for a job in the queue."""

    def __init__(self, cluster: Any, *, idle: float, keep: float, **kwargs: Any) -> None:
        self.idle, self.keep = idle, keep
        self._since: dict[str, float] = {}
        super().__init__(cluster, **kwargs)

    async def recommendations(self, target: int) -> dict[str, Any]:
        """What to do to come to ``target`` workers; one is closed only after its patience is over."""
        plan, come = self.plan, self.observed
        if target >= len(plan):
            self._since.clear()
            return {"status": "same"} if target == len(plan) else {"status": "up", "n": target}
        waiting = [name for name in self.cluster.worker_spec if name not in come]
        unwanted = surplus(waiting, len(plan) - target)
        if len(plan) - len(unwanted) > target:
            unwanted += await self.workers_to_close(target=target)
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in unwanted}
        ripe = [
            name for name, since in self._since.items() if now - since >= (self.idle if name in come else self.keep)
        ]
        return {"status": "down", "workers": ripe} if ripe else {"status": "same"}

    async def scale_up(self, n: int) -> None:
        """Ask for more; a refusal stops this, and is told by whatever waits for workers."""
        try:
            await self.cluster.ask_for(n)
        except StudioloError as error:
            await self.cluster.refused(error)

    async def scale_down(self, workers: list[str]) -> None:
        """Have them hand over what they hold, and end."""
        await self.cluster.scale_down(workers)
