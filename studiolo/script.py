"""A checked :class:`~studiolo.request.Request` -> the text of a batch script. Runs nothing, knows no secret.

Everything that came from a person is checked a second time here, by the narrow alphabet that ``#SBATCH`` lines may
hold, so that no gap in the gate can become a line of script.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from studiolo.request import Request
from studiolo.site import Environment, Site
from studiolo.units import slurm_memory, slurm_time

__all__ = ["Job", "render"]

_DIRECTIVE_VALUE = re.compile(r"[A-Za-z0-9_.,:+=/@%&|~-]+", re.ASCII)


@dataclass(frozen=True)
class Job:
    """What runs in the resources: ``command`` (an argument list, each quoted), job ``name``, ``comment`` and ``log`` file.

    A ``comment`` marks the job as Studiolo's, so that it can be found again by whoever looks for it in the queue.
    """

    name: str
    comment: str
    log: str
    command: Sequence[str]


def render(request: Request, site: Site, job: Job) -> str:
    """Return the batch script. Raises ``ValueError`` where a value does not belong into a script."""
    environment = site.environments[request.environment]
    partition = site.partitions[request.partition]
    directives = {
        "job-name": job.name,
        "comment": job.comment,
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "reservation": request.reservation,
        "constraint": "&".join(request.features),
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(request.cpus),
        "mem": slurm_memory(request.memory),
        "time": slurm_time(request.minutes),
        "gres": _gres(request, partition.gpu_type),
        "output": job.log,
        "export": "ALL",
    }
    lines = ["#!/bin/bash -l" if environment.modules else "#!/bin/bash"]
    lines += [f"#SBATCH --{key}={_directive(key, value)}" for key, value in directives.items() if value]
    lines += ["#SBATCH --no-requeue", "", "set -e"]
    lines += [f"module load {shlex.quote(module)}" for module in environment.modules]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in environment.variables.items()]
    lines += [f"exec {shlex.join([*_container(environment, request), *job.command])}", ""]
    return "\n".join(lines)


def _gres(request: Request, gpu_type: str) -> str:
    if request.gpus:
        return f"gpu:{gpu_type}:{request.gpus}" if gpu_type else f"gpu:{request.gpus}"
    return f"shard:{request.shards}" if request.shards else ""


def _container(environment: Environment, request: Request) -> list[str]:
    if not environment.image:
        return []
    gpu = ["--nv"] if request.gpus or request.shards else []
    return ["apptainer", "exec", *gpu, environment.image]


def _directive(key: str, value: str) -> str:
    if not _DIRECTIVE_VALUE.fullmatch(value):
        raise ValueError(f"--{key}={value!r} does not belong into a batch script")
    return value
