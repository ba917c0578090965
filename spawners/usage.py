"""At the hub: what running sessions use, as their own servers report it (:mod:`spawners.reporter`); kept in memory only.

A report comes from a program that its owner may have written: it is checked, shown to that very person alone, and nothing
else follows from it.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tornado import web

from spawners.callers import JsonHandler, calling_session

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["Usage", "UsageHandler", "end_of", "learn", "next_report", "report_of"]

MINUTE = 60
LOOKED_SECONDS = 90  # so long after the last look somebody is taken to look still
SELDOM, OFTEN, SOON, LAST = 300, 20, MINUTE, 15
# A look at GPUs speaks for so long at most: many that follow each other, while a page is open, are no more than one.
LOOK_SECONDS = SELDOM
MOST_MEMORY_MB = 1 << 30


@dataclass(frozen=True)
class Usage:
    """One report, and the most of all reports of that session: ``cpu`` and ``gpu`` from 0 to 1, memory in mebibytes,
    ``taken`` in seconds since 1970; ``None`` where the node has no figure.

    ``gpu_looks`` is how many looks at the GPUs there were, of those that are apart; the last of them at ``gpu_looked``.
    """

    taken: float
    cpu: float | None = None
    memory_mb: int | None = None
    gpu: float | None = None
    most_cpu: float | None = None
    most_memory_mb: int | None = None
    most_gpu: float | None = None
    gpu_looks: int = 0
    gpu_looked: float = -math.inf


def learn(last: Usage | None, cpu: float | None, memory_mb: int | None, gpu: float | None, now: float) -> Usage:
    """Take up a report after the ``last`` one."""
    new = Usage(now, cpu, memory_mb, gpu, cpu, memory_mb, gpu)
    looks, looked = (last.gpu_looks, last.gpu_looked) if last else (0, -math.inf)
    # Reports that are due after so long come somewhat sooner or later.
    if gpu is not None and now - looked >= 0.9 * LOOK_SECONDS:
        looks, looked = looks + 1, now
    new = replace(new, gpu_looks=looks, gpu_looked=looked)
    if last is None:
        return new
    return replace(
        new,
        most_cpu=_most(last.most_cpu, cpu),
        most_memory_mb=_most(last.most_memory_mb, memory_mb),
        most_gpu=_most(last.most_gpu, gpu),
    )


def _most(one: Any, other: Any) -> Any:
    return max((value for value in (one, other) if value is not None), default=None)


def next_report(now: float, ends: int | None, looked: float) -> int:
    """When to report next, in seconds: rarely; often while somebody looks; near the end so that a new end is heard in time."""
    left = math.inf if ends is None else ends - now
    if left < 4 * MINUTE:
        return LAST
    if now - looked < LOOKED_SECONDS:
        return OFTEN
    # Before the first warning of the page, in time for it.
    return SOON if left < 36 * MINUTE else SELDOM


def report_of(body: dict[str, Any]) -> tuple[float | None, int | None, float | None]:
    """CPU, memory and GPU of a report. Raises :class:`ValueError`, naming the field, where one can not be."""
    return _fraction("cpu", body["cpu"]), _memory(body["memory_mb"]), _fraction("gpu", body["gpu"])


def _fraction(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:  # nor is NaN
        raise ValueError(f"{name} must be a number from 0 to 1, or null")
    return float(value)


def _memory(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MOST_MEMORY_MB:
        raise ValueError(f"memory_mb must be a whole number from 0 to {MOST_MEMORY_MB}, or null")
    return value


def end_of(spawner: StudioloSpawner) -> int | None:
    """When a running session ends, by Slurm's last word (seconds since 1970); ``None`` where it has not told."""
    watcher = spawner.engine.watchers.get(spawner.cluster)
    state = watcher.state(spawner.job) if watcher is not None and spawner.job is not None else None
    return state.end if state is not None and state.runs_somewhere else None


class UsageHandler(JsonHandler):
    """``POST /hub/api/studiolo/usage``: a session's own server reports what it uses, and hears when it ends."""

    @web.authenticated
    def post(self) -> None:
        """Take ``{"cpu", "memory_mb", "gpu"}``; answer ``{"ends", "pause"}``; 404 where no session of the caller's calls."""
        try:
            cpu, memory_mb, gpu = report_of(self.body("cpu", "memory_mb", "gpu"))
        except ValueError as error:
            raise web.HTTPError(400, str(error)) from error
        spawner = calling_session(self)
        if spawner is None or spawner.job is None:
            raise web.HTTPError(404, "no session of yours calls with this token")
        now = time.time()
        spawner.usage = learn(spawner.usage, cpu, memory_mb, gpu, now)
        ends = end_of(spawner)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"ends": ends, "pause": next_report(now, ends, spawner.looked_at)}))
