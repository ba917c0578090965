"""More time for a running job, whose it is and what it used, by both ways to a real Slurm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hubclient import until

from slurmbox.accounting import sacctmgr
from studiolo.errors import SlurmRefused
from studiolo.script import Batch, Directives
from studiolo.site import Site, load
from studiolo.slurm.client import Slurm, connect

Call = Callable[[Coroutine[Any, Any, Any]], Any]
run: Call = asyncio.run


@pytest.fixture(scope="module")
def site(site_file: Path) -> Site:
    return load(site_file)


def by(way: str, site: Site) -> Slurm:
    ((name, cluster),) = site.clusters.items()
    return connect(site.model_copy(update={"clusters": {name: cluster.model_copy(update={"via": way})}}), name)


@pytest.fixture(params=["commands", "slurmrestd", "both"])
def slurm(request: pytest.FixtureRequest, site: Site) -> Slurm:
    return by(request.param, site)


@pytest.fixture(scope="module")
def person(access: Mapping[str, Any]) -> str:
    return [str(user["name"]) for user in access["users"] if user["role"] == "learner"][5]


@pytest.fixture
def job(site: Site, slurm: Slurm, person: str) -> Iterator[int]:
    """A running job that looks like a session's."""
    directives = Directives(
        name="extending", comment=site.tag("session", "abc"), partition="cpu", account="", qos="", reservation="",
        constraint="", cpus=1, memory=100, minutes=5, gres="", output="/dev/null",
    )  # fmt: skip
    number: int = run(slurm.submit(person, Batch(directives, "#!/bin/bash", "sleep 300\n"), {}))
    until("its start", lambda: (s := run(slurm.queue([number])).get(number)) and s.runs_somewhere, 30)
    yield number
    run(slurm.cancel(person, [number]))


def test_a_job_is_known_extended_and_accounted_for(slurm: Slurm, job: int, person: str) -> None:
    owner = run(slurm.owner(job))
    assert (owner.person, owner.kind, owner.name) == (person, "session", "abc")
    assert (owner.partition, owner.reservation, owner.nodes, bool(owner.account), bool(owner.qos)) == (
        "cpu", "", 1, True, True,
    )  # fmt: skip
    before = run(slurm.queue([job]))[job]
    run(slurm.extend(job, 65))
    after = run(slurm.queue([job]))[job]
    assert (before.end - before.start, after.end - after.start) == (300, 65 * 60)
    assert run(slurm.used([job])) == {}, "it runs"
    run(slurm.cancel(person, [job]))
    used = until("accounting", lambda: run(slurm.used([job])).get(job), 60)
    assert used.job == job
    assert used.cpu_seconds is not None
    assert run(slurm.owner(job)) is None


def test_who_is_no_operator_extends_nothing(box: Any, site: Site, person: str) -> None:
    slurm = by("slurmrestd", site)
    directives = Directives(
        name="extending", comment="", partition="cpu", account="", qos="", reservation="",
        constraint="", cpus=1, memory=100, minutes=5, gres="", output="/dev/null",
    )  # fmt: skip
    number = run(slurm.submit(person, Batch(directives, "#!/bin/bash", "sleep 300\n"), {}))
    sacctmgr(box, "modify", "user", "where", f"name={box.hub_user}", "set", "AdminLevel=None")
    try:
        with pytest.raises(SlurmRefused):
            run(slurm.extend(number, 65))
    finally:
        sacctmgr(box, "modify", "user", "where", f"name={box.hub_user}", "set", "AdminLevel=Operator")
        run(slurm.cancel(person, [number]))
