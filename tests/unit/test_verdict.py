"""Whether a session can begin now, what hinders it, and what to take instead: decisions over one snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from clusters import GPU_NODE, HOUR, NOTHING, NOW, cluster, node
from hypothesis import given
from hypothesis import strategies as st

from spawners.alternatives import best, words
from spawners.estimates import Foretold
from spawners.verdict import Payer, Verdict, View, cost, is_open_question, judge, payer, wanted
from studiolo.alternatives import alternatives
from studiolo.request import check
from studiolo.site import Site
from studiolo.slurm.budgets import Allowance, Budgets
from studiolo.slurm.facts import (
    Admission,
    ClusterFacts,
    PartitionFacts,
    PendingJob,
    ReservationFacts,
    assemble,
)
from studiolo.slurm.resources import Resources

NOBODY = Payer()


def verdict(
    site: Site,
    facts: ClusterFacts | None,
    options: Mapping[str, object],
    *,
    who: Payer = NOBODY,
    told: Foretold | None = None,
    answers: bool = True,
) -> Verdict:
    view = View(site, "main", facts, NOW) if facts else None
    return judge(check(options, site), site, view, who, told, answers=answers)


def kind(found: Verdict) -> str | None:
    return found.obstacle.kind if found.obstacle else None


ONE = {"profile": "one", "features": ""}
WAITS = (PendingJob(7, "gpu", 5),)


# --- Room, line and Slurm's word -------------------------------------------------------------------------------------


def test_room_and_nobody_in_line_is_now_and_asks_nobody(site: Site) -> None:
    facts = cluster(node("gpu1", GPU_NODE))
    found = verdict(site, facts, ONE)
    assert found == Verdict("now", None, 4)
    assert not is_open_question(check(ONE, site), View(site, "main", facts, NOW), found)


@pytest.mark.parametrize(
    ("free", "line", "told", "starts", "expected", "is_open"),
    [
        (GPU_NODE, WAITS, None, "unknown", None, True),
        (GPU_NODE, WAITS, Foretold(int(NOW) + 5), "now", None, True),
        (GPU_NODE, WAITS, Foretold(int(NOW) + HOUR), "later", int(NOW) + HOUR, True),
        (NOTHING, (), None, "later", None, True),
        (NOTHING, (), Foretold(int(NOW) + HOUR), "later", int(NOW) + HOUR, True),
        # Whoever waits for a date stands in nobody's way.
        (GPU_NODE, (PendingJob(7, "gpu", 5, reason="BeginTime"),), None, "now", None, False),
    ],
)
def test_else_slurm_is_asked_and_believed(
    site: Site,
    free: Resources,
    line: tuple[PendingJob, ...],
    told: Foretold | None,
    starts: str,
    expected: int | None,
    is_open: bool,
) -> None:
    facts = cluster(node("gpu1", free), line=line)
    found = verdict(site, facts, ONE, told=told)
    assert (found.starts, found.expected) == (starts, expected)
    assert is_open_question(check(ONE, site), View(site, "main", facts, NOW), found) == is_open


def test_a_line_for_the_same_nodes_counts_whatever_its_partition(site: Site) -> None:
    shared = replace(node("gpu1", GPU_NODE), partitions=("gpu", "hidden"))
    partitions = [PartitionFacts("gpu", "UP", None), PartitionFacts("hidden", "UP", None)]
    facts = assemble(NOW, [shared], partitions, (), [PendingJob(7, "hidden", 5)])
    assert verdict(site, facts, ONE).starts == "unknown"


def test_a_silent_scheduler_promises_nothing_and_forbids_what_is_forbidden(site: Site) -> None:
    facts = cluster(node("gpu1", GPU_NODE))
    assert verdict(site, facts, ONE, answers=False).starts == "unknown"
    assert verdict(site, None, ONE, answers=False) == Verdict("unknown")
    stranger = Payer("ada", frozenset({"p3"}), "p3")
    assert kind(verdict(site, facts, ONE, who=stranger, answers=False)) == "not-yours"


def test_inside_a_reservation_only_slurm_knows(site: Site) -> None:
    facts = cluster(node("gpu1", GPU_NODE))
    found = verdict(site, facts, {"profile": "course"})
    assert (found.starts, found.room) == ("unknown", None)
    assert is_open_question(check({"profile": "course"}, site), View(site, "main", facts, NOW), found)
    assert verdict(site, facts, {"profile": "course"}, told=Foretold(int(NOW))).starts == "now"


# --- Obstacles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["DOWN", "DRAIN", "INACTIVE"])
def test_a_closed_partition_is_said_before_the_click(site: Site, state: str) -> None:
    found = verdict(site, cluster(node("gpu1", GPU_NODE), state=state), ONE, told=Foretold(int(NOW)))
    assert (found.starts, kind(found)) == ("never", "closed")
    assert found.obstacle
    assert "Closed at the moment: GPU nodes." in found.obstacle.text


def test_what_no_node_could_ever_hold_is_too_big(site: Site) -> None:
    small = replace(node("gpu1", GPU_NODE), total=Resources(8, 8192, {"a100": 1}, 4))
    assert kind(verdict(site, cluster(small), {**ONE, "gpus": 4})) == "too-big"
    assert kind(verdict(site, cluster(node("gpu1", GPU_NODE), max_minutes=60), ONE)) == "too-big"
    # A node that is down today comes back.
    assert verdict(site, cluster(node("gpu1", GPU_NODE, "DOWN")), ONE) == Verdict("later", None, 0)


def window(start: float, end: float, *flags: str) -> ReservationFacts:
    return ReservationFacts("works", int(NOW + start), int(NOW + end), ("gpu1",), flags=flags or ("MAINT",))


def test_a_window_that_a_session_would_run_into_is_told_with_its_end(site: Site) -> None:
    facts = cluster(node("gpu1", GPU_NODE), reservations=(window(2 * HOUR, 6 * HOUR),))
    found = verdict(site, facts, ONE)
    assert (found.starts, kind(found)) == ("later", "maintenance")
    assert found.obstacle
    assert found.obstacle.until == int(NOW) + 6 * HOUR
    assert "begins before" in found.obstacle.text
    assert verdict(site, facts, {**ONE, "minutes": 119}).starts == "now"


def test_maintenance_now_is_told_and_no_other_reservation_is_taken_for_it(site: Site) -> None:
    found = verdict(site, cluster(node("gpu1", GPU_NODE), reservations=(window(-HOUR, HOUR),)), ONE)
    assert kind(found) == "maintenance"
    assert found.obstacle
    assert "at the moment" in found.obstacle.text
    assert (
        kind(verdict(site, cluster(node("gpu1", GPU_NODE), reservations=(window(-HOUR, HOUR, "SPEC"),)), ONE)) is None
    )
    # All GPUs are in use as well: the window is not what hinders.
    assert kind(verdict(site, cluster(node("gpu1", NOTHING), reservations=(window(2 * HOUR, 6 * HOUR),)), ONE)) is None


def budgets(limit: int, used: int | None) -> Budgets:
    spent = None if used is None else {"gres/gpu": used}
    return Budgets(NOW, {"p1": Allowance({"gres/gpu": limit}, spent)}, {"ada": frozenset({"p1"})}, {"ada": "p1"})


@pytest.mark.parametrize(
    ("used", "obstacle"), [(0, None), (6000 - 240, None), (6000 - 239, "budget"), (6000, "budget"), (None, None)]
)
def test_a_session_must_fit_into_what_is_left(site: Site, used: int | None, obstacle: str | None) -> None:
    facts = cluster(node("gpu1", GPU_NODE))
    found = verdict(site, facts, ONE, who=payer("ada", budgets(6000, used)))
    assert kind(found) == obstacle
    assert kind(verdict(site, facts, {**ONE, "gpus": 0}, who=payer("ada", budgets(6000, used)))) is None


def test_words_of_a_used_up_budget_name_project_and_hours(site: Site) -> None:
    facts = cluster(node("gpu1", GPU_NODE))
    told = [verdict(site, facts, ONE, who=payer("ada", budgets(600, used))).obstacle for used in (480, 600)]
    assert [found.text for found in told if found] == [
        "The project p1 has 2 GPU-hours left, and this session may need 4.",
        "The project p1 has used up its GPU-hours.",
    ]


def test_who_is_not_in_the_project_is_told_so_only_where_that_is_known(site: Site) -> None:
    facts = cluster(node("gpu1", GPU_NODE))
    assert kind(verdict(site, facts, ONE, who=Payer("ada", frozenset({"p2"}), "p2"))) == "not-yours"
    assert kind(verdict(site, facts, ONE, who=Payer("ada"))) is None
    closed = cluster(node("gpu1", GPU_NODE), accounts=Admission(frozenset({"p2"})))
    assert kind(verdict(site, closed, ONE, who=Payer("ada", frozenset({"p1"}), "p1"))) == "not-yours"
    # The default account, which the site does not list for this partition.
    default = Payer("ada", frozenset({"p3"}), "p3")
    assert kind(verdict(site, facts, {"profile": "quarter"}, who=default)) == "not-yours"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "sbatch: error: x\nallocation failure: Invalid account or account/partition combination specified",
            "not-yours",
        ),
        ("sbatch: error: QOSMaxBillingPerUser\nallocation failure: Job violates accounting/QOS policy", "refused"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_own_words(site: Site, said: str, expected: str) -> None:
    found = verdict(site, cluster(node("gpu1", NOTHING)), ONE, told=Foretold(None, said))
    assert (found.starts, kind(found)) == ("never", expected)
    assert found.obstacle
    assert found.obstacle.text.isprintable()
    assert "sbatch" not in found.obstacle.text


@given(st.text())
def test_any_words_of_slurms_are_printable(site: Site, said: str) -> None:
    found = verdict(site, cluster(node("gpu1", NOTHING)), ONE, told=Foretold(None, f"x{said}"))
    assert found.obstacle
    assert found.obstacle.text.isprintable()


AMOUNTS = st.builds(
    Resources,
    st.integers(0, 64),
    st.integers(0, 300000),
    st.fixed_dictionaries({"a100": st.integers(0, 4)}),
    st.integers(0, 16),
)


@given(
    st.lists(AMOUNTS, max_size=5),
    st.sampled_from(["IDLE", "DRAIN"]),
    st.integers(1, 1440),
    st.integers(0, 4),
    st.booleans(),
)
def test_room_is_what_the_snapshot_itself_counts(
    site: Site, free: list[Resources], state: str, minutes: int, gpus: int, ends_soon: bool
) -> None:
    nodes = [node(f"gpu{number}", amounts, state if number == 0 else "MIXED") for number, amounts in enumerate(free)]
    facts = cluster(*nodes, reservations=(replace(window(HOUR, 2 * HOUR), nodes=("gpu1",)),) if ends_soon else ())
    request = check({**ONE, "minutes": minutes, "gpus": gpus}, site)
    counted = facts.partitions["gpu"].room(wanted(request, site), NOW + minutes * 60, request.features)
    view = View(site, "main", facts, NOW)
    assert view.room(request, site) == counted
    assert view.room(request, site) == counted  # as remembered


def test_a_part_of_a_gpu_costs_its_part(site: Site) -> None:
    assert cost(check({"profile": "quarter"}, site), site) == (0.5, 4.0)
    assert cost(check({"profile": "one", "gpus": 4, "hours": 2}, site), site) == (8.0, 16.0)
    assert cost(check({"profile": "learn"}, site), site) == (0.0, 4.0)


# --- Instead ---------------------------------------------------------------------------------------------------------


def proposals(site: Site, options: dict[str, object]) -> list[Mapping[str, object]]:
    return [found.options for found in alternatives(options, check(options, site), site)]


def test_shorter_and_smaller_are_proposed_what_gives_up_least_first(site: Site) -> None:
    assert proposals(site, {"profile": "one"}) == [
        {"minutes": 120},
        {"minutes": 60},
        {"minutes": 30},
        {"shards": 2, "cpus": 4, "memory": "32768M"},
        {"shards": 1, "cpus": 2, "memory": "16384M"},
    ]
    assert proposals(site, {"profile": "one", "gpus": 4, "hours": 1}) == [
        {"hours": None, "minutes": 30},
        {"gpus": 2, "cpus": 4, "memory": "32768M"},
        {"gpus": 1, "cpus": 2, "memory": "16384M"},
        {"gpus": None, "shards": 2, "cpus": 1, "memory": "8192M"},
        {"gpus": None, "shards": 1, "cpus": 1, "memory": "4096M"},
    ]
    assert proposals(site, {"profile": "learn"}) == [{"minutes": 60}, {"minutes": 30}, {"cpus": 1, "memory": "2048M"}]


@given(gpus=st.integers(0, 4), shards=st.integers(0, 4), minutes=st.integers(1, 1440), cpus=st.integers(1, 32))
def test_every_proposal_passes_the_gate_and_asks_for_no_more(
    site: Site, gpus: int, shards: int, minutes: int, cpus: int
) -> None:
    parts = {"shards": shards} if shards else {"gpus": gpus}
    options: dict[str, object] = {"profile": "one", "minutes": minutes, "cpus": cpus, **parts}
    asked = check(options, site)
    for found in alternatives(options, asked, site):
        new = check({**options, **found.options}, site)
        assert new == found.request
        assert new != asked
        assert cost(new, site) <= cost(asked, site)
        assert new.minutes <= asked.minutes
        assert new.memory <= asked.memory


def chosen(site: Site, facts: ClusterFacts, options: Mapping[str, object], told: dict[int, int]) -> str | None:
    """The sentence of the best proposal, where Slurm foretells starts by minutes asked for."""
    view = View(site, "main", facts, NOW)
    asked = check(options, site)

    def judged(request: Any) -> Verdict:
        start = told.get(request.minutes)
        return judge(
            request, site, view, NOBODY, Foretold(int(NOW) + start) if start is not None else None, answers=True
        )

    pairs = [(found, judged(found.request)) for found in alternatives(options, asked, site)]
    found = best(judged(asked), pairs, NOW)
    return words(*found, asked, site, NOW) if found else None


def test_the_best_proposal_begins_now_and_gives_up_least(site: Site) -> None:
    full = cluster(node("gpu1", NOTHING))
    eight = {**ONE, "minutes": 480}
    assert chosen(site, full, eight, {480: 7200, 240: 7200, 120: 0, 60: 0}) == "2 h instead of 8 h starts now."
    assert chosen(site, full, eight, {480: 36000, 240: 7200, 120: 900}) == "2 h instead of 8 h starts in about 15 min."


def test_a_part_is_proposed_where_a_part_is_free(site: Site) -> None:
    shards = cluster(node("gpu1", Resources(8, 65536, {"a100": 0}, 1)))
    assert chosen(site, shards, ONE, {}) == "a quarter of a GPU instead of 1 GPU starts now."


@pytest.mark.parametrize(
    "told", [{480: 7200, 240: 7200}, {480: 600, 240: 400}, {480: 7200, 240: 5400}, {}, {240: 900}, {480: 0, 240: 0}]
)
def test_nothing_is_proposed_that_saves_little_or_that_nobody_knows(site: Site, told: dict[int, int]) -> None:
    assert chosen(site, cluster(node("gpu1", NOTHING)), {**ONE, "minutes": 480}, told) is None


def test_before_a_window_a_shorter_session_is_proposed(site: Site) -> None:
    facts = cluster(node("gpu1", GPU_NODE), reservations=(window(1.5 * HOUR, 6 * HOUR),))
    assert chosen(site, facts, ONE, {}) == "1 h instead of 4 h starts now."
