"""From the facts of a machine to its cluster: tables, no machine."""

from __future__ import annotations

import pytest

from slurmbox import design
from slurmbox.design import CgroupFacts, Confinement, RealGpus
from slurmbox.facts import match_gpus

V21, V22, V24 = (21, 8, 5), (22, 5, 8), (24, 11, 5)
V2_ALL = frozenset({"cpuset", "cpu", "io", "memory", "pids"})
NOTHING = CgroupFacts(frozenset(), False, frozenset())


@pytest.mark.parametrize(
    ("text", "version"),
    [("slurm-wlm 22.05.8\n", V22), ("slurm-wlm 21.08.5", V21), ("slurm 24.11.5", V24), ("slurm 23.02", (23, 2, 0))],
)
def test_the_version_is_read_from_slurmctld(text: str, version: design.Version) -> None:
    assert design.parse_version(text) == version


def test_an_unknown_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="no Slurm version"):
        design.parse_version("command not found")


@pytest.mark.parametrize(("version", "shards"), [(V21, False), (V22, True), (V24, True)])
def test_shards_came_with_22_05(version: design.Version, shards: bool) -> None:
    assert design.has_shards(version) is shards


@pytest.mark.parametrize(
    ("facts", "version", "kind", "why"),
    [
        (CgroupFacts(frozenset({"memory", "freezer", "devices", "memsw"}), False, frozenset()), V21, "v1", ""),
        (CgroupFacts(frozenset({"memory", "freezer"}), False, frozenset()), V22, "v1", ""),
        (CgroupFacts(frozenset({"freezer"}), False, frozenset()), V22, "none", "without a writable memory"),
        (NOTHING, V22, "none", "not writable"),
        (CgroupFacts(frozenset(), True, V2_ALL), V22, "v2", ""),
        (CgroupFacts(frozenset(), True, V2_ALL), V21, "none", "too old"),
        (CgroupFacts(frozenset(), True, V2_ALL - {"memory"}), V24, "none", "lack memory"),
        (CgroupFacts(frozenset(), False, V2_ALL), V24, "none", "not writable"),
    ],
)
def test_control_groups_are_used_only_where_they_work(
    facts: CgroupFacts, version: design.Version, kind: str, why: str
) -> None:
    plan = design.confinement(facts, version)
    assert plan.kind == kind
    assert why in plan.reason
    assert bool(plan.reason) == (kind == "none")


def test_control_groups_that_failed_once_are_not_tried_again() -> None:
    plan = design.confinement(CgroupFacts(frozenset(), True, V2_ALL), V24, refused=True)
    assert plan == Confinement("none", plan.reason)
    assert (plan.proctrack, plan.task) == ("proctrack/linuxproc", "task/none")


def test_devices_are_withheld_only_where_there_are_real_gpus() -> None:
    facts = CgroupFacts(frozenset({"memory", "freezer", "devices", "memsw"}), False, frozenset())
    assert not design.confinement(facts, V22).devices
    assert design.confinement(facts, V22, real_gpus=True).devices


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA H200", "h200"),
        ("Tesla V100-PCIE-16GB", "v100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA Graphics Device", "nvidia"),
    ],
)
def test_a_gpus_product_name_becomes_a_slurm_type(name: str, model: str) -> None:
    assert design.gres_model(name) == model


def nodes(*, shards: bool = True, real: RealGpus | None = None) -> tuple[design.Node, ...]:
    return design.design_nodes(gpu_folder="/s/gpus", shards=shards, host_cpus=2, host_memory_mb=24_105, real=real)


def test_four_nodes_are_pretended_on_any_machine() -> None:
    assert [n.name for n in nodes()] == ["cpu1", "cpu2", "gpu1", "gpu2"]
    gpus = nodes()[2].gpus
    assert gpus is not None
    assert gpus.gres == "gpu:a100:4,shard:16"
    assert gpus.files == "/s/gpus/gpu1-[0-3]"


def test_an_old_slurm_gets_no_shards() -> None:
    gpus = nodes(shards=False)[2].gpus
    assert gpus is not None
    assert gpus.gres == "gpu:a100:4"


def test_real_gpus_get_a_node_and_a_partition_of_their_own() -> None:
    found = nodes(real=RealGpus("h200", (0, 2)))
    gpus = found[-1].gpus
    assert gpus is not None
    assert (found[-1].name, found[-1].cpus, found[-1].memory_mb) == ("nvidia1", 2, 23 * 1024)
    assert (gpus.gres, gpus.files) == ("gpu:h200:2,shard:8", "/dev/nvidia[0,2]")
    assert [p.name for p in design.design_partitions(found)] == ["cpu", "gpu", "nvidia"]


def test_cpu_is_the_default_partition_and_a_cpu_brings_its_share_of_memory() -> None:
    cpu, gpu = design.design_partitions(nodes())
    assert (cpu.default, gpu.default) == (True, False)
    assert (cpu.mem_per_cpu_mb, gpu.mem_per_cpu_mb) == (4096, 8192)
    assert (cpu.max_minutes, gpu.max_minutes) == (480, 1440)


def test_gpus_are_matched_to_their_device_files_by_bus() -> None:
    listing = "NVIDIA H200, 00000000:3B:00.0\nNVIDIA H200, 00000000:5E:00.0\n"
    assert match_gpus(listing, {"0000:5e:00.0": 3}) == RealGpus("h200", (3,))
    assert match_gpus(listing, {}) == RealGpus("h200", (0, 1))
    assert match_gpus("", {}) is None


def test_of_several_models_the_most_frequent_is_offered() -> None:
    listing = "NVIDIA T4, 00000000:01:00.0\nNVIDIA A100, 00000000:02:00.0\nNVIDIA A100, 00000000:03:00.0"
    assert match_gpus(listing, {}) == RealGpus("a100", (1, 2))
