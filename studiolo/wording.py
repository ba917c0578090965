"""Plain sentences for notebooks: resources, moments and times left, as people say them. Pure, and English alone but for spans."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from studiolo.language import _
from studiolo.units import memory_words
from studiolo.views import Resources

__all__ = ["Clock", "cores_words", "gpu_words", "local", "moment", "resources_words", "span"]

Clock = Callable[[float], time.struct_time]
"""Seconds since 1970 -> the time that a clock on the wall shows."""

local: Clock = time.localtime

_PARTS = {(1, 2): "half", (1, 3): "one third", (2, 3): "two thirds", (1, 4): "one quarter", (3, 4): "three quarters"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_VOWELS = ("A", "E", "F", "H", "I", "L", "M", "N", "O", "R", "S", "X", "8")
DAY = 24 * 3600
WEEK = 7 * DAY


def resources_words(resources: Resources, node: str = "") -> str:
    """Such as ``"one quarter of an A100 on gpu2, 4 cores, 16 GB"``."""
    where = f" on {node}" if node else ""
    parts = [words] if (words := gpu_words(resources)) else []
    if resources.cpus:
        parts.append(cores_words(resources.cpus))
    if resources.memory:
        parts.append(memory_words(resources.memory))
    if not parts:
        return f"resources that nobody tells{where}"
    return ", ".join([parts[0] + where, *parts[1:]])


def gpu_words(resources: Resources) -> str:
    """Such as ``"two A100 GPUs"`` or ``"one quarter of an A100"``; empty where there is none."""
    kind = resources.gpu_type.upper()
    if resources.gpus:
        number = _NUMBERS[resources.gpus] if resources.gpus < len(_NUMBERS) else str(resources.gpus)
        return f"{number} {kind} {'GPU' if resources.gpus == 1 else 'GPUs'}".replace("  ", " ")
    if not resources.shards:
        return ""
    of = f"an {kind}" if kind.startswith(_VOWELS) else f"a {kind or 'GPU'}"
    if not resources.shards_per_gpu:
        return f"a part of {of}"
    divisor = math.gcd(resources.shards, resources.shards_per_gpu)
    part = (resources.shards // divisor, resources.shards_per_gpu // divisor)
    if part[1] == 1:
        return gpu_words(Resources(0, 0, gpus=part[0], gpu_type=resources.gpu_type))
    return f"{_PARTS.get(part, f'{part[0]}/{part[1]}')} of {of}"


def cores_words(count: float) -> str:
    """Such as ``"4 cores"``."""
    return f"{count:.3g} core" if count == 1 else f"{count:.3g} cores"


def moment(at: float, now: float, clock: Clock = local) -> str:
    """A moment as people say it: ``"17:40"``, within a week ``"Tue 17:40"``, else ``"24 Nov 17:40"``."""
    then, today = clock(at), clock(now)
    hour = f"{then.tm_hour:02d}:{then.tm_min:02d}"
    if (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday):
        return hour
    day = time.strftime("%a" if abs(at - now) < WEEK - DAY else "%d %b", then)
    return f"{day} {hour}"


def span(seconds: float) -> str:
    """How long something is: ``"40 s"``, ``"12 min"``, ``"3 h 20 min"``, ``"2 d 4 h"``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return _("%(number)s s", number=seconds)
    minutes = seconds // 60
    if minutes < 60:
        return _("%(number)s min", number=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        whole, rest = _("%(number)s h", number=hours), _("%(number)s min", number=minutes) if minutes else ""
    else:
        days, hours = divmod(hours, 24)
        whole, rest = _("%(number)s d", number=days), _("%(number)s h", number=hours) if hours else ""
    return f"{whole} {rest}".rstrip()
