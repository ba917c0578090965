"""What each worker of a Dask cluster asks for: what a person has said, and the running session for the rest. Runs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from studiolo.request import Request
from studiolo.session import Session
from studiolo.site import Site

__all__ = ["capped", "worker_options"]

SIZE = ("profile", "partition", "cpus", "memory", "minutes", "reservation", "features", "environment", "account", "qos")


def worker_options(site: Site, own: Session | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options for the gate (:func:`studiolo.request.check`): those given, the rest like this session as far as that fits.

    With ``gpus`` a worker has so many, and their share of its node; without, none. Where the session has no GPU, or has some
    that a worker is not to have, the site's first profile that fits is taken in place of the session's.
    """
    like = own.like(*SIZE) if own else {}
    asked = {name: value for name, value in given.items() if value is not None}
    if "hours" in asked:
        like.pop("minutes", None)
    if "profile" in asked:
        return _charged(site, like, str(asked["profile"])) | asked
    had = dict(own.asked) if own else {}
    if "gpus" in asked:
        base = _shared(like, int(had["gpus"])) if had.get("gpus") else _first(site, like, gpus=True) or like
    elif had and not (had.get("gpus") or had.get("shards")):
        base = like
    else:
        base = _first(site, like, gpus=False) or like | {"gpus": 0, "shards": 0}
    return base | asked


def capped(request: Request, seconds_left: float | None) -> Request:
    """The request, for no longer than the notebook itself has: a worker ends with it, and shorter jobs start sooner."""
    if seconds_left is None:
        return request
    return replace(request, minutes=max(1, min(request.minutes, math.ceil(seconds_left / 60))))


def _first(site: Site, like: Mapping[str, Any], *, gpus: bool) -> dict[str, Any]:
    """The site's first profile with whole GPUs, for one of them, or without any; empty where there is none."""
    for name, profile in site.profiles.items():
        if bool(profile.gpus) == gpus and not profile.shards:
            size = {"cpus": profile.cpus, "memory": profile.memory} if gpus else {}
            return _charged(site, like, name) | {"profile": name} | _shared(size, max(1, profile.gpus))
    return {}


def _charged(site: Site, like: Mapping[str, Any], profile: str) -> dict[str, Any]:
    """Whom the session charges and what it runs in, where that goes with another profile too."""
    kept = {name: like[name] for name in ("environment",) if name in like}
    chosen = site.profiles.get(profile)
    if chosen is None or "account" not in like:
        return kept
    accounts = site.partitions[chosen.partition].accounts
    if accounts and like["account"] not in accounts:
        return kept
    return kept | {name: like[name] for name in ("account", "qos") if name in like}


def _shared(like: Mapping[str, Any], parts: int) -> dict[str, Any]:
    """CPUs and memory of one of so many parts."""
    divided = {name: max(1, int(like[name]) // parts) for name in ("cpus", "memory") if name in like}
    return dict(like) | divided
