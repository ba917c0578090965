"""What somebody has besides sessions, and its end: of theirs alone, whatever is submitted meanwhile, whoever is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from spawners.everything import JobsCache, in_queue, others, stop_everything, stop_one
from studiolo.errors import SlurmUnavailable
from studiolo.slurm.states import JobState, Tagged

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


def test_what_is_in_the_queue_is_shown_as_in_a_panel_of_ones_own_alone() -> None:
    async def look() -> list[tuple[str, str, tuple[int, ...], float | None]]:
        runs, waits = JobState(2, "RUNNING", node="n1", start=50), JobState(3, "PENDING", "Priority", start=99)
        jobs = [
            Tagged(2, "ada", "run", "r1", state=runs, asked=40),
            Tagged(3, "ada", "run", "r1", state=waits, asked=30),
            Tagged(5, "ada", "dask", "s1.c1", state=waits, asked=60),
            *JOBS[-2:],
        ]
        caches = {"main": JobsCache(Queue(jobs)), "small": JobsCache(Queue([], silent=True))}  # type: ignore[arg-type]
        await asyncio.gather(*(cache.get() for cache in caches.values()))
        return [(view.identity, view.state, view.jobs, view.asked) for view in in_queue(caches, "ada")]

    assert asyncio.run(look()) == [
        ("main/dask/s1.c1", "waiting", (5,), 60),
        ("main/run/r1", "running", (2, 3), 30),
    ]


@pytest.mark.parametrize(
    ("identity", "gone"),
    [
        ("main/run/r1", [2, 3]),
        ("main/dask/s1.c1", [5]),
        ("main/session/s1", []),
        ("main/run/r3", []),
        ("small/run/r1", []),
        ("elsewhere/run/r1", []),
        ("main/run", []),
        ("", []),
    ],
)
def test_one_thing_is_stopped_of_ones_own_and_whatever_is_sent_nothing_else(identity: str, gone: list[int]) -> None:
    main, small = Queue(JOBS), Queue([])
    assert asyncio.run(stop_one(engine(main=main, small=small), "ada", identity)) == ""
    assert [job.job for job in JOBS if job not in main.jobs] == gone
    assert all(person == "ada" for person, _jobs in main.cancelled)


def test_one_thing_that_could_not_be_stopped_is_said() -> None:
    found = engine(main=Queue(JOBS, silent=True))
    assert "Try again" in asyncio.run(stop_one(found, "ada", "main/run/r1"))
