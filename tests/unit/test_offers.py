"""What everybody may know of a cluster: numbers, and names that the site file shows anyway."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from spawners import metrics
from spawners.engine import Engine
from spawners.metrics import EngineCollector
from spawners.offers import offer, silent_since
from studiolo.errors import SlurmUnavailable
from studiolo.site import Site, parse
from studiolo.slurm.facts import (
    Admission,
    ClusterFacts,
    NodeFacts,
    PartitionFacts,
    PendingJob,
    ReservationFacts,
    assemble,
)
from studiolo.slurm.resources import Resources
from studiolo.slurm.snapshot import Reading

NOW = 1_000_000.0
HOUR = 3600
REMARK = "bad fan <script>alert(1)</script>, ask mallory"


def node(name: str, partition: str, total: Resources, free: Resources, *states: str) -> NodeFacts:
    return NodeFacts(name, "10.0.0.1", states or ("MIXED",), REMARK, total, free, ("nvme", "ib"), (partition,))


GPU_NODE = Resources(32, 262144, {"a100": 4}, 16)
NODES = [
    node("cpu1", "cpu", Resources(16, 65536), Resources(6, 30000)),
    node("gpu1", "gpu", GPU_NODE, Resources(20, 200000, {"a100": 2}, 11)),
    node("gpu2", "gpu", GPU_NODE, GPU_NODE, "IDLE", "DRAIN"),
    node("big1", "hidden", GPU_NODE, GPU_NODE),
]
PENDING = (
    PendingJob(71, "gpu", 9),
    PendingJob(72, "cpu", 8),
    PendingJob(73, "gpu", 7),
    PendingJob(74, "gpu", 6, reason="QOSMaxGRESPerUser"),
)


def snapshot(*reservations: ReservationFacts) -> ClusterFacts:
    partitions = [
        PartitionFacts("cpu", "UP", 120),
        PartitionFacts("gpu", "UP", None),
        PartitionFacts("hidden", "UP", 60),
    ]
    return assemble(NOW, NODES, partitions, reservations, PENDING)


def told(site: Site, facts: ClusterFacts | None, *, since: float | None = None, **jobs: int) -> dict[str, Any]:
    told = offer(site, "main", Reading(facts), silent_since=since, person="ada", jobs=jobs, now=NOW)
    return json.loads(json.dumps(told))  # type: ignore[no-any-return]


def test_partitions_of_the_site_are_offered_with_what_is_free(site: Site) -> None:
    cpu, gpu = told(site, snapshot())["partitions"]
    assert (cpu["name"], cpu["open"], cpu["max_minutes"], cpu["waiting"]) == ("cpu", True, 120, 1)
    assert gpu == {
        "name": "gpu",
        "title": "GPU nodes",
        "open": True,
        "max_minutes": 1440,
        "nodes": {"total": 2, "usable": 1},
        "cpus": {"total": 64, "free": 20},
        "memory_mb": {"total": 524288, "free": 200000},
        "gpus": {"total": 8, "free": 2},
        "shards": {"total": 32, "free": 11},
        # Never more than the site lets one session have.
        "largest": {"cpus": 20, "memory_mb": 200000, "gpus": 2, "shards": 4},
        "waiting": 2,
    }


def test_profiles_say_how_many_of_them_could_start_now(site: Site) -> None:
    assert told(site, snapshot())["profiles"] == {"learn": 3, "quarter": 10, "one": 2, "course": None}
    tonight = ReservationFacts("tonight", int(NOW) + 3 * HOUR, int(NOW) + 9 * HOUR, ("gpu1",), flags=("MAINT",))
    assert told(site, snapshot(tonight))["profiles"]["one"] == 0  # it would run for four hours


def test_a_partition_that_slurm_does_not_have_is_not_offered(site: Site) -> None:
    facts = assemble(NOW, NODES, [PartitionFacts("cpu", "DOWN", 60)], ())
    offered = told(site, facts)
    assert [(partition["name"], partition["open"]) for partition in offered["partitions"]] == [("cpu", False)]
    assert offered["profiles"] == {"learn": 0}


def test_each_partition_is_offered_by_its_own_cluster(edited: Callable[..., str]) -> None:
    site = parse(
        edited(
            ("[partitions.cpu]", '[clusters.second]\n[partitions.cpu]\ncluster = "second"'),
            ("[partitions.gpu]", '[partitions.gpu]\ncluster = "main"'),
        )
    )
    assert [partition["name"] for partition in told(site, snapshot())["partitions"]] == ["gpu"]
    assert list(told(site, snapshot())["profiles"]) == ["quarter", "one", "course"]


def test_ones_own_waiting_jobs_have_their_place(site: Site) -> None:
    waiting = told(site, snapshot(), first=73, held=74, gone=99)["waiting"]
    assert waiting == [{"server": "first", "job": 73, "place": 2, "of": 2}]


def test_a_silent_scheduler_leaves_the_last_facts_and_says_so(site: Site) -> None:
    silent = told(site, snapshot(), since=NOW + 60)
    answering = told(site, snapshot())
    assert (silent["answers"], silent["silent_since"], silent["taken"]) == (False, NOW + 60, NOW)
    assert (answering["answers"], answering["silent_since"]) == (True, None)
    assert silent["partitions"] == answering["partitions"]


def test_a_cluster_that_never_answered_offers_nothing(site: Site) -> None:
    assert told(site, None, since=NOW) == {
        "answers": False,
        "silent_since": NOW,
        "taken": None,
        "partitions": [],
        "profiles": {},
        "reservations": [],
        "waiting": [],
    }


@pytest.mark.parametrize(
    ("facts", "concerns"),
    [
        ({"flags": ("MAINT",), "users": Admission(frozenset({"root"}))}, "everybody"),
        ({}, "everybody"),
        ({"users": Admission(frozenset({"ada", "mallory"}))}, "you"),
        ({"users": Admission(frozenset({"mallory"}))}, None),
        ({"accounts": Admission(frozenset({"p1", "secret"}))}, "accounts"),
        ({"accounts": Admission(frozenset({"secret"}))}, None),
        ({"groups": Admission(frozenset({"staff"}))}, None),
        ({"end": int(NOW)}, None),
        ({"nodes": ("big1",)}, None),
    ],
)
def test_reservations_are_told_to_those_whom_they_concern(
    site: Site, facts: dict[str, Any], concerns: str | None
) -> None:
    defaults = {"name": "r", "start": int(NOW) - HOUR, "end": int(NOW) + HOUR, "nodes": ("gpu1", "gpu2")}
    offered = told(site, snapshot(ReservationFacts(**{**defaults, **facts})))["reservations"]
    if concerns is None:
        assert offered == []
    else:
        (reservation,) = offered
        assert reservation["for"] == concerns
        assert (reservation["partitions"], reservation["nodes"]) == (["gpu"], 2)
        assert "mallory" not in json.dumps(offered)
        assert "secret" not in json.dumps(offered)


@given(st.text(), st.text(), st.text())
def test_no_operators_remark_and_nobody_elses_name_is_told(site: Site, name: str, user: str, state: str) -> None:
    marked = f"mallory{user}"
    facts = snapshot(
        ReservationFacts(
            name, 0, int(NOW) + HOUR, ("gpu1",), users=Admission(frozenset({marked, "ada"})), flags=(state,)
        )
    )
    offered = told(site, facts)
    assert "mallory" not in json.dumps(
        {**offered, "reservations": [{**r, "name": ""} for r in offered["reservations"]]}
    )
    assert all(reservation["name"].isprintable() for reservation in offered["reservations"])


# --- Who heard Slurm last --------------------------------------------------------------------------------------------


def engine(heard: float = 0.0, silent: float | None = None, reading: Reading | None = None) -> Engine:
    watcher = SimpleNamespace(heard=heard, silent_since=silent, states=lambda: {"RUNNING": 2, "PENDING": 1})
    client = SimpleNamespace(calls={"squeue": 7, "sbatch": 3})
    cache = SimpleNamespace(last=reading or Reading(None))
    return SimpleNamespace(slurm={"main": client}, watchers={"main": watcher}, facts={"main": cache})  # type: ignore[return-value]


TROUBLE = SlurmUnavailable("list jobs", "Unable to contact slurm controller")


@pytest.mark.parametrize(
    ("heard", "silent", "taken", "facts_silent", "since"),
    [
        (0, None, None, None, None),
        (NOW, None, None, None, None),
        (NOW, NOW + 5, None, None, NOW + 5),
        (NOW, NOW + 5, NOW + 9, None, None),
        (NOW, NOW + 5, NOW - 9, NOW + 3, NOW + 3),
        (NOW + 9, None, NOW, NOW + 3, None),
        (0, None, None, NOW, NOW),
    ],
)
def test_a_cluster_is_silent_since_the_first_question_in_vain_after_the_last_answer(
    heard: float, silent: float | None, taken: float | None, facts_silent: float | None, since: float | None
) -> None:
    facts = None if taken is None else ClusterFacts(taken, (), {}, (), ())
    assert silent_since(engine(heard, silent, Reading(facts, TROUBLE, facts_silent)), "main") == since


def scraped(engine: Engine) -> list[str]:
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine))
    return generate_latest(registry).decode().splitlines()


def test_an_operator_reads_calls_silence_and_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.time, "time", lambda: NOW + 60)
    lines = scraped(engine(heard=NOW, silent=NOW + 20))
    assert 'studiolo_slurm_calls_total{call="squeue",cluster="main"} 7.0' in lines
    assert 'studiolo_slurm_calls_total{call="sbatch",cluster="main"} 3.0' in lines
    assert 'studiolo_slurm_silent_seconds{cluster="main"} 40.0' in lines
    assert 'studiolo_sessions{cluster="main",state="running"} 2.0' in lines
    assert 'studiolo_sessions{cluster="main",state="pending"} 1.0' in lines
    assert 'studiolo_slurm_silent_seconds{cluster="main"} 0.0' in scraped(engine(heard=NOW))
