"""Whether and when a session could begin, what it would cost, and what stands in its way: plain decisions.

:class:`View` is made once a snapshot, for everybody; :func:`judge` adds what concerns one person. Nobody is asked anything
here. What is told is never more than what is known: a silent scheduler gives "unknown", not yesterday's answer.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from spawners import limits
from spawners.estimates import Foretold
from studiolo.errors import printable
from studiolo.language import _
from studiolo.request import Request
from studiolo.site import Site
from studiolo.slurm.budgets import Budgets
from studiolo.slurm.facts import ClusterFacts, PartitionFacts, ReservationFacts
from studiolo.slurm.resources import Resources

__all__ = ["Kind", "Obstacle", "Payer", "Verdict", "View", "cost", "is_open_question", "judge", "payer", "wanted"]

Starts = Literal["now", "later", "unknown", "never"]
Kind = Literal["closed", "maintenance", "budget", "limit", "not-yours", "too-big", "refused"]

# Slurm's scheduler looks at its queue once or a few times a minute: what it says to begin within that begins now.
NOW_SECONDS = 60
_DECIDED = frozenset({"closed", "budget", "limit", "not-yours", "too-big"})  # by the hub alone
_NOT_THEIRS = re.compile(r"invalid account|invalid qos|not permitted|permission denied", re.IGNORECASE)


# --- What one person is charged --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Payer:
    """One person's accounts on a cluster, as far as Slurm tells: ``None`` where it tells nothing of them."""

    name: str = ""
    accounts: frozenset[str] | None = None
    default: str | None = None
    budgets: Budgets | None = None

    def charged(self, request: Request) -> str | None:
        """The account that would be charged; ``None`` where that is not known."""
        return request.account.lower() if request.account else self.default


def payer(name: str, budgets: Budgets | None) -> Payer:
    """What Slurm tells of a person."""
    if budgets is None:
        return Payer(name)
    return Payer(name, budgets.of(name), budgets.defaults.get(name), budgets)


def cost(request: Request, site: Site) -> tuple[float, float]:
    """Hours of whole GPUs and of CPUs for the whole of the time asked for; a shard counts as the part that it is."""
    hours = request.minutes / 60
    per_gpu = site.partitions[request.partition].shards_per_gpu
    gpus = request.gpus + (request.shards / per_gpu if per_gpu else 0.0)
    return gpus * hours, request.cpus * hours


# --- What everybody sees ---------------------------------------------------------------------------------------------


def wanted(request: Request, site: Site) -> Resources:
    """What a request takes of one node."""
    gpu_type = site.partitions[request.partition].gpu_type.lower()
    return Resources(request.cpus, request.memory, {gpu_type: request.gpus} if request.gpus else {}, request.shards)


class _Kind(NamedTuple):
    """Nodes that are alike in all that counts: ``gpus`` as pairs of type and number, ``until`` 0 where nothing ends."""

    cpus: int
    memory: int
    shards: int
    gpus: tuple[tuple[str, int], ...]
    features: tuple[str, ...]
    until: int


class _Nodes:
    """Nodes for counting how many sessions find room on them: a machine of thousands has few kinds, or is looked at once."""

    def __init__(self, nodes: Iterable[tuple[Resources, tuple[str, ...], int | None]]) -> None:
        self._kinds = Counter(
            _Kind(free.cpus, free.memory, free.shards, (*free.gpus.items(),), features, until or 0)
            for free, features, until in nodes
        )
        self._ends = sorted({kind.until for kind in self._kinds if kind.until})
        self._known: dict[tuple[object, ...], int] = {}

    def room(self, want: Resources, features: tuple[str, ...], ends: float) -> int:
        """How many fit, of those that end by ``ends``. Counted once for each that is wanted."""
        # Two times that no node's end lies between find the same room.
        key = (want.cpus, want.memory, want.shards, *want.gpus.items(), features, bisect_left(self._ends, ends))
        if key not in self._known:
            self._known[key] = self._count(want, set(features), ends)
        return self._known[key]

    def _count(self, want: Resources, features: set[str], ends: float) -> int:
        found = 0
        for kind, number in self._kinds.items():
            if want.cpus > kind.cpus or want.memory > kind.memory or want.shards > kind.shards:
                continue
            if (kind.until and ends > kind.until) or not features.issubset(kind.features):
                continue
            found += number * Resources(kind.cpus, kind.memory, dict(kind.gpus), kind.shards).times(want)
        return found


@dataclass(frozen=True)
class PartitionView:
    """One partition at one moment. ``line`` is how long its own line is, ``contested`` whether anybody waits for its nodes."""

    live: PartitionFacts
    line: int
    contested: bool
    maintenance: tuple[ReservationFacts, ...]

    @cached_property
    def names(self) -> frozenset[str]:
        """Of its nodes."""
        return frozenset(node.name for node in self.live.nodes)

    @cached_property
    def free(self) -> Resources:
        """What its usable nodes have free, all together."""
        return _sum(node.free for node in self.live.nodes if node.is_usable)

    @cached_property
    def total(self) -> Resources:
        """What all its nodes have."""
        return _sum(node.total for node in self.live.nodes)

    def room(self, want: Resources, features: tuple[str, ...] = (), ends: float = 0.0) -> int:
        """How many such sessions could begin now if nobody else waited; as :meth:`PartitionFacts.room`, but remembered."""
        return self._usable.room(want, features, ends) if self.live.is_up else 0

    def fits(self, want: Resources, features: tuple[str, ...] = ()) -> bool:
        """Whether one of its nodes could hold such a session if it were empty."""
        return self._whole.room(want, features, 0.0) > 0

    def held(self, want: Resources, features: tuple[str, ...], ends: float) -> ReservationFacts | None:
        """The maintenance without which such a session could begin now; ``None`` where it is not one that hinders."""
        for window in self.maintenance:
            if window.start < ends and self._behind[window.name].room(want, features, 0.0):
                return window
        return None

    @cached_property
    def _usable(self) -> _Nodes:
        return _Nodes((node.free, node.features, node.until) for node in self.live.nodes if node.is_usable)

    @cached_property
    def _whole(self) -> _Nodes:
        return _Nodes((node.total, node.features, None) for node in self.live.nodes)

    @cached_property
    def _behind(self) -> Mapping[str, _Nodes]:
        behind: dict[str, _Nodes] = {}
        for window in self.maintenance:
            names = set(window.nodes)
            nodes = [node for node in self.live.nodes if node.name in names and node.obstacle in ("", "RESERVED")]
            behind[window.name] = _Nodes((node.free, node.features, None) for node in nodes)
        return behind


def _sum(amounts: Iterable[Resources]) -> Resources:
    """All of them together, for thousands of nodes at once."""
    cpus = memory = shards = 0
    gpus: Counter[str] = Counter()
    for each in amounts:
        cpus += each.cpus
        memory += each.memory
        shards += each.shards
        for of_type, number in each.gpus.items():
            gpus[of_type] += number
    return Resources(cpus, memory, gpus, shards)


class View:
    """A cluster's snapshot, prepared for many questions. ``now`` is when it is looked at, in seconds since 1970."""

    def __init__(self, site: Site, cluster: str, facts: ClusterFacts, now: float) -> None:
        self.facts = facts
        self.now = now
        names = [name for name in site.partitions if site.cluster_of(name) == cluster and name in facts.partitions]
        self.partitions = {name: _partition(facts, facts.partitions[name], now) for name in names}

    def prepare(self, requests: Iterable[Request], site: Site) -> None:
        """Count at once what these requests will be asked about, so that nobody waits for it."""
        for place in self.partitions.values():
            place.names, place.free, place.total  # noqa: B018 - remembered
        for request in requests:
            if asked := self.partitions.get(request.partition):
                ends = self.now + request.minutes * 60
                room, want = self.room(request, site), wanted(request, site)
                if asked.fits(want, request.features) and not room:
                    asked.held(want, request.features, ends)

    def room(self, request: Request, site: Site) -> int:
        """How many sessions of a request could begin now if nobody else waited."""
        place = self.partitions[request.partition]
        return place.room(wanted(request, site), request.features, self.now + request.minutes * 60)


def _partition(facts: ClusterFacts, live: PartitionFacts, now: float) -> PartitionView:
    names = {node.name for node in live.nodes}
    sharing = {name for node in live.nodes for name in node.partitions}
    return PartitionView(
        live,
        facts.waiting(live.name),
        any(facts.waiting(name) for name in sharing),
        tuple(r for r in facts.reservations if r.is_maintenance and r.end > now and names.intersection(r.nodes)),
    )


# --- What one person is told -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Obstacle:
    """What stands in the way: its ``kind``, the sentence for people in their language, and ``until`` when (seconds since
    1970) if that is known."""

    kind: Kind
    text: str
    until: int | None = None


@dataclass(frozen=True)
class Verdict:
    """When a session would begin: ``expected`` in seconds since 1970 where it is later and known; ``room`` is how many of
    its like could begin now, ``None`` where the snapshot does not tell."""

    starts: Starts
    expected: int | None = None
    room: int | None = None
    obstacle: Obstacle | None = None

    @property
    def start(self) -> float:
        """For comparing: when it begins, 0 for now, infinity where nobody knows."""
        return 0.0 if self.starts == "now" else float(self.expected or "inf")


def judge(
    request: Request, site: Site, view: View | None, who: Payer, foretold: Foretold | None, *, answers: bool
) -> Verdict:
    """Decide. ``view`` is ``None`` before the first snapshot; ``answers`` is false where the scheduler is silent."""
    place = view.partitions.get(request.partition) if view else None
    room = view.room(request, site) if view and place and not request.reservation else None
    fixed = _not_theirs(request, site, who, place) or _over_budget(request, site, who, place)
    limited = None
    if fixed is None and place is not None and answers:  # what counts against a limit changes by the moment
        limited = limits.obstacle(
            request, site, who.name, who.charged(request), who.budgets, partition_qos=place.live.own_qos
        )
    if limited and limited[0] == "never":
        fixed = Obstacle("limit", limited[1])
    if view is not None:
        fixed = fixed or _closed(request, site, place)
    if place is not None:
        fixed = fixed or _too_big(request, site, place)
    if fixed is None and limited:
        return Verdict("later", None, room, Obstacle("limit", limited[1]))
    if fixed is None and view is not None and place is not None and answers:
        return _timed(request, site, view, room, foretold)
    return Verdict("never" if fixed else "unknown", None, room, fixed)


def _timed(request: Request, site: Site, view: View, room: int | None, foretold: Foretold | None) -> Verdict:
    """When something begins that nothing but the others hinders."""
    place = view.partitions[request.partition]
    if foretold is not None and foretold.refused:
        return Verdict("never", None, room, _refused(foretold.refused))
    if room and not place.contested:
        return Verdict("now", None, room)
    start = foretold.start if foretold is not None else None
    if start is not None and start <= view.now + NOW_SECONDS:
        return Verdict("now", None, room)
    window = place.held(wanted(request, site), request.features, view.now + request.minutes * 60) if room == 0 else None
    obstacle = _maintained(window, view.now) if window else None
    return Verdict("later" if start is not None or room == 0 else "unknown", start, room, obstacle)


def is_open_question(request: Request, view: View | None, verdict: Verdict) -> bool:
    """Whether only Slurm can tell more: there is no room now, somebody is in line, or it is inside a reservation."""
    place = view.partitions.get(request.partition) if view else None
    if place is None or (verdict.obstacle and verdict.obstacle.kind in _DECIDED):
        return False
    return not (verdict.room and not place.contested)


def _not_theirs(request: Request, site: Site, who: Payer, place: PartitionView | None) -> Obstacle | None:
    account = who.charged(request)
    if account is None:
        return None
    title = _account_title(account, site)
    if who.accounts is not None and account not in who.accounts:
        told = _(
            "You are not in the project %(account)s. Choose another one, or ask its owner to add you.", account=title
        )
        return Obstacle("not-yours", told)
    allowed = {name.lower() for name in site.partitions[request.partition].accounts}
    if (not allowed or account in allowed) and (place is None or place.live.accounts.admits([account])):
        return None
    where = _partition_title(request, site)
    return Obstacle(
        "not-yours", _("Not open to the project %(account)s: %(partition)s.", partition=where, account=title)
    )


def _over_budget(request: Request, site: Site, who: Payer, place: PartitionView | None) -> Obstacle | None:
    account = who.charged(request)
    needs = cost(request, site)[0]
    if account is None or who.budgets is None or not needs:
        return None
    left = who.budgets.gpu_hours(who.name, account, place.live.gpu_billing if place else 0.0).left
    if left is None or needs <= left:
        return None
    title = _account_title(account, site)
    if not left:
        return Obstacle("budget", _("The project %(account)s has used up its GPU-hours.", account=title))
    told = _(
        "The project %(account)s has %(left)s GPU-hours left, and this session may need %(needs)s.",
        account=title,
        left=limits.figure(left),
        needs=limits.figure(needs),
    )
    return Obstacle("budget", told)


def _closed(request: Request, site: Site, place: PartitionView | None) -> Obstacle | None:
    if place is not None and place.live.is_up:
        return None
    where = _partition_title(request, site)
    told = _("Closed at the moment: %(partition)s. Nothing starts there until it is opened again.", partition=where)
    return Obstacle("closed", told)


def _too_big(request: Request, site: Site, place: PartitionView) -> Obstacle | None:
    most = place.live.max_minutes
    where = _partition_title(request, site)
    if most is not None and request.minutes > most:
        told = _("Sessions as long as this are not possible on: %(partition)s. Ask for less time.", partition=where)
        return Obstacle("too-big", told)
    if not place.fits(wanted(request, site), request.features):
        told = _("No computer of %(partition)s can hold this, even an empty one. Ask for less.", partition=where)
        return Obstacle("too-big", told)
    return None


def _maintained(window: ReservationFacts, now: float) -> Obstacle:
    if window.start > now:
        told = _("Maintenance begins before this session would end. A shorter one may start before it.")
    else:
        told = _("The machine is under maintenance at the moment.")
    return Obstacle("maintenance", told, window.end)


def _refused(words: str) -> Obstacle:
    told = _("The scheduler would refuse this: %(words)s", words=printable(_slurms(words)))
    return Obstacle("not-yours" if _NOT_THEIRS.search(words) else "refused", told)


def _slurms(words: str) -> str:
    """Slurm's words on one line, without the names of its programs."""
    return " ".join(re.sub(r"^(sbatch: )?(error: |allocation failure: )?", "", line) for line in words.splitlines())


def _account_title(account: str, site: Site) -> str:
    return {name.lower(): entry.title or name for name, entry in site.accounts.items()}.get(account, account)


def _partition_title(request: Request, site: Site) -> str:
    return site.partitions[request.partition].title or request.partition
