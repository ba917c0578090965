"""Limits of people, projects and QoS that a session would meet: which refuse, which make it wait, and what is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from clusters import NOW, cluster, node
from hypothesis import given
from hypothesis import strategies as st

from spawners.limits import demand, obstacle, usual_qos
from spawners.verdict import View, is_open_question, judge, payer
from studiolo.request import check
from studiolo.site import Site
from studiolo.slurm.budgets import Allowance, Budgets
from studiolo.slurm.limits import Bound, Demand, QosLimits, hinders, parse_bounds, parse_qos
from studiolo.slurm.scontrol import parse_partitions

TWO = Demand({"cpu": 8, "gres/gpu": 2, "mem": 4096, "node": 1}, 120)


@pytest.mark.parametrize(
    ("bound", "how"),
    [
        (Bound("MaxTRESPJ", "gres/gpu", 1), "never"),
        (Bound("MaxTRESPJ", "gres/gpu", 2), ""),
        (Bound("MaxTRESPN", "cpu", 7), "never"),
        (Bound("MaxWallPJ", "wall", 119), "never"),
        (Bound("MaxWallPJ", "wall", 120), ""),
        (Bound("MaxTRESMinsPJ", "gres/gpu", 239), "never"),
        (Bound("GrpTRES", "gres/gpu", 1, 0), "never"),
        (Bound("GrpTRES", "gres/gpu", 4, 3), "waits"),
        (Bound("MaxTRESPU", "gres/gpu", 4, 2), ""),
        (Bound("GrpTRES", "gres/shard", 0, 0), ""),  # none is asked for
        (Bound("MaxJobsPU", "jobs", 3, 3), "waits"),
        (Bound("MaxJobs", "jobs", 0, 0), "never"),
        (Bound("MaxSubmitJobsPA", "jobs", 3, 3), "never"),
        (Bound("GrpSubmitJobs", "jobs", 3, 2), ""),
        (Bound("GrpTRESMins", "cpu", 1000, 100), "never"),
        (Bound("GrpTRESMins", "cpu", 1000, None), ""),  # nobody says what is used
        (Bound("GrpTRESRunMins", "cpu", 1000, 100), "waits"),
        (Bound("GrpWall", "wall", 1000, 881), "never"),
    ],
)
def test_each_limit_hinders_as_slurm_means_it(bound: Bound, how: str) -> None:
    assert hinders(bound, TWO) == how


def test_no_limit_is_no_bound_and_what_is_not_known_is_left_out() -> None:
    text = "GrpJobs=N(3) GrpTRES=cpu=N(1),gres/gpu=6(2) MaxJobs= MaxWallPJ=240 MaxTRESPJ=cpu=20 MaxOddity=7(1) GrpWall=9(0.50)"
    assert parse_bounds(text) == (
        Bound("GrpTRES", "gres/gpu", 6, 2),
        Bound("MaxWallPJ", "wall", 240),
        Bound("MaxTRESPJ", "cpu", 20),
        Bound("GrpWall", "wall", 9, 0),
    )
    assert parse_bounds("GrpJobs=N(0) MaxJobs= ") == ()


@given(st.text())
def test_no_text_of_slurms_breaks_it(text: str) -> None:
    for bound in parse_bounds(text):
        assert bound.rule
        assert bound.allowed >= 0


def test_people_of_a_qos_are_known_by_number_or_name() -> None:
    each = "MaxJobsPU=4({}) MaxTRESPU=cpu=N(0)"
    line = f"QOS=Fast(3) GrpJobs=N(0) MaxWallPJ= Account Limits=No Accounts User Limits= 1075={{{each.format(2)}}} ben(7)={{{each.format(1)}}}"
    name, limits = parse_qos(line, {"1075": "ada"})
    assert (name, limits.own, limits.accounts) == ("fast", (), {})
    assert [limits.each(limits.people, who)[0].used for who in ("ada", "ben", "emil")] == [2, 1, 0]
    with pytest.raises(ValueError, match="no limits"):
        parse_qos("QOS=half(1) GrpJobs=", {})


def budgets(*bounds: Bound, qos: dict[str, QosLimits] | None = None) -> Budgets:
    own = Allowance({}, None, "", bounds)
    return Budgets(NOW, {"p1": Allowance()}, {"ada": frozenset({"p1"})}, {"ada": "p1"}, {("p1", "ada"): own}, qos or {})


def sentence(site: Site, known: Budgets, **options: object) -> tuple[str, str] | None:
    return obstacle(check({"profile": "one", **options}, site), site, "ada", "p1", known)


@pytest.mark.parametrize(
    ("bound", "how", "words"),
    [
        (
            Bound("MaxTRESPJ", "cpu", 2),
            "never",
            ["2 CPUs is the most", "your own limit in the project", "MaxTRESPJ=cpu"],
        ),
        (Bound("MaxJobs", "jobs", 2, 2), "waits", ["2 jobs of 2 jobs in use", "MaxJobs", "1 job"]),
        (Bound("MaxSubmitJobs", "jobs", 1, 1), "never", ["You have 1 job running or waiting", "Stop one first"]),
        (Bound("MaxWallPJ", "wall", 30), "never", ["30 min is the most", "Ask for less"]),
        (
            Bound("GrpTRESMins", "cpu", 60000, 60000),
            "never",
            ["1000 CPU-hours of 1000 CPU-hours", "the project's owner"],
        ),
        (Bound("GrpTRES", "license/<b>", 0, 0), None, []),
    ],
)
def test_the_sentence_names_the_limit_what_is_used_and_whose_move_it_is(
    site: Site, bound: Bound, how: str | None, words: list[str]
) -> None:
    found = sentence(site, budgets(bound))
    assert (found[0] if found else None) == how
    for word in words:
        assert found is not None
        assert word in found[1]


def test_what_refuses_counts_before_what_only_waits(site: Site) -> None:
    known = budgets(Bound("MaxJobs", "jobs", 1, 1), Bound("MaxTRESPJ", "gres/gpu", 0))
    found = sentence(site, known)
    assert found is not None
    assert found[0] == "never"


def test_the_limits_of_a_qos_count_where_it_is_known_which_one(site: Site) -> None:
    limits = {"long": QosLimits((Bound("MaxWallPJ", "wall", 10),)), "short": QosLimits()}
    one_qos = {name: entry.model_copy(update={"qos": ("long",)}) for name, entry in site.accounts.items()}
    request = check({"profile": "one"}, site)
    alone = site.model_copy(update={"accounts": one_qos})
    assert usual_qos(request, alone, "p1") == "long"
    assert obstacle(request, alone, "ada", "p1", budgets(qos=limits)) is not None
    several = {name: entry.model_copy(update={"qos": ("long", "short")}) for name, entry in site.accounts.items()}
    assert usual_qos(request, site.model_copy(update={"accounts": several}), "p1") is None
    assert usual_qos(replace(request, qos="Short"), alone, "p1") == "short"


def test_the_partitions_own_qos_comes_first(site: Site) -> None:
    of = {"wide": QosLimits((Bound("MaxWallPJ", "wall", 600),)), "narrow": QosLimits((Bound("MaxWallPJ", "wall", 10),))}
    request, known = check({"profile": "one", "qos": "short"}, site), budgets(Bound("MaxWallPJ", "wall", 20), qos=of)
    assert obstacle(request, site, "ada", "p1", known) is not None  # her own
    assert obstacle(request, site, "ada", "p1", known, partition_qos="wide") is None
    found = obstacle(request, site, "ada", "p1", known, partition_qos="narrow")
    assert found is not None
    assert "narrow" in found[1]
    line = "PartitionName={} State=UP MaxTime=01:00:00 AllowQos=ALL QoS={}"
    parsed = parse_partitions(f"{line.format('a', 'Wide')}\n{line.format('b', 'N/A')}\n")
    assert [partition.own_qos for partition in parsed] == ["wide", ""]


def judged(site: Site, known: Budgets, *, answers: bool = True) -> Any:
    request, view = check({"profile": "one", "features": ""}, site), View(site, "main", cluster(node()), NOW)
    verdict = judge(request, site, view, payer("ada", known), None, answers=answers)
    assert not is_open_question(request, view, verdict)  # Slurm's own forecast knows nothing of limits
    return verdict


def test_a_limit_is_told_before_the_click(site: Site) -> None:
    free = judged(site, budgets(Bound("MaxJobs", "jobs", 2, 1)))
    assert (free.starts, free.obstacle) == ("now", None)
    waits = judged(site, budgets(Bound("MaxJobs", "jobs", 1, 1)))
    assert (waits.starts, waits.expected, waits.obstacle.kind) == ("later", None, "limit")
    never = judged(site, budgets(Bound("MaxTRESPJ", "gres/gpu", 0)))
    assert (never.starts, never.obstacle.kind) == ("never", "limit")


def test_what_a_session_takes_is_named_as_slurm_does(site: Site) -> None:
    taken = demand(check({"profile": "one", "minutes": 90}, site), site)
    assert (taken.amounts["gres/gpu"], taken.amounts["gres/gpu:a100"], taken.minutes) == (1, 1, 90)
