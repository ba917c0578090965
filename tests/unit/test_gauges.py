"""Gauges of this job: read where somebody tells, said as not told where nobody does, and energy always with its basis."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studiolo.gauges import Gauges, gauges
from studiolo.looks import Look, Sums, joules_of_node, summed
from studiolo.meter import Meter, Totals
from studiolo.nvml import Gpu, Gpus, devices
from studiolo.site import Energy
from studiolo.views import GaugeView, Resources

FIGURES = Energy(gpu_watts=400, gpu_idle_watts=100, cpu_watts=10, cpu_idle_watts=2, carbon=300)
CPU_ONLY = Resources(4, 16384)
TWO_GPUS = Resources(8, 65536, gpus=2)


def shown(
    now: Look, last: Look | None = None, sums: Sums | None = None, of: Resources = CPU_ONLY
) -> dict[str, GaugeView]:
    found = gauges(now, last, sums or Sums(), resources=of, figures=FIGURES, since="14:03")
    return {one.name: one for one in found}


# --- Words and shares ------------------------------------------------------------------------------------------------


def test_cpu_and_memory_are_told_of_what_the_job_has() -> None:
    told = shown(Look(Totals(10, 14.0, 4096)), Look(Totals(0, 0.0, 1)))
    assert told["CPU"] == GaugeView("CPU", 0.35, "1.4 of 4 cores")
    assert told["Memory"] == GaugeView("Memory", 0.25, "4 GB of 16 GB")
    assert set(told) == {"CPU", "Memory"}


def test_what_nobody_tells_is_said_and_is_no_zero() -> None:
    told = shown(Look(Totals(10, None, None)), of=TWO_GPUS)
    assert {name: one.share for name, one in told.items()} == {"CPU": None, "Memory": None, "GPU": None}
    assert all("not told" in one.words for one in told.values())


def test_gpus_are_told_together_and_those_without_figures_left_out() -> None:
    now = Look(Totals(10, 1.0, 1), (Gpu(0.5, 10240, 40960), Gpu(1.0, 30720, 40960)))
    told = shown(now, sums=Sums(seconds=10, gpu_seconds=10, gpu_idle=5), of=TWO_GPUS)
    assert told["GPU"] == GaugeView("GPU", 0.75, "75% busy, the mean of 2")
    assert told["GPU memory"] == GaugeView("GPU memory", 0.5, "40 GB of 80 GB")
    assert told["GPU idle"].words == "50% of the time since 14:03"
    part = shown(Look(Totals(10, 1.0, 1), (Gpu(None, 1024, 10240),)), of=Resources(4, 1024, gpus=1))
    assert (part["GPU"].share, part["GPU"].words) == (None, "not told")
    assert part["GPU memory"].share == 0.1


def test_a_gpu_that_others_share_is_said_to_be() -> None:
    told = shown(Look(Totals(10, 1.0, 1)), of=Resources(4, 1024, shards=1, shards_per_gpu=4))
    assert told["GPU"].share is None
    assert "others share" in told["GPU"].words


# --- What adds up ----------------------------------------------------------------------------------------------------


def test_shares_add_up_by_time() -> None:
    looks = [
        Look(Totals(0, 0.0, 1), (Gpu(0.0),)),
        Look(Totals(10, 40.0, 1), (Gpu(0.0),)),
        Look(Totals(40, 40.0, 1), (Gpu(1.0),)),
    ]
    sums = Sums()
    for last, now in itertools.pairwise(looks):
        sums = summed(sums, last, now, 4)
    assert (sums.seconds, sums.cpu, sums.gpu, sums.gpu_idle) == (40, 10, 30, 10)
    assert summed(sums, looks[1], looks[1], 4) == sums


def test_energy_is_measured_only_where_every_counter_tells() -> None:
    last = Look(Totals(0, 0.0, 1), (Gpu(1.0, joules=100.0), Gpu(1.0, joules=50.0)), 1000.0)
    now = Look(Totals(10, 0.0, 1), (Gpu(1.0, joules=4100.0), Gpu(1.0, joules=4050.0)), 1800.0)
    sums = summed(Sums(), last, now, 8)
    assert (sums.gpu_joules, sums.cpu_joules) == (8000.0, 800.0)
    assert ", measured" in shown(now, last, sums, TWO_GPUS)["Energy"].words
    silent = Look(Totals(10, 0.0, 1), (Gpu(1.0, joules=4100.0), Gpu(1.0)), None)
    assert ", estimated; " in shown(silent, last, summed(Sums(), last, silent, 8), TWO_GPUS)["Energy"].words
    no_rapl = Look(now.totals, now.gpus, None)
    assert ", partly measured; " in shown(no_rapl, last, summed(Sums(), last, no_rapl, 8), TWO_GPUS)["Energy"].words


def test_a_counter_that_began_anew_measures_nothing() -> None:
    last, now = Look(Totals(0, 0.0, 1), (), 1000.0), Look(Totals(10, 0.0, 1), (), 5.0)
    assert not summed(Sums(), last, now, 4).cpu_counted


def test_a_job_without_gpus_has_no_gpu_energy() -> None:
    sums = summed(Sums(), Look(Totals(0, 0.0, 1), (), 0.0), Look(Totals(3600, 0.0, 1), (), 36000.0), 4)
    assert shown(Look(Totals(3600, 0.0, 1)), None, sums)["Energy"].words == "10 Wh since 14:03, measured; 3 g CO2e"


def test_the_first_look_measures_and_the_second_tells(tmp_path: Path) -> None:
    live = Gauges(CPU_ONLY, Energy(), Meter({"SLURM_JOB_ID": "0"}), Gpus({}), lambda: None, clock=lambda: "14:03")
    assert live.look()[0].words == "measuring"
    assert live.look()[0].words.endswith("of 4 cores")
    assert live.since == "14:03"


# --- NVIDIA's library ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0,2", ["0", "2"]),
        ("GPU-8a1c, MIG-77af", ["GPU-8a1c", "MIG-77af"]),
        ("", []),
        ("NoDevFiles", []),
        ("-1", []),
        ("0;reboot", []),
    ],
)
def test_the_devices_of_this_job_alone_are_asked(text: str, names: list[str]) -> None:
    assert devices(text) == names


class NVMLError(Exception):
    pass


def binding(*, broken: bool = False, mig: bool = False) -> Any:
    def unsupported(_handle: object) -> None:
        raise NVMLError("Not Supported")

    def begin() -> None:
        if broken:
            raise NVMLError("Driver Not Loaded")

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=begin,
        nvmlDeviceGetHandleByIndex=lambda index: f"index {index}",
        nvmlDeviceGetHandleByUUID=lambda name: f"uuid {name}",
        nvmlDeviceGetUtilizationRates=unsupported if mig else lambda handle: SimpleNamespace(gpu=40, memory=1),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=5 << 30, total=40 << 30),
        nvmlDeviceGetPowerUsage=unsupported if mig else lambda handle: 250_000,
        nvmlDeviceGetTotalEnergyConsumption=unsupported if mig else lambda handle: 9_000,
    )


def test_a_gpu_tells_use_memory_power_and_energy() -> None:
    assert Gpus({"CUDA_VISIBLE_DEVICES": "0"}, binding()).look() == [Gpu(0.4, 5120, 40960, 250.0, 9.0)]


def test_a_part_made_by_mig_tells_its_memory_alone() -> None:
    assert Gpus({"CUDA_VISIBLE_DEVICES": "MIG-7"}, binding(mig=True)).look() == [Gpu(None, 5120, 40960)]


@pytest.mark.parametrize(
    "environ",
    [{}, {"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "0", "SLURM_SHARDS_ON_NODE": "1"}],
)
def test_without_a_gpu_of_ones_own_nothing_is_asked(environ: dict[str, str]) -> None:
    assert Gpus(environ, SimpleNamespace()).look() == []


def test_a_node_without_a_driver_tells_nothing() -> None:
    assert Gpus({"CUDA_VISIBLE_DEVICES": "0"}, binding(broken=True)).look() == []
    # The very library, on a machine that may or may not have a GPU.
    assert all(isinstance(gpu, Gpu) for gpu in Gpus({"CUDA_VISIBLE_DEVICES": "0"}).look())


# --- RAPL ------------------------------------------------------------------------------------------------------------


def test_processors_are_read_where_they_are_all_ones_own(tmp_path: Path) -> None:
    for name, joules in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 1_000_000), ("intel-rapl:0:0", 9_000_000)):
        zone = tmp_path / "sys/class/powercap" / name
        zone.mkdir(parents=True)
        (zone / "energy_uj").write_text(f"{joules}\n")
    cpus = os.cpu_count() or 1
    assert joules_of_node(tmp_path, cpus) == 6.0
    assert joules_of_node(tmp_path, cpus - 1) is None, "the rest of the node is somebody else's"
    (tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    assert joules_of_node(tmp_path, cpus) is None
    assert joules_of_node(tmp_path / "none", cpus) is None
