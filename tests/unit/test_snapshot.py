"""One question for all who look, at a pace that no crowd can hurry, and the last answer while there is no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.errors import SlurmUnavailable
from studiolo.slurm.facts import ClusterFacts
from studiolo.slurm.snapshot import FactsCache, Reading, SnapshotPace, next_question

PACE = SnapshotPace(fresh=15, silent=120, patience=30)
SILENT = SlurmUnavailable("list nodes", "Unable to contact slurm controller")


class Slurm:
    """A cluster in place of the real one: answers with its time, at once, late, or not at all."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[float] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    def clock(self) -> float:
        return self.now

    async def facts(self) -> ClusterFacts:
        self.asked.append(self.now)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return ClusterFacts(self.now, (), {}, (), ())


def on_loop(test: Callable[[Slurm, FactsCache], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            slurm = Slurm()
            await test(slurm, FactsCache(slurm, PACE, slurm.clock))

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


def taken(reading: Reading) -> float | None:
    return reading.facts.taken if reading.facts else None


@on_loop
async def test_everybody_who_asks_at_once_gets_the_answer_to_one_question(slurm: Slurm, cache: FactsCache) -> None:
    readings = await asyncio.gather(*(cache.get() for _ in range(60)))
    assert slurm.asked == [1000.0]
    assert {taken(reading) for reading in readings} == {1000.0}


@on_loop
async def test_an_answer_is_good_for_a_while_and_then_asked_for_anew(slurm: Slurm, cache: FactsCache) -> None:
    await cache.get()
    slurm.now += PACE.fresh - 1
    assert taken(await cache.get()) == 1000.0
    slurm.now += 1
    assert taken(await cache.get()) == 1015.0
    assert slurm.asked == [1000.0, 1015.0]


@on_loop
async def test_while_slurm_is_silent_the_last_answer_is_told_and_who_is_to_blame(
    slurm: Slurm, cache: FactsCache
) -> None:
    await cache.get()
    slurm.now += PACE.fresh
    slurm.error = SILENT
    reading = await cache.get()
    assert (taken(reading), reading.trouble) == (1000.0, SILENT)
    assert reading.age(1015.0) == 15.0
    assert reading.silent_since is not None
    slurm.now += 300
    assert (await cache.get()).silent_since == reading.silent_since
    slurm.error = None
    slurm.now += 300
    assert await cache.get() == Reading(ClusterFacts(slurm.now, (), {}, (), ()))


@on_loop
async def test_a_cluster_that_never_answered_has_no_facts_and_raises_nothing(slurm: Slurm, cache: FactsCache) -> None:
    slurm.error = SILENT
    reading = await cache.get()
    assert (reading.facts, reading.trouble, reading.age(1000.0)) == (None, SILENT, None)


@on_loop
async def test_a_silent_slurm_is_asked_less_and_less_often(slurm: Slurm, cache: FactsCache) -> None:
    slurm.error = SILENT
    for _ in range(600):
        await cache.get()
        slurm.now += 1
    pauses = [later - sooner for sooner, later in zip(slurm.asked, slurm.asked[1:], strict=False)]
    assert pauses == [15, 30, 60, 120, 120, 120, 120]


@on_loop
async def test_who_gives_up_waiting_takes_the_answer_from_nobody(slurm: Slurm, cache: FactsCache) -> None:
    slurm.gate = asyncio.Event()
    impatient = asyncio.ensure_future(cache.get())
    patient = asyncio.ensure_future(cache.get())
    await asyncio.sleep(0)
    impatient.cancel()
    slurm.gate.set()
    assert taken(await patient) == 1000.0
    assert impatient.cancelled()
    assert slurm.asked == [1000.0]


@on_loop
async def test_nobody_waits_for_long_and_the_late_answer_is_kept(slurm: Slurm, cache: FactsCache) -> None:
    await cache.get()
    slurm.now += PACE.fresh
    slurm.gate = asyncio.Event()
    cache.pace = replace(PACE, patience=0.01)
    assert taken(await cache.get()) == 1000.0
    assert taken(await cache.get()) == 1000.0
    cache.pace = PACE
    slurm.gate.set()
    assert taken(await cache.get()) == 1015.0
    assert slurm.asked == [1000.0, 1015.0]


@on_loop
async def test_an_answer_that_is_not_understood_is_told_as_trouble(slurm: Slurm, cache: FactsCache) -> None:
    slurm.error = KeyError("NodeName")
    reading = await cache.get()
    assert "not understood" in str(reading.trouble)
    slurm.error = None
    slurm.now += PACE.fresh
    assert (await cache.get()).trouble is None


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 40)), min_size=1, max_size=60),
)
def test_no_crowd_and_no_fault_hurries_the_questions(steps: list[tuple[int, bool, int]]) -> None:
    """Each step: time goes by, the question put then is answered or not, and its answer takes a while."""
    now, due, failures = 0, float("-inf"), 0
    asked: list[int] = []
    for pause, answers, duration in steps:
        now += pause
        if now >= due:
            asked.append(now)
            failures = 0 if answers else failures + 1
            due = next_question(PACE, asked=now, answered=now + duration, failures=failures)
            assert due >= asked[-1] + PACE.fresh
            assert due >= asked[-1] + 2 * duration
            assert due <= max(asked[-1] + PACE.silent, asked[-1] + 2 * duration)
    for start in asked:
        assert sum(start <= at < start + 60 for at in asked) <= PACE.per_minute


@pytest.mark.parametrize(("failures", "pause"), [(0, 15), (1, 15), (2, 30), (3, 60), (4, 120), (5, 120), (10_000, 120)])
def test_pauses_grow_with_silence_up_to_a_limit(failures: int, pause: float) -> None:
    assert next_question(PACE, asked=100, answered=100, failures=failures) == 100 + pause


@on_loop
async def test_an_answer_is_told_only_once_it_is_prepared_and_beside_everything_else(
    slurm: Slurm, cache: FactsCache
) -> None:
    await cache.get()
    ready, threads = threading.Event(), set()

    def prepare(facts: ClusterFacts) -> None:
        threads.add(threading.current_thread())
        ready.wait(10)

    cache.prepare = prepare
    slurm.now += PACE.fresh
    cache.renew()
    while len(slurm.asked) < 2 or not threads:
        await asyncio.sleep(0)
    assert taken(cache.last) == 1000.0
    ready.set()
    assert taken(await cache.get()) == 1015.0
    assert threading.main_thread() not in threads


@on_loop
async def test_what_can_not_be_prepared_leaves_the_last_answer(slurm: Slurm, cache: FactsCache) -> None:
    await cache.get()

    def prepare(facts: ClusterFacts) -> None:
        raise RuntimeError("a bug")

    cache.prepare = prepare
    slurm.now += PACE.fresh
    reading = await cache.get()
    assert taken(reading) == 1000.0
    assert reading.trouble is not None
