"""A person's own sessions, for pages and scripts: ``GET /hub/api/studiolo/sessions``, and the same as events.

Everything told is known already: to the spawners, to the watchers that ask Slurm once for everybody, to the sessions' own
reports. What people have besides sessions comes from one look at the queue, twice a minute for all who look. So however many
pages are open, and however silent Slurm is, nobody waits for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyterhub.apihandlers import APIHandler
from jupyterhub.user import User
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web

from spawners.callers import TAGLESS
from spawners.endings import endings
from spawners.engine import SITE_SETTING, Engine, engine_for
from spawners.everything import in_queue, others
from spawners.extend import room_for
from spawners.streams import EventStream
from spawners.usage import Usage
from studiolo.cost import amount, held
from studiolo.language import _, plural
from studiolo.request import Request
from studiolo.rightsize import advice, smaller
from studiolo.site import Site
from studiolo.slurm.reasons import pending_words
from studiolo.slurm.states import JobState
from studiolo.units import memory_words
from studiolo.views import JobView

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = [
    "Seen",
    "SessionEvents",
    "SessionsHandler",
    "described",
    "last_use",
    "look_at",
    "overview",
    "resources_words",
]

HOUR = 3600
LAST_SECONDS = 7 * 24 * HOUR


@dataclass(frozen=True)
class Seen:
    """One session as the hub sees it at this moment: what JupyterHub says (``pending``: ``"spawn"``, ``"stop"``, or
    empty), what was asked for, what Slurm says of its job, what it reported, and how much longer it may run."""

    name: str
    title: str
    url: str
    progress_url: str
    ready: bool = False
    pending: str = ""
    request: Request | None = None
    job: int | None = None
    state: JobState | None = None
    usage: Usage | None = None
    may_extend_minutes: int = 0


def described(seen: Seen, site: Site, now: float) -> dict[str, Any]:
    """What is told of one session; times in seconds since 1970, memory in mebibytes, cost since its job's start."""
    kind, words = _state(seen)
    runs = seen.state is not None and seen.state.runs_somewhere
    started = seen.state.start if seen.state and runs else None
    ends = seen.state.end if seen.state and runs else None
    return {
        "name": seen.name,
        "title": seen.title,
        "state": kind,
        "words": words,
        "job": seen.job,
        "node": seen.state.node if seen.state and runs else None,
        "profile": seen.request.profile if seen.request else None,
        "profile_title": site.profiles[seen.request.profile].title if seen.request else None,
        "resources": _resources(seen.request),
        "resources_words": resources_words(site, seen.request) if seen.request else "",
        "started": started,
        "ends": ends,
        "cost": _cost(site, seen.request, started, now),
        "usage": _usage(seen.usage) if runs else None,
        "may_extend_minutes": seen.may_extend_minutes if kind == "ready" else 0,
        "url": seen.url,
        "progress_url": seen.progress_url,
    }


def _state(seen: Seen) -> tuple[str, str]:
    if seen.pending == "stop":
        return "stopping", _("Being stopped.")
    if seen.ready:
        return "ready", _("Running.")
    if seen.job is None:
        return "submitting", _("Being handed to the machine's scheduler.")
    if seen.state is None or seen.state.is_pending:
        return "pending", pending_words(seen.state.reason) if seen.state else _("In the queue.")
    return "starting", _("Its notebook server is starting.")


def _resources(request: Request | None) -> dict[str, int] | None:
    if request is None:
        return None
    return {"cpus": request.cpus, "memory_mb": request.memory, "gpus": request.gpus, "shards": request.shards}


def resources_words(site: Site, asked: Any) -> str:
    """CPUs, memory and GPUs of a request or profile in one line."""
    partition = site.partitions[asked.partition]
    kind = partition.gpu_type.upper() or "GPU"
    parts = []
    if asked.gpus:
        parts.append(plural("%(count)s GPU (%(kind)s)", "%(count)s GPUs (%(kind)s)", asked.gpus, kind=kind))
    if asked.shards:
        parts.append(_("%(part)s of a GPU (%(kind)s)", part=f"{asked.shards}/{partition.shards_per_gpu}", kind=kind))
    parts += [plural("%(count)s CPU", "%(count)s CPUs", asked.cpus), memory_words(asked.memory)]
    return " · ".join(parts)


def _cost(site: Site, request: Request | None, started: int | None, now: float) -> dict[str, float]:
    if request is None or started is None:
        return {"gpu_hours": 0.0, "cpu_hours": 0.0}
    spent = amount(held(request, site), now - started, site.prices)
    return {"gpu_hours": round(spent.gpu_hours, 4), "cpu_hours": round(spent.cpu_hours, 4)}


def _usage(usage: Usage | None) -> dict[str, float | int | None] | None:
    if usage is None:
        return None
    return {"cpu": usage.cpu, "memory_mb": usage.memory_mb, "gpu": usage.gpu, "taken": int(usage.taken)}


# --- From the hub's own objects --------------------------------------------------------------------------------------


def overview(user: Any, site_file: str, hub_url: str, now: float) -> dict[str, Any]:
    """Everything about a person's sessions: ``{"now", "answers", "sessions", "others", "jobs", "ended", "last"}``. Asks nobody.

    ``others`` and ``jobs`` are ``None`` as long as the scheduler has never told what there is.
    """
    engine = engine_for(site_file)
    seen = [_seen(user, spawner, hub_url) for spawner in user.spawners.values() if spawner.active]
    seen.sort(key=lambda one: (one.name != "", one.title.casefold()))
    clusters = {spawner.cluster for spawner in user.spawners.values() if spawner.active and spawner.cluster}
    caches = engine.jobs
    told = all(cache.last.facts is not None for cache in caches.values())
    answers = all(engine.choosing.silent_since(name) is None for name in clusters)
    return {
        "now": int(now),
        "answers": answers and all(cache.last.trouble is None for cache in caches.values()),
        "sessions": [described(one, engine.site, now) for one in seen],
        "others": others(job for cache in caches.values() for job in cache.of(user.name)) if told else None,
        "jobs": [job_words(view) for view in in_queue(caches, user.name)] if told else None,
        "ended": endings(user, hub_url, now),
        "last": last_use(_records(user), engine.site, now),
    }


def job_words(view: JobView) -> dict[str, Any]:
    """What is told of a batch run or Dask cluster; times in seconds since 1970."""
    return {
        "id": view.identity,
        "kind": view.kind,
        "title": view.name,
        "state": view.state,
        "words": view.words,
        "jobs": list(view.jobs),
        "asked": view.asked,
        "started": view.started,
        "expected": view.expected,
        "ends": view.ends,
    }


def look_at(user: Any, engine: Engine, now: float) -> None:
    """Somebody looks: their sessions report more often, and what the queue holds for everybody is asked for anew where it is
    old. Where a session can be extended, so are the reservations ahead, with the snapshot that everybody shares. All of it is
    there at the next look."""
    for cache in engine.jobs.values():
        cache.renew()
    for spawner in user.spawners.values():
        spawner.looked_at = now
        request = spawner.request_now if spawner.ready else None
        partition = spawner.engine.site.partitions.get(request.partition) if request else None
        if partition and partition.max_extension:
            spawner.engine.keep(spawner.engine.facts[spawner.cluster].get())


def _seen(user: Any, spawner: StudioloSpawner, hub_url: str) -> Seen:
    engine = spawner.engine
    watcher, cache = engine.watchers.get(spawner.cluster), engine.facts.get(spawner.cluster)
    state = watcher.state(spawner.job) if watcher is not None and spawner.job is not None else None
    request = spawner.request_now
    partition = engine.site.partitions.get(request.partition) if request else None
    facts = cache.last.facts if cache else None
    room = 0
    if request and partition:
        room = room_for(partition, state, facts.reservations if facts else (), request.reservation).minutes
    name = url_escape_path(spawner.name)
    return Seen(
        name=spawner.name,
        title=title_of(spawner),
        url=str(user.server_url(spawner.name)),
        progress_url=str(url_path_join(hub_url, "spawn-pending", user.escaped_name, name)),
        ready=bool(spawner.ready),
        pending=str(spawner.pending or ""),
        request=request,
        job=spawner.job,
        state=state,
        usage=spawner.usage,
        may_extend_minutes=room,
    )


def title_of(spawner: Any) -> str:
    """What people call a session."""
    return str(spawner.display_name or spawner.name or _("My session"))


def _records(user: Any) -> Iterator[Mapping[str, Any]]:
    """What is kept of sessions that do not run."""
    for kept in user.orm_user._orm_spawners:
        used = (kept.state or {}).get("last_use")
        if used and not (kept.name in user.spawners and user.spawners[kept.name].active):
            yield used


def last_use(records: Iterator[Mapping[str, Any]], site: Site, now: float) -> dict[str, Any] | None:
    """The session that ended last, what was asked for and used, and what would have done; ``None`` after some days."""
    latest = max(records, key=lambda record: record["ended"], default=None)
    if latest is None or latest["ended"] < now - LAST_SECONDS or latest["profile"] not in site.profiles:
        return None
    less = smaller(latest["asked"], latest["used"])
    options = dict(latest["options"])
    if "minutes" in less:
        options.pop("hours", None)
    if "gpus" in less:
        options.pop("shards", None)
    options |= {key: f"{value // 1024}G" if key == "memory" else value for key, value in less.items()}
    return {
        "name": latest["name"],
        "profile": latest["profile"],
        "asked": latest["asked"],
        "used": {"mean_gpu": None, "most_gpu": None, **latest["used"]},  # an older hub wrote neither
        "advice": advice(less),
        "options": options if less else {},
        "ended": latest["ended"],
    }


# --- HTTP ------------------------------------------------------------------------------------------------------------


class SessionsHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """The caller's own sessions."""

    def look(self) -> dict[str, Any]:
        """The overview now; 403 where nobody is logged in, or by a token that may not read the person's sessions."""
        user = self.current_user
        if not isinstance(user, User):
            raise web.HTTPError(403, "log in first")
        if not self.has_scope(f"read:servers!user={user.name}"):
            raise web.HTTPError(403, "this token may not read your sessions")
        now = time.time()
        look_at(user, engine_for(self.settings[SITE_SETTING]), now)
        return overview(user, self.settings[SITE_SETTING], self.hub.base_url, now)

    async def get(self) -> None:
        """Answer with the overview."""
        told = self.look()
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(told).translate(TAGLESS))


class SessionEvents(EventStream, SessionsHandler):
    """The same, sent again whenever something changes, as server-sent events."""

    LOOK_SECONDS = 2.0

    def listener(self) -> str:
        """Whoever may see their own sessions."""
        self.look()
        return str(self.current_user.name)

    async def news(self) -> dict[str, Any]:
        """The overview."""
        return self.look()

    def essence(self, news: dict[str, Any]) -> object:
        """Cost grows all the time, as everybody can compute."""
        return {**news, "now": 0, "sessions": [{**one, "cost": None} for one in news["sessions"]]}
