"""What a run has measured: rows, their medians, and how both are shown. Plain functions, no clock."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SIDES = ("ours", "stock", "floor")


@dataclass(frozen=True)
class Row:
    """One line of the table: medians of ``runs`` runs in ``unit``; ``None`` where a side has no such value."""

    name: str
    unit: str
    ours: float | None
    stock: float | None
    floor: float | None
    runs: int


@dataclass(frozen=True)
class Aim:
    """What ours is to reach at most: a share of stock, a multiple of the floor, or a value in the row's unit."""

    of_stock: float | None = None
    of_floor: float | None = None
    at_most: float | None = None


AIMS: Mapping[str, Aim] = {
    "click-to-ready": Aim(of_stock=0.5, of_floor=1.3),
    "class-start-60": Aim(of_stock=0.4),
    "scheduler-calls-waiting-60": Aim(of_stock=0.05),
    "scheduler-calls-running-1000": Aim(at_most=12),
    "hub-cpu-running-1000": Aim(at_most=5),
    "start-page-2000-nodes-arriving": Aim(at_most=50),
    "start-page-2000-nodes": Aim(at_most=50),
    "offers-2000-nodes-arriving": Aim(at_most=50),
    "offers-2000-nodes": Aim(at_most=50),
    "dask-4-workers": Aim(of_stock=0.5, of_floor=1.5),
}


def median(values: Iterable[float | None]) -> float | None:
    """The median of the values there are; ``None`` where there is none."""
    there = [value for value in values if value is not None]
    return round(statistics.median(there), 3) if there else None


def row(
    name: str,
    unit: str,
    ours: Sequence[float | None],
    stock: Sequence[float | None] = (),
    floor: Sequence[float | None] = (),
) -> Row:
    """A row from the single values of each side's runs."""
    return Row(name, unit, median(ours), median(stock), median(floor), max(len(ours), len(stock), len(floor)))


def said(side: str, values: Mapping[str, float | None]) -> str:
    """One run of one side as a line: who watches a long measurement sees it grow."""
    return f"  {side:6}" + "  ".join(f"{name} {_figure(value)}" for name, value in values.items() if value is not None)


def share(part: float | None, whole: float | None) -> float | None:
    """``part / whole``, where both are known and the whole is not nothing."""
    return None if part is None or not whole else part / whole


def verdicts(found: Row, aim: Aim) -> list[tuple[str, bool]]:
    """Each part of an aim in words, and whether it is met; parts whose values are missing are left out."""
    measured = (
        ("of stock's", share(found.ours, found.stock), aim.of_stock),
        ("of the floor", share(found.ours, found.floor), aim.of_floor),
        (found.unit, found.ours, aim.at_most),
    )
    return [
        (f"{value:.3g} {words}, at most {limit:g}", value <= limit)
        for words, value, limit in measured
        if value is not None and limit is not None
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with what ours takes of stock's and of the floor, and below it the aims."""
    lines = [f"{'':34}{'unit':>10}{'ours':>10}{'stock':>10}{'floor':>10}{'of stock':>10}{'of floor':>10}{'runs':>6}"]
    for found in rows:
        values = (found.ours, found.stock, found.floor)
        shares = (share(found.ours, found.stock), share(found.ours, found.floor))
        cells = "".join(f"{_figure(value):>10}" for value in (*values, *shares))
        lines.append(f"{found.name:34}{found.unit:>10}{cells}{found.runs:>6}")
    aims = [
        f"{found.name:34}{words}: {'met' if met else 'NOT met'}"
        for found in rows
        if found.name in AIMS
        for words, met in verdicts(found, AIMS[found.name])
    ]
    return "\n".join([*lines, *(["", "Aims", *aims] if aims else [])])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def write(rows: Sequence[Row], path: Path) -> None:
    """Write ``{"rows": [...]}``; rows of an earlier run that were not measured now stay."""
    fresh = {found.name for found in rows}
    kept = [old for old in read(path) if old["name"] not in fresh]
    path.write_text(json.dumps({"rows": [*kept, *map(asdict, rows)]}, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> list[dict[str, object]]:
    """The rows of an earlier run; none where there is no file."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["rows"])
    except FileNotFoundError:
        return []
