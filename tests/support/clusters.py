"""Small clusters as their snapshots show them: two kinds of partition, nodes with four GPUs in sixteen parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from studiolo.slurm.facts import ClusterFacts, NodeFacts, PartitionFacts, PendingJob, ReservationFacts, assemble
from studiolo.slurm.resources import Resources

NOW = 1_000_000.0
HOUR = 3600
GPU_NODE = Resources(32, 262144, {"a100": 4}, 16)
NOTHING = Resources(0, 0, {"a100": 0}, 0)
PARTITIONS = (PartitionFacts("cpu", "UP", None), PartitionFacts("gpu", "UP", None))


def node(
    name: str = "gpu1", free: Resources = GPU_NODE, *states: str, partition: str = "gpu", **facts: Any
) -> NodeFacts:
    """One node, in use in part unless ``states`` say otherwise; ``facts`` are any others of its fields."""
    usual: dict[str, Any] = {
        "address": "10.0.0.1",
        "states": states or ("MIXED",),
        "reason": "",
        "total": GPU_NODE,
        "features": ("nvme", "ib"),
        "partitions": (partition,),
    }
    return NodeFacts(name=name, free=free, **(usual | facts))


def cluster(
    *nodes: NodeFacts,
    reservations: Iterable[ReservationFacts] = (),
    line: Iterable[PendingJob] = (),
    partitions: Iterable[PartitionFacts] = PARTITIONS,
    **gpu: Any,
) -> ClusterFacts:
    """A snapshot of these nodes; ``gpu`` changes fields of the partition of that name."""
    there = [replace(partition, **gpu) if partition.name == "gpu" else partition for partition in partitions]
    return assemble(NOW, nodes, there, tuple(reservations), tuple(line))
