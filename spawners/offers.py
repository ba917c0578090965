"""What somebody could have now, before they choose: ``GET /hub/api/studiolo/offers``, its events, ``POST …/estimate``.

However many look, Slurm is asked once (:mod:`spawners.choosing`). Told are numbers, the names that the site file shows
anyway, and the caller's own accounts: nobody else's name, no operator's remarks.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jupyterhub.apihandlers import APIHandler
from tornado import web

from spawners.alternatives import words
from spawners.callers import TAGLESS
from spawners.choosing import Choosing, Proposal
from spawners.engine import SITE_SETTING, engine_for
from spawners.presets import PresetsUnreadable, presets_of
from spawners.streams import EventStream
from spawners.verdict import PartitionView, Verdict, View, cost
from studiolo.errors import Fault, RequestError, printable
from studiolo.request import Request
from studiolo.site import Site
from studiolo.slurm.budgets import GpuHours
from studiolo.slurm.facts import ReservationFacts
from studiolo.slurm.resources import Resources

__all__ = ["EstimateHandler", "OffersEventsHandler", "OffersHandler", "estimate", "kept", "offers"]

MAX_BODY = 16384
AGEING_SECONDS = 15.0


class _Handler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    @property
    def choosing(self) -> Choosing:
        """What the hub knows."""
        return engine_for(self.settings[SITE_SETTING]).choosing

    def person(self) -> str:
        """Who asks; empty for a service, which has no accounts. 403 where nobody is logged in."""
        if self.current_user is None:
            raise web.HTTPError(403, "log in first")
        return str(self.current_user.name) if hasattr(self.current_user, "spawners") else ""

    def may_ask(self) -> bool:
        """Whether Slurm may be asked in the caller's name: they are a person, whose token may start sessions."""
        if not self.person():
            return False
        return bool(self.get_scope_filter("servers")(self.current_user.orm_user, "user"))

    def told(self) -> dict[str, Any]:
        """The offers to the caller, as they are now."""
        may_ask = self.may_ask()
        # A token that may do nothing, a stranger's server's say, is told nothing of its owner's projects.
        person, now = self.person() if may_ask else "", time.time()
        told = offers(self.choosing, person, now, may_ask=may_ask)
        return {**told, "kept": self._kept(person, now) if person else None}

    def _kept(self, person: str, now: float) -> dict[str, Any]:
        """The caller's presets, and what they chose last for the session that is named in the address."""
        try:
            presets = presets_of(self.choosing.site, person).all()
        except PresetsUnreadable as error:
            self.log.error("%s", error)
            presets = {}
        found = self.current_user.orm_spawners.get(self.get_argument("session", ""))
        return kept(self.choosing, (found.user_options if found else None) or {}, presets, person, now, may_ask=True)

    def answer(self, content: object) -> None:
        """Finish with JSON that no cache keeps."""
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(content).translate(TAGLESS))


class OffersHandler(_Handler):
    """What the caller could have now."""

    async def get(self) -> None:
        """Answer the offers; 403 where nobody is logged in. A silent scheduler is no error."""
        self.person()
        await self.choosing.look()
        self.answer(self.told())


class OffersEventsHandler(EventStream, _Handler):
    """The same, again whenever it has changed, as events."""

    _edition: object = None
    _looked = float("-inf")

    def listener(self) -> str:
        """Anybody who is logged in."""
        return self.person()

    async def news(self) -> dict[str, Any] | None:
        """The offers. Two hundred open pages would otherwise compute the same all the time; what ages does so more slowly."""
        await self.choosing.look()
        now = asyncio.get_running_loop().time()
        if (newest := self.choosing.edition()) == self._edition and now - self._looked < AGEING_SECONDS:
            return None
        self._edition, self._looked = newest, now
        return self.told()


class EstimateHandler(_Handler):
    """When a session of the caller's own choice would begin, and what it would cost. Starts nothing."""

    async def post(self) -> None:
        """Take ``{"user_options": {…}}``; 400 for another body, 413 for a long one, 403 for who may start no session."""
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413, "the body is too long")
        if not self.may_ask():
            raise web.HTTPError(403, "this is for people who may start sessions")
        body = self.get_json_body()
        options = body.get("user_options") if isinstance(body, dict) and set(body) == {"user_options"} else None
        if not isinstance(options, dict):
            raise web.HTTPError(400, "the body must be a JSON object with exactly: user_options, an object")
        await self.choosing.look()
        self.answer(await estimate(self.choosing, self.person(), options, time.time()))


# --- What is told ----------------------------------------------------------------------------------------------------


def offers(choosing: Choosing, person: str, now: float, *, may_ask: bool) -> dict[str, Any]:
    """What ``person`` could have now, for each profile; times in seconds since 1970. Texts are in the caller's language."""
    site = choosing.site
    silent = [since for name in site.clusters if (since := choosing.silent_since(name)) is not None]
    views = {name: choosing.view(name, now) for name in site.clusters}
    return {
        "now": int(now),
        "answers": all(choosing.answers(name) for name in site.clusters),
        "silent_since": min(silent, default=None),
        "profiles": {name: _profile(choosing, name, views, person, now, may_ask=may_ask) for name in site.profiles},
        "accounts": dict(_accounts(choosing, views, person)),
        "partitions": {name: _partition(site, name, views[site.cluster_of(name)]) for name in site.partitions},
        "reservations": [told for view in views.values() if view for told in _reservations(site, view, person, now)],
    }


def kept(
    choosing: Choosing,
    last: Mapping[str, object],
    presets: Mapping[str, Mapping[str, object]],
    person: str,
    now: float,
    *,
    may_ask: bool,
) -> dict[str, Any]:
    """What somebody's ``last`` choice and their presets would mean now; ``None`` for what the site does not allow."""
    site = choosing.site

    def told(options: Mapping[str, object]) -> dict[str, Any] | None:
        found = choosing.kept(options, person, now, may_ask=may_ask)
        return {**_verdict(found[1]), **_cost(found[0], site)} if found else None

    return {"last": told(last) if last else None, "presets": {name: told(options) for name, options in presets.items()}}


async def estimate(choosing: Choosing, person: str, options: Mapping[str, object], now: float) -> dict[str, Any]:
    """What the knobs as they stand would come to; asks Slurm where only it can tell."""
    nothing = {"starts": "never", "expected": None, "cost": None, "obstacle": None, "instead": None}
    try:
        request, verdict, instead = await choosing.asked(options, person, now)
    except RequestError as error:
        return {**nothing, "faults": [_fault(fault) for fault in error.faults]}
    site = choosing.site
    return {**_verdict(verdict), **_cost(request, site), **_instead(instead, request, site, now), "faults": []}


def _profile(
    choosing: Choosing, name: str, views: Mapping[str, View | None], person: str, now: float, *, may_ask: bool
) -> dict[str, Any]:
    site = choosing.site
    request, verdict, instead = choosing.profile(name, person, now, may_ask=may_ask)
    view = views[request.cluster]
    place = view.partitions.get(request.partition) if view else None
    gpu_type = site.partitions[request.partition].gpu_type
    return {
        **_verdict(verdict),
        "room": verdict.room,
        "free": _amounts(place.free if place else None, gpu_type),
        "total": _amounts(place.total if place else None, gpu_type),
        "waiting": place.line if place else None,
        **_cost(request, site),
        **_instead(instead, request, site, now),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    found = verdict.obstacle
    told = {"kind": found.kind, "until": found.until, "text": found.text} if found else None
    return {"starts": verdict.starts, "expected": verdict.expected, "obstacle": told}


def _cost(request: Request, site: Site) -> dict[str, Any]:
    gpu_hours, cpu_hours = cost(request, site)
    return {"cost": {"gpu_hours": round(gpu_hours, 3), "cpu_hours": round(cpu_hours, 3)}}


def _instead(instead: Proposal | None, request: Request, site: Site, now: float) -> dict[str, Any]:
    if instead is None:
        return {"instead": None}
    proposal, verdict = instead
    told = {"options": dict(proposal.options), "text": words(proposal, verdict, request, site, now)}
    return {"instead": {**told, "starts": verdict.starts, "expected": verdict.expected}}


def _amounts(amounts: Resources | None, gpu_type: str) -> dict[str, int | None]:
    if amounts is None:
        return dict.fromkeys(("gpus", "shards", "cpus", "memory_mb"))
    return {
        "gpus": amounts.gpu_count(gpu_type),
        "shards": amounts.shards,
        "cpus": amounts.cpus,
        "memory_mb": amounts.memory,
    }


def _fault(fault: Fault) -> dict[str, str]:
    return {"field": printable(fault.where), "value": fault.value, "text": str(fault)}


def _accounts(
    choosing: Choosing, views: Mapping[str, View | None], person: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The person's own accounts of those that the site file names, and the one that is charged where none is chosen."""
    site, told = choosing.site, set()
    names = {name.lower(): name for name in site.accounts}
    for cluster, view in views.items():
        who = choosing.payer(cluster, person)
        if who.accounts is None or who.budgets is None:
            continue
        billing = [place.live.gpu_billing for place in view.partitions.values()] if view else []
        for account in sorted((who.accounts & set(names)) | ({who.default} if who.default else set())):
            if account not in told:
                told.add(account)
                hours = who.budgets.gpu_hours(person, account, max(billing, default=0.0))
                yield names.get(account, account), _account(site, names.get(account, ""), hours, account == who.default)
    if person and not told:  # Slurm does not tell whose they are
        for name in site.accounts:
            yield name, _account(site, name, GpuHours(), default=False)


def _account(site: Site, name: str, hours: GpuHours, default: bool) -> dict[str, Any]:
    amounts = {"limit": hours.limit, "used": hours.used, "left": hours.left}
    return {
        "title": site.accounts[name].title if name else "",
        "gpu_hours": {key: None if value is None else round(value, 2) for key, value in amounts.items()},
        "default": default,
    }


def _partition(site: Site, name: str, view: View | None) -> dict[str, Any]:
    entry = site.partitions[name]
    place: PartitionView | None = view.partitions.get(name) if view else None
    longest = place.live.max_minutes if place else None
    return {
        "title": entry.title,
        "open": (place is not None and place.live.is_up) if view else None,
        "max_cpus": entry.max_cpus,
        "max_memory_mb": entry.max_memory,
        "max_minutes": min(entry.max_time, longest or entry.max_time),
        "max_gpus": entry.max_gpus,
        "max_shards": entry.max_shards,
        "shards_per_gpu": entry.shards_per_gpu,
        "gpu_type": entry.gpu_type,
        "features": list(entry.features),
        "accounts": [
            account
            for account in entry.accounts or site.accounts
            if place is None or place.live.accounts.admits([account.lower()])
        ],
    }


def _reservations(site: Site, view: View, person: str, now: float) -> Iterator[dict[str, Any]]:
    """Those on our partitions that are not over: everybody's, the person's own, those of the site's accounts."""
    for reservation in view.facts.reservations:
        concerns = _concerns(reservation, person, site.accounts)
        if not concerns or reservation.end <= now:
            continue
        where = [name for name, place in view.partitions.items() if place.names.intersection(reservation.nodes)]
        if where:
            yield {
                "name": printable(reservation.name),
                "for": concerns,
                "accounts": sorted((reservation.accounts.only or frozenset()) & set(site.accounts)),
                "maintenance": reservation.is_maintenance,
                "start": reservation.start,
                "end": reservation.end,
                "partitions": where,
                "nodes": len(reservation.nodes),
            }


def _concerns(reservation: ReservationFacts, person: str, accounts: Iterable[str]) -> str:
    if reservation.is_maintenance:
        return "everybody"
    if reservation.users.only is not None:
        return "you" if reservation.names(person) else ""
    if reservation.groups.only is not None:
        return ""  # who belongs to a group is not asked here: that may take a directory service some seconds
    if reservation.accounts.only is not None:
        return "accounts" if reservation.accounts.only & set(accounts) else ""
    return "everybody"
