"""The snapshot follows the real cluster: jobs, drained nodes, closed partitions, reservations and the line of those who wait."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hubclient import until

from studiolo.site import Site, load
from studiolo.slurm.commands import CommandSlurm
from studiolo.slurm.facts import ClusterFacts, NodeFacts
from studiolo.slurm.resources import Resources

ODD_REMARK = "bad <b>fan</b> State=IDLE Gres=gpu:a100:64 NodeName=x"


class Cluster:
    """Commands as root, jobs as one of the people, and the snapshot as the hub asks for it."""

    def __init__(self, instance: Any, site: Site) -> None:
        self.instance = instance
        self.slurm = CommandSlurm(next(iter(site.clusters.values())), site.mark)
        self.jobs: list[str] = []

    def run(self, *argv: str, person: str | None = None) -> str:
        environment = {"PATH": "/usr/bin:/bin", "SLURM_CONF": str(self.instance.slurm_conf), "LC_ALL": "C.UTF-8"}
        account: dict[str, Any] = {}
        if person:
            entry = pwd.getpwnam(f"{person}-{self.instance.tag}" if self.instance.tag else person)
            account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
        done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, timeout=60, **account)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, person: str, *options: str) -> int:
        job = self.run(
            "sbatch", "--parsable", "--output=/dev/null", "--mem=100", *options, "--wrap=sleep 600", person=person
        )
        self.jobs.append(job.strip())
        return int(job)

    def facts(self) -> ClusterFacts:
        return asyncio.run(self.slurm.facts())

    def node(self, name: str) -> NodeFacts:
        return next(node for node in self.facts().nodes if node.name == name)

    def becomes(self, what: str, look: Callable[[ClusterFacts], bool]) -> ClusterFacts:
        found: ClusterFacts = until(what, lambda: (facts := self.facts()) and look(facts) and facts)
        return found


@pytest.fixture
def cluster(box: Any, site_file: Path) -> Iterator[Cluster]:
    found = Cluster(box, load(site_file))
    yield found
    if found.jobs:
        found.run("scancel", *found.jobs)
    found.becomes("the jobs gone", lambda facts: all(node.free == node.total for node in facts.nodes))


def node_of(facts: ClusterFacts, name: str) -> NodeFacts:
    return next(node for node in facts.nodes if node.name == name)


def test_what_is_free_follows_the_jobs_and_gpus_are_not_counted_twice(cluster: Cluster) -> None:
    if not cluster.instance.features.shards:
        pytest.skip("this Slurm has no shards")
    before = cluster.becomes("an idle cluster", lambda facts: all(node.free == node.total for node in facts.nodes))
    gpu1 = node_of(before, "gpu1").total
    assert before.partitions["gpu"].free == before.partitions["gpu"].total
    cluster.submit("ada", "-p", "gpu", "-w", "gpu1", "--gres=gpu:1", "-c", "3")
    for person in ("ben", "emil", "tess"):
        cluster.submit(person, "-p", "gpu", "-w", "gpu1", "--gres=shard:1", "-c", "2")
    expected = Resources(gpu1.cpus - 9, gpu1.memory - 400, {"a100": 2}, 16 - 4 - 3)
    facts = cluster.becomes("four jobs on gpu1", lambda facts: node_of(facts, "gpu1").free == expected)
    gpu = facts.partitions["gpu"]
    assert gpu.free == expected + node_of(facts, "gpu2").free
    assert gpu.largest == node_of(facts, "gpu2").free
    one_gpu = Resources(1, 100, {"a100": 1})
    assert gpu.room(one_gpu) == before.partitions["gpu"].room(one_gpu) - 2
    assert facts.partitions["cpu"].free == before.partitions["cpu"].free


def test_a_drained_node_is_in_the_total_and_not_free(cluster: Cluster) -> None:
    total = cluster.facts().partitions["gpu"].total
    cluster.run("scontrol", "update", "NodeName=gpu2", "State=DRAIN", f"Reason={ODD_REMARK}")
    try:
        facts = cluster.becomes("gpu2 drained", lambda facts: not node_of(facts, "gpu2").is_usable)
        gpu2 = node_of(facts, "gpu2")
        assert gpu2.obstacle == "DRAIN"
        assert gpu2.reason.startswith(ODD_REMARK)
        assert gpu2.partitions == ("gpu",)
        assert facts.partitions["gpu"].total == total
        assert facts.partitions["gpu"].free == node_of(facts, "gpu1").free
    finally:
        cluster.run("scontrol", "update", "NodeName=gpu2", "State=RESUME")
    cluster.becomes("gpu2 back", lambda facts: node_of(facts, "gpu2").is_usable)


def test_a_closed_partition_has_no_room(cluster: Cluster) -> None:
    cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        cpu = cluster.facts().partitions["cpu"]
        assert not cpu.is_up
        assert cpu.room(Resources(1, 100)) == 0
    finally:
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert cluster.facts().partitions["cpu"].room(Resources(1, 100)) > 0


def test_a_reservation_takes_its_node_at_once_and_gives_it_back(cluster: Cluster) -> None:
    tag = cluster.instance.tag
    ada = f"ada-{tag}" if tag else "ada"
    cluster.run(
        "scontrol", "create", "reservation", "ReservationName=class 1", "StartTime=now", "Duration=60", "Nodes=cpu1", f"Users={ada}"
    )  # fmt: skip
    cluster.run(
        "scontrol", "create", "reservation", "ReservationName=later", "StartTime=now+2hours", "Duration=60", "Nodes=gpu[1-2]",
        "Users=root", "Flags=MAINT",
    )  # fmt: skip
    try:
        # Slurm's clock counts whole seconds: a reservation that begins now may begin a moment from now.
        facts = cluster.becomes("cpu1 reserved", lambda facts: node_of(facts, "cpu1").reservation == "class 1")
        assert node_of(facts, "cpu1").obstacle == "RESERVED"
        assert facts.partitions["cpu"].free == node_of(facts, "cpu2").free
        assert [reservation.name for reservation in facts.reservations if reservation.names(ada)] == ["class 1"]
        (later,) = [reservation for reservation in facts.reservations if reservation.is_maintenance]
        assert (later.name, later.nodes, later.end - later.start) == ("later", ("gpu1", "gpu2"), 3600)
        gpu = facts.partitions["gpu"]
        assert gpu.room(Resources(1, 100), facts.taken + 3600) > 0
        assert gpu.room(Resources(1, 100), facts.taken + 3 * 3600) == 0
    finally:
        cluster.run("scontrol", "delete", "ReservationName=class 1")
        cluster.run("scontrol", "delete", "ReservationName=later")
    # Slurm itself forgets the word in the node's state some time later.
    facts = cluster.becomes("cpu1 given back", lambda facts: node_of(facts, "cpu1").is_usable)
    assert facts.reservations == ()


def test_waiting_jobs_have_their_place_in_the_order_in_which_they_start(cluster: Cluster) -> None:
    for name in ("cpu1", "cpu2"):
        cluster.run("scontrol", "update", f"NodeName={name}", "State=DRAIN", "Reason=test")
    try:
        people = ("ada", "ben", "emil", "learner01")
        jobs = [cluster.submit(person, "-p", "cpu") for person in people]
        held = cluster.submit("learner02", "-p", "cpu", "--hold")
        dated = cluster.submit("learner03", "-p", "cpu", "--begin=now+1hour")
        cluster.run("scontrol", "update", f"JobId={jobs[3]}", "Priority=900000")
        cluster.run("scontrol", "update", f"JobId={jobs[0]}", "Priority=1")
        facts = cluster.becomes("four in line", lambda facts: facts.waiting("cpu") == 4)
        assert facts.place(jobs[3]) == (1, 4)
        assert facts.place(jobs[0]) == (4, 4)
        assert {facts.place(job) for job in jobs[1:3]} == {(2, 4), (3, 4)}
        assert facts.place(held) is facts.place(dated) is None
    finally:
        for name in ("cpu1", "cpu2"):
            cluster.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
    cluster.becomes("the first in line running", lambda facts: facts.place(jobs[3]) is None)


def test_the_hubs_own_account_sees_what_root_sees(cluster: Cluster) -> None:
    account = pwd.getpwnam(cluster.instance.hub_user)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        facts = cluster.facts()
        os.write(writer, f"{[node.name for node in facts.nodes]} {list(facts.partitions)}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        seen = answer.read()
    os.waitpid(child, 0)
    facts = cluster.facts()
    assert seen == f"{[node.name for node in facts.nodes]} {list(facts.partitions)}"
