"""Slurm for oneself: what a person's own notebook submits, cancels and asks, by the commands of its node.

The same client as the hub's, without sudo: the launcher's program runs as whoever runs this, and starts ``sbatch`` with the
same small and known environment. So nothing of a session reaches its jobs: neither its token nor Slurm's own variables,
which mislead whatever is submitted from within a job.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from studiolo.errors import SlurmRefused
from studiolo.site import Cluster
from studiolo.slurm import launcher
from studiolo.slurm.arrays import (
    TASK_ACCOUNTING_FORMAT,
    TASK_QUEUE_FORMAT,
    name_of,
    parse_most_tasks,
    parse_task_accounting,
    parse_task_queue,
    split,
)
from studiolo.slurm.commands import OVER, CommandSlurm
from studiolo.slurm.states import JobState
from studiolo.slurm.usage import ENERGY_FORMAT, parse_energy

__all__ = ["OwnSlurm", "here"]


def here(cluster: Cluster, environ: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster as this node reaches it: its own ``SLURM_CONF`` and commands, where they are not where the hub has them."""
    conf, commands = environ.get("SLURM_CONF", ""), cluster.commands
    if not os.path.exists(f"{commands}/sbatch") and (found := shutil.which("sbatch")):
        commands = str(Path(found).parent)
    return cluster.model_copy(update={"commands": commands, "conf": conf or cluster.conf})


class OwnSlurm(CommandSlurm):
    """One cluster, as the person that this process belongs to. Sees that person's jobs alone.

    Beside jobs it follows and cancels single tasks of job arrays, by :func:`studiolo.slurm.arrays.task`.
    """

    errand = "your job"
    whose = ("--me",)

    def __init__(self, cluster: Cluster, mark: str, timeout: float = 30.0) -> None:
        super().__init__(here(cluster), mark, timeout)
        self.person = pwd.getpwuid(os.getuid()).pw_name

    async def most_tasks(self) -> int:
        """Ask slurmctld how many tasks a job array may have; 0 where it takes none."""
        return self._parsed(parse_most_tasks, await self._ask(["scontrol", "show", "config"]), "read its settings")

    async def energy(self, jobs: Iterable[int]) -> dict[int, float]:
        """Ask accounting once for the joules of one's own jobs; those of nodes that do not count them are missing."""
        numbers = ",".join(map(str, sorted(jobs)))
        argv = ["sacct", "--parsable2", "--noheader", "--noconvert", f"--jobs={numbers}", f"--format={ENERGY_FORMAT}"]
        return self._parsed(parse_energy, await self._ask(argv), "look up what jobs drew")

    def _as(self, person: str, action: str) -> list[str]:
        if person != self.person:
            raise ValueError(f"{person!r} is somebody else")
        return [sys.executable, "-IS", launcher.__file__, action, self.cluster.conf, self.cluster.commands]

    async def queue(self, jobs: Iterable[int]) -> dict[int, JobState]:
        """Ask once for all ``jobs`` and tasks; those that slurmctld no longer holds are missing in the answer."""
        wanted = sorted(jobs)
        if all(split(job)[1] is None for job in wanted):
            return await super().queue(wanted)
        numbers = ",".join(str(number) for number in sorted({split(job)[0] for job in wanted}))
        argv = ["squeue", "--noheader", "--states=all", "--array", f"--jobs={numbers}", f"--format={TASK_QUEUE_FORMAT}"]
        answer = await self._ask(argv)
        if answer.status and "Invalid job id" in answer.err:
            return {}
        return self._parsed(lambda out: parse_task_queue(out, wanted), answer, "list jobs")

    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]:
        """Ask accounting for all ``jobs`` and tasks."""
        wanted = sorted(jobs)
        if all(split(job)[1] is None for job in wanted):
            return await super().finished(wanted)
        numbers = ",".join(str(number) for number in sorted({split(job)[0] for job in wanted}))
        argv = ["sacct", "--allocations", "--parsable2", "--noheader", f"--jobs={numbers}"]
        answer = await self._ask([*argv, f"--format={TASK_ACCOUNTING_FORMAT}"])
        return self._parsed(lambda out: parse_task_accounting(out, wanted), answer, "look up finished jobs")

    async def cancel(self, person: str, jobs: Iterable[int]) -> None:
        """Cancel jobs and tasks of one's own; what is over already is no error."""
        try:
            await self._launch(person, "cancel", "\0".join(map(name_of, jobs)), "cancel the job")
        except SlurmRefused as refused:
            if not OVER.search(refused.words):
                raise
