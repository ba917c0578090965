"""The start page's form: :class:`~studiolo.site.Site` -> HTML; form data -> the same options that REST takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from studiolo.request import FIELDS
from studiolo.site import Profile, Site
from studiolo.units import memory_words, minutes_words

__all__ = ["options", "render"]


def render(site: Site, values: Mapping[str, object]) -> str:
    """Return the form's HTML, filled in with ``values``; everything in it is escaped."""
    shown = {key: _text(values.get(key)) for key in FIELDS}
    if shown["profile"] not in site.profiles:
        shown["profile"] = site.default_profile
    qos = {qos: "" for account in site.accounts.values() for qos in account.qos}
    features = {feature: "" for partition in site.partitions.values() for feature in partition.features}
    titles = {
        "partitions": [(name, entry.title) for name, entry in site.partitions.items()],
        "accounts": [(name, entry.title) for name, entry in site.accounts.items()],
        "environments": [(name, entry.title) for name, entry in site.environments.items()],
        "qos": list(qos.items()),
        "features": list(features.items()),
    }
    return _template().render(
        site=site,
        values=shown,
        titles=titles,
        needs={name: needs(site, profile) for name, profile in site.profiles.items()},
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
            read[key] = filled if key == "features" else filled[0]
    return read


def needs(site: Site, profile: Profile) -> str:
    """What a profile has, in one line: ``"a quarter of a GPU · 4 CPUs · 16 GB · up to 2 h"``."""
    parts = [accelerator_words(site, profile)] if profile.gpus or profile.shards else []
    parts.append("1 CPU" if profile.cpus == 1 else f"{profile.cpus} CPUs")
    parts += [memory_words(profile.memory), f"up to {minutes_words(profile.time)}"]
    return " · ".join(parts)


def accelerator_words(site: Site, profile: Profile) -> str:
    """A profile's GPUs or the part of one, in words."""
    partition = site.partitions[profile.partition]
    kind = f" ({partition.gpu_type.upper()})" if partition.gpu_type else ""
    if profile.gpus:
        return f"{profile.gpus} GPU{'s' if profile.gpus > 1 else ''}{kind}"
    named = {
        (1, 4): "a quarter of a GPU",
        (1, 2): "half a GPU",
        (2, 4): "half a GPU",
        (3, 4): "three quarters of a GPU",
    }
    part = (profile.shards, partition.shards_per_gpu)
    return named.get(part, f"{profile.shards}/{partition.shards_per_gpu} of a GPU") + kind


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
