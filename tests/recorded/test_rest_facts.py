"""What slurmrestd has said of nodes, partitions, reservations and jobs, by API version, and what Studiolo reads in it.

v0.0.38 was recorded on Slurm 22.05.8, the others on 24.11.5 a moment after ``scontrol_node/gpus_and_shards_in_use_24.11.txt``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studiolo.slurm.facts import Admission, ClusterFacts, ReservationFacts, assemble
from studiolo.slurm.resources import Resources
from studiolo.slurm.rest_facts import rest_nodes, rest_partitions, rest_pending, rest_reservations
from studiolo.slurm.scontrol import parse_nodes, parse_reservations

HERE = Path(__file__).parent
READERS: dict[str, Callable[[object], Any]] = {
    "nodes": rest_nodes,
    "partitions": rest_partitions,
    "reservations": rest_reservations,
    "jobs": rest_pending,
}
LATER = ("v0.0.40", "v0.0.41", "v0.0.42")
VERSIONS = ("v0.0.38", *LATER)


def recorded(version: str, what: str) -> dict[str, Any]:
    answer = json.loads((HERE / "slurmrestd_facts" / f"{version}_{what}.json").read_text(encoding="utf-8"))
    assert isinstance(answer, dict)
    return answer


def snapshot(version: str, taken: float) -> ClusterFacts:
    return assemble(taken, *(read(recorded(version, what)) for what, read in READERS.items()))


@pytest.mark.parametrize("version", LATER)
def test_newer_versions_say_what_the_commands_say(version: str) -> None:
    said = parse_nodes((HERE / "scontrol_node/gpus_and_shards_in_use_24.11.txt").read_text(encoding="utf-8"))
    nodes = rest_nodes(recorded(version, "nodes"))
    # The commands print the time of an operator's remark as their environment says, here not in seconds.
    assert [node.reason.partition(" [")[0] for node in nodes] == [node.reason.partition(" [")[0] for node in said]
    plain = [
        (node.name, node.address, node.states, node.total, node.free, node.features, node.partitions) for node in said
    ]
    assert [(n.name, n.address, n.states, n.total, n.free, n.features, n.partitions) for n in nodes] == plain
    reservations = parse_reservations((HERE / "scontrol_reservation/embedded_24.11.txt").read_text(encoding="utf-8"))
    assert rest_reservations(recorded(version, "reservations")) == reservations


def test_the_oldest_version_says_the_same_in_its_own_shape() -> None:
    facts = snapshot("v0.0.38", 1795322500)
    assert {node.name: node.free for node in facts.nodes} == {
        "cpu1": Resources(14, 65436),
        "cpu2": Resources(16, 65536),
        "gpu1": Resources(18, 261044, {"a100": 1}, 5),
        "gpu2": Resources(28, 262044, {"a100": 3}, 14),
    }
    assert [node.obstacle for node in facts.nodes] == ["RESERVED", "RESERVED", "", "DRAIN"]
    assert facts.nodes[3].reason == "bad fan State=IDLE <script> Gres=gpu:9 [root@1795322424]"
    class1, maintenance, core, odd, denied = facts.reservations
    assert class1.users == Admission(frozenset({"ada", "ben"}))
    assert maintenance.is_maintenance
    assert core == ReservationFacts(
        "core",
        1795326024,
        1795329624,
        ("gpu1",),
        "gpu",
        accounts=Admission(frozenset({"playground"})),
        cpus={"gpu1": 4},
    )
    assert (odd.name, odd.nodes) == ('odd<b>"n State=x', ("gpu1", "gpu2"))
    assert denied.accounts == Admission(None, frozenset({"playground"}))
    assert [facts.place(job) for job in (24000007, 24000008, 24000009)] == [(1, 3), (2, 3), (3, 3)]
    assert [facts.place(job) for job in (24000013, 24000012, 24000011)] == [None, None, None]


@pytest.mark.parametrize("version", VERSIONS)
def test_partitions_are_read(version: str) -> None:
    cpu, gpu = rest_partitions(recorded(version, "partitions"))
    assert (cpu.name, cpu.is_up, cpu.max_minutes, cpu.default_minutes) == ("cpu", True, 480, 60)
    assert (gpu.name, gpu.is_up, gpu.max_minutes, gpu.default_minutes) == ("gpu", True, 1440, 60)
    assert all(found.accounts.is_open and found.qos.is_open and found.groups.is_open for found in (cpu, gpu))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_closed_partition_without_limits_for_some_accounts_is_read(version: str) -> None:
    answer = recorded(version, "partitions")
    entry = answer["partitions"][0]
    if version == "v0.0.38":
        entry |= {"state": "DRAIN", "max_time_limit": None, "default_time_limit": None}
        entry |= {"allowed_accounts": "p1,p2", "denied_qos": "debug"}
    else:
        entry["partition"]["state"] = ["UP", "DRAIN"] if version == "v0.0.42" else ["DRAIN"]
        entry["maximums"]["time"] = {"set": False, "infinite": True, "number": 0}
        entry["defaults"]["time"] = {"set": False, "infinite": False, "number": 0}
        entry["accounts"]["allowed"] = "p1,p2"
        entry["qos"]["deny"] = "debug"
    found = rest_partitions(answer)[0]
    assert (found.state, found.is_up, found.max_minutes, found.default_minutes) == ("DRAIN", False, None, None)
    assert found.accounts == Admission(frozenset({"p1", "p2"}))
    assert found.qos == Admission(None, frozenset({"debug"}))


@pytest.mark.parametrize("version", LATER)
def test_waiting_jobs_are_in_the_order_of_their_priority(version: str) -> None:
    facts = snapshot(version, 1795322700)
    assert facts.place(14900125) == (1, 1)
    assert facts.place(14900130) == (1, 1)  # alone in its reservation's line
    assert facts.waiting("cpu") == 0  # its jobs wait for a date, another job, an array's own limit
    assert len(facts.pending) == 7


def test_a_job_for_several_partitions_has_a_priority_in_each() -> None:
    answer = recorded("v0.0.42", "jobs")
    job = next(job for job in answer["jobs"] if job["job_id"] == 14900125)
    job["partition"] = "gpu,cpu"
    job["priority_by_partition"] = [{"partition": "gpu", "priority": 7}, {"partition": "cpu", "priority": 900}]
    other = copy.deepcopy(job) | {"job_id": 15, "partition": "gpu", "priority_by_partition": []}
    pending = [(found.job, found.partition, found.priority) for found in rest_pending({"jobs": [job, other]})]
    assert pending == [(14900125, "cpu", 900), (15, "gpu", 222), (14900125, "gpu", 7)]


def test_some_cores_of_nodes_are_told_core_by_core_later() -> None:
    answer = recorded("v0.0.42", "reservations")
    answer["reservations"][0] |= {"core_specializations": [{"node": "gpu2", "core": "0-2,7"}], "tres": "cpu=8"}
    assert rest_reservations(answer)[0].cpus == {"gpu2": 8}


def broken(value: Any) -> Iterator[Any]:
    """The same with one thing in it missing or of another kind, for each thing in the first entry of its lists."""
    if isinstance(value, dict):
        for key in value:
            for wrong in (None, [], {}, "²", -1, [None], {"set": True}):
                yield {**value, key: wrong}
            yield {other: kept for other, kept in value.items() if other != key}
            yield from ({**value, key: inner} for inner in broken(value[key]))
    elif isinstance(value, list) and value:
        yield from ([inner, *value[1:]] for inner in broken(value[0]))


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("version", ["v0.0.38", "v0.0.42"])
def test_an_answer_of_another_shape_is_read_or_a_value_error(version: str, what: str) -> None:
    answer = recorded(version, what)
    answer[what] = answer[what][-2:]
    for other in [*broken(answer), None, [], {}, "text", {what: {}}, {what: [7]}]:
        try:
            READERS[what](other)
        except ValueError:
            continue


def test_every_recorded_answer_is_used() -> None:
    names = {f"{version}_{what}.json" for version in VERSIONS for what in READERS}
    assert {path.name for path in (HERE / "slurmrestd_facts").iterdir()} == names
