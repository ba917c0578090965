"""One answer for everybody, such as a snapshot of a cluster: asked for when somebody looks and the last one is old, once
for all who look.

However many look, Slurm is asked at most :attr:`SnapshotPace.per_minute` times a minute; while it does not answer, less
and less often, and everybody gets the last answer with its age.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from studiolo.errors import SlurmError, SlurmUnavailable
from studiolo.slurm.facts import ClusterFacts

__all__ = ["Cache", "FactsCache", "Reading", "SnapshotPace", "next_question"]

log = logging.getLogger(__name__)


class Dated(Protocol):
    """An answer that knows when it was asked for, in seconds since 1970."""

    @property
    def taken(self) -> float: ...


_Answer = TypeVar("_Answer", bound=Dated)
_Seen_co = TypeVar("_Seen_co", bound=Dated, covariant=True)


class Source(Protocol):
    """What the snapshot is taken from."""

    async def facts(self) -> ClusterFacts: ...


@dataclass(frozen=True)
class SnapshotPace:
    """How often to ask, in seconds: an answer is good for ``fresh``; while Slurm is silent the pauses grow to ``silent``;
    nobody waits longer than ``patience`` for an answer."""

    fresh: float = 15.0
    silent: float = 120.0
    patience: float = 3.0

    @property
    def per_minute(self) -> float:
        """The most snapshots asked for in a minute."""
        return 60.0 / self.fresh


def next_question(pace: SnapshotPace, *, asked: float, answered: float, failures: int) -> float:
    """Decide from when on to ask again, after a question put at ``asked`` and ended at ``answered`` (in seconds).

    ``failures`` counts those in a row without an answer. Whoever took long to answer is left in peace as long.
    """
    pause = min(pace.silent, pace.fresh * 2.0 ** min(failures - 1, 10)) if failures else pace.fresh
    return max(asked + pause, answered + (answered - asked))


@dataclass(frozen=True)
class Reading(Generic[_Seen_co]):
    """What one who asks is told.

    ``facts`` is the last answer, ``None`` before the first; ``trouble`` why there is no newer one, ``None`` where Slurm
    answers; ``silent_since`` when it was first asked in vain, in seconds since 1970.
    """

    facts: _Seen_co | None
    trouble: SlurmError | None = None
    silent_since: float | None = None

    def age(self, now: float) -> float | None:
        """How old the facts are at ``now``, in seconds."""
        return None if self.facts is None else max(0.0, now - self.facts.taken)


class Cache(Generic[_Answer]):
    """The last answer of ``ask``. ``clock`` gives seconds that never go back; needs the event loop of those who ask.

    ``subject`` completes "its answer was not understood when asked to …".
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[_Answer]],
        subject: str,
        pace: SnapshotPace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace = pace or SnapshotPace()
        self.last: Reading[_Answer] = Reading(None)
        self.prepare: Callable[[_Answer], object] | None = None
        """Called with each answer before anybody is told it, in a thread of its own: what takes long and serves everybody."""
        self._put = ask
        self._subject = subject
        self._clock = clock
        self._next = float("-inf")
        self._failures = 0
        self._question: asyncio.Task[None] | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever answered, nor refused."""
        return self.last.facts is None and self.last.trouble is None

    async def get(self) -> Reading[_Answer]:
        """The answer, a new one where the last is old; asks nobody while another's question is under way.

        Never raises for Slurm. Where an answer takes long, the last one is told meanwhile.
        """
        self.renew()
        if self._question is not None:
            # Not awaited itself: who gives up waiting must not take the answer away from everybody else.
            await asyncio.wait([self._question], timeout=self.pace.patience)
        return self.last

    def renew(self) -> None:
        """Have a new answer asked for beside everything else, where the last is old."""
        if self._question is None and self._clock() >= self._next:
            self._question = asyncio.get_running_loop().create_task(self._ask())

    def forget(self) -> None:
        """What was answered is no longer so: the next one who looks has it asked for anew."""
        self._next = float("-inf")

    async def _ask(self) -> None:
        asked, wall = self._clock(), time.time()
        try:
            answer = await self._put()
            if self.prepare is not None:
                await asyncio.to_thread(self.prepare, answer)
            self.last = Reading(answer)
            self._failures = 0
        except SlurmError as error:
            self._fail(error, wall)
            log.warning("%s (time %d in a row; the last answer stands)", error, self._failures)
        except Exception as error:
            # A bug in reading one odd answer must not fail every page that shows what is free.
            self._fail(SlurmUnavailable(self._subject, f"its answer was not understood ({error})"), wall)
            log.exception("an answer was not understood when asked to %s; the last one stands", self._subject)
        finally:
            self._next = next_question(self.pace, asked=asked, answered=self._clock(), failures=self._failures)
            self._question = None

    def _fail(self, error: SlurmError, wall: float) -> None:
        self._failures += 1
        since = self.last.silent_since if self.last.silent_since is not None else wall
        self.last = Reading(self.last.facts, error, since)


class FactsCache(Cache[ClusterFacts]):
    """The snapshot of one cluster."""

    def __init__(
        self, source: Source, pace: SnapshotPace | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(source.facts, "tell what is free", pace, clock)
