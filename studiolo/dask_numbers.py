"""Numbers that people give for a Dask cluster: what they mean, or a refusal that names field, value and what is allowed."""

from __future__ import annotations

import math

import dask.utils

from studiolo.errors import Fault, RequestError, shown

__all__ = ["amount", "seconds", "silence", "whole"]

MOST_SILENCE = 86400.0


def whole(where: str, value: object, most: int | None = None) -> int:
    """A whole number from 0 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or (most is not None and value > most):
        allowed = "0 or more" if most is None else f"from 0 to {most}"
        raise RequestError([Fault(where, shown(value), f"a whole number, {allowed}")])
    return value


def silence(value: object) -> float:
    """Seconds without a sign of life."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST_SILENCE:
        raise RequestError([Fault("silence", shown(value), f"a number of seconds, from 1 to {MOST_SILENCE:g}")])
    return float(value)


def amount(where: str, value: object) -> int:
    """An amount of memory, such as ``"64GB"``, in bytes."""
    try:
        number = int(dask.utils.parse_bytes(value))
    except (ValueError, TypeError, OverflowError, AttributeError):
        number = -1
    if number < 0:
        raise RequestError([Fault(where, shown(value), "an amount of memory, such as '64GB'")])
    return number


def seconds(where: str, value: object) -> float:
    """A time, such as ``"90s"``; minutes where it is a number."""
    try:
        found = float(dask.utils.parse_timedelta(value, default="minutes"))
    except (ValueError, KeyError, TypeError, OverflowError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise RequestError([Fault(where, shown(value), "a time, such as '90s' or '10m'")])
    return found
