"""Orphaned jobs: who is one, when they are looked for, and that no answer of Slurm cancels nothing. In virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners.orphans import OrphanSweeper, orphans
from studiolo.errors import LauncherFailed, SlurmError, SlurmRefused, SlurmUnavailable
from studiolo.slurm.states import Tagged

Virtually = Callable[..., Any]
SILENT = SlurmUnavailable("list jobs", "Unable to contact slurm controller")
FIRST, LONGEST = OrphanSweeper.FIRST_PAUSE_SECONDS, OrphanSweeper.LONGEST_PAUSE_SECONDS
SHORTEST = OrphanSweeper.SHORTEST_PAUSE_SECONDS
AGAIN, EVERY = OrphanSweeper.AGAIN_SECONDS, OrphanSweeper.EVERY_SECONDS


def session(job: int, person: str = "ada", name: str | None = None) -> Tagged:
    return Tagged(job, person, "session", f"s{job}" if name is None else name)


class Slurm:
    """A cluster with jobs in its queue; whose cancellation ``fails``, and when it was asked, is noted."""

    def __init__(self, *jobs: Tagged) -> None:
        self.jobs = {job.job: job for job in jobs}
        self.fails: Exception | None = None
        self.refuses: dict[str, SlurmError] = {}
        self.asked: list[float] = []
        self.cancelled: list[tuple[str, list[int]]] = []

    async def tagged(self) -> tuple[Tagged, ...]:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails
        return tuple(self.jobs.values())

    async def cancel(self, person: str, jobs: Iterable[int]) -> None:
        numbers = list(jobs)
        await asyncio.sleep(0)
        if person in self.refuses:
            raise self.refuses[person]
        self.cancelled.append((person, numbers))
        for number in numbers:
            del self.jobs[number]


def living(*names: str) -> Callable[[], Iterable[str]]:
    return lambda: names


def test_a_worker_lives_as_long_as_the_session_or_the_run_that_its_cluster_lives_in() -> None:
    of_session = Tagged(1, "ada", "dask", "alive.c1")
    of_run = Tagged(2, "ada", "dask", "run-1.c2")
    lost = Tagged(3, "ada", "dask", "gone.c3")
    of_anothers_run = Tagged(4, "bob", "dask", "run-1.c4")
    run = Tagged(5, "ada", "run", "run-1")
    assert orphans([of_session, of_run, lost, of_anothers_run, run], ["alive"]) == {"ada": [3], "bob": [4]}


def test_a_run_outlives_every_session() -> None:
    assert orphans([Tagged(5, "ada", "run", "run-1")], []) == {}


async def until(time: float) -> None:
    await asyncio.sleep(time - asyncio.get_running_loop().time())


NOBODY = living()


def running(slurm: Slurm, known: Callable[[], Iterable[str]] = NOBODY) -> tuple[OrphanSweeper, asyncio.Task[None]]:
    sweeper = OrphanSweeper(slurm, known)
    return sweeper, asyncio.ensure_future(sweeper.run())


# --- Who is one ------------------------------------------------------------------------------------------------------


def test_a_session_that_no_server_names_is_an_orphan_listed_by_its_person() -> None:
    found = [session(1), session(2, "bob"), session(3), session(4)]
    assert orphans(found, ["s4"]) == {"ada": [1, 3], "bob": [2]}


@pytest.mark.parametrize("kind", ["worker", "grading", "", "SESSION", "session "])
def test_a_job_of_another_kind_is_never_an_orphan(kind: str) -> None:
    assert orphans([Tagged(1, "ada", kind, "s1")], []) == {}


def test_two_jobs_of_one_living_session_are_both_left_alone() -> None:
    assert orphans([session(1, name="x"), session(2, name="x")], ["x"]) == {}


TAGGED = st.builds(
    Tagged,
    job=st.integers(1, 50),
    person=st.sampled_from(["ada", "bob"]),
    kind=st.sampled_from(["session", "worker"]),
    name=st.sampled_from("abcdef"),
)


@given(found=st.lists(TAGGED, unique_by=lambda job: job.job), known=st.sets(st.sampled_from("abcdef")))
def test_every_session_is_either_known_or_its_own_persons_orphan(found: list[Tagged], known: set[str]) -> None:
    lost = orphans(iter(found), iter(known))
    told = {(person, job) for person, jobs in lost.items() for job in jobs}
    assert told == {(job.person, job.job) for job in found if job.kind == "session" and job.name not in known}
    assert all(lost.values())


# --- When they are looked for ----------------------------------------------------------------------------------------


def test_the_first_look_is_at_once_and_the_next_ones_every_few_minutes(virtually: Virtually) -> None:
    async def story() -> None:
        slurm = Slurm(session(1), session(2))
        running(slurm, living("s2"))
        await until(2.5 * EVERY)
        assert slurm.asked == [0, EVERY, 2 * EVERY]
        assert slurm.cancelled == [("ada", [1])]

    virtually(story())


def test_after_something_was_cut_off_it_looks_at_once_and_once_more_a_little_later(virtually: Virtually) -> None:
    async def story() -> None:
        slurm = Slurm()
        sweeper, _ = running(slurm)
        await until(10)
        sweeper.soon()
        sweeper.soon()
        await until(10 + AGAIN + EVERY + 1)
        assert slurm.asked == [0, 10, 10 + AGAIN, 10 + AGAIN + EVERY]

    virtually(story())


def test_what_is_cut_off_while_it_looks_is_looked_for_once_more(virtually: Virtually) -> None:
    async def story() -> None:
        slurm = Slurm()
        sweeper, _ = running(slurm)
        await asyncio.sleep(0)
        assert slurm.asked == [0]
        sweeper.soon()
        await until(SHORTEST + 1)
        assert slurm.asked == [0, SHORTEST]

    virtually(story())


def test_a_class_that_ends_together_is_looked_after_by_a_question_or_two(virtually: Virtually) -> None:
    async def story() -> None:
        slurm = Slurm()
        sweeper, _ = running(slurm)
        await until(10)
        for _each in range(60):
            sweeper.soon()
            await asyncio.sleep(0.01)
        await until(20)
        assert slurm.asked == [0, 10, 10 + SHORTEST]

    virtually(story())


def test_what_was_cut_off_before_it_began_is_looked_for_a_little_later_too(virtually: Virtually) -> None:
    async def story() -> None:
        slurm = Slurm()
        sweeper = OrphanSweeper(slurm, NOBODY)
        sweeper.soon()
        task = asyncio.ensure_future(sweeper.run())
        await until(AGAIN + 1)
        assert slurm.asked == [0, AGAIN]
        assert not task.done()

    virtually(story())


# --- No answer is not "nobody's" -------------------------------------------------------------------------------------


def test_while_slurm_does_not_answer_nothing_is_cancelled_and_it_asks_less_and_less_often(
    virtually: Virtually,
) -> None:
    async def story() -> None:
        slurm = Slurm(session(1))
        slurm.fails = SILENT
        running(slurm)
        await until(1000)
        pauses = [after - before for before, after in zip(slurm.asked, slurm.asked[1:], strict=False)]
        assert pauses[0] == FIRST
        assert pauses == [min(FIRST * 2**number, LONGEST) for number in range(len(pauses))]
        assert pauses[-1] == LONGEST
        assert slurm.cancelled == []
        slurm.fails = None
        answered = slurm.asked[-1] + LONGEST
        await until(answered + AGAIN + EVERY + 1)
        assert slurm.cancelled == [("ada", [1])]
        # The submission that nobody waits for any more may still come into the queue.
        assert slurm.asked[-3:] == [answered, answered + AGAIN, answered + AGAIN + EVERY]

    virtually(story())


def test_the_pauses_are_short_again_after_an_answer(virtually: Virtually) -> None:
    async def story() -> None:
        slurm = Slurm()
        slurm.fails = SILENT
        sweeper, _ = running(slurm)
        await until(300)
        slurm.fails = None
        await until(600)
        slurm.fails = SILENT
        sweeper.soon()
        await until(600 + 3.5 * FIRST)
        assert slurm.asked[-3:] == [600, 600 + FIRST, 600 + 3 * FIRST]

    virtually(story())


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(LauncherFailed("run squeue", "squeue: No such file or directory"), id="no squeue"),
        pytest.param(SlurmRefused("list jobs", "Access/permission denied"), id="refused"),
        pytest.param(ValueError("a bug"), id="a bug"),
    ],
)
def test_no_trouble_of_the_question_ends_the_looking_for_good(
    virtually: Virtually, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def story() -> None:
        slurm = Slurm(session(1))
        slurm.fails = error
        _, task = running(slurm)
        await until(30)
        assert not task.done()
        assert slurm.cancelled == []
        slurm.fails = None
        await until(30 + LONGEST)
        assert slurm.cancelled == [("ada", [1])]

    virtually(story())
    assert str(error) in caplog.text
    assert ("Traceback" in caplog.text) is not isinstance(error, SlurmError)  # an operator's trouble is one line


def test_while_the_hubs_database_does_not_answer_nothing_is_cancelled_and_it_asks_again(
    virtually: Virtually, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        slurm = Slurm(session(1), session(2))
        answers: list[list[str]] = []

        def known() -> list[str]:
            if not answers:
                raise OSError("the database is locked")
            return answers[0]

        _, task = running(slurm, known)
        await until(30)
        assert not task.done()
        assert slurm.cancelled == []
        answers.append(["s2"])
        await until(30 + LONGEST)
        assert slurm.cancelled == [("ada", [1])]

    virtually(story())
    assert "the database is locked" in caplog.text


def test_which_sessions_live_is_asked_after_the_queue(virtually: Virtually) -> None:
    # A session is in the database before its job is in the queue: asked the other way round, a new one would look lost.
    async def story() -> None:
        slurm = Slurm()
        names: list[str] = []

        class Busy(Slurm):
            async def tagged(self) -> tuple[Tagged, ...]:
                names.append("s7")
                self.jobs[7] = session(7)
                return await super().tagged()

        slurm = Busy()
        await OrphanSweeper(slurm, lambda: list(names)).sweep()
        assert slurm.cancelled == []

    virtually(story())


# --- One person's trouble is not the others' -------------------------------------------------------------------------


def test_one_persons_refusal_does_not_keep_the_others_jobs(
    virtually: Virtually, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        slurm = Slurm(session(1, "ada"), session(2, "bob"), session(3, "cy"))
        slurm.refuses = {
            "ada": SlurmRefused("cancel the job", "Access/permission denied"),
            "bob": LauncherFailed("cancel the job", "sudo: unknown user bob"),
        }
        running(slurm)
        await until(1.5 * EVERY)
        assert slurm.cancelled == [("cy", [3])]
        assert slurm.asked == [0, EVERY]

    virtually(story())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert any("[1] of ada" in error and "Access/permission denied" in error for error in errors)
    assert any("[2] of bob" in error and "unknown user bob" in error for error in errors)


def test_one_person_for_whom_nobody_answers_keeps_only_their_own_jobs_and_is_tried_again(virtually: Virtually) -> None:
    # A home folder that hangs: the launcher does not come back for this person, whatever Slurm does.
    async def story() -> None:
        slurm = Slurm(session(1, "ada"), session(2, "bob"))
        slurm.refuses = {"ada": SlurmUnavailable("cancel the job", "no answer within 30 s")}
        running(slurm)
        await until(1.5 * FIRST)
        assert slurm.cancelled == [("bob", [2])]
        assert slurm.asked == [0, FIRST]
        slurm.refuses = {}
        await until(10)
        assert slurm.cancelled == [("bob", [2]), ("ada", [1])]

    virtually(story())


def test_a_single_sweep_tells_that_slurm_did_not_answer(virtually: Virtually) -> None:
    async def story() -> None:
        slurm = Slurm(session(1))
        slurm.refuses = {"ada": SILENT}
        with pytest.raises(SlurmUnavailable):
            await OrphanSweeper(slurm, NOBODY).sweep()

    virtually(story())
