"""Everything of one person ends from a notebook: not the session itself, unless asked; what comes meanwhile too."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from studiolo import stopping
from studiolo.desk import Desk
from studiolo.errors import SlurmUnavailable
from studiolo.session import Session
from studiolo.site import Site
from studiolo.slurm.states import Tagged
from studiolo.stopping import Stopped, stop_everything

OWN = 1
JOBS = [
    Tagged(OWN, "ada", "session", "s1"),
    Tagged(2, "ada", "session", "s2"),
    Tagged(3, "ada", "run", "r1"),
    Tagged(4, "ada", "run", "r1"),
    Tagged(5, "ada", "dask", "s1.c1"),
]


class Queue:
    """One's own queue; ``more`` are submitted while the first are cancelled."""

    person = "ada"
    name = ""

    def __init__(self, *more: Tagged) -> None:
        self.jobs, self.more, self.cancelled = list(JOBS), list(more), list[list[int]]()
        self.silent = False
        self.other: Queue = self

    async def tagged(self) -> tuple[Tagged, ...]:
        if self.silent:
            raise SlurmUnavailable("list jobs", "Unable to contact slurm controller")
        return tuple(self.jobs)

    async def cancel(self, person: str, jobs: list[int]) -> None:
        assert person == "ada"
        self.cancelled.append(list(jobs))
        self.jobs = [job for job in self.jobs if job.job not in jobs] + self.more
        self.more = []


@pytest.fixture
def queue(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    at = Desk(site, Session(OWN, "n", "cpu", "", 1, 1024, 0, 0, None, "s1", {"cluster": next(iter(site.clusters))}))
    found = Queue()
    found.name = next(iter(site.clusters))
    found.other = Queue()
    found.other.jobs = []
    at.slurm = {found.name: found, "other": found.other}  # type: ignore[dict-item]
    monkeypatch.setattr(stopping, "desk", lambda: at)
    monkeypatch.setattr(stopping, "announced", list)
    yield found
    at.loop.call_soon_threadsafe(at.loop.stop)
    at.thread.join()
    at.loop.close()


def test_all_but_the_session_itself_ends_and_is_counted(queue: Queue) -> None:
    stopped = stop_everything()
    assert queue.cancelled == [[2, 3, 4, 5]]
    assert stopped == Stopped(sessions=1, runs=1, workers=1)
    assert repr(stopped) == "Stopped: 1 session, 1 batch run, 1 Dask worker."


def test_other_notebooks_clusters_are_told_before_their_jobs_are_cancelled(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []
    monkeypatch.setattr(stopping, "tell_to_end", lambda _root, name: told.append((name, len(queue.cancelled))))
    stop_everything()
    assert told == [("s1.c1", 0)]


def test_what_is_submitted_meanwhile_ends_too(queue: Queue) -> None:
    queue.more = [Tagged(6, "ada", "dask", "r1.c2")]
    assert stop_everything().workers == 2
    assert queue.cancelled[-1] == [6]


def test_the_session_itself_ends_last_where_that_is_asked_for(queue: Queue) -> None:
    stopped = stop_everything(this_session=True)
    assert queue.cancelled == [[2, 3, 4, 5], [OWN]]
    assert (stopped.sessions, stopped.itself) == (2, True)
    assert "this one among them" in repr(stopped)


def test_a_run_that_stops_everything_goes_on_and_so_do_the_runs_of_its_sweep(queue: Queue, site: Site) -> None:
    # The last task of an array has the array's own number, by which those that wait are named: cancelling it would end all.
    inside = Session(3, "n", "cpu", "", 1, 1024, 0, 0, None, "r1", {"cluster": queue.name})
    stopping.desk().session = inside
    queue.jobs.append(Tagged(7, "ada", "run", "r2"))
    stopped = stop_everything()
    assert queue.cancelled == [[OWN, 2, 5, 7]]
    assert stopped == Stopped(sessions=2, runs=1, workers=1)
    queue.jobs = [Tagged(3, "ada", "run", "r1"), Tagged(4, "ada", "run", "r1")]
    stopped = stop_everything(this_session=True)
    assert queue.cancelled[1:] == [[3, 4]]
    assert repr(stopped) == "Stopped: 1 batch run, this one among them."


def test_a_job_of_another_cluster_with_the_sessions_own_number_ends_too(queue: Queue) -> None:
    queue.other.jobs = [Tagged(OWN, "ada", "run", "r7"), Tagged(3, "ada", "run", "r8")]
    assert stop_everything().runs == 3
    assert queue.other.cancelled == [[OWN, 3]]
    assert OWN not in queue.cancelled[0]


def test_nothing_to_stop_is_said(queue: Queue) -> None:
    queue.jobs = JOBS[:1]
    assert repr(stop_everything()) == "Nothing else of yours runs or waits."
    assert queue.cancelled == []


def test_a_silent_scheduler_is_an_error_and_the_session_goes_on(queue: Queue) -> None:
    queue.silent = True
    with pytest.raises(SlurmUnavailable):
        stop_everything(this_session=True)
    assert queue.cancelled == []


def test_this_notebooks_clusters_are_closed_before_so_that_they_replace_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str, int]] = []

    def live(kind: str, *, over: bool = False) -> Any:
        return SimpleNamespace(
            view=lambda: SimpleNamespace(kind=kind, is_over=over, jobs=(5, 9), identity="c1", cluster=queue.name),
            act=lambda action: done.append((kind, action, len(queue.cancelled))),
        )

    monkeypatch.setattr(stopping, "announced", lambda: [live("run"), live("cluster"), live("cluster", over=True)])
    assert stop_everything().workers == 2  # one of them is in the queue still
    assert done == [("cluster", "close", 0)]
