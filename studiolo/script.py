"""A checked :class:`~studiolo.request.Request` -> a batch job, as a value and as text. Runs nothing, knows no secret.

What a job asks Slurm for is described once, as :class:`Directives`: ``sbatch`` reads them as ``#SBATCH`` lines, slurmrestd
as data. Everything that came from a person is checked a second time here, by the narrow alphabet that such lines may
hold, so that no gap in the gate can become a line of script.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from studiolo.modelcache import OVERLAY
from studiolo.request import Request
from studiolo.site import Environment, Site
from studiolo.units import slurm_memory, slurm_time

__all__ = ["Batch", "Directives", "Job", "render"]

_DIRECTIVE_VALUE = re.compile(r"[A-Za-z0-9_.,:+=/@%&|~-]+", re.ASCII)


@dataclass(frozen=True)
class Job:
    """What runs in the resources: ``command`` (an argument list, each quoted), job ``name``, ``comment`` and ``log`` file.

    A ``comment`` marks the job as Studiolo's, so that it can be found again by whoever looks for it in the queue. A
    ``log`` with an absolute path is made by the job itself and stands nowhere in the queue; any other is Slurm's to
    write, in the person's home.

    ``array`` makes it as many tasks as it names, in Slurm's notation (``"0-19%4"``: twenty, four at once). ``requeue`` lets
    Slurm put it back into the queue after a preemption or a node's failure; it then goes on with the same log. ``signal`` is
    sent to it before its end, in Slurm's notation (``"B:USR1@120"``: to the command alone, two minutes before). It begins
    ``after`` another job has gone well (0: at once), and is cancelled where that one has not; and not before the job ``behind``
    which it stands has ended, however.
    """

    name: str
    comment: str
    log: str
    command: Sequence[str]
    array: str = ""
    requeue: bool = False
    signal: str = ""
    after: int = 0
    behind: int = 0


@dataclass(frozen=True)
class Directives:
    """What a job asks Slurm for: one task on one node. ``memory`` in mebibytes, ``minutes`` of walltime.

    Texts are empty where nothing is asked for; ``output`` is where Slurm writes what the job says; ``array``, ``requeue``,
    ``signal``, ``after`` and ``behind`` are as in :class:`Job`. Raises ``ValueError`` for a text that does not belong into a
    directive.
    """

    name: str
    comment: str
    partition: str
    account: str
    qos: str
    reservation: str
    constraint: str
    cpus: int
    memory: int
    minutes: int
    gres: str
    output: str
    array: str = ""
    requeue: bool = False
    signal: str = ""
    after: int = 0
    behind: int = 0

    def __post_init__(self) -> None:
        for key, value in self._options():
            if value:
                _check(f"--{key}", value)

    def lines(self) -> list[str]:
        """The ``#SBATCH`` lines."""
        again = ["requeue", "open-mode=append"] if self.requeue else ["no-requeue"]
        asked = [f"{key}={value}" for key, value in self._options() if value]
        return [f"#SBATCH --{option}" for option in (*asked, *again)]

    def _options(self) -> Iterator[tuple[str, str]]:
        yield "job-name", self.name
        yield "comment", self.comment
        yield "partition", self.partition
        yield "account", self.account
        yield "qos", self.qos
        yield "reservation", self.reservation
        yield "constraint", self.constraint
        yield "nodes", "1"
        yield "ntasks", "1"
        yield "cpus-per-task", str(self.cpus)
        yield "mem", slurm_memory(self.memory)
        yield "time", slurm_time(self.minutes)
        yield "gres", self.gres
        yield "output", self.output
        yield "array", self.array
        yield "signal", self.signal
        waits = [f"afterok:{self.after}"] if self.after else []
        waits += [f"afterany:{self.behind}"] if self.behind else []
        yield "dependency", ",".join(waits)
        yield "kill-on-invalid-dep", "yes" if self.after else ""
        yield "export", "ALL"


@dataclass(frozen=True)
class Batch:
    """A batch job: what it asks for, the ``shell`` that reads it (its ``#!`` line) and the ``commands`` it runs."""

    directives: Directives
    shell: str
    commands: str

    @property
    def text(self) -> str:
        """The whole script, as ``sbatch`` reads it."""
        return "\n".join([self.shell, *self.directives.lines(), "", self.commands])


def render(request: Request, site: Site, job: Job) -> Batch:
    """Return the batch job. Raises ``ValueError`` where a value does not belong into a script."""
    environment = site.environments[request.environment]
    own_log = job.log.startswith("/")
    directives = Directives(
        name=job.name,
        comment=job.comment,
        partition=request.partition,
        account=request.account or "",
        qos=request.qos or "",
        reservation=request.reservation or "",
        constraint="&".join(request.features),
        cpus=request.cpus,
        memory=request.memory,
        minutes=request.minutes,
        gres=_gres(request, site.partitions[request.partition].gpu_type),
        output="/dev/null" if own_log else job.log,
        array=job.array,
        requeue=job.requeue,
        signal=job.signal,
        after=job.after,
        behind=job.behind,
    )
    lines = [*(_open_log(job.log) if own_log else []), "set -e", *_models(site)]
    lines += [f"module load {shlex.quote(module)}" for module in environment.modules]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in environment.variables.items()]
    lines += [f"exec {shlex.join([*_container(environment, request), *job.command])}", ""]
    return Batch(directives, "#!/bin/bash -l" if environment.modules else "#!/bin/bash", "\n".join(lines))


def _models(site: Site) -> list[str]:
    # Before modules and the environment's own variables, which may say otherwise. Libraries read them when imported.
    offline = ["export HF_HUB_OFFLINE=1"] if site.catalogue.offline else []
    return [f'export HF_HUB_CACHE="$HOME/{OVERLAY}"', *offline]


def _check(what: str, value: str) -> None:
    if not _DIRECTIVE_VALUE.fullmatch(value):
        raise ValueError(f"{what}={value!r} does not belong into a batch script")


def _open_log(log: str) -> list[str]:
    _check("log", log)
    # noclobber makes the file or fails (O_EXCL), but would open a pipe or a device that is there already: hence the look
    # first. Neither names the file on a command line. 73 is what sysexits.h calls a file that can not be created.
    path = shlex.quote(log)
    return ["umask 027", f"set -C; [[ ! -e {path} ]] && exec >{path} 2>&1 || exit 73; set +C"]


def _gres(request: Request, gpu_type: str) -> str:
    if request.gpus:
        return f"gpu:{gpu_type}:{request.gpus}" if gpu_type else f"gpu:{request.gpus}"
    return f"shard:{request.shards}" if request.shards else ""


def _container(environment: Environment, request: Request) -> list[str]:
    if not environment.image:
        return []
    gpu = ["--nv"] if request.gpus or request.shards else []
    return ["apptainer", "exec", *gpu, environment.image]
