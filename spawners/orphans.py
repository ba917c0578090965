"""Jobs of this hub that belong to nobody any more, found by their comment and cancelled.

A session belongs to a server; a Dask worker to the session, or the batch run, that its cluster lives in. A batch run belongs
to its person alone, and outlives every session.

Slurm itself is the memory: whatever was cut off (a cancellation while slurmctld was down, a submission whose answer never
came, a hub that ended between two steps) leaves a job with this hub's mark that no server in the database names. One
question when the hub begins, one every few minutes, and one as soon as Slurm answers again after something was cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from studiolo.errors import SlurmError, SlurmUnavailable
from studiolo.slurm.states import Tagged

__all__ = ["OrphanSweeper", "orphans"]

log = logging.getLogger(__name__)

SESSION, RUN, WORKER = "session", "run", "dask"


class Cluster(Protocol):
    """What the sweeper needs of a Slurm client."""

    async def tagged(self) -> tuple[Tagged, ...]: ...
    async def cancel(self, person: str, jobs: Iterable[int]) -> None: ...


def orphans(found: Iterable[Tagged], known: Iterable[str]) -> dict[str, list[int]]:
    """Decide which jobs nobody owns any more: person -> job numbers. ``known`` are the names of sessions that live.

    The name of a Dask worker's job is ``OWNER.CLUSTER``: ``OWNER`` is a session's name, or that of a run of the same person.
    """
    found, living = tuple(found), set(known)
    runs = {(job.person, job.name) for job in found if job.kind == RUN}
    lost: dict[str, list[int]] = {}
    for job in found:
        owner = job.name.partition(".")[0] if job.kind == WORKER else job.name
        if job.kind not in (SESSION, WORKER) or owner in living:
            continue
        if job.kind == SESSION or (job.person, owner) not in runs:
            lost.setdefault(job.person, []).append(job.job)
    return lost


class OrphanSweeper:
    """Looks for orphans on one cluster. ``known`` tells which sessions live, at the moment that it is called."""

    EVERY_SECONDS = 600.0
    SHORTEST_PAUSE_SECONDS = 2.0  # a class that ends together is one question or two, not sixty
    AGAIN_SECONDS = 60.0  # slurmctld may still be working at a submission that nobody waits for any more
    FIRST_PAUSE_SECONDS = 1.0
    LONGEST_PAUSE_SECONDS = 60.0

    def __init__(self, cluster: Cluster, known: Callable[[], Iterable[str]]) -> None:
        self.cluster = cluster
        self.known = known
        self._wanted = asyncio.Event()

    def soon(self) -> None:
        """Look as soon as Slurm answers: something was just cut off."""
        self._wanted.set()

    async def run(self) -> None:
        """Look now, then whenever wanted, and every few minutes; for as long as the hub lives."""
        pause = self.FIRST_PAUSE_SECONDS
        while True:
            interval = self.AGAIN_SECONDS if self._wanted.is_set() else self.EVERY_SECONDS
            self._wanted.clear()
            try:
                await self.sweep()
            except SlurmError as error:
                log.warning("%s; orphaned jobs are looked for again in %.0f s", error, pause)
            except Exception:
                # The hub's database does not answer, say: that must not leave orphans until the hub's next start.
                log.exception("orphaned jobs are looked for again in %.0f s", pause)
            else:
                pause = self.FIRST_PAUSE_SECONDS
                await asyncio.sleep(self.SHORTEST_PAUSE_SECONDS)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), interval - self.SHORTEST_PAUSE_SECONDS)
                continue
            await asyncio.sleep(pause)
            self._wanted.set()
            pause = min(pause * 2, self.LONGEST_PAUSE_SECONDS)

    async def sweep(self) -> None:
        """Cancel every orphan. Raises :class:`SlurmUnavailable` where Slurm does not answer: nothing is known then.

        Whose jobs can not be cancelled, for a home folder that hangs say, does not keep the others' from it.
        """
        found = await self.cluster.tagged()
        # Asked after the queue: a session is in the database before its job is in the queue.
        unanswered: SlurmUnavailable | None = None
        for person, jobs in orphans(found, self.known()).items():
            try:
                await self.cluster.cancel(person, jobs)
            except SlurmUnavailable as error:
                unanswered = error
            except SlurmError as error:
                log.error("orphaned jobs %s of %s can not be cancelled: %s", jobs, person, error)
            else:
                log.warning(
                    "cancelled orphaned jobs %s of %s: nothing that they belong to is there any more", jobs, person
                )
        if unanswered is not None:
            raise unanswered
