"""The one next thing to do after a failure, made of what had been asked for and of what the site grants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spawners.verdict import Payer, cost
from studiolo.errors import RequestError
from studiolo.language import _
from studiolo.request import Request, check
from studiolo.site import Site
from studiolo.slurm.reasons import limit_of
from studiolo.units import memory_words, minutes_words, slurm_memory

__all__ = [
    "BUSY",
    "Action",
    "Asked",
    "RoomCommands",
    "choose",
    "fewer",
    "home",
    "less_time",
    "make_room",
    "mended_environment",
    "more_memory",
    "more_time",
    "no_folder",
    "no_reservation",
    "other_account",
    "other_environment",
    "other_partition",
    "report",
    "retry",
    "smaller",
    "sooner",
    "within_limit",
]


@dataclass(frozen=True)
class Action:
    """The next sensible thing. ``retry`` starts the same again, ``report`` copies the report, ``home`` leads to the home page,
    ``make-room`` to how files are removed; every other kind opens the start page, filled in with ``options``, and starts
    nothing."""

    kind: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RoomCommands:
    """What is typed in a shell to make room in a home: to ``look``, which removes nothing, and to remove."""

    look: tuple[str, ...] = (
        "du -xh -d 2 ~ 2>/dev/null | sort -h | tail -n 20",
        "find ~ -xdev -type f -size +100M -exec ls -lh {} +",
    )
    trash: str = "rm -r ~/.local/share/Trash"
    caches: str = "rm -r ~/.cache"


@dataclass(frozen=True)
class Asked:
    """What had been asked for, and the site that it was asked of.

    ``words`` are Slurm's against it, ``payer`` the person's projects as far as Slurm tells, ``running`` how many other
    sessions of theirs run or wait.
    """

    options: Mapping[str, Any]
    site: Site
    words: str = ""
    payer: Payer = field(default_factory=Payer)
    running: int = 0

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


# Slurm's reasons for waiting that mean no more than a long line.
BUSY = ("", "None", "Priority", "Resources")


def more_memory(asked: Asked) -> Action | None:
    """Twice as much, as far as the partition goes."""
    request = asked.request
    if request is None:
        return None
    memory = min(2 * request.memory, asked.site.partitions[request.partition].max_memory)
    if memory <= request.memory:
        return other_partition(asked, memory=2 * request.memory)
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
    return fewer(asked, "gpus") or _halved(asked, "cpus", "memory")


def fewer(asked: Asked, thing: str) -> Action | None:
    """Half of one thing: ``gpus`` (or parts of one), ``cpus``, ``memory``; ``None`` where there is no half."""
    if thing == "gpus":
        return _halved(asked, "gpus") or _halved(asked, "shards")
    return _halved(asked, thing) if thing in ("cpus", "memory") else None


def _halved(asked: Asked, *things: str) -> Action | None:
    request = asked.request
    halves: dict[str, Any] = {thing: getattr(request, thing) // 2 for thing in things if request}
    if not all(halves.values()):  # one has no half
        halves = {thing: half for thing, half in halves.items() if half}
    if not halves:
        return None
    if "memory" in halves:
        halves["memory"] = slurm_memory(halves["memory"])
    return Action("smaller", _("Choose something smaller"), {**asked.options, **halves})


def within_limit(asked: Asked) -> Action | None:
    """What helps against the limit that Slurm names; without its name, what most likely does."""
    family, thing = limit_of(asked.words) or ("", "")
    return _AGAINST[family](asked, thing)


def _spent(asked: Asked, thing: str) -> Action | None:
    return other_account(asked) or (_affordable(asked) if thing == "gpus" else None)


def _full(asked: Asked, thing: str) -> Action | None:
    if thing == "jobs" and asked.running:
        return home(asked)
    return fewer(asked, thing) or retry(asked)


def _mine(asked: Asked, thing: str) -> Action | None:
    return home(asked) if asked.running or thing == "jobs" else fewer(asked, thing)


def _large(asked: Asked, thing: str) -> Action | None:
    if thing == "time":
        return less_time(asked)
    return fewer(asked, thing) if thing in ("gpus", "cpus", "memory") else smaller(asked)


def _unnamed(asked: Asked, _thing: str) -> Action | None:
    """Slurm's general words for all of them; whoever has other sessions has most often as many as they may."""
    return _affordable(asked) or (home(asked) if asked.running else smaller(asked))


_AGAINST: Mapping[str, Callable[[Asked, str], Action | None]] = {
    "project spent": _spent,
    "class spent": _spent,
    "project full": _full,
    "class full": _full,
    "mine": _mine,
    "large": _large,
    "small": lambda asked, thing: None,
    "": _unnamed,
}


def sooner(asked: Asked) -> Action | None:
    """What had it wait less, by Slurm's last reason: against a limit what helps there, in a long line something smaller."""
    if limit_of(asked.words):
        return within_limit(asked)
    if asked.words == "PartitionTimeLimit":
        return less_time(asked)
    return smaller(asked) if asked.words in BUSY else retry(asked)


def home(asked: Asked) -> Action:
    """Another session has to end first: the home page, where it can be stopped."""
    return Action("home", _("See what you have running"), dict(asked.options))


def make_room(asked: Asked) -> Action:
    """Files have to go first: how, and then the same once more."""
    return Action("make-room", _("How to make room"), dict(asked.options))


def other_account(asked: Asked) -> Action | None:
    """The same for another project of theirs that can pay for it; ``None`` where none is known."""
    request, who = asked.request, asked.payer
    if request is None or who.accounts is None:
        return None
    needs = cost(request, asked.site)[0]
    for name, account in asked.site.accounts.items():
        if name.lower() not in who.accounts or name.lower() == who.charged(request):
            continue
        left = who.budgets.gpu_hours(who.name, name.lower()).left if who.budgets else None
        options = {key: value for key, value in asked.options.items() if key != "qos"} | {"account": name}
        if (left is None or needs <= left) and Asked(options, asked.site).request is not None:
            return Action("other-account", _("Choose again, for %(account)s", account=account.title or name), options)
    return None


def _affordable(asked: Asked) -> Action | None:
    """As long as the project's GPU-hours last; ``None`` where that is known to be no time, or all of the time asked for."""
    request, who = asked.request, asked.payer
    account = who.charged(request) if request else None
    needs = cost(request, asked.site)[0] if request else 0.0
    if request is None or account is None or who.budgets is None or not needs:
        return None
    left = who.budgets.gpu_hours(who.name, account).left
    if left is None or left >= needs:
        return None
    minutes = math.floor(request.minutes * left / needs)
    if minutes < 1:
        return None
    return Action("smaller", _("Choose again, with %(time)s", time=minutes_words(minutes)), _timed(asked, minutes))


def other_partition(asked: Asked, memory: int = 0) -> Action | None:
    """The same in the first other partition that grants it; with ``memory`` (mebibytes), or as much of it as one has there."""
    request = asked.request
    here = request.partition if request else ""
    for name, partition in asked.site.partitions.items():
        options = {**asked.options, "partition": name}
        title = partition.title or name
        label = _("Choose again, in %(partition)s", partition=title)
        if memory:
            more = min(memory, partition.max_memory)
            if request is None or more <= request.memory:
                continue
            options["memory"] = slurm_memory(more)
            label = _(
                "Choose again, with %(memory)s of memory in %(partition)s", memory=memory_words(more), partition=title
            )
        if name != here and Asked(options, asked.site).request is not None:
            return Action("other-partition", label, options)
    return None


def other_environment(asked: Asked) -> Action | None:
    """The same in the site's usual environment, where another one was chosen; the same again where there is no other."""
    if len(asked.site.environments) == 1:
        return retry(asked)
    usual, request = asked.site.default_environment, asked.request
    if request is None or request.environment == usual:
        return None
    label = _("Choose again, with %(environment)s", environment=asked.site.environments[usual].title or usual)
    return Action("choose", label, {**asked.options, "environment": usual})


def mended_environment(asked: Asked) -> Action | None:
    """The usual one likewise; where there is no other, it is the support's move."""
    return report(asked) if len(asked.site.environments) == 1 else other_environment(asked)


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
