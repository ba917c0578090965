"""An end to what the Dask clusters of a killed notebook have left: jobs that still wait, and keys in the person's home.

Workers that run end with their notebook by themselves, those that wait once they would start. Until then they count
against what somebody may have in the queue.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable

from studiolo.dask_folder import IDENTITY_FORM, ClusterFolder, folders
from studiolo.dask_worker import CONNECT_SECONDS, Handover, read_handover
from studiolo.desk import Desk
from studiolo.slurm.states import Tagged

__all__ = ["end_leftovers", "leftovers"]


async def end_leftovers(at: Desk, *, closed: bool = False) -> list[int]:
    """Cancel the workers of this session's (or run's) clusters whose notebook is gone; returns their jobs' numbers.

    With ``closed`` also those of clusters that were closed: a notebook that was shut down while Slurm said nothing has left them.
    Logs stay. Raises :class:`~studiolo.errors.SlurmError` where Slurm does not answer or refuses: then all is as it was.
    """
    root = folders()
    dead = await asyncio.to_thread(leftovers, root, at.owner)
    if not dead and not closed:
        return []

    def is_left(job: Tagged) -> bool:
        owner, _, identity = job.name.rpartition(".")
        if (job.kind, owner) != ("dask", at.owner) or not IDENTITY_FORM.fullmatch(identity):
            return False
        return identity in dead or (closed and ClusterFolder(root, identity).is_shut())

    def left_of(tagged: Iterable[Tagged]) -> list[int]:
        return [job.job for job in tagged if is_left(job)]

    ended: list[int] = []
    for cluster, slurm in at.slurm.items():
        jobs = await asyncio.to_thread(left_of, await slurm.tagged())
        if jobs:
            await at.cancel(cluster, jobs)
            ended += jobs
    for identity in dead:
        ClusterFolder(root, identity).shut()
    return ended


def leftovers(root: str, owner: str) -> list[str]:
    """Clusters with this ``owner`` that were begun on this node, and whose notebook's process is over."""
    try:
        with os.scandir(root) as entries:
            paths = sorted(entry.path for entry in entries)
    except OSError:
        return []
    return [os.path.basename(path) for path in paths if (told := _told(path)) and _is_over(told, owner)]


def _told(path: str) -> Handover | None:
    try:
        return read_handover(path)
    except (OSError, ValueError, TypeError):
        return None  # closed, or nothing that could be judged


def _is_over(told: Handover, owner: str) -> bool:
    """Whether nobody listens where the notebook did. One that hangs still has its port; another node may not be reachable."""
    if (told.owner, told.node) != (owner, socket.gethostname()):
        return False
    try:
        socket.create_connection(told.pulse, CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False
