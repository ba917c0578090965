"""What somebody could ask for instead, to begin sooner: shorter, smaller, or on another partition. Plain decisions.

Every proposal has passed the same gate as what people ask for, so it fits the site's limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from studiolo.errors import RequestError
from studiolo.language import _, plural
from studiolo.request import Request, check
from studiolo.site import Site
from studiolo.units import minutes_words

__all__ = ["WORTH_SECONDS", "Alternative", "alternatives", "compared", "words"]

HOUR = 60
SHORTER = (24 * HOUR, 12 * HOUR, 8 * HOUR, 4 * HOUR, 2 * HOUR, HOUR, HOUR // 2)
MOST_SHORTER = 3
# Later than now, a proposal must save at least so much, and at least half of the wait.
WORTH_SECONDS = 300


@dataclass(frozen=True)
class Alternative:
    """One proposal: the ``options`` that differ from what was asked (``None`` takes one away), and what they come to."""

    what: Literal["partition", "time", "gpus", "half"]
    options: Mapping[str, object]
    request: Request


def alternatives(options: Mapping[str, object], request: Request, site: Site) -> tuple[Alternative, ...]:
    """All that could be proposed in place of ``options``, which come to ``request``; what gives up least stands first."""
    found: list[Alternative] = []
    for what, changes in _changes(options, request, site):
        try:
            changed = check({**options, **changes}, site)
        except RequestError:
            continue  # more than the site allows there
        if changed != request:
            found.append(Alternative(what, changes, changed))
    return tuple(found)


def words(proposal: Alternative, asked: Request, site: Site, *, seconds: float | None) -> str:
    """The sentence of a proposal that starts in so many ``seconds`` (``None``: now), such as "2 h instead of 8 h starts now."."""
    new, old = compared(proposal, asked, site)
    if seconds is None:
        return _("%(new)s instead of %(old)s starts now.", new=new, old=old)
    wait = minutes_words(max(1, round(seconds / 60)))
    return _("%(new)s instead of %(old)s starts in about %(wait)s.", new=new, old=old, wait=wait)


def _changes(
    options: Mapping[str, object], request: Request, site: Site
) -> Iterator[tuple[Literal["partition", "time", "gpus", "half"], dict[str, object]]]:
    named: dict[str, object] = {
        key: None for key in ("hours", "gpus", "shards") if options.get(key) not in (None, "", [])
    }
    here = site.partitions[request.partition]
    for name, partition in site.partitions.items():
        # The same hardware, as far as the site file tells. A reservation is on its own partition.
        if name != request.partition and partition.gpu_type == here.gpu_type and request.reservation is None:
            yield "partition", {"partition": name}
    shorter = [minutes for minutes in SHORTER if minutes < request.minutes][:MOST_SHORTER]
    for minutes in shorter:
        yield "time", {**_only(named, "hours"), "minutes": minutes}
    for gpus, shards in _smaller(request, site):
        size: dict[str, object] = {"shards": shards} if shards else {"gpus": gpus}
        taken: dict[str, object] = {key: None for key in ("gpus", "shards") if key in named and key not in size}
        share = _share(gpus, shards, request, site)
        # CPUs and memory in proportion: else they would not fit where the smaller part does.
        yield "gpus", {**taken, **size, "cpus": max(1, int(request.cpus * share)), "memory": _part(request, share)}
    if not (request.gpus or request.shards) and request.cpus > 1:
        yield "half", {"cpus": request.cpus // 2, "memory": _part(request, 0.5)}


def _only(named: Mapping[str, object], key: str) -> dict[str, object]:
    return {key: None} if key in named else {}


def _part(request: Request, share: float) -> str:
    return f"{max(1, int(request.memory * share))}M"


def _smaller(request: Request, site: Site) -> Iterator[tuple[int, int]]:
    """Fewer GPUs, then parts of one, each half of the one before."""
    partition = site.partitions[request.partition]
    gpus, shards = request.gpus // 2, request.shards // 2
    while gpus:
        yield gpus, 0
        gpus //= 2
    if request.gpus:
        shards = partition.shards_per_gpu // 2
    while shards and partition.max_shards:
        yield 0, shards
        shards //= 2


def _share(gpus: int, shards: int, request: Request, site: Site) -> float:
    per_gpu = site.partitions[request.partition].shards_per_gpu or 1
    return (gpus + shards / per_gpu) / (request.gpus + request.shards / per_gpu)


def compared(proposal: Alternative, asked: Request, site: Site) -> tuple[str, str]:
    """What a proposal changes, new and old in words: ``("2 h", "8 h")``."""
    new = proposal.request
    if proposal.what == "partition":
        return _title(new, site), _title(asked, site)
    if proposal.what == "time":
        return minutes_words(new.minutes), minutes_words(asked.minutes)
    if proposal.what == "gpus":
        return _gpus(new, site), _gpus(asked, site)
    return _cpus(new), _cpus(asked)


def _title(request: Request, site: Site) -> str:
    return site.partitions[request.partition].title or request.partition


def _cpus(request: Request) -> str:
    return plural("%(count)s CPU", "%(count)s CPUs", request.cpus)


def _gpus(request: Request, site: Site) -> str:
    if request.gpus:
        return plural("%(count)s GPU", "%(count)s GPUs", request.gpus)
    per_gpu = site.partitions[request.partition].shards_per_gpu
    if request.shards * 4 == per_gpu:
        return _("a quarter of a GPU")
    if request.shards * 2 == per_gpu:
        return _("half a GPU")
    return _("%(part)s/%(all)s of a GPU", part=request.shards, all=per_gpu)
