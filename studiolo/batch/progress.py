"""How far a run is, by its own word: what the job writes into ``state.json`` and everybody else reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from studiolo.batch.folder import plausible

__all__ = ["ENDED", "Progress", "Trouble", "Used", "read_progress"]

PHASES = ("starting", "running", "done", "failed", "stopped", "requeued")
ENDED = frozenset({"done", "failed", "stopped"})
"""Phases after which this attempt does no more. ``stopped``: from outside; ``requeued``: it goes on in another attempt."""


@dataclass(frozen=True)
class Trouble:
    """What ended a run: the error's ``name`` and ``value``, in code cell ``cell`` (from 1; 0 outside of cells), whose first line
    is ``line``."""

    name: str = ""
    value: str = ""
    cell: int = 0
    line: str = ""


@dataclass(frozen=True)
class Used:
    """What a run has used in the ``seconds`` in which it was looked at; ``None`` where nobody tells.

    Shares go from 0 to 1: ``cpu`` and ``gpu`` are means of its CPUs and of its GPUs, ``gpu_most`` the highest at one look,
    ``gpu_idle`` the share of the time in which its GPUs did nothing. ``gpu_joules`` and ``cpu_joules`` are by counters of the
    machine, and there only where those count nobody else's work.
    """

    seconds: float = 0.0
    cpu: float | None = None
    gpu: float | None = None
    gpu_idle: float | None = None
    gpu_most: float | None = None
    gpu_joules: float | None = None
    cpu_joules: float | None = None


@dataclass(frozen=True)
class Progress:
    """One look at a run.

    ``done`` of ``cells`` code cells are done, ``current`` is the one at work (from 1; 0 for none). Times are seconds since
    1970; ``earlier`` is for how many seconds earlier attempts have held their resources. ``memory`` and ``peak`` are mebibytes
    that its processes hold and held at most, ``cores`` how many of its cores worked lately, ``used`` what adds up. ``note`` is
    something to tell beside.
    """

    phase: str = "starting"
    attempt: int = 1
    job: int = 0
    node: str = ""
    cells: int = 0
    done: int = 0
    current: int = 0
    started: float = 0.0
    cell_started: float = 0.0
    updated: float = 0.0
    ended: float = 0.0
    earlier: float = 0.0
    memory: int = 0
    peak: int = 0
    cores: float = 0.0
    note: str = ""
    trouble: Trouble | None = None
    used: Used | None = None

    def as_json(self) -> dict[str, Any]:
        """What ``state.json`` holds."""
        return asdict(self)


def read_progress(data: Mapping[str, Any]) -> Progress | None:
    """Read what a run wrote; ``None`` where it wrote nothing, or nothing that makes sense."""
    if data.get("phase") not in PHASES:
        return None
    kept = _like(Progress(), data)
    trouble = data.get("trouble")
    return Progress(
        **kept,
        trouble=Trouble(**_like(Trouble(), trouble)) if isinstance(trouble, dict) else None,
        used=_used(data.get("used")),
    )


def _used(data: object) -> Used | None:
    if not isinstance(data, dict):
        return None
    kept = {item.name: float(data[item.name]) for item in fields(Used) if plausible(data.get(item.name))}
    shares = {name: min(1.0, value) for name, value in kept.items() if not name.endswith(("seconds", "joules"))}
    return Used(**{**kept, **shares})


def _like(usual: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of ``data`` that are of the kind of ``usual``'s, and that can be true."""
    kept: dict[str, Any] = {}
    for item in fields(usual):
        default, value = getattr(usual, item.name), data.get(item.name)
        if isinstance(default, (int, float)):
            if plausible(value) and (isinstance(default, float) or isinstance(value, int)):
                kept[item.name] = type(default)(value)
        elif isinstance(default, str) and isinstance(value, str):
            kept[item.name] = value
    return kept
