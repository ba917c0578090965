"""Live gauges of this job: CPUs, memory, GPUs and their memory, how long they stood idle, and the energy that all drew.

:class:`Gauges` looks when it is asked to, and keeps what adds up. Reading takes some milliseconds; Slurm is not asked.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from studiolo.cost import Measured, energy
from studiolo.meter import Meter, Totals, share
from studiolo.nvml import Gpu, Gpus
from studiolo.site import Energy
from studiolo.units import memory_words
from studiolo.views import GaugeView, Resources

__all__ = ["Gauges", "Look", "Sums", "gauges", "joules_of_node", "summed"]

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
    """What has added up in ``seconds`` of looking: times of the mean shares of CPUs and GPUs, and of GPUs that stood idle."""

    seconds: float = 0.0
    cpu: float = 0.0
    gpu: float = 0.0
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
    use = _mean([gpu.use for gpu in now.gpus])
    drawn = [_grown(before.joules, after.joules) for before, after in zip(last.gpus, now.gpus, strict=False)]
    counted = [joules for joules in drawn if joules is not None]
    processors = _grown(last.node_joules, now.node_joules)
    return Sums(
        seconds=sums.seconds + seconds,
        cpu=sums.cpu + seconds * (share(last.totals, now.totals, cpus) or 0.0),
        gpu=sums.gpu + (seconds * use if use is not None else 0.0),
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


def _mean(shares: Sequence[float | None]) -> float | None:
    known = [one for one in shares if one is not None]
    return sum(known) / len(known) if known else None


def gauges(
    now: Look, last: Look | None, sums: Sums, *, resources: Resources, figures: Energy, since: str
) -> tuple[GaugeView, ...]:
    """The gauges in their order; ``since`` is when the sums began, as a clock shows it."""
    shown = [_cpu(now, last, resources), _memory(now, resources)]
    if resources.gpus or now.gpus:
        shown += _gpu(now, sums, since)
    elif resources.shards:
        part = f"{resources.shards}/{resources.shards_per_gpu}" if resources.shards_per_gpu else "a part"
        shown.append(GaugeView("GPU", None, f"{part} of one, which others share: its use can not be told apart"))
    if sums.seconds and (drawn := _energy(sums, resources, figures, since)):
        shown.append(drawn)
    return tuple(shown)


def _cpu(now: Look, last: Look | None, resources: Resources) -> GaugeView:
    used = share(last.totals if last else None, now.totals, resources.cpus or 1)
    words = f"{used * resources.cpus:.1f} of {_cores(resources.cpus)}" if used is not None else "measuring"
    if now.totals.cpu_seconds is None:
        words = "not told on this node"
    return GaugeView("CPU", used, words)


def _cores(count: int) -> str:
    return f"{count} core" if count == 1 else f"{count} cores"


def _memory(now: Look, resources: Resources) -> GaugeView:
    held = now.totals.memory_mb
    if held is None:
        return GaugeView("Memory", None, "not told on this node")
    if not resources.memory:
        return GaugeView("Memory", None, memory_words(held))
    return GaugeView("Memory", min(1.0, held / resources.memory), _of(held, resources.memory))


def _of(held: int, all_of_it: int) -> str:
    return f"{memory_words(held)} of {memory_words(all_of_it)}"


def _gpu(now: Look, sums: Sums, since: str) -> list[GaugeView]:
    use = _mean([gpu.use for gpu in now.gpus])
    if not now.gpus:
        return [GaugeView("GPU", None, "not told on this node")]
    count = len(now.gpus)
    words = f"{use:.0%} busy" + (f", the mean of {count}" if count > 1 else "") if use is not None else "not told"
    shown = [GaugeView("GPU", use, words)]
    known = [(gpu.memory, gpu.memory_of) for gpu in now.gpus if gpu.memory is not None and gpu.memory_of]
    if known:
        held, of = sum(one for one, _of_it in known), sum(of_it or 0 for _one, of_it in known)
        shown.append(GaugeView("GPU memory", min(1.0, held / of), _of(held, of)))
    if sums.gpu_seconds:
        idle = sums.gpu_idle / sums.gpu_seconds
        shown.append(GaugeView("GPU idle", idle, f"{idle:.0%} of the time since {since}"))
    return shown


def _energy(sums: Sums, resources: Resources, figures: Energy, since: str) -> GaugeView | None:
    used = Measured(
        cpu=sums.cpu / sums.seconds,
        gpu=sums.gpu / sums.gpu_seconds if sums.gpu_seconds else None,
        gpu_joules=sums.gpu_joules if sums.gpu_counted else None,
        cpu_joules=sums.cpu_joules if sums.cpu_counted else None,
    )
    kwh, basis = energy(resources, sums.seconds, used, figures)
    if kwh is None:
        return None
    words = f"{energy_words(kwh)} since {since}, {basis}"
    if figures.carbon:
        words += f"; {kwh * figures.carbon:.3g} g CO2e"
    return GaugeView("Energy", None, words)


def energy_words(kwh: float) -> str:
    """Such as ``"1.25 kWh"`` or ``"12 Wh"``."""
    return f"{kwh:.3g} kWh" if kwh >= 1 else f"{kwh * 1000:.3g} Wh"


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


@dataclass
class Gauges:
    """The gauges of this process's job. :meth:`look` may be called from one thread at a time."""

    resources: Resources
    figures: Energy
    meter: Meter
    gpus: Gpus
    node_joules: Callable[[], float | None]
    clock: Callable[[], str] = lambda: time.strftime("%H:%M")
    last: Look | None = None
    sums: Sums = field(default_factory=Sums)
    since: str = ""

    def look(self) -> tuple[GaugeView, ...]:
        """Read everything now; says what happened since the last look."""
        now = Look(self.meter.totals(), tuple(self.gpus.look()), self.node_joules())
        last, self.last = self.last, now
        if last is None:
            self.since = self.clock()
        else:
            self.sums = summed(self.sums, last, now, self.resources.cpus or 1)
        return gauges(now, last, self.sums, resources=self.resources, figures=self.figures, since=self.since)
