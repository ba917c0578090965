"""The watcher, in virtual time: one question for everybody, and "no answer" is never "gone"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.errors import SlurmUnavailable
from studiolo.slurm.states import JobState
from studiolo.slurm.watcher import Pace, QueueWatcher, next_interval

Virtually = Callable[..., Any]
PACE = Pace(first=1.0, growth=2.0, waiting=8.0, quiet=100.0, silent=400.0)
SILENT = SlurmUnavailable("list jobs", "Unable to contact slurm controller")


def pending(job: int, reason: str = "Priority") -> JobState:
    return JobState(job, "PENDING", reason)


def running(job: int) -> JobState:
    return JobState(job, "RUNNING", node="gpu1")


def over(job: int, state: str = "COMPLETED") -> JobState:
    return JobState(job, state, node="gpu1", exit_code=0)


class Slurm:
    """A cluster whose answers are set; notes when it was asked for what."""

    def __init__(self) -> None:
        self.in_queue: dict[int, JobState] = {}
        self.in_accounting: dict[int, JobState] = {}
        self.fails: SlurmUnavailable | None = None
        self.accounting_fails: SlurmUnavailable | None = None
        self.asked: list[tuple[float, list[int]]] = []
        self.looked_up: list[list[int]] = []
        self.answered: Callable[[int], None] = lambda number: None

    async def queue(self, jobs: Iterable[int]) -> dict[int, JobState]:
        self.asked.append((asyncio.get_running_loop().time(), sorted(jobs)))
        self.answered(len(self.asked))
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails
        return {job: self.in_queue[job] for job in jobs if job in self.in_queue}

    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]:
        self.looked_up.append(sorted(jobs))
        if self.accounting_fails:
            raise self.accounting_fails
        return {job: self.in_accounting[job] for job in jobs if job in self.in_accounting}

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.asked]


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


async def all_changes(watcher: QueueWatcher, job: int) -> list[JobState]:
    return [state async for state in watcher.changes(job)]


async def until(time: float) -> None:
    await asyncio.sleep(time - asyncio.get_running_loop().time())


# --- One question for all --------------------------------------------------------------------------------------------


def test_one_question_asks_for_all_jobs(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        watcher = QueueWatcher(slurm, PACE)
        for job in range(1, 31):
            slurm.in_queue[job] = pending(job)
            watcher.follow(job)
        await until(0.5)
        assert slurm.asked == [(0.0, list(range(1, 31)))]

    virtually(follow())


def test_thirty_who_wait_for_an_hour_cost_as_many_questions_as_one(virtually: Virtually) -> None:
    async def wait(number: int) -> int:
        slurm = Slurm()
        watcher = QueueWatcher(slurm, PACE)
        waiting = []
        for job in range(1, number + 1):
            slurm.in_queue[job] = pending(job)
            watcher.follow(job)
            waiting.append(asyncio.ensure_future(all_changes(watcher, job)))
        await until(3600)
        watcher.close()
        return len(slurm.asked)

    assert virtually(wait(30)) == virtually(wait(1)) <= 3600 / 8 + 5


def test_questions_come_at_growing_intervals(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = pending(1)
        QueueWatcher(slurm, PACE).follow(1)
        await until(40)
        assert slurm.times == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0, 39.0]

    virtually(follow())


def test_a_new_job_is_asked_for_at_once_and_quickens_the_pace(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue = {1: pending(1), 2: pending(2)}
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(20)
        watcher.follow(2)
        await until(24)
        assert slurm.asked[-3:] == [(20.0, [1, 2]), (21.0, [1, 2]), (23.0, [1, 2])]

    virtually(follow())


def test_a_job_that_nobody_waits_for_is_asked_for_quietly(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = running(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(0.5)
        watcher.settle(1)
        await until(350)
        assert slurm.times == [0.0, 1.0, 101.0, 201.0, 301.0]

    virtually(follow())


def test_a_job_found_again_after_a_restart_is_asked_for_once_and_then_quietly(
    virtually: Virtually, slurm: Slurm
) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = running(1)
        watcher = QueueWatcher(slurm, PACE)
        for _ in range(50):  # poll() does so every few seconds
            watcher.follow_quietly(1)
            await asyncio.sleep(5)
        assert slurm.times == [0.0, 100.0, 200.0]
        assert watcher.state(1) == running(1)

    virtually(follow())


def test_a_job_that_somebody_waits_for_stays_at_the_faster_pace_when_polled(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = pending(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(0.5)
        watcher.follow_quietly(1)
        await until(10)
        assert slurm.times == [0.0, 1.0, 3.0, 7.0]

    virtually(follow())


def test_a_job_whose_end_is_awaited_is_asked_for_at_once_again(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = running(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow_quietly(1)
        await until(50)
        watcher.hurry(1)
        await until(52)
        assert slurm.times == [0.0, 50.0, 51.0]

    virtually(follow())


def test_nothing_is_asked_where_nothing_is_followed(virtually: Virtually, slurm: Slurm) -> None:
    async def wait() -> None:
        watcher = QueueWatcher(slurm, PACE)
        watcher.settle(1)
        watcher.hurry(1)
        watcher.forget(1)
        await until(1000)
        assert slurm.asked == []
        assert watcher.state(1) is None

    virtually(wait())


def test_nothing_is_asked_where_all_that_is_followed_is_over(virtually: Virtually, slurm: Slurm) -> None:
    async def wait() -> None:
        slurm.in_queue[1] = over(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(10_000)
        assert slurm.times == [0.0]
        assert watcher.state(1) == over(1)

    virtually(wait())


def test_asking_ends_with_the_last_job_and_begins_anew_with_the_next(virtually: Virtually, slurm: Slurm) -> None:
    async def wait() -> None:
        slurm.in_queue = {1: pending(1), 2: pending(2)}
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(1.5)
        watcher.forget(1)
        await until(1000)
        assert slurm.times == [0.0, 1.0]
        watcher.follow(2)
        await until(1000.5)
        assert slurm.asked[-1] == (1000.0, [2])

    virtually(wait())


def test_a_closed_watcher_asks_no_more(virtually: Virtually, slurm: Slurm) -> None:
    async def wait() -> None:
        slurm.in_queue[1] = pending(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.close()
        watcher.follow(1)
        await until(1.5)
        watcher.close()
        await until(1000)
        assert slurm.times == [0.0, 1.0]

    virtually(wait())


# --- Changes ---------------------------------------------------------------------------------------------------------


def test_changes_come_in_order_once_each_and_end_with_the_job(virtually: Virtually, slurm: Slurm) -> None:
    story = [
        pending(1, "Priority"),
        pending(1, "Priority"),
        pending(1, "Resources"),
        running(1),
        running(1),
        JobState(1, "COMPLETING", node="gpu1"),
        over(1),
    ]

    async def follow() -> list[JobState]:
        slurm.answered = lambda number: slurm.in_queue.update({1: story[min(number, len(story)) - 1]})
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        return await all_changes(watcher, 1)

    assert virtually(follow()) == [story[0], story[2], story[3], story[5], story[6]]


def test_everybody_who_waits_for_a_job_sees_its_changes(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> list[list[JobState]]:
        slurm.answered = lambda number: slurm.in_queue.update({1: pending(1) if number < 3 else over(1)})
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        return await asyncio.gather(*(all_changes(watcher, 1) for _ in range(3)))

    assert virtually(follow()) == [[pending(1), over(1)]] * 3


def test_who_comes_late_sees_the_present_state_at_once(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = running(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(3.5)
        assert await anext(aiter(watcher.changes(1))) == running(1)
        assert asyncio.get_running_loop().time() == 3.5

    virtually(follow())


def test_who_is_slow_sees_the_latest_state_and_not_each_one_missed(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        states = [pending(1, "Priority"), pending(1, "Resources"), running(1)]
        slurm.answered = lambda number: slurm.in_queue.update({1: states[min(number, 3) - 1]})
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        changes = aiter(watcher.changes(1))
        assert await anext(changes) == states[0]
        await until(30)
        assert await anext(changes) == states[2]

    virtually(follow())


def test_changes_of_a_job_that_is_not_followed_end_at_once(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        assert await all_changes(QueueWatcher(slurm, PACE), 1) == []

    virtually(follow())


@pytest.mark.parametrize("answered", [True, False])
def test_who_waits_for_a_forgotten_job_is_woken_and_finds_nothing(
    virtually: Virtually, slurm: Slurm, answered: bool
) -> None:
    async def follow() -> None:
        slurm.in_queue = {1: pending(1)} if answered else {}
        slurm.fails = None if answered else SILENT
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        waiting = asyncio.ensure_future(all_changes(watcher, 1))
        await until(0.5)
        watcher.forget(1)
        assert await waiting == ([pending(1)] if answered else [])
        assert asyncio.get_running_loop().time() == 0.5
        assert watcher.state(1) is None

    virtually(follow())


def test_a_job_forgotten_while_slurm_is_asked_stays_forgotten(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue = {1: pending(1)}
        watcher = QueueWatcher(slurm, PACE)
        slurm.answered = lambda number: watcher.forget(1)
        watcher.follow(1)
        await until(1000)
        assert watcher.state(1) is None
        assert slurm.times == [0.0]

    virtually(follow())


# --- The next change -------------------------------------------------------------------------------------------------


def test_who_waits_for_the_next_change_is_woken_by_it_at_once(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.answered = lambda number: slurm.in_queue.update({1: pending(1) if number < 4 else running(1)})
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(0.5)
        await watcher.change(1, 100)
        assert asyncio.get_running_loop().time() == slurm.times[3] == 7.0
        assert watcher.state(1) == running(1)

    virtually(follow())


def test_the_first_answer_is_a_change_too(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = pending(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await watcher.change(1, 100)
        assert watcher.state(1) == pending(1)
        assert asyncio.get_running_loop().time() == 0.0

    virtually(follow())


def test_without_a_change_the_wait_ends_after_its_seconds(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue = {1: pending(1), 2: pending(2)}
        slurm.answered = lambda number: slurm.in_queue.update({2: pending(2, f"another reason {number}")})
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        watcher.follow(2)
        await until(0.5)
        await watcher.change(1, 30)
        assert asyncio.get_running_loop().time() == 30.5

    virtually(follow())


def test_everybody_who_waits_for_the_next_change_is_woken(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.answered = lambda number: slurm.in_queue.update({1: pending(1) if number < 4 else running(1)})
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(0.5)
        await asyncio.gather(*(watcher.change(1, 100) for _ in range(3)))
        assert asyncio.get_running_loop().time() == 7.0

    virtually(follow())


def test_who_waits_for_the_next_change_of_a_job_is_woken_when_it_is_forgotten(
    virtually: Virtually, slurm: Slurm
) -> None:
    async def follow() -> None:
        slurm.in_queue[1] = pending(1)
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(0.5)
        waiting = asyncio.ensure_future(watcher.change(1, 100))
        await until(5)
        watcher.forget(1)
        await waiting
        assert asyncio.get_running_loop().time() == 5

    virtually(follow())


def test_who_asks_again_and_again_for_a_job_that_is_not_followed_leaves_the_loop_to_others(
    virtually: Virtually, slurm: Slurm
) -> None:
    # A start whose number could not be saved is not followed, and its page still asks for news.
    async def follow() -> None:
        watcher = QueueWatcher(slurm, PACE)
        await watcher.change(1, 2)
        assert asyncio.get_running_loop().time() == 2

    virtually(follow())


# --- No answer is not gone -------------------------------------------------------------------------------------------


def test_while_slurm_does_not_answer_every_job_keeps_its_state_and_nobody_is_woken(
    virtually: Virtually, slurm: Slurm
) -> None:
    async def follow() -> None:
        slurm.in_queue = {1: running(1), 2: pending(2)}
        watcher = QueueWatcher(slurm, PACE)
        seen: list[JobState] = []

        async def watch(job: int) -> None:
            async for state in watcher.changes(job):
                seen.append(state)

        waiting = [asyncio.ensure_future(watch(job)) for job in (1, 2) if watcher.follow(job) is None]
        await until(0.5)
        slurm.fails = SILENT
        await until(24 * 3600)
        assert seen == [running(1), pending(2)]
        assert not any(task.done() for task in waiting)
        assert watcher.state(1) == running(1)
        assert watcher.trouble is SILENT
        assert watcher.silent_since is not None
        assert watcher.states() == {"RUNNING": 1, "PENDING": 1}
        slurm.fails = None
        slurm.in_queue[2] = running(2)
        await until(24 * 3600 + PACE.silent + 1)
        assert seen[2:] == [running(2)]
        assert watcher.trouble is None
        assert watcher.silent_since is None
        assert watcher.states() == {"RUNNING": 2}

    virtually(follow())


def test_questions_come_less_and_less_often_while_slurm_does_not_answer(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.fails = SILENT
        QueueWatcher(slurm, PACE).follow(1)
        await until(1300)
        assert slurm.times == [0, 8, 24, 56, 120, 248, 504, 904]

    virtually(follow())


def test_the_pace_is_as_before_once_slurm_answers_again(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.fails = SILENT
        slurm.in_queue = {1: pending(1)}
        QueueWatcher(slurm, PACE).follow(1)
        await until(130)
        slurm.fails = None
        await until(265)
        assert slurm.times[5:] == [248, 256, 264]

    virtually(follow())


def test_a_job_that_the_queue_misses_is_looked_up_in_accounting(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> list[JobState]:
        slurm.in_queue = {2: running(2)}
        slurm.in_accounting = {1: over(1, "TIMEOUT"), 2: over(2)}
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        watcher.follow(2)
        return await all_changes(watcher, 1)

    assert virtually(follow()) == [over(1, "TIMEOUT")]
    assert slurm.looked_up == [[1]]


def test_while_accounting_does_not_answer_a_missing_job_keeps_its_state(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        slurm.in_queue = {1: running(1)}
        slurm.accounting_fails = SlurmUnavailable("look up finished jobs", "Connection refused")
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(0.5)
        slurm.in_queue = {}
        await until(3600)
        assert watcher.state(1) == running(1)
        slurm.accounting_fails = None
        slurm.in_accounting = {1: over(1, "NODE_FAIL")}
        await until(3600 + PACE.silent + PACE.waiting)
        assert watcher.state(1) == over(1, "NODE_FAIL")

    virtually(follow())


def test_while_accounting_does_not_answer_the_other_jobs_are_followed_at_their_pace(
    virtually: Virtually, slurm: Slurm
) -> None:
    # What the queue has just said of the others is true, whatever accounting does.
    async def follow() -> None:
        slurm.in_queue = {1: pending(1)}
        slurm.accounting_fails = SlurmUnavailable("look up finished jobs", "Connection refused")
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        watcher.follow(99)
        await until(1000)
        slurm.in_queue = {1: running(1)}
        await until(1000 + PACE.waiting + 1)
        assert watcher.state(1) == running(1)
        assert watcher.state(99) is None
        assert len(slurm.looked_up) < 12

    virtually(follow())


def test_a_job_is_called_vanished_only_after_so_many_answers_agree(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        (state,) = await all_changes(watcher, 1)
        assert state == JobState(1, "VANISHED")
        assert len(slurm.asked) == len(slurm.looked_up) == QueueWatcher.VANISHED_AFTER

    virtually(follow())


def test_an_answer_in_between_starts_the_count_anew(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        seen_at = QueueWatcher.VANISHED_AFTER

        def answer(number: int) -> None:
            slurm.in_queue = {1: pending(1)} if number == seen_at else {}

        slurm.answered = answer
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        assert await all_changes(watcher, 1) == [pending(1), JobState(1, "VANISHED")]
        assert len(slurm.asked) == 2 * QueueWatcher.VANISHED_AFTER

    virtually(follow())


def test_answers_that_did_not_come_do_not_count_towards_vanishing(virtually: Virtually, slurm: Slurm) -> None:
    async def follow() -> None:
        def answer(number: int) -> None:
            slurm.fails = SILENT if number % 2 else None

        slurm.answered = answer
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        assert await all_changes(watcher, 1) == [JobState(1, "VANISHED")]
        assert len(slurm.looked_up) == QueueWatcher.VANISHED_AFTER

    virtually(follow())


def test_an_unfinished_state_in_accounting_does_not_revive_a_job_that_the_queue_misses(
    virtually: Virtually, slurm: Slurm
) -> None:
    # A runaway job: slurmdbd still says RUNNING, slurmctld knows nothing of it.
    async def follow() -> None:
        slurm.in_accounting = {1: running(1)}
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        assert await all_changes(watcher, 1) == [JobState(1, "VANISHED")]

    virtually(follow())


def test_a_bug_in_a_reader_does_not_stop_the_watching_for_good(virtually: Virtually, slurm: Slurm) -> None:
    # Whoever follows or hurries starts the asking again; nobody is told that a job is gone.
    async def follow() -> None:
        def broken(number: int) -> None:
            if number == 1:
                raise RuntimeError("a bug")

        slurm.in_queue = {1: running(1)}
        slurm.answered = broken
        watcher = QueueWatcher(slurm, PACE)
        watcher.follow(1)
        await until(5)
        assert watcher.state(1) is None
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        watcher.hurry(1)
        await until(6)
        assert watcher.state(1) == running(1)

    virtually(follow())


# --- The pace --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("previous", "waiting", "failures", "interval"),
    [
        (0.0, True, 0, 1.0),
        (1.0, True, 0, 2.0),
        (4.0, True, 0, 8.0),
        (8.0, True, 0, 8.0),
        (100.0, True, 0, 8.0),
        (0.0, False, 0, 100.0),
        (8.0, False, 0, 100.0),
        (0.0, True, 1, 8.0),
        (8.0, True, 2, 16.0),
        (16.0, True, 3, 32.0),
        (0.0, True, 7, 400.0),
        (0.0, False, 1, 8.0),
        (0.0, True, 10_000, 400.0),
    ],
)
def test_the_next_interval(previous: float, waiting: bool, failures: int, interval: float) -> None:
    assert next_interval(PACE, previous, waiting=waiting, failures=failures) == interval


@given(previous=st.floats(0, 1e9), waiting=st.booleans(), failures=st.integers(0, 10**9))
def test_no_interval_is_shorter_than_the_first_or_longer_than_the_longest(
    previous: float, waiting: bool, failures: int
) -> None:
    for pace in (Pace(), PACE):
        interval = next_interval(pace, previous, waiting=waiting, failures=failures)
        assert pace.first <= interval <= max(pace.waiting, pace.quiet, pace.silent)
