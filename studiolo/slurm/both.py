"""Both ways to Slurm, each for what it does best: people's jobs through slurmrestd, every question through the commands."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from studiolo.errors import SlurmUnreachable
from studiolo.script import Batch
from studiolo.site import Cluster
from studiolo.slurm.commands import CommandSlurm
from studiolo.slurm.rest import RestSlurm

__all__ = ["BothSlurm"]

log = logging.getLogger(__name__)


class BothSlurm(CommandSlurm):
    """One cluster: submits and cancels through slurmrestd, asks through ``squeue`` and its sisters.

    A submission is sudo, the launcher and sbatch one way, and one request of HTTP the other; but slurmrestd turns all that
    slurmctld holds into JSON for one question about a few jobs. Where nobody listens at ``rest_url``, people's jobs go
    through the launcher: nothing can have been submitted twice.
    """

    def __init__(self, cluster: Cluster, mark: str, account: str, key: Path, timeout: float = 30.0) -> None:
        super().__init__(cluster, mark, timeout)
        self.rest = RestSlurm(cluster, mark, account, key, timeout=timeout)
        self.rest.calls = self.calls

    async def submit(self, person: str, batch: Batch, environment: Mapping[str, str]) -> int:
        """Submit a batch job as ``person`` and return its number."""
        try:
            return await self.rest.submit(person, batch, environment)
        except SlurmUnreachable as error:
            log.warning("%s; submitting through the launcher instead", error)
            return await super().submit(person, batch, environment)

    async def cancel(self, person: str, jobs: Iterable[int]) -> None:
        """Cancel jobs of ``person``; one that is over already is no error."""
        numbers = list(jobs)
        try:
            await self.rest.cancel(person, numbers)
        except SlurmUnreachable as error:
            log.warning("%s; cancelling through the launcher instead", error)
            await super().cancel(person, numbers)
