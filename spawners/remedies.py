"""The one next thing to do after a failure, made of what had been asked for and of what the site grants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studiolo.errors import RequestError
from studiolo.language import _
from studiolo.request import Request, check
from studiolo.site import Site
from studiolo.units import memory_words, minutes_words, slurm_memory

__all__ = [
    "Action",
    "Asked",
    "choose",
    "less_time",
    "more_memory",
    "more_time",
    "no_folder",
    "no_reservation",
    "other_environment",
    "other_partition",
    "report",
    "retry",
    "smaller",
]


@dataclass(frozen=True)
class Action:
    """The next sensible thing. ``retry`` starts the same again, ``report`` copies the report; every other kind opens the
    start page, filled in with ``options``, and starts nothing."""

    kind: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What had been asked for, and the site that it was asked of."""

    options: Mapping[str, Any]
    site: Site

    @property
    def request(self) -> Request | None:
        """The same as a request; ``None`` where the site does not grant it any more."""
        try:
            return check(self.options, self.site)
        except RequestError:
            return None


def retry(asked: Asked) -> Action:
    """The same once more."""
    return Action("retry", _("Start again"), dict(asked.options))


def choose(asked: Asked) -> Action:
    """The start page, filled in as before."""
    return Action("choose", _("Choose and start again"), dict(asked.options))


def report(asked: Asked) -> Action:
    """Nothing to start: the support's move."""
    return Action("report", _("Copy the report for the support"))


def more_memory(asked: Asked) -> Action | None:
    """Twice as much, as far as the partition goes."""
    request = asked.request
    if request is None:
        return None
    memory = min(2 * request.memory, asked.site.partitions[request.partition].max_memory)
    if memory <= request.memory:
        return other_partition(asked, least_memory=request.memory + 1)
    label = _("Choose again, with %(memory)s of memory", memory=memory_words(memory))
    return Action("more-memory", label, {**asked.options, "memory": slurm_memory(memory)})


def more_time(asked: Asked) -> Action | None:
    """Twice as long, as far as the partition goes; the same again where it goes no further."""
    request = asked.request
    if request is None:
        return None
    minutes = min(2 * request.minutes, asked.site.partitions[request.partition].max_time)
    if minutes <= request.minutes:
        return retry(asked)
    return Action("more-time", _("Choose again, with %(time)s", time=minutes_words(minutes)), _timed(asked, minutes))


def less_time(asked: Asked) -> Action | None:
    """Half as long."""
    request = asked.request
    if request is None or request.minutes < 2:
        return None
    minutes = request.minutes // 2
    return Action("smaller", _("Choose again, with %(time)s", time=minutes_words(minutes)), _timed(asked, minutes))


def smaller(asked: Asked) -> Action | None:
    """Half of what is scarcest: GPUs, parts of one, or else CPUs and memory."""
    request = asked.request
    if request is None:
        return None
    halves: dict[str, Any] = {}
    if request.gpus > 1:
        halves = {"gpus": request.gpus // 2}
    elif request.shards > 1:
        halves = {"shards": request.shards // 2}
    elif request.cpus > 1:
        halves = {"cpus": request.cpus // 2, "memory": slurm_memory(max(1, request.memory // 2))}
    return Action("smaller", _("Choose something smaller"), {**asked.options, **halves}) if halves else None


def other_partition(asked: Asked, least_memory: int = 0) -> Action | None:
    """The same in the first other partition that grants it."""
    request = asked.request
    here = request.partition if request else ""
    for name, partition in asked.site.partitions.items():
        options = {**asked.options, "partition": name}
        if name != here and partition.max_memory >= least_memory and Asked(options, asked.site).request is not None:
            label = _("Choose again, in %(partition)s", partition=partition.title or name)
            return Action("other-partition", label, options)
    return None


def other_environment(asked: Asked) -> Action | None:
    """The same in the site's usual environment, where another one was chosen."""
    usual, request = asked.site.default_environment, asked.request
    if request is None or request.environment == usual:
        return None
    label = _("Choose again, with %(environment)s", environment=asked.site.environments[usual].title or usual)
    return Action("choose", label, {**asked.options, "environment": usual})


def no_folder(asked: Asked) -> Action | None:
    """The same in the home folder."""
    options = {key: value for key, value in asked.options.items() if key != "workdir"}
    return Action("choose", _("Choose another folder"), options)


def no_reservation(asked: Asked) -> Action | None:
    """The same outside any reservation."""
    options = {key: value for key, value in asked.options.items() if key != "reservation"}
    return Action("choose", _("Choose again, without a reservation"), options)


def _timed(asked: Asked, minutes: int) -> dict[str, Any]:
    return {**{key: value for key, value in asked.options.items() if key != "hours"}, "minutes": minutes}
