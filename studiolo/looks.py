"""What a job uses, added up over many looks at it: the same for the panels' gauges and for the books of a batch run.

Imports little: a run's job looks at itself while its kernel starts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studiolo.meter import Totals, share
from studiolo.nvml import Gpu

__all__ = ["GPU_BUSY", "Look", "Sums", "joules_of_node", "mean", "summed"]

MOST_PACKAGES = 64
GPU_BUSY = 0.05  # less is the desktop of a node, say


@dataclass(frozen=True)
class Look:
    """What was read at one moment: CPUs and memory, each GPU, and the joules of the processors where they are all one's own."""

    totals: Totals
    gpus: tuple[Gpu, ...] = ()
    node_joules: float | None = None


@dataclass(frozen=True)
class Sums:
    """What has added up in ``seconds`` of looking: times of the mean shares of CPUs and GPUs, and of GPUs that stood idle.

    ``cpu_seconds`` and ``gpu_seconds`` are how long somebody told of them, ``gpu_most`` is the highest share at one look.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    cpu_seconds: float = 0.0
    gpu: float = 0.0
    gpu_most: float = 0.0
    gpu_idle: float = 0.0
    gpu_seconds: float = 0.0
    gpu_joules: float = 0.0
    cpu_joules: float = 0.0
    gpu_counted: bool = True
    cpu_counted: bool = True


def summed(sums: Sums, last: Look, now: Look, cpus: int) -> Sums:
    """Add what happened between two looks."""
    seconds = now.totals.when - last.totals.when
    if seconds <= 0:
        return sums
    worked = share(last.totals, now.totals, cpus)
    use = mean([gpu.use for gpu in now.gpus])
    drawn = [_grown(before.joules, after.joules) for before, after in zip(last.gpus, now.gpus, strict=False)]
    counted = [joules for joules in drawn if joules is not None]
    processors = _grown(last.node_joules, now.node_joules)
    return Sums(
        seconds=sums.seconds + seconds,
        cpu=sums.cpu + seconds * (worked or 0.0),
        cpu_seconds=sums.cpu_seconds + (seconds if worked is not None else 0.0),
        gpu=sums.gpu + (seconds * use if use is not None else 0.0),
        gpu_most=max(sums.gpu_most, use or 0.0),
        gpu_idle=sums.gpu_idle + (seconds if use is not None and use < GPU_BUSY else 0.0),
        gpu_seconds=sums.gpu_seconds + (seconds if use is not None else 0.0),
        gpu_joules=sums.gpu_joules + sum(counted),
        cpu_joules=sums.cpu_joules + (processors or 0.0),
        gpu_counted=sums.gpu_counted and bool(drawn) and len(counted) == len(drawn) == len(now.gpus),
        cpu_counted=sums.cpu_counted and processors is not None,
    )


def _grown(before: float | None, after: float | None) -> float | None:
    """How far a counter has come; ``None`` where it is not known, or began anew."""
    return None if before is None or after is None or after < before else after - before


def mean(shares: Sequence[float | None]) -> float | None:
    """The mean of those shares that are known; ``None`` where none is."""
    known = [one for one in shares if one is not None]
    return sum(known) / len(known) if known else None


def joules_of_node(root: Path = Path("/"), cpus: int = 0) -> float | None:
    """What the node's processors drew since it began (RAPL), where this job has all of them and may read it; else ``None``."""
    if cpus < (os.cpu_count() or 1):
        return None
    total = 0
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))[:MOST_PACKAGES]
    packages = [zone for zone in zones if re.fullmatch(r"intel-rapl:\d+", zone.name)]
    for zone in packages:
        try:
            total += int((zone / "energy_uj").read_text(encoding="ascii"))
        except (OSError, ValueError):  # most sites let root alone read it
            return None
    return total / 1e6 if packages else None
