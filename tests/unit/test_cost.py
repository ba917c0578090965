"""What resources cost: the ceiling before, the meter during, the receipt after."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.cost import Measured, amount, amount_words, ceiling, energy, held, receipt, receipts_csv
from studiolo.outline import outline
from studiolo.request import check
from studiolo.site import Energy, Prices, Site
from studiolo.slurm.usage import parse_energy
from studiolo.views import Amount, JobView, Resources

PRICED = Prices(currency="EUR", gpu_hour=2.0, cpu_hour=0.1)
FIGURES = Energy(gpu_watts=400, gpu_idle_watts=100, cpu_watts=10, cpu_idle_watts=2, pue=1.5, carbon=300)
QUARTER = Resources(4, 16384, shards=1, shards_per_gpu=4, gpu_type="a100")
WHOLE = Resources(8, 65536, gpus=2, shards_per_gpu=4)
HOUR = 3600
DONE = JobView("run", "1", "train", "done", "", jobs=(7,), started=1000.0, ended=1000.0 + 2 * HOUR, resources=WHOLE)


@pytest.fixture
def priced(site: Site) -> Site:
    return site.model_copy(update={"prices": PRICED, "energy": FIGURES})


# --- Hours and money -------------------------------------------------------------------------------------------------


def test_a_quarter_of_a_gpu_costs_a_quarter() -> None:
    assert amount(QUARTER, HOUR, PRICED) == Amount(0.25, 4.0, 0.9, "EUR")


def test_a_site_without_prices_tells_hours_alone() -> None:
    assert amount(WHOLE, 2 * HOUR, Prices()) == Amount(4.0, 16.0)
    assert amount_words(Amount(4.0, 16.0)) == "4 GPU-hours, 16 CPU-hours"


def test_the_ceiling_is_all_jobs_to_the_end_of_their_time(priced: Site) -> None:
    request = check({"profile": "learn", "minutes": 90}, priced)
    assert ceiling(request, priced, jobs=10) == amount(held(request, priced), 10 * 90 * 60, PRICED)
    assert ceiling(request, priced, jobs=10).cpu_hours == pytest.approx(10 * 1.5 * request.cpus)


def test_nothing_is_refunded_before_a_start() -> None:
    assert amount(WHOLE, -5, PRICED).money == 0


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (Amount(0.0, 0.5), "0.5 CPU-hours"),
        (Amount(2.5, 10.0, 5.2, "EUR"), "2.5 GPU-hours, 10 CPU-hours, 5.20 EUR"),
        (Amount(0.0, 1234.56, 0.0, "EUR"), "1235 CPU-hours, 0.00 EUR"),
    ],
)
def test_amounts_in_words(what: Amount, words: str) -> None:
    assert amount_words(what) == words


def test_sessions_know_prices_and_what_energy_is_estimated_from(priced: Site) -> None:
    told = Site.model_validate_json(outline(priced))
    assert (told.prices, told.energy) == (PRICED, FIGURES)


# --- Energy ----------------------------------------------------------------------------------------------------------


def test_the_nodes_own_counter_is_believed_before_all_else() -> None:
    used = Measured(cpu=0.1, gpu=0.1, joules=3.6e6, gpu_joules=1.0)
    assert energy(WHOLE, HOUR, used, FIGURES) == (1.5, "measured")


def test_what_no_counter_tells_is_estimated_between_idle_and_full_use() -> None:
    kwh, basis = energy(WHOLE, HOUR, Measured(cpu=0.5, gpu=0.0), FIGURES)
    assert basis == "estimated"
    assert kwh == pytest.approx((2 * 100 + 8 * 6) / 1000 * 1.5)


def test_a_use_that_nobody_knows_counts_as_full_use() -> None:
    assert energy(WHOLE, HOUR, Measured(), FIGURES) == energy(WHOLE, HOUR, Measured(cpu=1.0, gpu=1.0), FIGURES)


def test_a_gpus_counter_alone_measures_a_part() -> None:
    kwh, basis = energy(WHOLE, HOUR, Measured(cpu=1.0, gpu_joules=3.6e6), FIGURES)
    assert (kwh, basis) == (pytest.approx((1 + 0.08) * 1.5), "partly measured")
    assert energy(WHOLE, HOUR, Measured(cpu_joules=1.0, gpu_joules=1.0), FIGURES)[1] == "measured"


def test_the_counter_of_a_gpu_that_others_share_is_not_ones_own() -> None:
    assert energy(QUARTER, HOUR, Measured(gpu_joules=1e9), FIGURES) == energy(QUARTER, HOUR, Measured(), FIGURES)


def test_a_site_without_figures_gets_no_estimate() -> None:
    assert energy(WHOLE, HOUR, Measured(cpu=1.0, gpu=1.0), Energy()) == (None, "estimated")
    # Of a job with GPUs, the CPUs' figure alone would be far too little.
    assert energy(WHOLE, HOUR, Measured(), Energy(cpu_watts=5))[0] is None


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 8), st.integers(1, 64))
def test_an_estimate_lies_between_idle_and_full_use(cpu: float, gpu: float, gpus: int, cpus: int) -> None:
    resources = Resources(cpus, 1024, gpus=gpus)
    low, told, high = (
        energy(resources, HOUR, used, FIGURES)[0]
        for used in (Measured(cpu=0.0, gpu=0.0), Measured(cpu=cpu, gpu=gpu), Measured())
    )
    assert low is not None
    assert told is not None
    assert high is not None
    assert low - 1e-9 <= told <= high + 1e-9


@pytest.mark.parametrize(
    ("said", "joules"),
    [
        ("7|COMPLETED|5000\n7.batch|COMPLETED|4000\n7.extern|COMPLETED|5000\n", {7: 5000.0}),
        ("7|COMPLETED|\n7.batch|COMPLETED|4000\n8|COMPLETED|0\n", {7: 4000.0}),
        ("7|RUNNING|18446744073709551614\n", {}),
        ("", {}),
    ],
)
def test_slurms_joules_are_read_and_its_no_value_is_none(said: str, joules: dict[int, float]) -> None:
    assert parse_energy(said) == joules


def test_half_a_line_about_energy_is_no_answer() -> None:
    with pytest.raises(ValueError, match="unpack"):
        parse_energy("7|COMPLETED|5\n8|COM")


# --- Receipts --------------------------------------------------------------------------------------------------------


def test_a_receipt_says_hours_money_energy_and_what_stood_idle(priced: Site) -> None:
    told = receipt(DONE, Measured(cpu=1.0, gpu=0.25), priced)
    assert told.amount == amount(WHOLE, 2 * HOUR, PRICED)
    assert told.idle == 0.75
    assert told.kwh == pytest.approx(2 * (2 * 175 + 8 * 10) / 1000 * 1.5)
    assert told.gco2e == pytest.approx(told.kwh * 300)
    assert told.basis == "estimated"
    alone = receipt(replace(DONE, resources=Resources(8, 65536)), Measured(cpu=0.21), priced)
    assert alone.idle is None, "cores that wait for a disk cost nobody a GPU"


def test_a_receipt_of_many_jobs_counts_the_hours_of_all(priced: Site) -> None:
    sweep = replace(DONE, kind="sweep", jobs=(7, 8), spent=amount(WHOLE, 20 * HOUR, PRICED))
    one = receipt(replace(DONE, ended=1000.0 + 20 * HOUR), Measured(), priced)
    assert receipt(sweep, Measured(), priced).kwh == pytest.approx(one.kwh)


def test_what_never_started_cost_nothing(priced: Site) -> None:
    told = receipt(replace(DONE, started=None), Measured(), priced)
    assert (told.amount.money, told.kwh) == (0, 0)


def test_receipts_as_csv_hold_whatever_a_name_holds_and_no_formula(priced: Site) -> None:
    names = ["=cmd|'/C calc'!A0", 'a,"b"\nc', "plain"]
    text = receipts_csv(receipt(replace(DONE, name=name), Measured(), priced) for name in names)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == ["'" + names[0], names[1], names[2]]
    assert rows[2]["started"] == "1970-01-01T00:16:40Z"
    assert float(rows[2]["money"]) == pytest.approx(4 * 2 + 16 * 0.1)
    assert rows[2]["energy_is"] == "estimated"


def test_what_is_not_known_is_an_empty_cell(site: Site) -> None:
    row = next(csv.DictReader(io.StringIO(receipts_csv([receipt(DONE, Measured(), site)]))))
    assert [row[key] for key in ("money", "kwh", "energy_is", "gco2e", "idle_share")] == [""] * 5
