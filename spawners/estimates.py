"""When a session would start, by Slurm's own word: asked once for everybody, however many look, and never too often.

What Slurm would do with a request hardly depends on who asks, so one answer serves all who ask the same within a minute.
A refusal concerns the one who asked alone, and so does any answer about a reservation: when it has room is for those whom it
admits. The number of questions is bounded for the whole hub, and for each person within
it, so that neither a full course nor somebody who tries every combination costs the scheduler more than a constant.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from studiolo.errors import SlurmError, SlurmRefused, SlurmUnavailable
from studiolo.script import Directives
from studiolo.slurm.estimate import waits

__all__ = ["EstimatePace", "Estimates", "Foretold"]

log = logging.getLogger(__name__)

MINUTE = 60.0


class Source(Protocol):
    """Who is asked."""

    async def estimate(self, person: str, directives: Directives) -> int | None: ...


@dataclass(frozen=True)
class EstimatePace:
    """How often to ask, in seconds: an answer is good for ``fresh`` and told for ``kept`` where there is no newer one.

    ``per_minute`` questions at most for everybody, of which ``shared`` for what all are shown (the profiles) and
    ``per_person`` for what one person wants to know, half of either at most for what nobody waits for; ``at_once`` are under
    way. While Slurm is silent nobody asks for a pause that grows to ``silent``; for whom Slurm may not be asked, ``barred``.
    ``patience`` is how long somebody waits who wants the answer now.
    """

    fresh: float = 60.0
    kept: float = 180.0
    per_minute: int = 24
    shared: int = 12
    per_person: int = 8
    at_once: int = 2
    silent: float = 120.0
    barred: float = 300.0
    patience: float = 3.0


@dataclass(frozen=True)
class Foretold:
    """What Slurm has answered: ``start`` in seconds since 1970, or ``refused`` with its words."""

    start: int | None
    refused: str = ""


class Estimates:
    """The estimates of one cluster. ``clock`` gives seconds that never go back; needs the event loop of those who ask."""

    def __init__(
        self, source: Source, pace: EstimatePace | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pace = pace or EstimatePace()
        self._source = source
        self._clock = clock
        self._told: dict[tuple[Directives, str], tuple[float, Foretold]] = {}
        self._under_way: dict[tuple[Directives, str], asyncio.Task[None]] = {}
        self._asked: deque[tuple[float, str]] = deque()
        self._barred: dict[str, float] = {}
        self._turn = asyncio.Semaphore(self.pace.at_once)
        self._failures = 0
        self._next = float("-inf")
        self._mute = False
        self.answers = 0
        """How many there have been: whoever has seen all of them need not look again."""

    def peek(self, directives: Directives, person: str) -> Foretold | None:
        """What is known of a question; asks nobody."""
        return self._known(directives, person, self.pace.kept)

    def want(self, directives: Directives, person: str, *, shared: bool = False, spare: bool = False) -> None:
        """Have a question put beside everything else, unless the answer is fresh, on its way or too much to ask for.

        ``shared`` is one that everybody has: then ``person`` is only in whose name it is put. ``spare`` is one that nobody
        waits for: it leaves half of what one person and all of them may ask to those who do.
        """
        now = self._clock()
        asked = (directives, _whose(directives, person))
        if self._mute or asked in self._under_way or self._known(directives, person, self.pace.fresh):
            return
        if now < self._next or now < self._barred.get(person, now):
            return
        if not self._may_ask("" if shared else person, now, part=2 if spare else 1):
            return
        self._asked.append((now, "" if shared else person))
        self._under_way[asked] = asyncio.get_running_loop().create_task(self._ask(directives, person))

    async def get(self, directives: Directives, person: str) -> Foretold | None:
        """What Slurm says; where it takes long or may not be asked, what is known. Never raises for Slurm."""
        self.want(directives, person)
        if question := self._under_way.get((directives, _whose(directives, person))):
            # Not awaited itself: who gives up waiting must not take the answer away from everybody else.
            await asyncio.wait([question], timeout=self.pace.patience)
        return self.peek(directives, person)

    def _known(self, directives: Directives, person: str, age: float) -> Foretold | None:
        oldest = self._clock() - age
        found = [self._told.get((directives, "")), self._told.get((directives, person))]
        fresh = [told for told in found if told and told[0] >= oldest]
        return max(fresh, key=lambda told: told[0])[1] if fresh else None

    def _may_ask(self, whose: str, now: float, part: int) -> bool:
        while self._asked and self._asked[0][0] <= now - MINUTE:
            self._asked.popleft()
        own = sum(1 for _when, name in self._asked if name == whose)
        if not whose:
            return len(self._asked) < self.pace.per_minute and own < self.pace.shared
        # However many try things out, the profiles' share is left to those who look.
        personal = sum(1 for _when, name in self._asked if name)
        return own < self.pace.per_person // part and personal < (self.pace.per_minute - self.pace.shared) // part

    async def _ask(self, directives: Directives, person: str) -> None:
        try:
            async with self._turn:
                if self._clock() < self._next:
                    return  # fell silent while this one stood in line
                try:
                    start = await self._source.estimate(person, directives)
                except SlurmRefused as refused:
                    self._tell(directives, person, Foretold(None, "" if waits(refused.words) else refused.words))
                else:
                    self._mute = start is None
                    if start is not None:
                        self._tell(directives, _whose(directives, person), Foretold(start))
                self._failures = 0
        except SlurmUnavailable as error:
            self._failures += 1
            pause = min(self.pace.silent, self.pace.fresh / 4 * 2.0 ** min(self._failures, 10))
            self._next = self._clock() + pause
            log.warning("%s (nobody asks for %.0f s)", error, pause)
        except SlurmError as error:  # the hub may not act for this person, or not at all
            self._barred[person] = self._clock() + self.pace.barred
            log.warning("%s", error)
        except Exception:
            self._next = self._clock() + self.pace.silent
            log.exception("an estimate failed; nobody asks for %.0f s", self.pace.silent)
        finally:
            del self._under_way[directives, _whose(directives, person)]

    def _tell(self, directives: Directives, person: str, told: Foretold) -> None:
        now = self._clock()
        self.answers += 1
        self._told = {key: known for key, known in self._told.items() if known[0] > now - self.pace.kept}
        self._told[directives, person] = (now, told)
        self._barred = {name: until for name, until in self._barred.items() if until > now}


def _whose(directives: Directives, person: str) -> str:
    """To whom an answer may be told; empty for everybody."""
    return person if directives.reservation else ""
