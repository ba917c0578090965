"""What somebody has besides sessions, and its end: of theirs alone, whatever is submitted meanwhile, whoever is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from spawners.everything import JobsCache, others, stop_everything
from studiolo.errors import SlurmUnavailable
from studiolo.slurm.states import Tagged

JOBS = [
    Tagged(1, "ada", "session", "s1"),
    Tagged(2, "ada", "run", "r1"),
    Tagged(3, "ada", "run", "r1"),
    Tagged(4, "ada", "run", "r2"),
    Tagged(5, "ada", "dask", "s1.c1"),
    Tagged(6, "ada", "other", "x"),
    Tagged(7, "bob", "run", "r3"),
]


class Queue:
    """A queue that is cancelled from; ``more`` are submitted while the first are cancelled."""

    def __init__(self, jobs: Iterable[Tagged], *more: Tagged, silent: bool = False) -> None:
        self.jobs, self.more, self.silent = list(jobs), list(more), silent
        self.cancelled: list[tuple[str, list[int]]] = []

    async def tagged(self) -> tuple[Tagged, ...]:
        if self.silent:
            raise SlurmUnavailable("list jobs", "Unable to contact slurm controller")
        return tuple(self.jobs)

    async def cancel(self, person: str, jobs: Iterable[int]) -> None:
        numbers = list(jobs)
        self.cancelled.append((person, numbers))
        self.jobs = [job for job in self.jobs if job.job not in numbers] + self.more
        self.more = []


def engine(**clusters: Queue) -> Any:
    swept: list[str] = []
    return SimpleNamespace(
        slurm=clusters,
        jobs={name: JobsCache(queue) for name, queue in clusters.items()},  # type: ignore[arg-type]
        look_for_orphans=swept.append,
        swept=swept,
    )


ADA: Any = SimpleNamespace(name="ada", spawners={})


def test_a_sweep_is_one_run_and_every_worker_counts() -> None:
    assert others(job for job in JOBS if job.person == "ada" and job.kind != "session") == {
        "runs": 2,
        "workers": 1,
        "others": 1,
    }


def test_ones_own_jobs_are_known_from_the_last_look_and_no_session_is_among_them() -> None:
    async def look() -> list[Tagged]:
        cache = JobsCache(Queue(JOBS))  # type: ignore[arg-type]
        assert cache.of("ada") == []
        await cache.get()
        return cache.of("ada")

    assert [job.job for job in asyncio.run(look())] == [2, 3, 4, 5, 6]


def test_everything_of_one_person_is_cancelled_and_nothing_of_anybody_else() -> None:
    main, small = Queue(JOBS), Queue([Tagged(9, "ada", "run", "r9")])
    found = engine(main=main, small=small)
    assert asyncio.run(stop_everything(None, found, ADA)) == ""
    assert main.cancelled == [("ada", [2, 3, 4, 5, 6])]
    assert small.cancelled == [("ada", [9])]
    assert [job.job for job in main.jobs] == [1, 7]
    assert found.swept == ["main", "small"]
    assert found.jobs["main"].of("ada") == []
    assert [job.job for job in found.jobs["main"].of("bob")] == [7]


def test_what_is_submitted_while_others_are_cancelled_is_cancelled_too() -> None:
    queue = Queue(JOBS, Tagged(8, "ada", "dask", "s1.c1"))
    asyncio.run(stop_everything(None, engine(main=queue), ADA))
    assert queue.cancelled[-1] == ("ada", [8])


def test_where_the_scheduler_is_silent_that_is_said_and_the_other_cluster_is_not_forgotten() -> None:
    silent, small = Queue(JOBS, silent=True), Queue([Tagged(9, "ada", "run", "r9")])
    found = engine(main=silent, small=small)
    assert "Try again" in asyncio.run(stop_everything(None, found, ADA))
    assert small.cancelled == [("ada", [9])]
    assert "main" in found.swept
