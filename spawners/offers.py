"""What the clusters offer at this moment, for everybody who is logged in: ``GET /hub/api/studiolo/clusters``.

However many ask, Slurm is asked once (:mod:`studiolo.slurm.snapshot`). Told are numbers and the names that the site file
shows anyway: nobody else's name, no operator's remarks.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jupyterhub.apihandlers import APIHandler
from tornado import web

from spawners.engine import SITE_SETTING, Engine, engine_for
from studiolo.errors import printable
from studiolo.site import Partition, Profile, Site
from studiolo.slurm.facts import ClusterFacts, PartitionFacts, ReservationFacts
from studiolo.slurm.resources import Resources
from studiolo.slurm.snapshot import Reading

__all__ = ["ClustersHandler", "offer", "silent_since"]

# What a page might put between its tags is safe there, whoever forgets to escape it.
_TAGS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


class ClustersHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """Every cluster of the site with what is free on it, and the caller's own place in its lines."""

    async def get(self) -> None:
        """Answer ``{"clusters": {name: offer}}``; 403 where nobody is logged in. A silent scheduler is no error."""
        if self.current_user is None:
            raise web.HTTPError(403, "log in first")
        engine = engine_for(self.settings[SITE_SETTING])
        readings = await asyncio.gather(*(cache.get() for cache in engine.facts.values()))
        spawners = getattr(self.current_user, "spawners", {})  # a service has none
        jobs = [(spawner.name, spawner.cluster, spawner.job) for spawner in spawners.values() if spawner.job]
        offers = {
            name: offer(
                engine.site,
                name,
                reading,
                silent_since=silent_since(engine, name),
                person=self.current_user.name,
                jobs={server: job for server, cluster, job in jobs if cluster == name},
                now=time.time(),
            )
            for name, reading in zip(engine.facts, readings, strict=True)
        }
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"clusters": offers}).translate(_TAGS))


def silent_since(engine: Engine, cluster: str) -> float | None:
    """Since when a cluster's scheduler has not answered (seconds since 1970), by whoever asked it last; ``None`` if it does."""
    watcher, reading = engine.watchers[cluster], engine.facts[cluster].last
    heard = max(watcher.heard, reading.facts.taken if reading.facts else 0.0)
    return min(
        (since for since in (watcher.silent_since, reading.silent_since) if since is not None and since > heard),
        default=None,
    )


def offer(
    site: Site,
    cluster: str,
    reading: Reading,
    *,
    silent_since: float | None,
    person: str,
    jobs: Mapping[str, int],
    now: float,
) -> dict[str, Any]:
    """What one cluster offers ``person``, whose own jobs are ``jobs`` (by the name of the server); times since 1970."""
    facts = reading.facts
    names = [name for name in site.partitions if site.cluster_of(name) == cluster]
    found = {name: facts.partitions[name] for name in names if name in facts.partitions} if facts else {}
    return {
        "answers": facts is not None and silent_since is None,
        "silent_since": silent_since,
        "taken": facts.taken if facts else None,
        "partitions": [_partition(name, site.partitions[name], live, facts) for name, live in found.items() if facts],
        "profiles": {
            name: _room(profile, site.partitions[profile.partition], found[profile.partition], now)
            for name, profile in site.profiles.items()
            if profile.partition in found
        },
        "reservations": list(_reservations(site, facts, found.values(), person, now)) if facts else [],
        "waiting": list(_waiting(facts, jobs)) if facts else [],
    }


def _partition(name: str, site: Partition, live: PartitionFacts, facts: ClusterFacts) -> dict[str, Any]:
    total, free, largest = live.total, live.free, live.largest
    return {
        "name": name,
        "title": site.title,
        "open": live.is_up,
        "max_minutes": min(site.max_time, live.max_minutes or site.max_time),
        "nodes": {"total": len(live.nodes), "usable": len(live.usable)},
        "cpus": {"total": total.cpus, "free": free.cpus},
        "memory_mb": {"total": total.memory, "free": free.memory},
        "gpus": {"total": total.gpu_count(site.gpu_type), "free": free.gpu_count(site.gpu_type)},
        "shards": {"total": total.shards, "free": free.shards},
        "largest": {
            "cpus": min(largest.cpus, site.max_cpus),
            "memory_mb": min(largest.memory, site.max_memory),
            "gpus": min(max((node.free.gpu_count(site.gpu_type) for node in live.usable), default=0), site.max_gpus),
            "shards": min(largest.shards, site.max_shards),
        },
        "waiting": facts.waiting(name),
    }


def _room(profile: Profile, site: Partition, live: PartitionFacts, now: float) -> int | None:
    """How many sessions of a profile could start now; ``None`` inside a reservation, where the snapshot does not tell."""
    if profile.reservation:
        return None
    gpus = {site.gpu_type.lower(): profile.gpus} if profile.gpus else {}
    wanted = Resources(profile.cpus, profile.memory, gpus, profile.shards)
    return live.room(wanted, now + profile.time * 60, profile.features)


def _reservations(
    site: Site, facts: ClusterFacts, partitions: Iterable[PartitionFacts], person: str, now: float
) -> Iterator[dict[str, Any]]:
    """Those on our partitions that are not over: everybody's, the person's own, those of the site's accounts."""
    touched = {partition.name: {node.name for node in partition.nodes} for partition in partitions}
    for reservation in facts.reservations:
        where = [name for name, nodes in touched.items() if nodes & set(reservation.nodes)]
        concerns = _concerns(reservation, person, site.accounts)
        if where and concerns and reservation.end > now:
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


def _waiting(facts: ClusterFacts, jobs: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for server, job in jobs.items():
        if place := facts.place(job):
            yield {"server": server, "job": job, "place": place[0], "of": place[1]}
