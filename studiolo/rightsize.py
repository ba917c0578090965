"""What would have done: from what jobs asked for and used, the smaller request. Plain functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from studiolo.language import _
from studiolo.units import memory_words, minutes_words

__all__ = ["IDLE_GPU", "advice", "smaller"]

# Nothing is said of sessions that were too short to have shown what they need.
SHORTEST_SECONDS = 600
CPU_MARGIN, MEMORY_MARGIN, TIME_MARGIN = 1.5, 1.3, 1.5
IDLE_GPU = 0.02  # of one look: the desktop of a node, say
# Of a mean, which accounting tells in whole per cents: one of them is five minutes of work in a session of eight hours.
IDLE_MEAN_GPU = 0.0
GIBIBYTE = 1024
HALF_HOUR = 30


def smaller(asked: Mapping[str, Any], used: Mapping[str, Any]) -> dict[str, int]:
    """The fields in which a smaller request would have done, with what would have; empty where nothing is to be said."""
    if used["seconds"] < SHORTEST_SECONDS:
        return {}
    less: dict[str, int] = {}
    if used["cpus"] is not None:
        cpus = max(1, math.ceil(max(used["cpus"] * CPU_MARGIN, used["most_cpus"] or 0)))
        if cpus <= asked["cpus"] / 2:
            less["cpus"] = cpus
    if used["memory_mb"] is not None:
        memory = max(1, math.ceil(used["memory_mb"] * MEMORY_MARGIN / GIBIBYTE)) * GIBIBYTE
        if memory <= asked["memory_mb"] / 2:
            less["memory"] = memory
    minutes = math.ceil(used["seconds"] / 60 * TIME_MARGIN / HALF_HOUR) * HALF_HOUR
    if minutes <= asked["minutes"] / 2:
        less["minutes"] = minutes
    if asked["gpus"] and gpus_were_idle(used):
        less["gpus"] = 0
    return less


def gpus_were_idle(used: Mapping[str, Any]) -> bool:
    """Whether a session's GPUs did nothing, and somebody knows that: each of those who know."""
    mean, most = used.get("mean_gpu"), used.get("most_gpu")
    if mean is None and most is None:
        return False
    return (mean or 0.0) <= IDLE_MEAN_GPU and (most or 0.0) <= IDLE_GPU


def advice(less: Mapping[str, int]) -> str:
    """Say what would have done, in one sentence; empty where there is nothing to be said."""
    if not less:
        return ""
    parts = []
    if "gpus" in less:
        parts.append(_("no GPU"))
    if "cpus" in less:
        parts.append(_("CPUs: %(count)s", count=less["cpus"]))
    if "memory" in less:
        parts.append(_("memory: %(amount)s", amount=memory_words(less["memory"])))
    if "minutes" in less:
        parts.append(_("time: %(time)s", time=minutes_words(less["minutes"])))
    listed = ", ".join(parts)
    return _("Less would have done (%(less)s): it starts sooner, and costs less.", less=listed)
