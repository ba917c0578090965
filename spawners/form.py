"""The start page's form: :class:`~studiolo.site.Site` -> HTML; form data -> the same options that REST takes.

What is live on the page (what starts when, what is free) comes by script from the offers; everything here is there
without a script and with a scheduler that does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from studiolo.errors import Fault
from studiolo.language import _, plural
from studiolo.request import FIELDS
from studiolo.site import Profile, Site
from studiolo.units import memory_words, minutes_words, parse_memory, parse_minutes

__all__ = ["choice_words", "choices", "field_of", "needs", "options", "outlook", "render", "words"]


def render(
    site: Site,
    values: Mapping[str, object],
    faults: Iterable[Fault] = (),
    live: Mapping[str, Any] | None = None,
) -> str:
    """Return the form's HTML, filled in with ``values``, each fault at its field; everything in it is escaped.

    ``live`` are the offers: what each card would mean now, as far as that is known.
    """
    shown = {key: _text(values.get(key)) for key in FIELDS}
    if shown["profile"] not in site.profiles:
        shown["profile"] = site.default_profile
    if not shown["minutes"] and shown["hours"]:
        shown["minutes"] = f"{shown['hours']}h"
    qos = {qos: "" for account in site.accounts.values() for qos in account.qos}
    titles = {
        "partition": [(name, entry.title) for name, entry in site.partitions.items()],
        "account": [(name, entry.title) for name, entry in site.accounts.items()],
        "environment": [(name, entry.title) for name, entry in site.environments.items()],
        "qos": list(qos.items()),
    }
    told: dict[str, str] = {}
    for fault in faults:
        field = field_of(fault.where)
        told[field] = f"{told[field]}; {fault.allowed}" if field in told else fault.allowed
    return _template().render(
        _=_,
        site=site,
        values=shown,
        titles=titles,
        features=list(dict.fromkeys(f for partition in site.partitions.values() for f in partition.features)),
        wanted_features=[part.strip() for part in shown["features"].split(",")],
        has_gpus=any(partition.max_gpus for partition in site.partitions.values()),
        has_shards=any(partition.max_shards for partition in site.partitions.values()),
        live={name: _live(live, name) for name in site.profiles},
        needs={name: needs(site, profile) for name, profile in site.profiles.items()},
        faults=told,
        open_details=any(value for key, value in shown.items() if key != "profile"),
    )


def options(data: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Form data (each field a list) -> options, empty fields left out; unknown fields stay in, for the gate to refuse."""
    read: dict[str, object] = {}
    for key, values in data.items():
        if key == "_xsrf":
            continue
        filled = [value for value in values if value]
        if filled:
            # A link holds several in one, with commas.
            names = [name.strip() for value in filled for name in value.split(",") if name.strip()]
            read[key] = names if key == "features" else filled[0]
    return read


def field_of(where: str) -> str:
    """The form's field that a fault belongs to; empty where it has none."""
    return "minutes" if where == "hours" else where if where in FIELDS else ""


def needs(site: Site, profile: Profile) -> str:
    """What a profile has, in one line: ``"a quarter of a GPU · 4 CPUs · 16 GB · up to 2 h"``."""
    parts = [accelerator_words(site, profile)] if profile.gpus or profile.shards else []
    parts.append(plural("%(count)s CPU", "%(count)s CPUs", profile.cpus))
    parts += [memory_words(profile.memory), _("up to %(time)s", time=minutes_words(profile.time))]
    return " · ".join(parts)


def accelerator_words(site: Site, profile: Profile) -> str:
    """A profile's GPUs or the part of one, in words."""
    partition = site.partitions[profile.partition]
    kind = f" ({partition.gpu_type.upper()})" if partition.gpu_type else ""
    if profile.gpus:
        return plural("%(count)s GPU", "%(count)s GPUs", profile.gpus) + kind
    named = {
        (1, 4): _("a quarter of a GPU"),
        (1, 2): _("half a GPU"),
        (2, 4): _("half a GPU"),
        (3, 4): _("three quarters of a GPU"),
    }
    part = (profile.shards, partition.shards_per_gpu)
    return named.get(part, _("%(part)s of a GPU", part=f"{profile.shards}/{partition.shards_per_gpu}")) + kind


def choice_words(site: Site, chosen: Mapping[str, object]) -> str:
    """A choice in one line, granted or not: ``"One GPU · 8 h · 16 CPUs"``. To be escaped: values are people's own."""
    given = {key: text for key in FIELDS if (text := _text(chosen.get(key)))}
    name = given.pop("profile", site.default_profile)
    profile = site.profiles.get(name)
    time = _minutes(given.pop("minutes", "")) or _minutes(f"{given.pop('hours')}h" if "hours" in given else "")
    parts = [profile.title if profile else name]
    if time or profile:
        parts.append(time or minutes_words(profile.time if profile else 0))
    named: dict[str, Mapping[str, Any]] = {
        "partition": site.partitions,
        "account": site.accounts,
        "environment": site.environments,
    }
    for key, text in given.items():
        if key in ("gpus", "shards", "cpus"):
            parts.append(_counted(key, text))
        elif key == "memory":
            parts.append(_memory(text))
        elif key in named:
            entry = named[key].get(text)
            parts.append(entry.title if entry and entry.title else text)
        else:
            parts.append(text)
    return " · ".join(parts)


def choices(site: Site) -> dict[str, Any]:
    """The site's limits and what its profiles are, for the script that keeps fields within them."""
    return {
        "profiles": {
            name: {
                "title": profile.title,
                "partition": profile.partition,
                "gpus": profile.gpus,
                "shards": profile.shards,
                "cpus": profile.cpus,
                "memory": memory_words(profile.memory),
                "minutes": profile.time,
                "account": profile.account,
                "qos": profile.qos,
            }
            for name, profile in site.profiles.items()
        },
        "partitions": {
            name: {
                "title": partition.title or name,
                "max_cpus": partition.max_cpus,
                "max_memory_mb": partition.max_memory,
                "max_minutes": partition.max_time,
                "max_gpus": partition.max_gpus,
                "max_shards": partition.max_shards,
                "shards_per_gpu": partition.shards_per_gpu,
                "accounts": list(partition.accounts),
                "features": list(partition.features),
            }
            for name, partition in site.partitions.items()
        },
        "accounts": {
            name: {"title": account.title or name, "qos": list(account.qos)} for name, account in site.accounts.items()
        },
    }


def words() -> dict[str, str]:
    """The script's texts; it fills in what stands as ``%(name)s``."""
    return {
        "minutes": _("%(number)s min"),
        "hours": _("%(number)s h"),
        "days": _("%(number)s d"),
        "mb": _("%(number)s MB"),
        "gb": _("%(number)s GB"),
        "tb": _("%(number)s TB"),
        "now": _("Starts now"),
        "in": _("Starts in about %(time)s"),
        "at": _("Starts about %(time)s"),
        "later": _("Has to wait; nobody can say yet how long"),
        "unknown": _("When it starts is not known"),
        "never": _("Can not start as it stands"),
        "asking": _("Asking when this would start …"),
        "free_gpus": _("GPUs: %(free)s of %(total)s free"),
        "free_shards": _("Parts of GPUs: %(free)s of %(total)s free"),
        "free_cpus": _("CPUs: %(free)s of %(total)s free"),
        "waiting": _("%(count)s waiting"),
        "cost": _("Costs up to %(cost)s GPU-hours"),
        "cost_left": _("Costs up to %(cost)s GPU-hours of the %(left)s that %(project)s has left"),
        "cost_none": _("Costs no GPU-hours"),
        "start": _("Start"),
        "start_now": _("Start: %(what)s, %(time)s, starts now"),
        "start_in": _("Start: %(what)s, %(time)s, in about %(wait)s"),
        "start_at": _("Start: %(what)s, %(time)s, about %(wait)s"),
        "start_later": _("Start: %(what)s, %(time)s, has to wait"),
        "start_unknown": _("Start: %(what)s, %(time)s"),
        "start_anyway": _("Start all the same: %(what)s, %(time)s"),
        "starting": _("Starting …"),
        "silent": _(
            "The machine's scheduler has not answered since %(time)s. Until it does, nothing can be started, and what "
            "is free is not known. This page goes on asking."
        ),
        "silent_always": _(
            "The machine's scheduler does not answer. Until it does, nothing can be started, and what is free is not "
            "known. This page goes on asking."
        ),
        "range": _("From %(least)s to %(most)s here"),
        "most": _("At most %(most)s here"),
        "as_card": _("as in the card: %(value)s"),
        "no_gpus": _("This part of the machine has no GPUs"),
        "no_shards": _("This part of the machine has no GPUs in parts"),
        "gpus_or_shards": _("Whole GPUs or parts of one, not both"),
        "closed": _("%(name)s (closed at the moment)"),
        "not_here": _("%(name)s (not on this partition)"),
        "not_yours": _("%(name)s (not yours)"),
        "not_in_project": _("%(name)s (not in this project)"),
        "with_left": _("%(name)s (%(left)s GPU-hours left)"),
        "copied": _("The link is copied. It fills in this page for whoever opens it, and starts nothing."),
        "copy_it": _("Copy this link. It fills in this page for whoever opens it, and starts nothing."),
        "delete": _("Delete the preset “%(name)s”?"),
        "deleted": _("The preset “%(name)s” is deleted."),
        "failed": _("That did not work. Try again in a moment."),
        "name_first": _("Give it a name first."),
    }


def _live(offers: Mapping[str, Any] | None, name: str) -> dict[str, str]:
    known = offers["profiles"].get(name) if offers else None
    return outlook(known, offers["now"] if offers else 0)


def outlook(known: Mapping[str, Any] | None, now: int) -> dict[str, str]:
    """What the script would show first of a choice: when it starts, and what hinders it."""
    if not known or known["starts"] == "unknown":
        return {"kind": "", "starts": "", "obstacle": ""}
    told = {"now": _("Starts now"), "never": _("Can not start as it stands")}
    starts = told.get(known["starts"], _("Has to wait; nobody can say yet how long"))
    if known["starts"] == "later" and known["expected"]:
        minutes = max(1, round((known["expected"] - now) / 60))
        starts = _("Starts in about %(time)s", time=minutes_words(minutes))
    return {"kind": known["starts"], "starts": starts, "obstacle": (known["obstacle"] or {}).get("text", "")}


def _counted(key: str, text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return text
    count = int(text)
    if key == "gpus":
        return plural("%(count)s GPU", "%(count)s GPUs", count)
    if key == "shards":
        return plural("%(count)s part of a GPU", "%(count)s parts of a GPU", count)
    return plural("%(count)s CPU", "%(count)s CPUs", count)


def _minutes(text: str) -> str:
    try:
        return minutes_words(parse_minutes(text)) if text else ""
    except ValueError:
        return text


def _memory(text: str) -> str:
    try:
        return memory_words(parse_memory(text))
    except ValueError:
        return text


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


@lru_cache(maxsize=1)
def _template() -> Template:
    loader = PackageLoader("spawners", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        "form.html"
    )
