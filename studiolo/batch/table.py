"""What a sweep's runs gave, as a table and as a plot. Plain functions of plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from studiolo.batch.state import Verdict
from studiolo.errors import Fault, RequestError, shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["OWN", "plotted", "row", "tabled"]

OWN = ("state", "why", "hours", "gpu_hours", "notebook")
"""The columns of every table, behind parameters and results. Hours are those that a run has held its resources."""


def row(
    parameters: Mapping[str, Any],
    result: Mapping[str, Any],
    verdict: Verdict,
    *,
    seconds: float | None,
    gpus: float,
    link: str,
) -> dict[str, Any]:
    """One run. A result that has the name of something else is called ``result.NAME``."""
    hours = None if seconds is None else round(seconds / 3600, 4)
    own = {
        "state": verdict.state,
        "why": verdict.why,
        "hours": hours,
        "gpu_hours": None if hours is None else round(hours * gpus, 4),
        "notebook": link,
    }
    taken = {*parameters, *own}
    named = {(f"parameter.{name}" if name in own else name): value for name, value in parameters.items()}
    results = {(f"result.{name}" if name in taken else name): value for name, value in result.items()}
    return {**named, **results, **own}


def tabled(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows as a DataFrame, one for each run: parameters and results in the order in which they first appear, then ours."""
    import pandas as pd

    names = dict.fromkeys(name for one in rows for name in one if name not in OWN)
    return pd.DataFrame(list(rows), columns=[*names, *OWN]).rename_axis("run")


def plotted(
    table: pd.DataFrame,
    parameters: Iterable[str],
    results: Iterable[str],
    *,
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one result over one parameter, a line for each value of ``by``: the mean, and every run as a point."""
    import matplotlib.pyplot as plt

    varying = [name for name in parameters if name in table and table[name].astype(str).nunique() > 1]
    numbers = [name for name in results if name in table and _numbers(table[name])]
    x = _choice("x", x, [*varying, *(name for name in parameters if name in table)], table)
    if not results and y not in table:
        none_yet = "a name that the notebook gave to studiolo.record: no run has recorded anything yet"
        raise RequestError([Fault("y", "" if y is None else shown(y), none_yet)])
    y = _choice("y", y, numbers, table)
    if by is not None:
        by = _choice("by", by, [], table)
    elif others := [name for name in varying if name != x]:
        by = others[0]
    known = table[table[y].notna()]
    if ax is None:
        _figure, ax = plt.subplots()
    groups = known.groupby(known[by].astype(str), sort=False) if by else [("", known)]
    for value, group in groups:
        place = group[x] if _numbers(group[x]) else group[x].astype(str)
        mean = group[y].astype(float).groupby(place, sort=_numbers(group[x])).mean()
        (line,) = ax.plot(mean.index, mean.to_numpy(), label=f"{by} = {value}" if by else None)
        ax.plot(place, group[y].astype(float), "o", color=line.get_color(), alpha=0.5)
    if _numbers(known[x]) and (known[x] > 0).all() and known[x].max() > 50 * known[x].min():
        ax.set_xscale("log")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if by:
        ax.legend()
    return ax


def _choice(axis: str, given: str | None, usual: Sequence[str], table: pd.DataFrame) -> str:
    if given is None and usual:
        return usual[0]
    if given is None or given not in table:
        allowed = "one of " + ", ".join(map(str, table.columns))
        raise RequestError([Fault(axis, "" if given is None else shown(given), allowed)])
    return given


def _numbers(column: pd.Series[Any]) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    known = column.dropna().infer_objects()
    return len(known) > 0 and bool(is_numeric_dtype(known)) and not is_bool_dtype(known)
