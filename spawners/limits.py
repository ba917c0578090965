"""Limits of an account, a person or a QoS that a session would meet, in words: which one, what is used, whose move it is."""

from __future__ import annotations

from typing import Literal

from studiolo.errors import printable
from studiolo.language import _, plural
from studiolo.request import Request
from studiolo.site import Site
from studiolo.slurm.budgets import Bounds, Budgets
from studiolo.slurm.limits import JOBS, WALL, Bound, Demand, hinders
from studiolo.units import memory_words, minutes_words, number_words

__all__ = ["demand", "figure", "obstacle", "usual_qos"]

HOUR = 60


def obstacle(
    request: Request, site: Site, person: str, account: str | None, budgets: Budgets | None, *, partition_qos: str = ""
) -> tuple[Literal["never", "waits"], str] | None:
    """The limit for which a session can not begin, or has to wait, and the sentence that says so; ``None`` for none."""
    if account is None or budgets is None:
        return None
    wanted, waits = demand(request, site), None
    for held in budgets.bounds(person, account, usual_qos(request, site, account), partition_qos):
        for bound in held.bounds:
            how = hinders(bound, wanted)
            if how == "never":
                return how, words(held, bound, wanted, site)
            if how == "waits" and waits is None:
                waits = words(held, bound, wanted, site)
    return None if waits is None else ("waits", waits)


def demand(request: Request, site: Site) -> Demand:
    """What a session takes, by Slurm's names."""
    amounts = {"cpu": request.cpus, "mem": request.memory, "node": 1}
    amounts |= {"gres/gpu": request.gpus, "gres/shard": request.shards}
    if gpu_type := site.partitions[request.partition].gpu_type.lower():
        amounts[f"gres/gpu:{gpu_type}"] = request.gpus
    return Demand(amounts, request.minutes)


def usual_qos(request: Request, site: Site, account: str) -> str | None:
    """The QoS that a session would run under; ``None`` where that is not known: an account's only one is its default."""
    if request.qos:
        return request.qos.lower()
    entry = next((entry for name, entry in site.accounts.items() if name.lower() == account), None)
    return entry.qos[0].lower() if entry is not None and len(entry.qos) == 1 else None


def words(held: Bounds, bound: Bound, wanted: Demand, site: Site) -> str:
    """Say which limit it is, what is in use of it, and who can do something about it."""
    told = {
        "limit": f"{bound.name}={bound.kind}" if bound.kind not in (JOBS, WALL) else bound.name,
        "whose": _whose(held, site),
        "needs": _amount(bound, wanted.of(bound)),
        "allowed": _amount(bound, bound.allowed),
        "used": _amount(bound, bound.used or 0),
    }
    if wanted.of(bound) > bound.allowed:
        return _(
            "More than one session may have: it needs %(needs)s, and %(allowed)s is the most (%(whose)s, %(limit)s). "
            "Ask for less.",
            **told,
        )
    if bound.rule == "queue" and held.of == "person":
        return _(
            "You have %(used)s running or waiting, and %(allowed)s is the most (%(whose)s, %(limit)s). Stop one first.",
            **told,
        )
    if bound.rule == "queue":
        return _(
            "Running or waiting: %(used)s, and %(allowed)s is the most (%(whose)s, %(limit)s). Try again once one has ended.",
            **told,
        )
    if hinders(bound, wanted) == "waits":
        return _(
            "Has to wait until others end: %(used)s of %(allowed)s in use (%(whose)s, %(limit)s), and this needs %(needs)s.",
            **told,
        )
    return _(
        "%(used)s of %(allowed)s are used up (%(whose)s, %(limit)s), and this may need %(needs)s. Ask for less, or ask the "
        "project's owner for more.",
        **told,
    )


def figure(number: float) -> str:
    """A number of hours, as exact as people want it."""
    return number_words(round(number)) if number >= 100 else number_words(float(f"{number:.3g}"))


def _whose(held: Bounds, site: Site) -> str:
    titles = {name.lower(): entry.title or name for name, entry in site.accounts.items()}
    account, qos = printable(titles.get(held.account, held.account)), printable(held.qos)
    if held.of == "person" and held.account:
        return _("your own limit in the project %(account)s", account=account)
    if held.of == "person":
        return _("your own limit in the QoS %(qos)s", qos=qos)
    if held.of == "account" and held.qos:
        return _("limit of the project %(account)s in the QoS %(qos)s", account=account, qos=qos)
    if held.of == "account":
        return _("limit of the project %(account)s", account=account)
    return _("limit of the QoS %(qos)s", qos=qos)


def _amount(bound: Bound, number: int) -> str:
    if bound.kind == WALL:
        return minutes_words(number)
    if bound.rule in ("job-minutes", "minutes", "running-minutes"):
        hours = figure(number / HOUR / (1024 if bound.kind == "mem" else 1))
        named = {
            "cpu": _("%(count)s CPU-hours", count=hours),
            "mem": _("%(count)s GB-hours of memory", count=hours),
            "gres/gpu": _("%(count)s GPU-hours", count=hours),
        }
        return named.get(bound.kind) or _("%(count)s hours of %(kind)s", count=hours, kind=printable(bound.kind))
    if bound.kind == "mem":
        return memory_words(number)
    counted = {
        JOBS: plural("%(count)s job", "%(count)s jobs", number),
        "cpu": plural("%(count)s CPU", "%(count)s CPUs", number),
        "gres/gpu": plural("%(count)s GPU", "%(count)s GPUs", number),
        "gres/shard": plural("%(count)s part of a GPU", "%(count)s parts of a GPU", number),
    }
    return counted.get(bound.kind) or _("%(count)s of %(kind)s", kind=printable(bound.kind), count=number)
