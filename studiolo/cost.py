"""What resources cost: before (a ceiling), while they are held (so far), and after (a receipt). Plain functions of the site.

Hours count whole GPUs and CPUs for as long as they are held, busy or not, as Slurm charges them. Money is the site's price
times those hours (``[prices]``). Energy is told by the machine where it can tell, and else estimated between idle and full
use by the site's figures (``[energy]``); which of the two is always said.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable

from studiolo.request import Request
from studiolo.site import Energy, Prices, Site
from studiolo.units import memory_words
from studiolo.views import Amount, Basis, JobView, Measured, ReceiptView, Resources
from studiolo.wording import cores_words

__all__ = [
    "Measured",
    "amount",
    "amount_words",
    "ceiling",
    "energy",
    "energy_words",
    "held",
    "price_per_hour",
    "receipt",
    "receipts_csv",
    "use_words",
]

HOUR = 3600
JOULES_A_KWH = 3.6e6


def held(request: Request, site: Site) -> Resources:
    """What a job of this request holds."""
    partition = site.partitions[request.partition]
    return Resources(
        request.cpus, request.memory, request.gpus, request.shards, partition.shards_per_gpu, partition.gpu_type
    )


def amount(resources: Resources, seconds: float, prices: Prices) -> Amount:
    """What resources cost that are held for ``seconds``."""
    hours = max(0.0, seconds) / HOUR
    gpu_hours, cpu_hours = hours * resources.whole_gpus, hours * resources.cpus
    if not (prices.gpu_hour or prices.cpu_hour):
        return Amount(gpu_hours, cpu_hours)
    money = gpu_hours * prices.gpu_hour + cpu_hours * prices.cpu_hour
    return Amount(gpu_hours, cpu_hours, money, prices.currency)


def ceiling(request: Request, site: Site, jobs: int = 1) -> Amount:
    """The most that ``jobs`` jobs of this request can cost: all of them to the end of their time."""
    return amount(held(request, site), request.minutes * 60 * jobs, site.prices)


def price_per_hour(resources: Resources, prices: Prices) -> Amount:
    """What they cost an hour."""
    return amount(resources, HOUR, prices)


def energy(resources: Resources, seconds: float, used: Measured, figures: Energy) -> tuple[float | None, Basis]:
    """Kilowatt-hours of a job that ran for ``seconds``, the building's share included, and where that is from.

    ``None`` where neither a counter nor the site's figures tell of a part that it has. A share that nobody knows counts as
    full use: an estimate must not flatter.
    """
    if used.joules is not None:
        return used.joules / JOULES_A_KWH * figures.pue, "measured"
    gpus = resources.whole_gpus
    parts: list[tuple[float | None, float | None]] = []
    if gpus:
        drawn = _between(figures.gpu_idle_watts, figures.gpu_watts, used.gpu)
        # A part of a GPU has no counter of its own: what the GPU's tells is mostly of others.
        counted = used.gpu_joules if not resources.shards else None
        parts.append((counted, None if drawn is None else drawn * gpus * seconds))
    drawn = _between(figures.cpu_idle_watts, figures.cpu_watts, used.cpu)
    parts.append((used.cpu_joules, None if drawn is None else drawn * resources.cpus * seconds))
    joules = [estimated if counted is None else counted for counted, estimated in parts]
    known = sum(counted is not None for counted, _estimated in parts)
    basis: Basis = "measured" if known == len(parts) else "partly measured" if known else "estimated"
    total = sum(part for part in joules if part is not None)
    return (None if None in joules else total / JOULES_A_KWH * figures.pue), basis


def _between(idle: float, full: float, share: float | None) -> float | None:
    return idle + (full - idle) * (1.0 if share is None else share) if full else None


def receipt(view: JobView, used: Measured, site: Site, now: float | None = None) -> ReceiptView:
    """What ``view`` came to by its end, or has by ``now``; ``spent`` is taken from it where it knows."""
    end = view.ended or now or time.time()
    seconds = max(0.0, end - view.started) if view.started is not None else 0.0
    resources = view.resources or Resources(0, 0)
    spent = view.spent or amount(resources, seconds, site.prices)
    # Of many jobs the hours are known and each one's end is not: they are as if one had held them all.
    busy = spent.cpu_hours * HOUR / resources.cpus if resources.cpus else seconds
    kwh, basis = energy(resources, busy, used, site.energy)
    # Where nobody has looked often enough to say for how long they stood idle, what is missing to full use stands for it.
    idle = used.idle if used.idle is not None or used.gpu is None else 1.0 - used.gpu
    return ReceiptView(
        kind=view.kind,
        name=view.name,
        jobs=view.jobs,
        started=view.started,
        ended=view.ended,
        amount=spent,
        kwh=kwh,
        basis=basis,
        gco2e=None if kwh is None or not site.energy.carbon else kwh * site.energy.carbon,
        idle=idle if resources.whole_gpus else None,
    )


def amount_words(amount: Amount) -> str:
    """Such as ``"2.5 GPU-hours, 10 CPU-hours, 5.20 EUR"``; GPU-hours only where there are some."""
    hours = [f"{_figure(amount.gpu_hours)} GPU-hours"] if amount.gpu_hours else []
    hours.append(f"{_figure(amount.cpu_hours)} CPU-hours")
    return ", ".join([*hours, *([money_words(amount)] if amount.money is not None else [])])


def money_words(amount: Amount) -> str:
    """Such as ``"5.20 EUR"``; empty where the site has no prices."""
    return "" if amount.money is None else f"{amount.money:.2f} {amount.currency}"


def energy_words(kwh: float) -> str:
    """Such as ``"1.25 kWh"`` or ``"12 Wh"``."""
    return f"{kwh:.3g} kWh" if kwh >= 1 else f"{kwh * 1000:.3g} Wh"


def use_words(view: JobView, peak: int = 0) -> str:
    """What it has used, in a few words that say what nobody tells: ``"2 of 4 cores; GPU 40% busy and idle for 25% of the time"``.

    ``peak`` is the most memory that it held, in mebibytes. Empty before anybody has looked.
    """
    if view.used is None or view.resources is None:
        return ""
    used, of = view.used, view.resources
    cores = "CPUs: not told on this node"
    words = [cores if used.cpu is None else f"{used.cpu * of.cpus:.2g} of {cores_words(of.cpus)}"]
    if peak:
        words.append(f"{memory_words(peak)} of {memory_words(of.memory)} at most")
    if of.gpus and used.gpu is None:
        words.append("GPU: not told on this node")
    elif of.gpus:
        idle = "" if used.idle is None else f" and idle for {used.idle:.0%} of the time"
        words.append(f"GPU {used.gpu:.0%} busy{idle}")
    elif of.shards:
        words.append("GPU: others share it, and its use can not be told apart")
    if view.kwh is not None:
        words.append(f"{energy_words(view.kwh)}, {view.basis}")
    return "; ".join(words)


def _figure(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.2f}".rstrip("0").rstrip(".")


COLUMNS = (
    "kind",
    "name",
    "jobs",
    "started",
    "ended",
    "gpu_hours",
    "cpu_hours",
    "money",
    "currency",
    "kwh",
    "energy_is",
    "gco2e",
    "idle_share",
)
"""The columns of :func:`receipts_csv`; times are UTC, empty cells are not known."""


def receipts_csv(receipts: Iterable[ReceiptView]) -> str:
    """Receipts as CSV with a line of names, for whoever keeps the books."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for one in receipts:
        writer.writerow(
            [
                one.kind,
                _harmless(one.name),
                " ".join(map(str, one.jobs)),
                _moment(one.started),
                _moment(one.ended),
                f"{one.amount.gpu_hours:.4f}",
                f"{one.amount.cpu_hours:.4f}",
                "" if one.amount.money is None else f"{one.amount.money:.2f}",
                one.amount.currency,
                "" if one.kwh is None else f"{one.kwh:.4f}",
                "" if one.kwh is None else one.basis,
                "" if one.gco2e is None else f"{one.gco2e:.1f}",
                "" if one.idle is None else f"{one.idle:.3f}",
            ]
        )
    return out.getvalue()


def _harmless(text: str) -> str:
    """A spreadsheet takes what begins so for a formula, and runs it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
