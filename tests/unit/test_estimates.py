"""Slurm's own word on when a session would start: asked once for everybody, bounded for all and for each, silent with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners.estimates import EstimatePace, Estimates, Foretold
from studiolo.errors import LauncherFailed, SlurmRefused, SlurmUnavailable
from studiolo.request import check
from studiolo.script import Directives
from studiolo.site import Site
from studiolo.slurm.estimate import question, trial

PACE = EstimatePace()
BASE = Directives("studiolo", "", "gpu", "", "", "", "", 1, 1024, 60, "", "/dev/null")
Virtually = Callable[[Coroutine[Any, Any, Any]], Any]


def asking(minutes: int) -> Directives:
    return replace(BASE, minutes=minutes)


class Slurm:
    """In place of the real one: says when, refuses, or does not answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.error: Exception | None = None
        self.start: int | None = 5000
        self.seconds = 0.1
        self.under_way = self.most = 0

    async def estimate(self, person: str, directives: Directives) -> int | None:
        self.asked.append((person, directives.minutes))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.seconds)
        self.under_way -= 1
        if self.error is not None:
            raise self.error
        return self.start


def estimates(slurm: Slurm) -> Estimates:
    return Estimates(slurm, PACE, lambda: asyncio.get_running_loop().time())


def test_fifty_who_ask_the_same_are_one_question(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        told = await asyncio.gather(*(cache.get(asking(60), f"learner{number}") for number in range(50)))
        assert told == [Foretold(5000)] * 50
        assert len(slurm.asked) == 1
        await asyncio.sleep(PACE.fresh / 2)
        assert cache.peek(asking(60), "somebody-else") == Foretold(5000)
        await cache.get(asking(60), "late")
        assert len(slurm.asked) == 1
        await asyncio.sleep(PACE.fresh)
        await cache.get(asking(60), "later")
        assert len(slurm.asked) == 2

    virtually(run())


def test_however_many_ask_for_what_the_questions_a_minute_are_bounded(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        for number in range(300):
            cache.want(asking(number + 1), f"learner{number}")
            await asyncio.sleep(1)
        for end in range(60, 301):
            window = [minutes for _person, minutes in slurm.asked if end - 60 < minutes <= end]
            assert len(window) <= PACE.per_minute - PACE.shared  # the rest is for what all are shown
        assert len(slurm.asked) >= 4 * (PACE.per_minute - PACE.shared)  # each minute's worth was used
        assert slurm.most <= PACE.at_once

    virtually(run())


def test_one_person_can_not_use_up_what_is_for_all(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        for number in range(100):
            cache.want(asking(number + 1), "mallory")
        for number in range(100):
            cache.want(asking(200 + number), "ada", shared=True)
        cache.want(asking(999), "ben")
        await asyncio.sleep(30)
        assert [person for person, _minutes in slurm.asked].count("mallory") == PACE.per_person
        assert [person for person, _minutes in slurm.asked].count("ada") == PACE.shared
        assert ("ben", 999) in slurm.asked

    virtually(run())


def test_what_nobody_waits_for_leaves_half_to_those_who_do(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        for person in range(100):  # everybody has twenty presets
            for number in range(20):
                cache.want(asking(100 * person + number + 1), f"learner{person}", spare=True)
        await asyncio.sleep(5)
        assert len(slurm.asked) == (PACE.per_minute - PACE.shared) // 2
        assert max(Counter(person for person, _minutes in slurm.asked).values()) == PACE.per_person // 2
        assert await cache.get(asking(99999), "ben") == Foretold(5000)

    virtually(run())


def test_a_refusal_concerns_the_one_who_asked_alone(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        slurm.error = SlurmRefused("say when", "Invalid account")
        assert await cache.get(asking(60), "mallory") == Foretold(None, "Invalid account")
        assert cache.peek(asking(60), "ada") is None
        slurm.error = None
        assert await cache.get(asking(60), "ada") == Foretold(5000)

    virtually(run())


def test_nodes_that_are_down_are_no_refusal(virtually: Virtually) -> None:
    """Slurm takes such a job, and lets it wait."""

    async def run() -> None:
        slurm = Slurm()
        slurm.error = SlurmRefused(
            "say when", "allocation failure: Required node not available (down, drained or reserved)"
        )
        assert await estimates(slurm).get(asking(60), "ada") == Foretold(None)

    virtually(run())


def test_what_is_inside_a_reservation_is_told_to_nobody_else(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        inside = replace(BASE, reservation="course")
        assert await cache.get(inside, "teacher") == Foretold(5000)
        assert cache.peek(inside, "mallory") is None
        # Not by asking in the same moment as somebody whom it admits, either.
        cache.want(replace(inside, minutes=7), "teacher")
        assert cache.peek(replace(inside, minutes=7), "mallory") is None
        slurm.error = SlurmRefused("say when", "Requested reservation is invalid")
        slurm.seconds = 0.5
        assert await cache.get(replace(inside, minutes=7), "mallory") == Foretold(None, slurm.error.words)
        assert [person for person, _minutes in slurm.asked].count("mallory") == 1

    virtually(run())


def test_while_slurm_is_silent_nobody_asks_and_the_pauses_grow(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        await cache.get(asking(1), "ada")
        slurm.error = SlurmUnavailable("say when", "Unable to contact slurm controller")
        for number in range(600):
            cache.want(asking(number + 2), f"learner{number}")
            await asyncio.sleep(1)
        # 30 s, 60 s, then every two minutes; two at once while the first one is still under way.
        assert 2 <= len(slurm.asked) <= 12
        assert cache.peek(asking(1), "ada") is None  # too old to be told
        slurm.error = None
        await asyncio.sleep(PACE.silent)
        assert await cache.get(asking(1), "ada") == Foretold(5000)

    virtually(run())


def test_for_whom_the_hub_may_not_ask_others_still_may(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        cache = estimates(slurm)
        slurm.error = LauncherFailed("say when", "Sorry, user studiolo-hub is not allowed")
        assert await cache.get(asking(60), "stranger") is None
        assert await cache.get(asking(61), "stranger") is None
        assert len(slurm.asked) == 1
        slurm.error = None
        assert await cache.get(asking(60), "ada") == Foretold(5000)

    virtually(run())


def test_a_way_to_slurm_that_can_not_tell_is_asked_once(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        slurm.start = None
        cache = estimates(slurm)
        for minutes in range(1, 20):
            assert await cache.get(asking(minutes), "ada") is None
        assert len(slurm.asked) == 1

    virtually(run())


def test_an_answer_that_takes_long_is_not_waited_for_and_arrives_all_the_same(virtually: Virtually) -> None:
    async def run() -> None:
        slurm = Slurm()
        slurm.seconds = PACE.patience * 3
        cache = estimates(slurm)
        assert await cache.get(asking(60), "ada") is None
        await asyncio.sleep(slurm.seconds)
        assert cache.peek(asking(60), "ada") == Foretold(5000)

    virtually(run())


def test_a_bug_in_reading_an_answer_fails_nobodys_page(virtually: Virtually, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        slurm = Slurm()
        slurm.error = RuntimeError("odd")
        cache = estimates(slurm)
        assert await cache.get(asking(60), "ada") is None
        assert await cache.get(asking(61), "ada") is None
        assert len(slurm.asked) == 1

    virtually(run())
    assert "an estimate failed" in caplog.text


def test_what_is_asked_tells_nobodys_session_from_anothers(site: Site) -> None:
    first = check({"profile": "one", "workdir": "/home/ada/secret"}, site)
    second = check({"profile": "one", "environment": "base"}, site)
    assert question(first, site) == question(second, site)
    text = trial(question(first, site)).text
    assert text.startswith("#!/bin/bash\n#SBATCH --job-name=studiolo\n#SBATCH --partition=gpu\n")
    assert "ada" not in text
    assert "module" not in text


@given(minutes=st.integers(1, 1440), cpus=st.integers(1, 32), gpus=st.integers(0, 4))
def test_what_differs_in_resources_is_another_question(site: Site, minutes: int, cpus: int, gpus: int) -> None:
    asked = question(check({"profile": "one", "minutes": minutes, "cpus": cpus, "gpus": gpus}, site), site)
    assert (asked.minutes, asked.cpus, asked.gres) == (minutes, cpus, f"gpu:a100:{gpus}" if gpus else "")
    assert hash(asked) == hash(
        question(check({"profile": "one", "minutes": minutes, "cpus": cpus, "gpus": gpus}, site), site)
    )
