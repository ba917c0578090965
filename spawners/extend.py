"""More time for a running session, where the site offers it: how much there may be, and ``POST /hub/api/studiolo/extend``.

Slurm lets only its operators raise a job's time limit, and checks nothing of what it would check of a submission. So all
is checked here: that the job is this very session's by Slurm's word, the partition's limits in the site file, and the
reservations that lie ahead on the node.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jupyterhub.user import User
from tornado import web

from spawners.callers import JsonHandler
from studiolo.errors import LauncherFailed, SlurmRefused, SlurmUnavailable
from studiolo.language import _
from studiolo.site import Partition
from studiolo.slurm.facts import ReservationFacts
from studiolo.slurm.states import JobState
from studiolo.units import minutes_words

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["ExtendHandler", "ExtensionRefused", "Room", "extend", "own_session", "room_for"]

MINUTE = 60
PAUSE_SECONDS = 5.0  # between two requests for one session: each costs Slurm three questions
HEARD_SECONDS = 3.0
MOST_MINUTES = 366 * 24 * 60


class ExtensionRefused(Exception):
    """Why a session gets no more time, as a sentence for its owner; ``status`` is HTTP's."""

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        super().__init__(words)


@dataclass(frozen=True)
class Room:
    """How many ``minutes`` a session may be extended by at most. ``until`` is when a reservation takes the node, where that
    is what limits it (seconds since 1970)."""

    minutes: int = 0
    until: int | None = None


def room_for(
    partition: Partition, state: JobState | None, reservations: Iterable[ReservationFacts], own: str | None
) -> Room:
    """How much more time a session of ``partition`` may have; ``own`` is the reservation that it runs in."""
    if not partition.max_extension or state is None or not state.runs_somewhere or not (state.start and state.end):
        return Room()
    last = state.start + MINUTE * (partition.max_time + partition.max_extension)
    until = None
    for reservation in reservations:
        if state.node not in reservation.nodes or reservation.end <= state.end:
            continue
        # Its own ends; any other one begins, be it for maintenance or for somebody else.
        border = reservation.end if own and reservation.name == own else reservation.start
        if border < last:
            last, until = border, border
    for reservation in reservations:
        if own and reservation.name == own and reservation.end <= state.end:
            return Room(0, reservation.end)
    return Room(max(0, (last - state.end) // MINUTE), until)


def own_session(user: Any, name: object) -> StudioloSpawner:
    """The running session ``name`` of ``user``. Raises :class:`ExtensionRefused` where there is none."""
    spawners = getattr(user, "spawners", {})
    spawner: Any = spawners[name] if isinstance(name, str) and name in spawners else None
    if spawner is None or not spawner.ready or spawner.pending or spawner.job is None:
        raise ExtensionRefused(404, _("This session does not run."))
    return spawner  # type: ignore[no-any-return]


async def extend(spawner: StudioloSpawner, minutes: object) -> int:
    """Give a session ``minutes`` more; return its new end (seconds since 1970). Raises :class:`ExtensionRefused`."""
    if type(minutes) is not int or not 1 <= minutes <= MOST_MINUTES:
        raise ExtensionRefused(400, _("Minutes must be a whole number, 1 or more."))
    request, job = spawner.request_now, spawner.job
    partition = spawner.engine.site.partitions.get(request.partition) if request else None
    if request is None or partition is None or job is None or not partition.max_extension:
        raise ExtensionRefused(403, _("Sessions can not be extended on this part of the machine."))
    now = time.monotonic()
    if now < spawner.extend_from:
        raise ExtensionRefused(429, _("One moment: this session has just been asked to be extended."))
    spawner.extend_from = now + PAUSE_SECONDS
    try:
        return await _extend(spawner, job, minutes, partition, request.reservation)
    except SlurmUnavailable as error:
        spawner.log.warning("%s: %s", spawner._log_name, error)
        raise ExtensionRefused(503, _silent()) from error
    except (SlurmRefused, LauncherFailed) as error:
        spawner.log.error("%s: %s (is the hub's account an operator of Slurm's?)", spawner._log_name, error)
        raise ExtensionRefused(
            502, _("Slurm did not allow it. The session goes on as before: tell the support.")
        ) from error


async def _extend(spawner: StudioloSpawner, job: int, minutes: int, partition: Partition, own: str | None) -> int:
    engine, cluster = spawner.engine, spawner.cluster
    slurm = engine.slurm[cluster]
    reading = await engine.facts[cluster].get()
    if reading.facts is None or reading.silent_since is not None:
        raise ExtensionRefused(503, _silent())
    owner = await slurm.owner(job)
    if owner is None or (owner.kind, owner.person, owner.name) != ("session", spawner.user.name, spawner.session_id):
        raise ExtensionRefused(409, _("Slurm does not know this session's job as yours."))
    state = (await slurm.queue([job])).get(job)
    room = room_for(partition, state, reading.facts.reservations, own)
    if state is None or state.start is None or state.end is None or minutes > room.minutes:
        raise ExtensionRefused(409, refusal(room))
    total = math.ceil((state.end - state.start) / MINUTE) + minutes
    await slurm.extend(job, total)
    spawner.log.info("%s: job %d may run %d minutes more, %d in all", spawner._log_name, job, minutes, total)
    watcher = engine.watchers[cluster]
    watcher.kick()
    await watcher.change(job, HEARD_SECONDS)
    return state.start + total * MINUTE


def refusal(room: Room) -> str:
    """Why a session can not be extended by as much as was asked for."""
    if room.until is not None:
        when = datetime.fromtimestamp(room.until).astimezone().strftime("%Y-%m-%d %H:%M")
        if not room.minutes:
            return _("This session can not be extended: its node is reserved for others from %(when)s on.", when=when)
        return _(
            "At most %(time)s more: the node is reserved for others from %(when)s on.",
            time=minutes_words(room.minutes),
            when=when,
        )
    if not room.minutes:
        return _("This session can not be extended any further.")
    return _("At most %(time)s more can be given to this session.", time=minutes_words(room.minutes))


def _silent() -> str:
    return _("The machine's scheduler does not answer at the moment. Your session goes on; try again in a minute.")


class ExtendHandler(JsonHandler):
    """``POST /hub/api/studiolo/extend``: more time for one of the caller's own sessions."""

    async def post(self) -> None:
        """Take ``{"name", "minutes"}``; answer ``{"ends": seconds since 1970}``, or what speaks against it, in words."""
        user = self.current_user
        if not isinstance(user, User):
            raise web.HTTPError(403, "log in first")
        body = self.body("name", "minutes")
        try:
            spawner = own_session(user, body["name"])
            # The token of the session itself, which every program in it can read, is not enough.
            if not self.has_scope(f"servers!server={user.name}/{spawner.name}"):
                raise web.HTTPError(403, "this token may not change sessions")
            ends = await extend(spawner, body["minutes"])
        except ExtensionRefused as refused:
            raise web.HTTPError(refused.status, str(refused)) from refused
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"ends": ends}))
