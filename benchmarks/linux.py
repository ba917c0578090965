"""Facts about processes from /proc: when they began, what they are, how much they have computed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # a hundredth of a second: what all times here are exact to


@dataclass(frozen=True)
class Process:
    """One process: ``began`` in seconds since 1970."""

    pid: int
    command: str
    began: float


def began(stat: str, now: float, since_boot: float) -> float:
    """When a process began, in seconds since 1970, from its ``/proc/PID/stat``."""
    return now - since_boot + int(_fields(stat)[19]) / TICKS


def cpu_seconds(stat: str) -> float:
    """Seconds of processor that a process has used itself, without its children."""
    user, system = _fields(stat)[11:13]
    return (int(user) + int(system)) / TICKS


def cpu_of_children(stat: str) -> float:
    """The same of its children that have ended and been waited for, and of theirs."""
    user, system = _fields(stat)[13:15]
    return (int(user) + int(system)) / TICKS


def _fields(stat: str) -> list[str]:
    return stat.rpartition(")")[2].split()


def cpu_of(pid: int) -> float:
    """:func:`cpu_seconds` of a running process."""
    return cpu_seconds(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))


def cpu_by_kind(kinds: Mapping[str, Callable[[int, str], bool]], hub: int) -> dict[str, float]:
    """Seconds of processor so far of all processes of a kind, told by uid and command line, with children that ended.

    ``hub`` is left out of them: of it there are two kinds, ``hub`` itself and its ``commands`` (sudo, sbatch, squeue …).
    """
    found = {"hub": 0.0, "commands": 0.0} | dict.fromkeys(kinds, 0.0)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            uid = folder.stat().st_uid
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # ended while we looked
        if int(folder.name) == hub:
            found["hub"] += cpu_seconds(stat)
            found["commands"] += cpu_of_children(stat)
            continue
        for kind, belongs in kinds.items():
            if belongs(uid, command):
                found[kind] += cpu_seconds(stat) + cpu_of_children(stat)
                break
    return found


def processes_of(uid: int) -> list[Process]:
    """Processes of an account, first to begin first."""
    return sorted(_processes_of(uid), key=lambda process: (process.began, process.pid))


def _processes_of(uid: int) -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid != uid:
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # ended while we looked
        yield Process(int(folder.name), command, began(stat, time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)))
