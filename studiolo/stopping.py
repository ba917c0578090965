"""An end to everything that somebody has on the cluster through Studiolo, from a notebook; the home page can do the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from studiolo.dask_folder import folders, tell_to_end
from studiolo.desk import Desk, desk
from studiolo.errors import SlurmError
from studiolo.session import Session
from studiolo.slurm.states import Tagged
from studiolo.views import announced

__all__ = ["Stopped", "stop_everything"]

ROUNDS = 3  # what is cancelled may just have submitted something


@dataclass(frozen=True)
class Stopped:
    """What was ended: how many ``sessions``, batch ``runs`` (a sweep is one), Dask ``workers``, and ``others`` of Studiolo's.

    ``itself`` tells whether the session, run or sweep that this was called in is among them.
    """

    sessions: int = 0
    runs: int = 0
    workers: int = 0
    others: int = 0
    itself: bool = False

    def __repr__(self) -> str:
        counted = [
            _many(self.sessions, "session"),
            _many(self.runs, "batch run"),
            _many(self.workers, "Dask worker"),
            _many(self.others, "other job"),
        ]
        told = ", ".join(filter(None, counted))
        if not told:
            return "Nothing else of yours runs or waits."
        return f"Stopped: {told}{', this one among them' if self.itself else ''}."


def stop_everything(*, this_session: bool = False) -> Stopped:
    """End everything of yours on the machine, what waits in the queue included: other sessions, batch runs, Dask clusters.

    The session that this is called in goes on, unless ``this_session`` is set: then it ends last. In a batch run, the same holds
    for that run, or the whole sweep that it is one of. Jobs that you have submitted by other means than Studiolo's are left
    alone. With a dead kernel, the hub's home page has a button for the same.

    Raises :class:`~studiolo.errors.SlurmError` where Slurm does not answer or refuses; what was stopped until then is.
    """
    at = desk()
    stopped: dict[tuple[str, int], Tagged] = {}  # numbers of two clusters may be the same
    for live in announced():
        view = live.view()
        if view.kind == "cluster" and not view.is_over:
            live.act("close")  # else it would ask for other workers in place of those that are cancelled
            stopped |= {(view.cluster, job): Tagged(job, "", "dask", view.identity) for job in view.jobs}
    troubles: list[SlurmError] = []
    here = str((at.session.asked.get("cluster") if at.session else "") or next(iter(at.slurm)))
    spared: dict[int, Tagged] = {}
    for cluster in at.slurm:
        own = (at.session, spared) if cluster == here else (None, {})
        try:
            found = at.do(_cancel_others(at, cluster, *own))
            stopped |= {(cluster, job): tagged for job, tagged in found.items()}
        except SlurmError as error:
            troubles.append(error)
    if troubles:
        raise troubles[0]
    if not this_session or at.session is None:
        return count(stopped.values())
    # Of a job without a tag (one of the person's own, in which this was called) only its number is known.
    last = {at.session.job: Tagged(at.session.job, "", "session", at.session.owner), **spared}
    counted = count([*stopped.values(), *last.values()], itself=True)
    at.do(at.cancel(here, list(last)))
    return counted


def is_own(job: Tagged, session: Session | None) -> bool:
    """Whether a job is the session that this process is in, or of the same run or sweep: the jobs of an array that wait are
    named by the array, and cancelled with all of it."""
    if session is None:
        return False
    return job.job == session.job or (job.kind == "run" and bool(job.name) and job.name == session.owner)


async def _cancel_others(
    at: Desk, cluster: str, session: Session | None, spared: dict[int, Tagged]
) -> dict[int, Tagged]:
    """Cancel all tagged jobs of this person's but its own, which come into ``spared``, and those that come meanwhile."""
    gone: dict[int, Tagged] = {}
    for _round in range(ROUNDS):
        there = {job.job: job for job in await at.slurm[cluster].tagged() if job.job not in gone}
        spared |= {number: job for number, job in there.items() if is_own(job, session)}
        found = {number: job for number, job in there.items() if number not in spared}
        if not found:
            break
        await asyncio.to_thread(tell_clusters, [job.name for job in found.values() if job.kind == "dask"])
        await at.cancel(cluster, list(found))
        gone |= found
    return gone


def tell_clusters(names: Iterable[str]) -> None:
    """Have Dask clusters of these names (their jobs' tags) end with their jobs, whichever notebook they belong to."""
    for name in set(names):
        tell_to_end(folders(), name)


def count(jobs: Iterable[Tagged], *, itself: bool = False) -> Stopped:
    """Count jobs by what they are."""
    found = list(jobs)
    kinds = [job.kind for job in found]
    return Stopped(
        sessions=kinds.count("session"),
        runs=len({job.name for job in found if job.kind == "run"}),
        workers=kinds.count("dask"),
        others=sum(kind not in ("session", "run", "dask") for kind in kinds),
        itself=itself,
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}" if number else ""
