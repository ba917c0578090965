"""Who works in a Dask cluster, what has happened to it, and what it has spent: its book, which others may read at any time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from studiolo.cost import amount
from studiolo.dask_crew import Event, Phase, Worker, learn
from studiolo.site import Prices
from studiolo.slurm.states import JobState
from studiolo.views import Amount, Resources

__all__ = ["Roster"]

EVENTS = 1000


class Roster:
    """The workers that are planned, wait or run, in the order of asking, and the last thousand events.

    Written on one thread. ``resources`` are those of one worker.
    """

    def __init__(self, resources: Resources, prices: Prices) -> None:
        self.resources, self.prices = resources, prices
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.workers: dict[str, Worker] = {}
        self._spent = amount(resources, 0.0, prices)

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self.workers.values()))

    def get(self, name: str) -> Worker | None:
        """The worker of that name, ``None`` where it is over or never was."""
        return self.workers.get(name)

    def ask(self, name: str) -> None:
        """A worker is about to be asked for."""
        self.workers[name] = Worker(name, "asked", "asked for", time.time())

    def accept(self, name: str, job: int) -> None:
        """Slurm has taken it."""
        self.workers[name] = replace(self.workers[name], job=job)
        self.say(name, "asked for")

    def hear(self, name: str, state: JobState) -> None:
        """Slurm has said something of its job, which is not over."""
        worker = self.workers[name]
        self.workers[name] = known = learn(worker, state)
        if known.words != worker.words:
            self.say(name, known.words)

    def come(self, name: str) -> None:
        """It has reached the notebook."""
        worker, now = self.workers[name], time.time()
        self.workers[name] = replace(worker, phase="running", words="runs", came=now, expected=None)
        self.say(name, f"runs, {now - worker.asked:.1f} s after it was asked for")

    def leave(self, name: str, words: str) -> None:
        """It was told to end, or its connection did. Only what is said first is news."""
        worker = self.workers.get(name)
        if worker is not None and worker.phase != "leaving":
            self.workers[name] = replace(worker, phase="leaving", words=words)
            self.say(name, words)

    def succeed(self, name: str, successor: str) -> None:
        """Another one takes over from it."""
        self.workers[name] = replace(self.workers[name], successor=successor)
        self.say(name, f"its time is almost over: {successor} takes over")

    def end(self, name: str, phase: Phase, words: str, when: int | None = None) -> None:
        """It is over, as it was told to or not; from now on it is history."""
        worker = self.workers.pop(name)
        self._spent += self._cost(worker, when or time.time())
        self.events.append(Event(time.time(), name, worker.job, phase, f"lost: {words}" if phase == "lost" else words))

    def say(self, name: str, words: str) -> None:
        """Something happened to a worker, or to the cluster (an empty name)."""
        worker = self.workers.get(name)
        job, phase = (worker.job, worker.phase) if worker else (None, None)
        self.events.append(Event(time.time(), name, job, phase or "cluster", words))

    def spent(self) -> Amount:
        """What all of them have cost so far."""
        return sum((self._cost(worker, time.time()) for worker in self), self._spent)

    def _cost(self, worker: Worker, until: float) -> Amount:
        held = until - (worker.started or worker.asked) if worker.node else 0.0
        return amount(self.resources, held, self.prices)
