"""What follows from a snapshot: what may be had now, what a reservation takes, who is next."""

from __future__ import annotations

from functools import partial
from typing import Any

import clusters
import pytest
from clusters import HOUR
from hypothesis import given
from hypothesis import strategies as st

from studiolo.slurm.facts import (
    Admission,
    ClusterFacts,
    NodeFacts,
    PartitionFacts,
    PendingJob,
    ReservationFacts,
)
from studiolo.slurm.resources import Resources

NOW = int(clusters.NOW)
TOTAL = Resources(32, 65536, {"a100": 4}, 16)
FREE = Resources(10, 40960, {"a100": 1}, 6)


node = partial(clusters.node, free=FREE, total=TOTAL, features=())


def reserved(start: int = NOW - HOUR, end: int = NOW + HOUR, nodes: tuple[str, ...] = ("gpu1",), **facts: Any) -> Any:
    return ReservationFacts("course", start, end, nodes, **facts)


PARTITIONS = (PartitionFacts("gpu", "UP", 1440), PartitionFacts("debug", "UP", 60))


def cluster(
    nodes: list[NodeFacts], reservations: tuple[ReservationFacts, ...] = (), pending: tuple[PendingJob, ...] = ()
) -> ClusterFacts:
    return clusters.cluster(*nodes, reservations=reservations, line=pending, partitions=PARTITIONS)


@pytest.mark.parametrize(
    "states",
    [
        ("IDLE", "DRAIN"),
        ("MIXED", "DRAIN"),
        ("DOWN",),
        ("DOWN", "NOT_RESPONDING"),
        ("IDLE", "NOT_RESPONDING"),
        ("IDLE", "REBOOT_ISSUED"),
        ("IDLE", "POWERING_DOWN"),
        ("UNKNOWN",),
        ("FUTURE",),
        ("ALLOCATED", "FAIL"),
    ],
)
def test_a_node_that_starts_nothing_counts_in_the_total_and_not_in_what_is_free(states: tuple[str, ...]) -> None:
    gpu = cluster([node("gpu1", states=states), node("gpu2")]).partitions["gpu"]
    assert gpu.total == TOTAL + TOTAL
    assert gpu.free == gpu.largest == FREE
    assert [found.name for found in gpu.usable] == ["gpu2"]
    assert gpu.nodes[0].obstacle == next(word for word in states if word not in {"IDLE", "MIXED", "ALLOCATED"})


@pytest.mark.parametrize(
    "states",
    [("IDLE",), ("MIXED", "PLANNED"), ("ALLOCATED", "COMPLETING"), ("IDLE", "CLOUD", "POWERED_DOWN"), ("IDLE", "POWERING_UP")],
)  # fmt: skip
def test_a_node_that_is_planned_for_asleep_or_waking_starts_jobs(states: tuple[str, ...]) -> None:
    assert node(states=states).is_usable


def test_a_node_counts_in_each_of_its_partitions() -> None:
    found = cluster([node("gpu1", partitions=("gpu", "debug")), node("gpu2")]).partitions
    assert found["gpu"].free == FREE + FREE
    assert found["debug"].free == FREE


def test_the_largest_node_is_that_of_each_kind() -> None:
    few_cpus = node("gpu2", free=Resources(1, 65536, {"a100": 4}, 0))
    assert cluster([node("gpu1"), few_cpus]).partitions["gpu"].largest == Resources(10, 65536, {"a100": 4}, 6)


def test_an_active_reservation_takes_its_nodes_from_everybody_else() -> None:
    facts = cluster([node("gpu1"), node("gpu2")], (reserved(),))
    assert [(found.name, found.obstacle, found.reservation) for found in facts.nodes] == [
        ("gpu1", "RESERVED", "course"),
        ("gpu2", "", ""),
    ]
    assert facts.partitions["gpu"].free == FREE


@pytest.mark.parametrize(("start", "end"), [(NOW + 1, NOW + HOUR), (NOW - HOUR, NOW)], ids=["not begun", "over"])
def test_a_reservation_that_is_not_active_takes_nothing(start: int, end: int) -> None:
    # Slurm's own word for it comes up to a minute late, both ways.
    (found,) = cluster([node(states=("IDLE", "RESERVED"))], (reserved(start, end),)).nodes
    assert found.is_usable


def test_a_node_reserved_by_what_the_hub_may_not_see_is_not_usable() -> None:
    (found,) = cluster([node(states=("IDLE", "MAINTENANCE", "RESERVED"))]).nodes
    assert found.obstacle == "RESERVED"


def test_a_reservation_of_some_cpus_leaves_the_others() -> None:
    (found,) = cluster([node()], (reserved(cpus={"gpu1": 4}),)).nodes
    assert found.is_usable
    assert found.free.cpus == FREE.cpus - 4
    (full,) = cluster([node()], (reserved(cpus={"gpu1": 30}),)).nodes
    assert full.free.cpus == 0
    (later,) = cluster([node()], (reserved(NOW + HOUR, NOW + 2 * HOUR, cpus={"gpu1": 4}),)).nodes
    assert (later.free, later.until) == (FREE, None)


def test_nobody_is_promised_a_node_beyond_the_begin_of_the_next_reservation() -> None:
    later = reserved(NOW + 3 * HOUR, NOW + 9 * HOUR)
    sooner = reserved(NOW + 2 * HOUR, NOW + 4 * HOUR)
    gpu = cluster([node("gpu1"), node("gpu2")], (later, sooner)).partitions["gpu"]
    assert [found.until for found in gpu.nodes] == [NOW + 2 * HOUR, None]
    one_gpu = Resources(1, 1024, {"a100": 1})
    assert gpu.room(one_gpu, NOW + HOUR) == 2
    assert gpu.room(one_gpu, NOW + 3 * HOUR) == 1


def test_room_is_on_nodes_with_the_features_of_a_partition_that_is_up() -> None:
    nodes = (node("gpu1", features=("nvme", "ib")), node("gpu2", features=("ib",)))
    gpu = PartitionFacts("gpu", "UP", 1440, nodes=nodes)
    assert gpu.room(Resources(5, 1024)) == 4
    assert gpu.room(Resources(5, 1024), features=["nvme"]) == 2
    assert PartitionFacts("gpu", "DOWN", 1440, nodes=nodes).room(Resources(5, 1024)) == 0


@pytest.mark.parametrize(
    ("admission", "names", "admitted"),
    [
        (Admission(), ["p1"], True),
        (Admission(), [], False),
        (Admission(frozenset({"p1"})), ["p1", "p2"], True),
        (Admission(frozenset({"p1"})), ["p2"], False),
        (Admission(None, frozenset({"p1"})), ["p1"], False),
        (Admission(None, frozenset({"p1"})), ["p1", "p2"], True),
        (Admission(frozenset({"p1"}), frozenset({"p1"})), ["p1"], False),
    ],
)
def test_admission(admission: Admission, names: list[str], admitted: bool) -> None:
    assert admission.admits(names) is admitted


@pytest.mark.parametrize(
    ("users", "named"),
    [
        (Admission(frozenset({"ada"})), True),
        (Admission(frozenset({"ben"})), False),
        (Admission(), False),
        (Admission(None, frozenset({"ben"})), False),
    ],
)
def test_a_reservation_names_those_it_lists(users: Admission, named: bool) -> None:
    assert reserved(users=users).names("ada") is named


def test_jobs_are_counted_in_the_line_of_their_partition() -> None:
    facts = cluster(
        [],
        pending=(
            PendingJob(7, "gpu", 90),
            PendingJob(3, "debug", 80),
            PendingJob(9, "gpu", 70, reason="Priority"),
            PendingJob(9, "debug", 70),
            PendingJob(4, "gpu", 60, "course"),
            PendingJob(5, "gpu", 50),
        ),
    )
    assert {job: facts.place(job) for job in (7, 3, 9, 4, 5)} == {7: (1, 3), 3: (1, 2), 9: (2, 2), 4: (1, 1), 5: (3, 3)}
    assert facts.place(99) is None
    assert (facts.waiting("gpu"), facts.waiting("gpu", "course"), facts.waiting("none")) == (3, 1, 0)


@pytest.mark.parametrize(
    ("priority", "reason", "in_line"),
    [
        (5, "None", True),
        (5, "Priority", True),
        (5, "Resources", True),
        (5, "ReqNodeNotAvail, UnavailableNodes:gpu[1-2]", True),
        (5, "PartitionDown", True),
        (5, "BadConstraints", True),
        (0, "JobHeldUser", False),
        (0, "None", False),
        (5, "BeginTime", False),
        (5, "Dependency", False),
        (5, "DependencyNeverSatisfied", False),
        (5, "JobArrayTaskLimit", False),
        (5, "QOSMaxGRESPerUser", False),
        (5, "AssocGrpBillingMinutes", False),
    ],
)
def test_a_job_that_is_held_back_stands_in_nobodys_way(priority: int, reason: str, in_line: bool) -> None:
    facts = cluster([], pending=(PendingJob(1, "gpu", priority, reason=reason), PendingJob(2, "gpu", 1)))
    assert facts.place(1) == ((1, 2) if in_line else None)
    assert facts.place(2) == ((2, 2) if in_line else (1, 1))


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from("ab"), st.integers(0, 2), st.sampled_from(["", "r"]))))
def test_places_of_a_line_are_its_jobs_from_the_first_to_the_last(rows: list[tuple[int, str, int, str]]) -> None:
    facts = cluster([], pending=tuple(PendingJob(*row) for row in rows))
    for job in {row[0] for row in rows}:
        place = facts.place(job)
        lines = {(row[1], row[3]) for row in rows if row[0] == job and row[2]}
        if place is None:
            assert not lines
        else:
            number, length = place
            assert 1 <= number <= length
            assert length in {facts.waiting(*line) for line in lines}
