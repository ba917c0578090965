"""More time for a running session, where the site offers it: how much there may be, and ``POST /hub/api/studiolo/extend``.

Slurm lets only its operators raise a job's time limit, and checks nothing of what it would check of a submission. So all
is checked here: that the job is this very session's by Slurm's word and still what was asked for (its owner may move a
waiting one to another partition, say), the partition's limits in the site file, and the reservations that lie ahead on
the node.
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
from studiolo.errors import Fault, LauncherFailed, SlurmRefused, SlurmUnavailable, shown
from studiolo.language import _
from studiolo.request import Request
from studiolo.site import Partition
from studiolo.slurm.facts import ReservationFacts
from studiolo.slurm.states import JobState, Owned
from studiolo.units import minutes_words

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["ExtendHandler", "ExtensionRefused", "Room", "changed", "extend", "own_session", "room_for"]

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


def changed(request: Request, owned: Owned) -> tuple[Fault, ...]:
    """In what a job differs now from what was ``request``-ed: each is a way to be given here what Slurm itself would refuse.

    An account and a QoS that were left to Slurm are its choice. Their names know no case, those of the others do.
    """
    asked = {
        "partition": (owned.partition, request.partition),
        "reservation": (owned.reservation, request.reservation or ""),
        "account": (owned.account.casefold(), (request.account or owned.account).casefold()),
        "qos": (owned.qos.casefold(), (request.qos or owned.qos).casefold()),
        "nodes": (str(owned.nodes), "1"),
    }
    return tuple(
        Fault(field, shown(now), _("started with %(value)s", value=shown(then)) if then else _("started with none"))
        for field, (now, then) in asked.items()
        if now != then
    )


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
        return await _extend(spawner, job, minutes, partition, request)
    except SlurmUnavailable as error:
        spawner.log.warning("%s: %s", spawner._log_name, error)
        raise ExtensionRefused(503, _silent()) from error
    except (SlurmRefused, LauncherFailed) as error:
        spawner.log.error("%s: %s (is the hub's account an operator of Slurm's?)", spawner._log_name, error)
        raise ExtensionRefused(
            502, _("Slurm did not allow it. The session goes on as before: tell the support.")
        ) from error


async def _extend(spawner: StudioloSpawner, job: int, minutes: int, partition: Partition, request: Request) -> int:
    engine, cluster = spawner.engine, spawner.cluster
    slurm = engine.slurm[cluster]
    reading = await engine.facts[cluster].get()
    if reading.facts is None or reading.silent_since is not None:
        raise ExtensionRefused(503, _silent())
    owner = await slurm.owner(job)
    if owner is None or (owner.kind, owner.person, owner.name) != ("session", spawner.user.name, spawner.session_id):
        raise ExtensionRefused(409, _("Slurm does not know this session's job as yours."))
    if faults := changed(request, owner):
        spawner.log.warning("%s: job %d is not what was asked for any more: %s", spawner._log_name, job, faults)
        raise ExtensionRefused(409, not_as_started(faults))
    state = (await slurm.queue([job])).get(job)
    room = room_for(partition, state, reading.facts.reservations, request.reservation)
    if state is None or state.start is None or state.end is None or minutes > room.minutes:
        raise ExtensionRefused(409, refusal(room))
    total = math.ceil((state.end - state.start) / MINUTE) + minutes
    await slurm.extend(job, total)
    spawner.log.info("%s: job %d may run %d minutes more, %d in all", spawner._log_name, job, minutes, total)
    watcher = engine.watchers[cluster]
    watcher.kick()
    await watcher.change(job, HEARD_SECONDS)
    return state.start + total * MINUTE


def not_as_started(faults: Iterable[Fault]) -> str:
    """Why a session gets no more time whose job somebody has changed."""
    listed = "; ".join(map(str, faults))
    return _(
        "This session's job was changed in Slurm after it was asked for here (%(changes)s). It goes on as it is, but can not be"
        " extended: start a new session, or ask the support.",
        changes=listed,
    )


def refusal(room: Room) -> str:
    """Why a session can not be extended by as much as was asked for."""
    if room.until is not None:
        # By the hub's own clock, whose zone its reader need not share.
        at = datetime.fromtimestamp(room.until).astimezone()
        when = f"{at:%Y-%m-%d %H:%M} (UTC{at.isoformat()[-6:]})"
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
