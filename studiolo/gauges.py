"""Live gauges of this job: CPUs, memory, GPUs and their memory, how long they stood idle, and the energy that all drew.

:class:`Gauges` looks when it is asked to, and keeps what adds up. Reading takes some milliseconds; Slurm is not asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from studiolo.cost import Measured, energy, energy_words
from studiolo.looks import Look, Sums, mean, summed
from studiolo.meter import Meter, share
from studiolo.nvml import Gpus
from studiolo.site import Energy
from studiolo.units import memory_words
from studiolo.views import GaugeView, Resources

__all__ = ["Gauges", "gauges"]


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
    use = mean([gpu.use for gpu in now.gpus])
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
        cpu=sums.cpu / sums.cpu_seconds if sums.cpu_seconds else None,
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
