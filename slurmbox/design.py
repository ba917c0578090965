"""From the facts of a machine to the cluster that it gets: nodes, GPUs, partitions, cgroups. Plain functions only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

SHARDS_PER_GPU = 4
Version = tuple[int, int, int]


@dataclass(frozen=True)
class Gpus:
    """GPUs of one model on one node. ``files`` are devices, or links to a harmless one where they are simulated."""

    model: str
    count: int
    files: str  # a Slurm host-list expression, e.g. "/dev/nvidia[0-3]"
    shards: int  # in all; 0 where this Slurm knows none
    real: bool

    @property
    def gres(self) -> str:
        """As ``NodeName``'s ``Gres=`` wants it."""
        whole = f"gpu:{self.model}:{self.count}"
        return f"{whole},shard:{self.shards}" if self.shards else whole


@dataclass(frozen=True)
class Node:
    """One slurmd. ``memory_mb`` and ``cpus`` are pretended where the machine has less."""

    name: str
    cpus: int
    memory_mb: int
    gpus: Gpus | None = None


@dataclass(frozen=True)
class Partition:
    """A partition; times in minutes, memory in MiB."""

    name: str
    nodes: tuple[str, ...]
    max_minutes: int
    mem_per_cpu_mb: int
    default: bool = False


@dataclass(frozen=True)
class CgroupFacts:
    """What was found out about control groups by trying, not by looking at names."""

    v1: frozenset[str]  # v1 controllers under whose root a folder could be made and a process moved
    v2_writable: bool  # a folder could be made in a pure v2 hierarchy
    v2_controllers: frozenset[str]


@dataclass(frozen=True)
class Confinement:
    """How a job is held together and kept within its memory."""

    kind: Literal["v1", "v2", "none"]
    reason: str  # why not better, or ""
    swap: bool = False  # swap can be limited too
    devices: bool = False

    @property
    def proctrack(self) -> str:
        return "proctrack/linuxproc" if self.kind == "none" else "proctrack/cgroup"

    @property
    def task(self) -> str:
        return "task/none" if self.kind == "none" else "task/cgroup"


def parse_version(text: str) -> Version:
    """``slurm-wlm 22.05.8`` -> (22, 5, 8). Raises ValueError on anything else."""
    found = re.search(r"\b(\d\d)\.(\d\d)(?:\.(\d+))?", text)
    if found is None:
        raise ValueError(f"no Slurm version in {text!r}")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def has_shards(version: Version) -> bool:
    """Whether this Slurm can offer parts of a GPU: since 22.05."""
    return version >= (22, 5, 0)


def confinement(facts: CgroupFacts, version: Version, *, refused: bool = False, real_gpus: bool = False) -> Confinement:
    """Which control groups Slurm may use here.

    ``refused`` says that a node came up under them once and could not run a job (see ``box``).
    """
    if refused:
        return Confinement("none", "Slurm could not run a job in control groups on this machine")
    if {"memory", "freezer"} <= facts.v1:
        return Confinement("v1", "", swap="memsw" in facts.v1, devices=real_gpus and "devices" in facts.v1)
    why_not = _why_not_v2(facts, version)
    return Confinement("none", why_not) if why_not else Confinement("v2", "", swap=True)


def _why_not_v2(facts: CgroupFacts, version: Version) -> str:
    missing = {"cpuset", "cpu", "memory", "pids"} - facts.v2_controllers
    if facts.v1:
        return "control groups v1 are mounted without a writable memory and freezer controller"
    if not facts.v2_writable:
        return "control groups are not writable here (a container without its own?)"
    if version < (22, 5, 0):
        return "this Slurm is too old for control groups v2"
    return f"control groups v2 lack {', '.join(sorted(missing))}" if missing else ""


def gres_model(name: str) -> str:
    """A GPU's product name as a Slurm type: ``NVIDIA A100-SXM4-40GB`` -> ``a100``, ``NVIDIA H200`` -> ``h200``.

    >>> gres_model("Tesla V100-PCIE-16GB"), gres_model("NVIDIA GeForce RTX 4090")
    ('v100', 'rtx4090')
    """
    found: list[str] = re.findall(r"[a-z0-9]+", name.lower())
    words = [w for w in found if w not in {"nvidia", "tesla", "geforce", "quadro", "graphics", "device"}]
    if not words:
        return "nvidia"
    if words[0].isalpha() and len(words) > 1 and words[1][0].isdigit():
        return words[0] + words[1]
    return words[0]


@dataclass(frozen=True)
class RealGpus:
    """The host's own GPUs of its most frequent model: minor numbers of ``/dev/nvidiaN``."""

    model: str
    minors: tuple[int, ...]


def design_nodes(
    *, gpu_folder: str, shards: bool, host_cpus: int, host_memory_mb: int, real: RealGpus | None
) -> tuple[Node, ...]:
    """The nodes of the cluster, in the order in which they are shown.

    ``gpu_folder`` holds what stands for simulated GPUs (``gpu1-0`` and so on).
    """

    def parts(count: int) -> int:
        return count * SHARDS_PER_GPU if shards else 0

    nodes = [Node(f"cpu{n}", 16, 64 * 1024) for n in (1, 2)]
    for n in (1, 2):
        gpus = Gpus("a100", 4, f"{gpu_folder}/gpu{n}-[0-3]", parts(4), real=False)
        nodes.append(Node(f"gpu{n}", 32, 256 * 1024, gpus))
    if real is not None and real.minors:
        count = len(real.minors)
        minors = str(real.minors[0]) if count == 1 else "[" + ",".join(map(str, real.minors)) + "]"
        gpus = Gpus(real.model, count, f"/dev/nvidia{minors}", parts(count), real=True)
        memory = max(1024, host_memory_mb // 1024 * 1024)
        nodes.append(Node("nvidia1", max(1, host_cpus), memory, gpus))
    return tuple(nodes)


def design_partitions(nodes: tuple[Node, ...]) -> tuple[Partition, ...]:
    """One partition a kind of node; every CPU brings its share of the node's memory."""
    kinds = (("cpu", 8 * 60), ("gpu", 24 * 60), ("nvidia", 24 * 60))
    partitions = []
    for kind, minutes in kinds:
        members = [n for n in nodes if n.name.rstrip("0123456789") == kind]
        if members:
            share = min(n.memory_mb // n.cpus for n in members)
            names = tuple(n.name for n in members)
            partitions.append(Partition(kind, names, minutes, share, default=kind == "cpu"))
    return tuple(partitions)
