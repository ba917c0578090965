"""On the node: what the GPUs of this job do, by NVIDIA's own library (NVML), and no other's GPU on the same node.

Costs about a millisecond for each GPU, and starts no process. Where there is no NVIDIA driver, or the library is not installed,
nothing is told.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Gpu", "Gpus"]

log = logging.getLogger(__name__)

MEBIBYTE = 1 << 20
MOST_GPUS = 64


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment: ``use`` from 0 to 1, memory in mebibytes, ``watts`` now and ``joules`` since its driver was loaded.

    ``None`` where it does not tell: a part made by MIG has a memory of its own, and neither use nor power.
    """

    use: float | None = None
    memory: int | None = None
    memory_of: int | None = None
    watts: float | None = None
    joules: float | None = None


class Gpus:
    """Reads this job's GPUs: those of ``CUDA_VISIBLE_DEVICES``, whole ones or MIG's parts. ``binding`` is ``pynvml``."""

    def __init__(self, environ: Mapping[str, str], binding: Any = None) -> None:
        # Of a GPU that others share (Slurm's shards), all that NVML tells is mostly of them.
        shared = environ.get("SLURM_SHARDS_ON_NODE", "0").strip() not in ("", "0")
        named = environ.get("CUDA_VISIBLE_DEVICES", "")
        self.devices = [] if shared else devices(named)
        self._binding = binding
        self._handles: list[Any] | None = None

    def look(self) -> list[Gpu]:
        """Each of them now; empty where none can be asked."""
        if not self.devices:
            return []
        if self._handles is None:
            self._handles = self._open()
        return [self._read(handle) for handle in self._handles]

    def _open(self) -> list[Any]:
        if self._binding is None:
            try:
                import pynvml
            except ImportError:  # an environment of one's own may lack it
                return []
            self._binding = pynvml
        nvml = self._binding
        try:
            nvml.nvmlInit()
            return [
                nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
                for name in self.devices
            ]
        except nvml.NVMLError as error:
            log.debug("no GPU can be asked: %s", error)
            return []

    def _read(self, handle: Any) -> Gpu:
        nvml = self._binding
        rates = self._told(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = self._told(nvml.nvmlDeviceGetPowerUsage, handle)
        millijoules = self._told(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        return Gpu(
            use=None if rates is None else min(1.0, rates.gpu / 100),
            memory=None if memory is None else int(memory.used) // MEBIBYTE,
            memory_of=None if memory is None else int(memory.total) // MEBIBYTE,
            watts=None if milliwatts is None else milliwatts / 1000,
            joules=None if millijoules is None else millijoules / 1000,
        )

    def _told(self, ask: Callable[[Any], Any], handle: Any) -> Any:
        try:
            return ask(handle)
        except self._binding.NVMLError:  # this kind of GPU does not tell, or has fallen off the bus
            return None


def devices(text: str) -> list[str]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` names; none where it is anything else."""
    names = [name.strip() for name in text[:4096].split(",")]
    good = all(re.fullmatch(r"\d{1,3}|(GPU|MIG)-[A-Za-z0-9/-]{1,80}", name, re.ASCII) for name in names)
    return names[:MOST_GPUS] if text and good else []
