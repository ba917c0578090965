"""The snapshot follows the real cluster, by either way to Slurm: jobs, drained nodes, closed partitions, reservations and the line of those who wait."""

from __future__ import annotations

import asyncio
import json
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hubclient import until

from studiolo.site import Site, load
from studiolo.slurm.client import Slurm, connect
from studiolo.slurm.facts import ClusterFacts, NodeFacts
from studiolo.slurm.resources import Resources

WAYS = ("commands", "slurmrestd")
ODD_REMARK = "bad <b>fan</b> State=IDLE Gres=gpu:a100:64 NodeName=x"


class Cluster:
    """Commands as root, jobs as one of the people, and the snapshot as the hub asks for it."""

    def __init__(self, instance: Any, slurm: Slurm) -> None:
        self.instance = instance
        self.slurm = slurm
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

    def becomes(self, what: str, look: Callable[[ClusterFacts], bool]) -> ClusterFacts:
        found: ClusterFacts = until(what, lambda: (facts := self.facts()) and look(facts) and facts)
        return found


def by(way: str, site: Site) -> Slurm:
    """A client of the site's one cluster."""
    ((name, cluster),) = site.clusters.items()
    return connect(site.model_copy(update={"clusters": {name: cluster.model_copy(update={"via": way})}}), name)


@pytest.fixture(params=WAYS)
def cluster(request: pytest.FixtureRequest, box: Any, site_file: Path) -> Iterator[Cluster]:
    found = Cluster(box, by(request.param, load(site_file)))
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


def test_both_ways_tell_the_same_and_the_hubs_own_account_sees_it_all(box: Any, site_file: Path) -> None:
    site = load(site_file)
    one, other = (Cluster(box, by(way, site)) for way in WAYS)
    one.run("scontrol", "update", "NodeName=gpu2", "State=DRAIN", f"Reason={ODD_REMARK}")
    one.run(
        "scontrol", "create", "reservation", "ReservationName=some cores", "StartTime=now", "Duration=60",
        "NodeCnt=1", "PartitionName=cpu", "CoreCnt=4", "Accounts=playground",
    )  # fmt: skip
    try:
        one.submit("ada", "-p", "gpu", "-w", "gpu1", "--gres=gpu:1", "-c", "3")
        one.submit("ben", "-p", "gpu", "-w", "gpu1", "--gres=gpu:a100:1", "-c", "2")
        held = one.submit("emil", "-p", "cpu,gpu", "--hold")
        one.becomes("two GPUs in use", lambda facts: node_of(facts, "gpu1").free.gpu_count() == 2)
        # A node that is planned for, or a cleaned-up job, may come between the two questions.
        first = one.becomes(
            "the same answer by both ways", lambda facts: comparable(facts) == comparable(other.facts())
        )
        assert {job.job for job in first.pending} == {held}
        (name,) = first.reservations[0].nodes
        # Slurm may take minutes to say which cores they are: until then, the node counts as reserved altogether.
        cpu = node_of(first, name)
        assert cpu.obstacle == "RESERVED" or cpu.free.cpus == cpu.total.cpus - 4
        assert as_the_hub(box, site) == (len(first.nodes), list(first.partitions), len(first.pending))
    finally:
        one.run("scontrol", "update", "NodeName=gpu2", "State=RESUME")
        one.run("scontrol", "delete", "ReservationName=some cores")
        one.run("scancel", *one.jobs)
    one.becomes("an idle cluster", lambda facts: all(node.free == node.total for node in facts.nodes))


def comparable(facts: ClusterFacts) -> object:
    """All but what differs from one moment to the next, or is of no matter: equal jobs may be told in any order."""
    pending = {(job.job, job.partition, job.reservation, job.reason) for job in facts.pending}
    return facts.nodes, facts.partitions, facts.reservations, pending


def as_the_hub(box: Any, site: Site) -> tuple[int, list[str], int]:
    """What the hub's own account sees by the commands."""
    account = pwd.getpwnam(box.hub_user)
    program = (
        "import asyncio, json, sys; from studiolo.site import load; from studiolo.slurm.client import connect\n"
        "site = load(sys.argv[1]); facts = asyncio.run(connect(site, next(iter(site.clusters))).facts())\n"
        "print(json.dumps([len(facts.nodes), list(facts.partitions), len(facts.pending)]))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(box.state / "site.toml")],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=(),
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    nodes, partitions, pending = json.loads(done.stdout)
    return nodes, partitions, pending
