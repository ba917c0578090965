"""The ways to Slurm behind one interface, chosen by the site file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from studiolo.script import Batch, Directives
from studiolo.site import Site
from studiolo.slurm.budgets import Budgets
from studiolo.slurm.commands import CommandSlurm
from studiolo.slurm.facts import ClusterFacts
from studiolo.slurm.states import JobState, Owned, Tagged
from studiolo.slurm.usage import JobUsage

__all__ = ["Slurm", "connect"]


class Slurm(Protocol):
    """One cluster. What Slurm refuses is :class:`~studiolo.errors.SlurmRefused`; where it did not answer, nothing may be
    concluded (:class:`~studiolo.errors.SlurmUnavailable`); where the hub itself is not let in, its operator has to act
    (:class:`~studiolo.errors.LauncherFailed`). ``calls`` counts what has been asked of Slurm, by kind."""

    calls: dict[str, int]

    async def submit(self, person: str, batch: Batch, environment: Mapping[str, str]) -> int: ...
    async def estimate(self, person: str, directives: Directives) -> int | None: ...
    async def cancel(self, person: str, jobs: Iterable[int]) -> None: ...
    async def queue(self, jobs: Iterable[int]) -> dict[int, JobState]: ...
    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]: ...
    async def tagged(self) -> tuple[Tagged, ...]: ...
    async def owner(self, job: int) -> Owned | None: ...
    async def used(self, jobs: Iterable[int]) -> dict[int, JobUsage]: ...
    async def extend(self, job: int, minutes: int) -> None: ...
    async def node_address(self, node: str) -> str: ...
    async def budgets(self) -> Budgets: ...
    async def facts(self) -> ClusterFacts: ...


def connect(site: Site, name: str) -> Slurm:
    """Return the client of the cluster ``name``, by the way that its ``via`` says. Asks nothing yet."""
    cluster = site.clusters[name]
    if cluster.via == "slurmrestd":
        # Not above: a notebook's environment talks to Slurm by its commands, without HTTP and tokens.
        from studiolo.slurm.rest import RestSlurm

        return RestSlurm(cluster, site.mark, site.hub.account, Path(site.jwt_key(name)))
    if cluster.via == "both":
        from studiolo.slurm.both import BothSlurm

        return BothSlurm(cluster, site.mark, site.hub.account, Path(site.jwt_key(name)))
    return CommandSlurm(cluster, site.mark)
