"""A Dask cluster that is closed while Slurm is slow, silent or refuses: it closes, and no job stays that nobody knows of."""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Worker

from studiolo import dask, dask_jobs
from studiolo.desk import PACE, Desk
from studiolo.errors import NoWorkers, SlurmUnavailable
from studiolo.request import check
from studiolo.session import Session
from studiolo.site import Site
from studiolo.slurm.states import JobState, Tagged
from studiolo.slurm.watcher import QueueWatcher

SOON = 20.0


class SlowSlurm:
    """A Slurm that answers when it is told to: by a gate for each kind of question, all of them open at first."""

    person = pwd.getpwuid(os.getuid()).pw_name

    def __init__(self) -> None:
        self.queue_now: dict[int, str] = {}
        self.cancelled: list[int] = []
        self.asked: list[str] = []
        self.heard = threading.Condition()
        self.shut: set[str] = set()
        self.silent: set[str] = set()  # takes what is asked, and does not say so
        self._numbers = itertools.count(1)
        self._opened = asyncio.Event()

    async def submit(self, person: str, batch: Any, environment: Any) -> int:
        await self._gate("submit")
        number = next(self._numbers)
        self.queue_now[number] = next(
            line.partition("=")[2].strip("'")
            for line in batch.text.splitlines()
            if line.startswith("#SBATCH --comment")
        )
        if "submit" in self.silent:
            raise SlurmUnavailable("submit your job", "Socket timed out")
        return number

    async def cancel(self, person: str, jobs: Iterable[int]) -> None:
        await self._gate("cancel")
        for job in jobs:
            self.cancelled.append(job)
            self.queue_now.pop(job, None)

    async def queue(self, jobs: Iterable[int]) -> dict[int, JobState]:
        return {job: JobState(job, "PENDING", "Priority") for job in jobs}

    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]:
        return {}

    async def tagged(self) -> list[Tagged]:
        found = [(job, comment.split(":")) for job, comment in self.queue_now.items()]
        return [Tagged(job, self.person, parts[-2], parts[-1]) for job, parts in found]

    async def _gate(self, kind: str) -> None:
        with self.heard:
            self.asked.append(kind)
            self.heard.notify_all()
        while kind in self.shut:
            await self._opened.wait()

    def await_asked(self, kind: str, times: int) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: self.asked.count(kind) >= times, SOON), self.asked

    def open(self, desk: Desk) -> None:
        """Answer all that was asked."""

        async def answer() -> None:
            self.shut.clear()
            self._opened.set()

        desk.do(answer())


@pytest.fixture
def slurm() -> SlowSlurm:
    return SlowSlurm()


@pytest.fixture
def at(site: Site, slurm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk in a session, with that Slurm behind it."""
    own = Session(1, "n1", next(iter(site.partitions)), "", 1, 1024, 0, 0, None, owner="s1")
    desk = Desk(site, own)
    desk.slurm = dict.fromkeys(site.clusters, slurm)
    desk.watchers = {name: QueueWatcher(slurm, PACE) for name in site.clusters}
    monkeypatch.setattr(dask, "desk", lambda: desk)
    monkeypatch.setattr(dask, "folders", lambda: str(tmp_path / "dask"))
    monkeypatch.setattr("studiolo.dask_leftovers.folders", lambda: str(tmp_path / "dask"))
    monkeypatch.setattr(dask_jobs, "PAUSE_SECONDS", 0.01)
    yield desk
    slurm.open(desk)
    desk.do(_all_over())
    desk.loop.call_soon_threadsafe(desk.loop.stop)
    desk.thread.join(SOON)
    desk.loop.close()


async def _all_over() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def run(at: Desk, scenario: Callable[[dask.Cluster], Awaitable[None]], **options: Any) -> None:
    """Have a cluster made and something done with it, on a loop as a notebook's."""

    async def main() -> None:
        cluster = dask.Cluster(check({}, at.site), wait=60.0, silence=60.0, asynchronous=True, **options)
        await cluster
        await asyncio.wait_for(scenario(cluster), SOON)

    asyncio.run(main())


async def _asked(slurm: SlowSlurm, kind: str, times: int) -> None:
    await asyncio.to_thread(slurm.await_asked, kind, times)


async def _empty(slurm: SlowSlurm) -> None:
    while slurm.queue_now:
        await asyncio.sleep(0.01)


def test_a_worker_that_is_just_being_asked_for_is_cancelled_once_slurm_has_it(at: Desk, slurm: SlowSlurm) -> None:
    async def scenario(cluster: dask.Cluster) -> None:
        slurm.shut = {"submit"}
        waits = cluster.scale(jobs=2)
        await _asked(slurm, "submit", 2)
        await cluster.close()
        assert cluster.status.name == "closed"
        assert waits.cancelled()
        assert [event.phase for event in cluster.history() if event.worker].count("lost") == 0
        slurm.open(at)
        await _asked(slurm, "cancel", 1)
        while len(slurm.cancelled) < 2:
            await asyncio.sleep(0.01)

    run(at, scenario)
    assert sorted(set(slurm.cancelled)) == [1, 2]
    assert slurm.queue_now == {}


def test_whoever_stops_waiting_for_a_worker_leaves_it_in_the_plan(at: Desk, slurm: SlowSlurm) -> None:
    async def scenario(cluster: dask.Cluster) -> None:
        slurm.shut = {"submit"}
        waits = cluster.scale(2)
        await _asked(slurm, "submit", 2)
        waits.cancel()
        slurm.open(at)
        await cluster._correct_state()
        assert sorted(int(job.job_id) for job in cluster.workers.values()) == [1, 2]
        await cluster.close()

    run(at, scenario)
    assert sorted(slurm.cancelled) == [1, 2]


def test_closing_does_not_wait_for_a_slurm_that_says_nothing(
    at: Desk, slurm: SlowSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "CLOSE_SECONDS", 0.05)

    async def scenario(cluster: dask.Cluster) -> None:
        slurm.shut = {"submit", "cancel"}
        down = cluster.scale(1)
        await _asked(slurm, "cancel", 1)
        await cluster.close()
        assert cluster.status.name == "closed"
        assert "Slurm does not answer" in str(cluster.history())
        assert down.cancelled()
        assert len(slurm.queue_now) == 3
        slurm.open(at)
        await _empty(slurm)

    run(at, scenario, workers=3)


def test_a_closed_cluster_takes_no_workers_and_says_so(at: Desk, slurm: SlowSlurm) -> None:
    async def scenario(cluster: dask.Cluster) -> None:
        await cluster.close()
        for more in (cluster.scale, lambda n: cluster.adapt(0, n)):
            with pytest.raises(NoWorkers, match="This cluster is closed: make another one"):
                await more(2)
        await cluster.scale(0)
        assert cluster.view().words == "closed"

    run(at, scenario)
    assert slurm.asked == []


def test_a_worker_that_slurm_took_without_saying_so_is_found_at_the_end(at: Desk, slurm: SlowSlurm) -> None:
    async def scenario(cluster: dask.Cluster) -> None:
        slurm.silent = {"submit"}
        with pytest.raises(SlurmUnavailable):
            await cluster.scale(1)
        assert cluster.workers == {}
        assert len(slurm.queue_now) == 1
        slurm.queue_now |= {70: "studiolo:t:dask:s1.ffffffff", 71: "studiolo:t:run:s1"}
        await cluster.close()

    run(at, scenario)
    assert slurm.cancelled == [1]
    assert list(slurm.queue_now) == [70, 71]


def test_a_worker_that_comes_though_slurm_never_said_so_is_sent_away(
    at: Desk, slurm: SlowSlurm, tmp_path: Path
) -> None:
    async def scenario(cluster: dask.Cluster) -> None:
        slurm.silent = {"submit"}
        with pytest.raises(SlurmUnavailable):
            await cluster.scale(1)
        options = {"nthreads": 1, "security": cluster.security, "local_directory": str(tmp_path)}
        async with (
            Worker(cluster.scheduler_address, name="a-person-s-own", **options) as own,
            Worker(cluster.scheduler_address, name="worker-0", **options) as stray,
        ):
            await stray.finished()
            assert own.status.name == "running"
        assert "nobody waits for it any more" in str(cluster.history())
        await cluster.close()

    run(at, scenario)


def test_a_closed_cluster_asks_for_nothing(at: Desk, slurm: SlowSlurm) -> None:
    async def scenario(cluster: dask.Cluster) -> None:
        await cluster.close()
        with pytest.raises(NoWorkers, match="closed"):
            await cluster.submit("worker-9")

    run(at, scenario)
    assert slurm.asked == []
