"""What the live cluster says of itself, for comparison with the site file: partitions, nodes, accounts, QoS."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studiolo.errors import SlurmUnavailable
from studiolo.site import Cluster
from studiolo.units import slurm_minutes

__all__ = ["LiveCluster", "LiveNode", "LivePartition", "ask", "read_cluster"]

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class LiveNode:
    """One node: ``memory`` in mebibytes, ``gres`` as Slurm prints it, without places and in lower case."""

    name: str
    address: str
    cpus: int
    memory: int
    gres: str
    features: tuple[str, ...]
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class LivePartition:
    """One partition: ``max_minutes`` is ``None`` where it has no limit; ``is_up`` whether it starts jobs."""

    name: str
    is_up: bool
    max_minutes: int | None
    nodes: tuple[LiveNode, ...]


@dataclass(frozen=True)
class LiveCluster:
    """One cluster as it is now. ``accounts`` and ``qos`` are ``None`` where accounting does not answer."""

    version: str
    partitions: Mapping[str, LivePartition]
    accounts: frozenset[str] | None
    qos: frozenset[str] | None


def ask(cluster: Cluster, command: str, *arguments: str) -> str:
    """Run one Slurm command and return what it prints. Raises :class:`SlurmUnavailable` with its own words."""
    environment = {"SLURM_CONF": cluster.conf, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            [f"{cluster.commands}/{command}", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmUnavailable(f"run {command}", str(error)) from error
    if done.returncode:
        raise SlurmUnavailable(f"run {command}", done.stderr or done.stdout)
    return done.stdout


def read_cluster(cluster: Cluster) -> LiveCluster:
    """Ask the cluster. Raises :class:`SlurmUnavailable` where slurmctld does not answer."""
    try:
        nodes = parse_nodes(ask(cluster, "scontrol", "--oneliner", "show", "node"))
        partitions = parse_partitions(ask(cluster, "scontrol", "--oneliner", "show", "partition"), nodes)
    except ValueError as error:
        raise SlurmUnavailable("show nodes and partitions", f"half an answer: {error}") from error
    try:
        accounts = frozenset(ask(cluster, "sacctmgr", "-nP", "show", "account", "format=Account").split())
        qos = frozenset(ask(cluster, "sacctmgr", "-nP", "show", "qos", "format=Name").split())
    except SlurmUnavailable:
        return LiveCluster(ask(cluster, "scontrol", "--version").strip(), partitions, None, None)
    return LiveCluster(ask(cluster, "scontrol", "--version").strip(), partitions, accounts, qos)


def parse_nodes(output: str) -> tuple[LiveNode, ...]:
    """Read ``scontrol --oneliner show node``."""
    return tuple(
        LiveNode(
            name=fact["NodeName"],
            address=fact.get("NodeAddr", fact["NodeName"]),
            cpus=int(fact.get("CPUTot", "0")),
            memory=int(fact.get("RealMemory", "0")),
            gres=re.sub(r"\([^)]*\)", "", fact.get("Gres", "")).replace("null", "").lower(),
            features=_names(fact.get("AvailableFeatures", "")),
            partitions=_names(fact.get("Partitions", "")),
        )
        for fact in map(_facts, output.splitlines())
        if "NodeName" in fact
    )


def parse_partitions(output: str, nodes: Sequence[LiveNode]) -> dict[str, LivePartition]:
    """Read ``scontrol --oneliner show partition``; a partition's nodes are those that name it."""
    return {
        name: LivePartition(
            name=name,
            is_up=fact.get("State", "UP") == "UP",
            max_minutes=_limit(fact.get("MaxTime", "UNLIMITED")),
            nodes=tuple(node for node in nodes if name in node.partitions),
        )
        for fact in map(_facts, output.splitlines())
        if (name := fact.get("PartitionName"))
    }


def gres_count(gres: str, kind: str, of_type: str = "") -> int:
    """Sum a node's ``kind`` (``"gpu"``, ``"shard"``), of one type or of all: ``gres_count("gpu:a100:4", "gpu") == 4``."""
    total = 0
    for entry in gres.split(","):
        parts = entry.split(":")
        if (
            parts[0] == kind
            and parts[-1].isascii()
            and parts[-1].isdigit()
            and (not of_type or of_type.lower() in parts[1:-1])
        ):
            total += int(parts[-1])
    return total


def _facts(line: str) -> dict[str, str]:
    facts: dict[str, str] = {}
    for pair in line.split():
        key, sign, value = pair.partition("=")
        if sign:
            facts.setdefault(key, value)  # the first counts: a free text such as Reason comes last
    return facts


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name and name != "(null)")


def _limit(text: str) -> int | None:
    return None if text in ("UNLIMITED", "INFINITE") else slurm_minutes(text)
