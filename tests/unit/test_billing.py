"""Receipts: what things came to, for a screen and for the books."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from studiolo import billing
from studiolo.billing import Receipts, measured, receipts
from studiolo.cost import Measured
from studiolo.desk import Desk
from studiolo.errors import RequestError
from studiolo.session import Session
from studiolo.site import Energy, Prices, Site
from studiolo.slurm.usage import JobUsage
from studiolo.views import Amount, JobView, ReceiptView, Resources, announce

if TYPE_CHECKING:
    from conftest import FakePrograms

NOW = 1_795_348_800.0
HOUR = 3600
WHOLE = Resources(4, 65536, gpus=1)
DONE = JobView(
    "run", "1", "train & test", "done", "", (31,), "main", started=NOW - 2 * HOUR, ended=NOW, resources=WHOLE
)
HERE = Session(7, "gpu2", "gpu", "p1", 4, 16384, 1, 1, int(time.time()) + 3 * HOUR, owner="a", asked={"minutes": 240})


class Thing:
    def __init__(self, view: JobView) -> None:
        self._view = view

    def view(self) -> JobView:
        return self._view

    def act(self, action: str) -> None:
        raise AssertionError(action)


@pytest.fixture
def at(site: Site, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Desk]:
    programs.add("sbatch")  # its folder is that of all commands
    programs.add("sacct", out="31|COMPLETED|7200|04:00:00||\n31.batch|COMPLETED|7200|04:00:00|1024|gres/gpuutil=25\n")
    clusters = {
        name: cluster.model_copy(update={"commands": str(programs.folder)}) for name, cluster in site.clusters.items()
    }
    figures = Energy(gpu_watts=400, gpu_idle_watts=100, cpu_watts=10, cpu_idle_watts=2, carbon=300)
    priced = {"clusters": clusters, "prices": Prices(gpu_hour=2.0), "energy": figures}
    made = Desk(site.model_copy(update=priced), HERE)
    monkeypatch.setattr(billing, "desk", lambda: made)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


def test_a_run_that_is_over_gets_its_use_from_accounting(at: Desk) -> None:
    (one,) = receipts(Thing(DONE))
    assert one.amount == Amount(2.0, 8.0, 4.0, "EUR")
    assert one.idle == 0.75
    assert one.kwh == pytest.approx(2 * (175 + 4 * 6) / 1000)
    assert one.basis == "estimated"


def test_this_session_has_a_receipt_so_far(at: Desk) -> None:
    held = Thing(DONE)
    announce(held)
    found = receipts()
    session = next(one for one in found if one.kind == "session")
    assert (session.ended, session.jobs) == (None, (7,))
    assert 0.25 <= session.amount.gpu_hours < 1.0, "a quarter of a GPU since an hour ago, and for four at most"
    assert "train & test" in [one.name for one in found]


def test_what_never_started_has_no_receipt(at: Desk) -> None:
    assert len(receipts(Thing(JobView("run", "1", "x", "waiting", "")))) == 0
    assert repr(receipts(Thing(JobView("run", "1", "x", "waiting", "")))) == "Nothing yet."


def test_slurms_joules_count_only_where_the_site_says_so(
    at: Desk, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def energy(jobs: Any) -> dict[int, float]:
        return {31: 3.6e6}

    monkeypatch.setattr(at.slurm["main"], "energy", energy)
    assert receipts(Thing(DONE))[0].basis == "estimated"
    believed = at.site.energy.model_copy(update={"slurm_counts": True})
    at.site = at.site.model_copy(update={"energy": believed})
    one = receipts(Thing(DONE))[0]
    assert (one.kwh, one.basis) == (1.0, "measured")


def test_a_silent_accounting_makes_an_estimate(at: Desk, programs: FakePrograms) -> None:
    programs.add("sacct", err="slurmdbd: Connection refused", status=1)
    one = receipts(Thing(DONE))[0]
    assert (one.idle, one.basis) == (None, "estimated")


@pytest.mark.parametrize("thing", [31, None, "train"])
def test_only_what_costs_has_receipts(at: Desk, thing: object) -> None:
    with pytest.raises(RequestError, match="runs, sweeps and clusters"):
        receipts(thing)


def test_many_jobs_are_measured_only_where_all_are_known() -> None:
    view = JobView("cluster", "1", "x", "done", "", (1, 2), resources=WHOLE)
    books = {1: JobUsage(1, 100, 400.0, gpu=1.0), 2: JobUsage(2, 300, 0.0, gpu=0.0)}
    assert measured(view, books, {1: 5.0, 2: 7.0}) == Measured(cpu=0.25, gpu=0.25, joules=12.0)
    assert measured(view, books, {1: 5.0}).joules is None
    assert measured(view, {1: books[1]}, {}) == Measured()
    # Of a job array accounting has one task under the array's number: its joules are not those of all.
    assert measured(replace(view, kind="run", identity="1/7"), books, {1: 5.0, 2: 7.0}) == Measured()
    assert measured(replace(view, kind="sweep"), books, {1: 5.0, 2: 7.0}) == Measured(cpu=0.25, gpu=0.25)


def test_what_a_run_has_seen_of_itself_comes_before_what_accounting_tells(at: Desk) -> None:
    own = Measured(cpu=0.5, gpu=0.4, gpu_joules=3.6e6, idle=0.2, most_gpu=1.0)
    seen = replace(DONE, used=own)
    assert measured(seen, {31: JobUsage(31, 100, 400.0, gpu=0.1)}, {31: 9.0}) == replace(own, joules=9.0)
    (one,) = receipts(Thing(seen))
    assert (one.idle, one.basis) == (0.2, "partly measured")
    assert one.kwh == pytest.approx(1 + 2 * 4 * 6 / 1000)
    (so_far,) = receipts(Thing(replace(seen, state="running", ended=None)))
    assert so_far.idle == 0.2


def test_receipts_are_a_table_and_a_file(tmp_path: Path) -> None:
    one = ReceiptView("run", "<b>&", (31,), NOW - HOUR, NOW, Amount(1.0, 4.0, 2.0, "EUR"), 0.25, "estimated", 75.0, 0.4)
    found = Receipts((one,), NOW)
    assert "&lt;b&gt;&amp; (job 31)" in found._repr_html_()
    line = repr(found)
    for expected in (
        "<b>& (job 31): ended ",
        "1 GPU-hours, 4 CPU-hours, 2.00 EUR",
        "250 Wh estimated, 75 g CO2e",
        "40% idle",
    ):
        assert expected in line
    found.save(tmp_path / "books.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "books.csv").read_text(encoding="utf-8")))
    assert (row["name"], row["money"], row["energy_is"]) == ("<b>&", "2.00", "estimated")
