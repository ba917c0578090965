"""What somebody has on the machine besides sessions, batch runs and Dask workers; and an end to one of it, or to all at once.

The queue itself is the memory: jobs bear their person's name, by Slurm's word, and this hub's mark. So what runs is found
after a log-out, from another machine, and when the kernel that began it is dead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spawners.orphans import RUN, SESSION, WORKER
from spawners.stopping import stop
from studiolo.errors import SlurmError
from studiolo.language import _
from studiolo.panels.groups import group_view, grouped, in_order
from studiolo.slurm.client import Slurm
from studiolo.slurm.snapshot import Cache, SnapshotPace
from studiolo.slurm.states import Tagged
from studiolo.views import JobView

if TYPE_CHECKING:
    from spawners.engine import Engine

__all__ = ["JobsCache", "in_queue", "others", "stop_everything", "stop_one"]

log = logging.getLogger(__name__)

PACE = SnapshotPace(fresh=30.0)
ROUNDS = 3  # what is cancelled may just have submitted something


@dataclass(frozen=True)
class TaggedJobs:
    """All jobs of this hub on one cluster that are not over; ``taken`` in seconds since 1970."""

    taken: float
    jobs: tuple[Tagged, ...]


class JobsCache(Cache[TaggedJobs]):
    """The jobs of this hub on one cluster, asked for once for all home pages that are open, twice a minute at most."""

    def __init__(self, client: Slurm) -> None:
        async def ask() -> TaggedJobs:
            taken = time.time()
            return TaggedJobs(taken, await client.tagged())

        super().__init__(ask, "list jobs", PACE)

    def of(self, person: str) -> list[Tagged]:
        """A person's jobs besides sessions, at the last look."""
        found = self.last.facts
        return besides_sessions(found.jobs, person) if found else []


def besides_sessions(jobs: Iterable[Tagged], person: str) -> list[Tagged]:
    """A person's jobs that are no sessions."""
    return [job for job in jobs if job.person == person and job.kind != SESSION]


def in_queue(caches: Mapping[str, JobsCache], person: str) -> tuple[JobView, ...]:
    """A person's batch runs and Dask clusters on all clusters, at the last look: as panels show them."""
    return in_order(view for name, cache in caches.items() for view in _views(name, cache.of(person)))


def _views(cluster: str, jobs: Iterable[Tagged]) -> Iterator[JobView]:
    known = {job.job: job for job in jobs}
    for group in grouped(cluster, known.values()):
        members = [known[job] for job in group.jobs]
        asked = min((job.asked for job in members if job.asked is not None), default=None)
        if view := group_view(group, [job.state for job in members], asked):
            yield view


def others(jobs: Iterable[Tagged]) -> dict[str, int]:
    """How many batch runs (a sweep is one), workers of Dask, and other jobs of Studiolo's these are."""
    found = list(jobs)
    return {
        "runs": len({job.name for job in found if job.kind == RUN}),
        "workers": sum(job.kind == WORKER for job in found),
        "others": sum(job.kind not in (RUN, WORKER) for job in found),
    }


async def stop_everything(handler: Any, engine: Engine, user: Any) -> str:
    """Stop a person's sessions and cancel all other jobs of theirs that bear this hub's mark, waiting ones too.

    Returns what could not be done, in words; empty where all was. What takes longer than a moment goes on behind the page.
    """
    active = [name for name, spawner in user.spawners.items() if spawner.active]
    await asyncio.gather(*(stop(handler, engine, user, name) for name in active))
    troubles = [trouble for name in engine.slurm if (trouble := await _cancel_all(engine, name, user.name))]
    # Whoever has pressed the button wants to see that nothing is left, and not what the last look has seen.
    await asyncio.gather(*(cache.get() for cache in engine.jobs.values()))
    return troubles[0] if troubles else ""


async def stop_one(engine: Engine, person: str, identity: str) -> str:
    """Cancel a batch run or the workers of a Dask cluster, by the ``identity`` that :func:`in_queue` tells; of this person's
    own jobs alone, whatever is sent. What is over already is none of them.

    Returns what could not be done, in words; empty where it was.
    """
    cluster, _slash, tag = identity.partition("/")
    if cluster not in engine.slurm:
        return ""
    trouble = await _cancel_all(engine, cluster, person, lambda job: f"{job.kind}/{job.name}" == tag)
    await engine.jobs[cluster].get()
    return trouble


def _any(_job: Tagged) -> bool:
    return True


async def _cancel_all(engine: Engine, cluster: str, person: str, meant: Callable[[Tagged], bool] = _any) -> str:
    client = engine.slurm[cluster]
    try:
        for _round in range(ROUNDS):
            jobs = [job.job for job in besides_sessions(await client.tagged(), person) if meant(job)]
            if not jobs:
                break
            await client.cancel(person, jobs)
            log.info("cancelled jobs %s of %s, who wants them stopped", jobs, person)
    except SlurmError as error:
        log.warning("not everything of %s is stopped: %s", person, error)
        return _(
            "Your batch runs and Dask workers could not be stopped: the machine's scheduler does not answer. Try again."
        )
    finally:
        # Whatever a session submits with its last breath.
        engine.look_for_orphans(cluster)
        engine.jobs[cluster].forget()
    return ""
