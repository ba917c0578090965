"""What a run's job uses, looked at now and then by the job itself with what the panels look with, and kept beside its state.

A thread of its own looks, for a function computes in the main thread, and a GPU that has fallen off its bus may not answer for
long. What is kept is one set of sums: it grows with no number of looks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studiolo.batch.progress import Progress, Used
from studiolo.looks import Look, Sums, joules_of_node, summed
from studiolo.meter import Meter
from studiolo.nvml import Gpus

__all__ = ["Sampler", "used_of"]

LOOK_SECONDS = 12.0


def used_of(sums: Sums) -> Used:
    """What has added up, as it is kept; what nobody told stays unknown."""
    told = sums.gpu_seconds
    return Used(
        seconds=round(sums.seconds, 1),
        cpu=round(sums.cpu / sums.cpu_seconds, 4) if sums.cpu_seconds else None,
        gpu=round(sums.gpu / told, 4) if told else None,
        gpu_idle=round(sums.gpu_idle / told, 4) if told else None,
        gpu_most=round(sums.gpu_most, 4) if told else None,
        gpu_joules=round(sums.gpu_joules, 1) if sums.seconds and sums.gpu_counted else None,
        cpu_joules=round(sums.cpu_joules, 1) if sums.seconds and sums.cpu_counted else None,
    )


def sums_of(used: Used | None) -> Sums:
    """The sums that earlier attempts have come to."""
    if used is None:
        return Sums()
    seconds = used.seconds
    return Sums(
        seconds=seconds,
        cpu=seconds * (used.cpu or 0.0),
        cpu_seconds=seconds if used.cpu is not None else 0.0,
        gpu=seconds * (used.gpu or 0.0),
        gpu_most=used.gpu_most or 0.0,
        gpu_idle=seconds * (used.gpu_idle or 0.0),
        gpu_seconds=seconds if used.gpu is not None else 0.0,
        gpu_joules=used.gpu_joules or 0.0,
        cpu_joules=used.cpu_joules or 0.0,
        gpu_counted=not seconds or used.gpu_joules is not None,
        cpu_counted=not seconds or used.cpu_joules is not None,
    )


class Sampler:
    """Looks every few seconds until :meth:`finish`; goes on from what the run had used when it was ``begun``.

    ``told`` is called after each look, on the sampler's own thread.

    ``seen`` is what the last looks told, as fields of :class:`studiolo.batch.progress.Progress`.
    """

    def __init__(
        self,
        begun: Progress,
        told: Callable[[], object] = lambda: None,
        environ: Mapping[str, str] = os.environ,
        root: Path = Path("/"),
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self.seen: Mapping[str, Any] = {}
        self._meter, self._gpus = Meter(environ, root), Gpus(environ)
        self._root, self._seconds, self._told = root, seconds, told
        self._sums, self._peak = sums_of(begun.used), begun.peak
        self._last: Look | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="studiolo-sampler", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Look a last time, and no more; wait for it so long at most."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        self._look()
        while not self._over.wait(self._seconds):
            self._look()
            self._told()
        self._look()

    def _look(self) -> None:
        cpus = self._meter.cpus
        now = Look(self._meter.totals(), tuple(self._gpus.look()), joules_of_node(self._root, cpus))
        last, self._last = self._last, now
        held = now.totals.memory_mb
        self._peak = max(self._peak, held or 0)
        seen: dict[str, Any] = {"memory": held or 0, "peak": self._peak}
        if last is not None:
            before, self._sums = self._sums, summed(self._sums, last, now, cpus)
            lately = self._sums.cpu_seconds - before.cpu_seconds
            if lately:
                seen["cores"] = round((self._sums.cpu - before.cpu) / lately * cpus, 2)
            seen["used"] = used_of(self._sums)
        self.seen = {**self.seen, **seen}
