"""How long the hub computes until it can tell somebody what they could have, with 2,000 nodes in the snapshot.

In this process, with no network and nobody asked: a new snapshot and its first reader, then everybody after that. No two
nodes are alike, the machine is full and a thousand jobs wait, so that every profile is compared with what could be had in
its place. A turn of the hub's loop can not be shorter than this for the one request that comes first.
"""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

from ground import Ground
from results import Row, row

from spawners.choosing import Choosing
from spawners.offers import offers
from studiolo.site import parse
from studiolo.slurm.budgets import Allowance, Budgets
from studiolo.slurm.facts import ClusterFacts, NodeFacts, PartitionFacts, PendingJob, ReservationFacts, assemble
from studiolo.slurm.resources import Resources
from studiolo.slurm.snapshot import FactsCache, Reading

NODES = 2000
PEOPLE = 500
WAITING = 1000
PROFILES = {"shard": "shards = 1", "one": "gpus = 1", "two": "gpus = 2", "four": "gpus = 4", "cpu": "gpus = 0"}


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure ``runs`` new snapshots, each with a first reader and a hundred others."""
    del ground  # all of it happens here
    first, others = [], []
    for run in range(runs):
        choosing = knowing(time.time() + run)
        first.append(milliseconds(choosing, "person0"))
        others += [milliseconds(choosing, f"person{number}") for number in range(1, 101)]
    name = f"offers-{NODES}-nodes"
    return [row(f"{name}-first-reader", "ms", first), row(name, "ms", others)]


def milliseconds(choosing: Choosing, person: str) -> float:
    """Of processor time, to the last letter of the answer."""
    begun = time.process_time()
    json.dumps(offers(choosing, person, time.time(), may_ask=False))
    return (time.process_time() - begun) * 1000


def knowing(now: float) -> Choosing:
    """A hub that has just heard from a large and full machine."""
    site = parse(site_text())
    slurm: Any = SimpleNamespace(facts=None, budgets=None, estimate=None)
    watcher: Any = SimpleNamespace(heard=now, silent_since=None)
    facts = FactsCache(slurm)
    facts.last = Reading(machine(now))
    choosing = Choosing(site, {"main": slurm}, {"main": facts}, {"main": watcher})
    choosing.budgets["main"].last = Reading(budgets(now))
    return choosing


def machine(now: float) -> ClusterFacts:
    """Two thousand nodes, no two alike, no whole GPU free, and a maintenance window ahead of a quarter of them."""
    nodes = [
        NodeFacts(
            f"node{number:04d}",
            "10.0.0.1",
            ("MIXED",),
            "",
            Resources(128, 1 << 20, {"a100": 4}, 16),
            Resources(number % 3, 1000 + number, {"a100": 0}, 0),
            ("nvme",),
            ("small", "large"),
        )
        for number in range(NODES)
    ]
    window = ReservationFacts(
        "works",
        int(now) + 3600,
        int(now) + 7200,
        tuple(node.name for node in nodes[: NODES // 4]),
        flags=("MAINT",),
    )
    line = [PendingJob(number, "large", WAITING - number) for number in range(WAITING)]
    return assemble(
        now, nodes, [PartitionFacts("small", "UP", 1440), PartitionFacts("large", "UP", 1440)], [window], line
    )


def budgets(now: float) -> Budgets:
    """A project each and one for all."""
    people = {f"person{number}": f"p{number}" for number in range(PEOPLE)}
    accounts = {name: Allowance({"gres/gpu": 6000}, {"gres/gpu": 100}) for name in (*people.values(), "all")}
    members = {person: frozenset({account, "all"}) for person, account in people.items()}
    return Budgets(now, accounts, members, dict.fromkeys(people, "all"))


def site_text() -> str:
    """A site with two partitions on the same nodes and five profiles on each."""
    head = "[clusters.main]\n[environments.base]\n[accounts.all]\n[authentication]\nallow_all = true\n"
    partition = 'max_cpus = 128\nmax_memory = "1T"\nmax_time = "24h"\nmax_gpus = 4\ngpu_type = "a100"\nmax_shards = 4\n'
    parts = [f"[partitions.{name}]\n{partition}shards_per_gpu = 4\n" for name in ("small", "large")]
    for name in ("small", "large"):
        parts += [
            f'[profiles.{name}-{key}]\ntitle = "{key}"\npartition = "{name}"\n{gpus}\ncpus = 16\nmemory = "64G"\ntime = "8h"\n'
            for key, gpus in PROFILES.items()
        ]
    return "".join([head, *parts])
