"""What somebody is told before they choose: numbers, their own accounts, and names that the site file shows anyway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from clusters import GPU_NODE, HOUR, NOW, cluster, node
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from spawners import metrics
from spawners.choosing import Choosing
from spawners.metrics import EngineCollector
from spawners.offers import kept, offers
from studiolo.errors import SlurmUnavailable
from studiolo.script import Directives
from studiolo.site import Site, parse
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
from studiolo.slurm.snapshot import FactsCache, Reading

TROUBLE = SlurmUnavailable("list jobs", "Unable to contact slurm controller")
REMARK = "bad fan <script>alert(1)</script>, ask mallory"


CPU_NODE = Resources(16, 65536)
NODES = [
    replace(one, reason=REMARK)
    for one in (
        node("cpu1", Resources(6, 30000), partition="cpu", total=CPU_NODE),
        node("gpu1", Resources(20, 200000, {"a100": 2}, 11)),
        node("gpu2", GPU_NODE, "IDLE", "DRAIN"),
        node("big1", partition="hidden"),
    )
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
    return cluster(*NODES, reservations=reservations, line=PENDING, partitions=partitions)


BUDGETS = Budgets(
    NOW,
    {"p1": Allowance({"gres/gpu": 6000}, {"gres/gpu": 1500}), "p2": Allowance({}, {}), "own": Allowance({}, None)},
    {"ada": frozenset({"p1", "own", "elsewhere"}), "mallory": frozenset({"p2"})},
    {"ada": "own", "mallory": "p2"},
)


class Slurm:
    """Never asked here: what is known is put in place."""

    calls: ClassVar[dict[str, int]] = {"squeue": 7, "sbatch": 3}

    async def estimate(self, person: str, directives: Directives) -> int | None:
        raise AssertionError("Slurm was asked")


def knowing(
    site: Site, facts: ClusterFacts | None, *, since: float | None = None, budgets: Budgets | None = None
) -> Choosing:
    """What the hub knows, with nothing behind it."""
    choosing = watched(site, Reading(facts, TROUBLE if since else None, since))
    for cache in choosing.budgets.values():
        cache.last = Reading(budgets)
    return choosing


def watched(site: Site, reading: Reading[ClusterFacts], heard: float = 0.0, silent: float | None = None) -> Choosing:
    slurm: Any = {name: Slurm() for name in site.clusters}
    watcher = SimpleNamespace(heard=heard, silent_since=silent, states=lambda: {"RUNNING": 2, "PENDING": 1})
    for client in slurm.values():
        client.facts = client.budgets = client.estimate
    facts = {name: FactsCache(client) for name, client in slurm.items()}
    for cache in facts.values():
        cache.last = reading
    return Choosing(site, slurm, facts, cast("Any", dict.fromkeys(site.clusters, watcher)))


def told(
    site: Site, facts: ClusterFacts | None, *, since: float | None = None, budgets: Budgets | None = None
) -> dict[str, Any]:
    choosing = knowing(site, facts, since=since, budgets=budgets)
    return json.loads(json.dumps(offers(choosing, "ada", NOW, may_ask=False)))  # type: ignore[no-any-return]


def test_partitions_are_offered_with_the_narrower_of_the_sites_and_slurms_limits(site: Site) -> None:
    partitions = told(site, snapshot())["partitions"]
    assert (partitions["cpu"]["open"], partitions["cpu"]["max_minutes"]) == (True, 120)
    assert partitions["gpu"] == {
        "title": "GPU nodes",
        "open": True,
        "max_cpus": 32,
        "max_memory_mb": 245760,
        "max_minutes": 1440,
        "max_gpus": 4,
        "max_shards": 4,
        "shards_per_gpu": 4,
        "gpu_type": "a100",
        "features": ["nvme", "ib"],
        "accounts": ["p1", "p2"],
    }


def test_profiles_say_whether_they_start_and_what_they_cost(site: Site) -> None:
    profiles = told(site, snapshot())["profiles"]
    assert {name: found["room"] for name, found in profiles.items()} == {
        "learn": 3,
        "quarter": 10,
        "one": 2,
        "course": None,
    }
    one = profiles["one"]
    assert one["free"] == {"gpus": 2, "shards": 11, "cpus": 20, "memory_mb": 200000}
    assert one["total"] == {"gpus": 8, "shards": 32, "cpus": 64, "memory_mb": 524288}
    assert (one["waiting"], one["cost"]) == (2, {"gpu_hours": 4.0, "cpu_hours": 32.0})
    assert profiles["quarter"]["cost"] == {"gpu_hours": 0.5, "cpu_hours": 4.0}
    # Somebody is in line, and Slurm has not been asked.
    assert (one["starts"], one["expected"], one["instead"]) == ("unknown", None, None)


def test_what_finds_room_and_nobody_in_line_starts_now(site: Site) -> None:
    profiles = told(site, replace(snapshot(), pending=()))["profiles"]
    assert [profiles[name]["starts"] for name in ("learn", "quarter", "one")] == ["now", "now", "now"]
    assert profiles["course"]["starts"] == "unknown"  # inside a reservation, where only Slurm knows


def test_ones_own_accounts_are_told_with_what_is_left(site: Site) -> None:
    accounts = told(site, snapshot(), budgets=BUDGETS)["accounts"]
    assert accounts == {
        "p1": {"title": "", "gpu_hours": {"limit": 100.0, "used": 25.0, "left": 75.0}, "default": False},
        "own": {"title": "", "gpu_hours": {"limit": None, "used": None, "left": None}, "default": True},
    }


def test_where_slurm_tells_of_nobody_the_sites_accounts_are_told_and_no_figure(site: Site) -> None:
    unknown = {"limit": None, "used": None, "left": None}
    for budgets in (None, replace(BUDGETS, members={}, defaults={})):
        accounts = told(site, snapshot(), budgets=budgets)["accounts"]
        assert list(accounts) == ["p1", "p2", "p3"]
        assert all(found["gpu_hours"] == unknown and not found["default"] for found in accounts.values())


def test_a_partition_that_slurm_does_not_have_is_closed(site: Site) -> None:
    offered = told(site, assemble(NOW, NODES, [PartitionFacts("cpu", "DOWN", 60)], ()))
    assert {name: found["open"] for name, found in offered["partitions"].items()} == {"cpu": False, "gpu": False}
    assert {found["starts"] for found in offered["profiles"].values()} == {"never"}
    assert {found["obstacle"]["kind"] for found in offered["profiles"].values()} == {"closed"}


def test_each_profile_is_judged_by_its_own_cluster(edited: Callable[..., str]) -> None:
    site = parse(
        edited(
            ("[partitions.cpu]", '[clusters.second]\n[partitions.cpu]\ncluster = "second"'),
            ("[partitions.gpu]", '[partitions.gpu]\ncluster = "main"'),
        )
    )
    choosing = knowing(site, replace(snapshot(), pending=()))
    choosing.facts["second"].last = Reading(None, TROUBLE, NOW)
    told = offers(choosing, "ada", NOW, may_ask=False)
    assert (told["answers"], told["silent_since"]) == (False, NOW)
    assert (told["profiles"]["learn"]["starts"], told["profiles"]["one"]["starts"]) == ("unknown", "now")
    assert (told["partitions"]["cpu"]["open"], told["partitions"]["gpu"]["open"]) == (None, True)


def test_a_silent_scheduler_leaves_the_last_facts_and_promises_nothing(site: Site) -> None:
    facts = replace(snapshot(), pending=())
    silent, answering = told(site, facts, since=NOW + 60), told(site, facts)
    assert (silent["answers"], silent["silent_since"]) == (False, NOW + 60)
    assert (answering["answers"], answering["silent_since"]) == (True, None)
    assert silent["partitions"] == answering["partitions"]
    assert silent["profiles"]["one"]["free"] == answering["profiles"]["one"]["free"]
    assert {found["starts"] for found in silent["profiles"].values()} == {"unknown"}


def test_a_cluster_that_never_answered_offers_its_limits_and_knows_nothing_else(site: Site) -> None:
    offered = told(site, None, since=NOW)
    assert (offered["answers"], offered["silent_since"], offered["reservations"]) == (False, NOW, [])
    assert offered["partitions"]["gpu"]["max_gpus"] == 4
    one = offered["profiles"]["one"]
    assert (one["starts"], one["room"], one["waiting"], set(one["free"].values())) == ("unknown", None, None, {None})


def test_texts_are_in_the_callers_language_and_facts_are_shared(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    choosing = knowing(site, snapshot())
    monkeypatch.setattr("spawners.verdict._", lambda text, **values: f"«{text % values}»")
    choosing.budgets["main"].last = Reading(replace(BUDGETS, members={"ada": frozenset({"p3"})}))
    told = offers(choosing, "ada", NOW, may_ask=False)
    assert told["profiles"]["one"]["obstacle"]["text"].startswith("«")
    assert choosing.view("main", NOW) is choosing.view("main", NOW + 1)


def test_what_somebody_kept_is_told_as_the_cards_are_and_by_the_same_answers(site: Site) -> None:
    choosing = knowing(site, snapshot(), budgets=BUDGETS)
    one = {"profile": "one", "features": ""}
    presets = {
        "same": one,
        "more than the site has": {"profile": "one", "gpus": 99},
        "odd": {"profile": ["x"], "cpus": {}},
    }
    told = kept(choosing, one, presets, "ada", NOW, may_ask=False)
    assert told["presets"]["more than the site has"] is None
    assert told["presets"]["odd"] is None
    assert told["last"] == told["presets"]["same"]
    assert {"starts", "expected", "obstacle", "cost"} <= set(told["last"])
    choosing.budgets["main"].last = Reading(replace(BUDGETS, members={"ada": frozenset({"p3"})}))
    assert kept(choosing, one, {}, "ada", NOW, may_ask=False)["last"]["obstacle"]["kind"] == "not-yours"
    assert kept(choosing, {}, {}, "ada", NOW, may_ask=False) == {"last": None, "presets": {}}


def test_no_reader_of_a_new_snapshot_counts_anything(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    choosing = knowing(site, snapshot(), budgets=BUDGETS)

    async def answer() -> ClusterFacts:
        return replace(snapshot(), taken=NOW + 15)

    async def read() -> dict[str, Any]:
        cache = FactsCache(SimpleNamespace(facts=answer))
        cache.prepare, choosing.facts = choosing.facts["main"].prepare, {"main": cache}  # type: ignore[dict-item]
        await cache.get()
        monkeypatch.setattr("spawners.verdict._Nodes._count", lambda *_asked: pytest.fail("counted for a reader"))
        return offers(choosing, "ada", time.time(), may_ask=False)

    assert asyncio.run(read())["profiles"]["one"]["room"] is not None


def test_an_old_view_is_made_anew_beside(site: Site) -> None:
    choosing = knowing(site, snapshot())
    cache = choosing.facts["main"]

    async def look() -> None:
        first = choosing.view("main", NOW)
        cache.renew = choosing.budgets["main"].renew = lambda: None  # type: ignore[method-assign]
        choosing.renew()
        assert choosing.view("main", time.time()) is first
        await asyncio.wait_for(asyncio.gather(*choosing._renewing.values()), 10)
        second = choosing.view("main", time.time())
        assert second is not None
        assert first is not None
        assert second.facts is first.facts
        assert second.now > first.now + 60

    asyncio.run(look())


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
    site: Site,
    heard: float,
    silent: float | None,
    taken: float | None,
    facts_silent: float | None,
    since: float | None,
) -> None:
    facts = None if taken is None else ClusterFacts(taken, (), {}, (), ())
    assert watched(site, Reading(facts, TROUBLE, facts_silent), heard, silent).silent_since("main") == since


def scraped(choosing: Choosing) -> list[str]:
    engine: Any = SimpleNamespace(
        slurm={"main": Slurm()}, watchers=choosing._watchers, facts=choosing.facts, choosing=choosing
    )
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine))
    return generate_latest(registry).decode().splitlines()


def test_an_operator_reads_calls_silence_and_sessions(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.time, "time", lambda: NOW + 60)
    lines = scraped(watched(site, Reading(None), heard=NOW, silent=NOW + 20))
    assert 'studiolo_slurm_calls_total{call="squeue",cluster="main"} 7.0' in lines
    assert 'studiolo_slurm_calls_total{call="sbatch",cluster="main"} 3.0' in lines
    assert 'studiolo_slurm_silent_seconds{cluster="main"} 40.0' in lines
    assert 'studiolo_sessions{cluster="main",state="running"} 2.0' in lines
    assert 'studiolo_sessions{cluster="main",state="pending"} 1.0' in lines
    assert 'studiolo_slurm_silent_seconds{cluster="main"} 0.0' in scraped(watched(site, Reading(None), heard=NOW))
