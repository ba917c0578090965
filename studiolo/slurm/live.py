"""What the live cluster says of itself, for comparison with the site file: partitions, nodes, accounts, QoS."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from studiolo.errors import SlurmUnavailable
from studiolo.site import Cluster
from studiolo.slurm.facts import PartitionFacts, assemble
from studiolo.slurm.scontrol import parse_nodes, parse_partitions

__all__ = ["LiveCluster", "ask", "read_cluster"]

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class LiveCluster:
    """One cluster as it is now. ``accounts`` and ``qos`` are ``None`` where accounting does not answer."""

    version: str
    partitions: Mapping[str, PartitionFacts]
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
        nodes = parse_nodes(ask(cluster, "scontrol", "--oneliner", "--all", "show", "node"))
        found = parse_partitions(ask(cluster, "scontrol", "--oneliner", "--all", "show", "partition"))
    except ValueError as error:
        raise SlurmUnavailable("show nodes and partitions", f"half an answer: {error}") from error
    partitions = assemble(time.time(), nodes, found, ()).partitions
    try:
        accounts = frozenset(ask(cluster, "sacctmgr", "-nP", "show", "account", "format=Account").split())
        qos = frozenset(ask(cluster, "sacctmgr", "-nP", "show", "qos", "format=Name").split())
    except SlurmUnavailable:
        return LiveCluster(ask(cluster, "scontrol", "--version").strip(), partitions, None, None)
    return LiveCluster(ask(cluster, "scontrol", "--version").strip(), partitions, accounts, qos)
