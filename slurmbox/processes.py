"""Which processes belong to an instance, found in /proc: not by name, but by the mark in their environment.

Everything that the supervisor starts carries ``STUDIOLO_BOX=<state folder>``; Slurm gives every process of a job
the cluster's name. Only root can read others' environments, and only root runs this.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurmbox.instance import Instance

MARK = "STUDIOLO_BOX"


@dataclass(frozen=True)
class Process:
    """One process. ``start`` (clock ticks since boot) tells it from a later one of the same number."""

    pid: int
    start: int
    program: str
    in_job: bool  # a process of a job, or the slurmstepd that holds it


def of_instance(instance: Instance) -> list[Process]:
    """All processes of the instance: daemons, slurmstepd, jobs. Never this process or one above it."""
    own = _ancestors(os.getpid())
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in own:
            continue
        process = _look(int(entry), str(instance.state), instance.cluster)
        if process is not None:
            found.append(process)
    return found


def daemons(instance: Instance) -> list[Process]:
    """The instance's processes that are no part of a job: supervisor, Slurm's daemons, hub and proxy."""
    return [p for p in of_instance(instance) if not p.in_job]


def mentioning(path: str) -> list[Process]:
    """Processes with this path in an argument of theirs (``--datadir=…``). Never this process or one above it."""
    own = _ancestors(os.getpid())
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in own:
            continue
        try:
            arguments = (Path("/proc") / entry / "cmdline").read_bytes().split(b"\0")
            if any(a.rpartition(b"=")[2] == os.fsencode(path) for a in arguments):
                fields = (Path("/proc") / entry / "stat").read_text(errors="replace").rpartition(")")
                found.append(Process(int(entry), int(fields[2].split()[19]), fields[0].partition("(")[2], False))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def belongs(environ: bytes, state: str, cluster: str) -> tuple[bool, bool]:
    """From the bytes of ``/proc/PID/environ``: (of this instance, part of a job)."""
    variables = dict(v.partition(b"=")[::2] for v in reversed(environ.split(b"\0")))
    marked = variables.get(MARK.encode()) == os.fsencode(state)
    in_job = bool(variables.get(b"SLURM_JOB_ID")) and variables.get(b"SLURM_CLUSTER_NAME") == cluster.encode()
    return marked or in_job, in_job


def _look(pid: int, state: str, cluster: str) -> Process | None:
    try:
        folder = Path("/proc") / str(pid)
        ours, in_job = belongs((folder / "environ").read_bytes(), state, cluster)
        if not ours:
            return None
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")
        if fields[2].split()[0] == "Z":
            return None
        name = fields[0].partition("(")[2]
        return Process(pid, int(fields[2].split()[19]), name, in_job or name.startswith("slurmstepd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # ended while we looked, or a kernel thread


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            text = (Path("/proc") / str(pid) / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            break
        pid = int(text.rpartition(")")[2].split()[1])
    return found


def alive(process: Process) -> bool:
    """Whether this very process still runs (not another that got its number, nor a zombie)."""
    try:
        fields = (Path("/proc") / str(process.pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(fields[19]) == process.start and fields[0] != "Z"


def end(processes: Iterable[Process], *, patience_s: float) -> list[Process]:
    """Ask these processes to end, kill after ``patience_s``; returns those that still run after that."""
    remaining = [p for p in processes if alive(p)]
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        for process in remaining:
            _signal(process, number)
        deadline = time.monotonic() + wait_s
        while remaining and time.monotonic() < deadline:
            remaining = [p for p in remaining if alive(p)]
            if remaining:
                time.sleep(0.02)
        if not remaining:
            break
    return remaining


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if alive(process):  # checked while we hold it: the number can't pass to another process
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)
