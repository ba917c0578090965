"""The door to the scheduler: in order, so many at a time, and nobody is lost in the line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawners.turnstile import Turnstile

Virtually = Callable[..., Any]


@asynccontextmanager
async def passing(door: Turnstile, name: str) -> AsyncIterator[None]:
    """Somebody's way through: waits for their turn, and makes room at the end of the block."""
    await door.enter(name)
    try:
        yield
    finally:
        door.leave(name)


class Crowd:
    """People before one door; notes who went through and when, and who is inside at the moment."""

    def __init__(self, width: int) -> None:
        self.door = Turnstile(width)
        self.width = width
        self.people: list[asyncio.Task[None]] = []
        self.may_leave: list[asyncio.Event] = []
        self.entered: list[int] = []
        self.moments: list[float] = []
        self.inside: list[int] = []

    def come(self) -> int:
        """Somebody comes to the door; returns their number, which is their name as well."""
        number = len(self.people)
        self.may_leave.append(asyncio.Event())
        self.people.append(asyncio.ensure_future(self._pass(number)))
        return number

    async def _pass(self, number: int) -> None:
        async with passing(self.door, str(number)):
            self.entered.append(number)
            self.moments.append(asyncio.get_running_loop().time())
            self.inside.append(number)
            try:
                assert len(self.inside) <= self.width, f"{self.inside} are inside"
                await self.may_leave[number].wait()
            finally:
                self.inside.remove(number)

    def line(self) -> list[int]:
        """How many are ahead of each, by number."""
        return [self.door.ahead(str(number)) for number in range(len(self.people))]

    async def everybody_leaves(self) -> None:
        for event in self.may_leave:
            event.set()
        for failed in await asyncio.gather(*self.people, return_exceptions=True):
            if failed is not None and not isinstance(failed, asyncio.CancelledError):
                raise failed


async def settled() -> None:
    """Everybody has done what they can do at this moment; in virtual time that is as long as it takes."""
    await asyncio.sleep(1)


def test_so_many_at_a_time_go_through_and_in_order(virtually: Virtually) -> None:
    async def story() -> None:
        crowd = Crowd(2)
        for _ in range(5):
            crowd.come()
        await settled()
        assert crowd.inside == [0, 1]
        crowd.may_leave[1].set()
        await settled()
        assert crowd.inside == [0, 2]
        await crowd.everybody_leaves()
        assert crowd.entered == [0, 1, 2, 3, 4]

    virtually(story())


def test_everybody_sees_how_many_are_ahead(virtually: Virtually) -> None:
    async def story() -> None:
        crowd = Crowd(2)
        for _ in range(5):
            crowd.come()
        await settled()
        assert crowd.line() == [0, 0, 0, 1, 2]
        assert crowd.door.ahead("who never came") == 0
        crowd.people[3].cancel()
        await settled()
        assert crowd.line() == [0, 0, 0, 0, 1]
        crowd.may_leave[0].set()
        await settled()
        assert crowd.line() == [0, 0, 0, 0, 0]
        assert crowd.inside == [1, 2]
        await crowd.everybody_leaves()

    virtually(story())


def test_who_fails_inside_lets_the_next_one_through(virtually: Virtually) -> None:
    async def story() -> None:
        crowd = Crowd(1)

        async def fail() -> None:
            async with passing(crowd.door, "x"):
                crowd.come()
                await settled()
                assert crowd.inside == []
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        await settled()
        assert crowd.inside == [0]
        await crowd.everybody_leaves()

    virtually(story())


def test_who_gives_up_while_waiting_is_no_longer_in_line(virtually: Virtually) -> None:
    async def story() -> None:
        crowd = Crowd(1)
        for _ in range(3):
            crowd.come()
        await settled()
        crowd.people[1].cancel()
        crowd.may_leave[0].set()
        await settled()
        assert crowd.inside == [2]
        await crowd.everybody_leaves()
        assert crowd.entered == [0, 2]

    virtually(story())


def test_who_gives_up_in_the_moment_of_their_turn_passes_it_on(virtually: Virtually) -> None:
    async def story() -> None:
        crowd = Crowd(1)
        async with passing(crowd.door, "the first"):
            crowd.come()
            crowd.come()
            await settled()
        assert crowd.line() == [0, 0]
        crowd.people[0].cancel()  # whose turn it is, and who has not woken yet
        await settled()
        assert crowd.people[0].cancelled()
        assert crowd.entered == crowd.inside == [1]
        await crowd.everybody_leaves()

    virtually(story())


def test_who_gives_up_just_before_their_turn_lets_in_one_and_not_two(virtually: Virtually) -> None:
    async def story() -> None:
        crowd = Crowd(1)
        async with passing(crowd.door, "the first"):
            for _ in range(3):
                crowd.come()
            await settled()
            crowd.people[0].cancel()  # who has not woken yet to step out of the line when the door opens
        await settled()
        assert crowd.inside == [1]
        await crowd.everybody_leaves()
        assert crowd.entered == [1, 2]

    virtually(story())


ACTS = st.lists(
    st.tuples(st.sampled_from(["come", "come", "leave", "cancel", "wait", "settle"]), st.integers(0, 5)),
    min_size=5,
    max_size=40,
)


@settings(max_examples=200)
@given(width=st.integers(1, 3), acts=ACTS)
def test_never_are_more_inside_than_the_door_is_wide_and_nobody_is_lost(
    virtually: Virtually, width: int, acts: list[tuple[str, int]]
) -> None:
    async def story() -> None:
        crowd = Crowd(width)
        gave_up: set[int] = set()
        for act, number in acts:
            if act == "come":
                crowd.come()
            elif act == "wait":
                await asyncio.sleep(0)
            elif act == "settle":
                await settled()
            elif act == "leave" and crowd.inside:
                crowd.may_leave[crowd.inside[number % len(crowd.inside)]].set()
            elif act == "cancel" and (there := [who for who, task in enumerate(crowd.people) if not task.done()]):
                who = there[number % len(there)]
                gave_up.add(who)
                crowd.people[who].cancel()
        await settled()
        waiting = [who for who, task in enumerate(crowd.people) if not task.done() and who not in crowd.inside]
        assert [crowd.door.ahead(str(who)) for who in waiting] == list(range(len(waiting)))
        assert len(crowd.inside) == width or not waiting
        await crowd.everybody_leaves()
        in_time = sorted(
            zip(crowd.moments, crowd.entered, strict=True)
        )  # who enter in the same moment may wake in any order
        assert [number for _, number in in_time] == sorted(crowd.entered)
        assert set(range(len(crowd.people))) - gave_up <= set(crowd.entered)
        later = [crowd.come() for _ in range(width + 1)]
        await settled()
        assert crowd.inside == later[:width]
        await crowd.everybody_leaves()
        assert not any(crowd.door.holds(str(who)) for who in range(len(crowd.people)))  # a hub lives for months

    virtually(story())


def test_who_is_inside_may_enter_again_and_who_is_not_may_leave(virtually: Virtually) -> None:
    async def story() -> None:
        door = Turnstile(1)
        door.leave("who never came")
        await door.enter("ada")
        await door.enter("ada")
        assert door.holds("ada")
        waiting = asyncio.ensure_future(door.enter("ben"))
        await settled()
        assert door.holds("ben")
        assert not waiting.done()
        door.leave("ben")  # not inside: still in line
        await settled()
        assert not waiting.done()
        door.leave("ada")
        door.leave("ada")
        await waiting
        assert not door.holds("ada")
        assert door.holds("ben")

    virtually(story())
