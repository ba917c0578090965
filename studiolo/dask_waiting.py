"""What work that waits for a Dask cluster's workers is told when none come."""

from __future__ import annotations

import time
from typing import Any

from distributed.deploy.cluster import WorkerStartTimeoutError
from distributed.protocol import pickle

from studiolo.errors import NoWorkers

__all__ = ["TooFewWorkers", "fail_waiting"]


class TooFewWorkers(WorkerStartTimeoutError):  # type: ignore[misc]
    """Dask's own error of a wait for workers that took too long, with why in ``words``."""

    def __init__(self, there: int, wanted: int, seconds: float, words: str) -> None:
        super().__init__(there, wanted, seconds)
        self.words = words

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.words}"


def fail_waiting(scheduler: Any, error: NoWorkers) -> None:
    """Fail all work that no worker is there for, as Dask itself does after its ``no-workers-timeout``."""
    stimulus = f"studiolo-no-workers-{time.time()}"
    recommendations: dict[Any, Any] = {}
    for task in [*scheduler.unrunnable, *scheduler.queued]:
        recommendations.update(
            scheduler.transition(task.key, "erred", exception=pickle.dumps(error), cause=task.key, stimulus_id=stimulus)
        )
    if recommendations:
        scheduler.transitions(recommendations, stimulus_id=stimulus)
