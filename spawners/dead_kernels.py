"""In a session's own server: an end to the Dask workers that a killed kernel has left in the queue, seconds after its death.

A kernel that is shut down or restarted ends its clusters itself. One that is killed can not, whoever kills it: the system for
memory, a person in a terminal, the server one that hangs. Its workers that run end by themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado.log import app_log

from studiolo.dask_folder import folders
from studiolo.errors import SlurmUnavailable, StudioloError

__all__ = ["DeadKernels", "end_clusters", "lives", "processes"]

LOOK_SECONDS = 1.0
PAUSE_SECONDS = 5.0
LONGEST_PAUSE = 60.0


class DeadKernels:
    """Looks for kernels whose process has ended, on the server's loop; ``end`` does what is to be done then, beside it.

    Where ``end`` raises :class:`~studiolo.errors.SlurmUnavailable`, it is done again until Slurm answers.
    """

    def __init__(self, processes: Callable[[], set[int]], end: Callable[[], list[int]]) -> None:
        self._processes, self._end = processes, end
        self._known: set[int] = set()
        self._due = False
        self.pause = 0.0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(max(LOOK_SECONDS, self.pause))
            await self.look()

    async def look(self) -> None:
        """Look once."""
        now = self._processes()
        self._due |= bool(self._known - now)
        self._known = now
        if not self._due:
            return
        self._due = False
        try:
            ended = await asyncio.to_thread(self._end)
        except StudioloError as error:
            app_log.warning("Dask workers of a killed kernel may still wait in the queue: %s", error)
            if not isinstance(error, SlurmUnavailable):
                return
            self._due = True
            self.pause = min(max(PAUSE_SECONDS, 2 * self.pause), LONGEST_PAUSE)
            return
        self.pause = 0.0
        if ended:
            app_log.info("Dask workers of a killed kernel are cancelled: %s", ", ".join(map(str, ended)))


def processes(manager: Any) -> set[int]:
    """The processes of a server's kernels that live, by Jupyter's ``manager`` of them."""
    kernels = (manager.get_kernel(identity) for identity in manager.list_kernel_ids())
    numbers = (getattr(kernel.provisioner, "pid", None) for kernel in kernels)
    return {number for number in numbers if number and lives(number)}


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended, and that nobody has asked after yet, does not."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


def end_clusters() -> list[int]:
    """End what dead kernels of this session have left of their clusters; returns the jobs that were cancelled.

    Raises :class:`~studiolo.errors.StudioloError` where Slurm can not be asked.
    """
    if not os.path.isdir(folders()):  # nobody has ever had a cluster: nothing more is imported
        return []
    from studiolo.dask_leftovers import end_leftovers
    from studiolo.desk import desk

    at = desk()
    return at.do(end_leftovers(at, closed=True))
