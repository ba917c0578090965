"""What a cluster has, what of it is free, who may use it and who waits: one frozen snapshot, however it was asked for.

Here are the values and what follows from them. :mod:`studiolo.slurm.scontrol` reads them in what the commands print,
:mod:`studiolo.slurm.snapshot` asks for them once for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from studiolo.slurm.resources import Resources

__all__ = [
    "Admission",
    "ClusterFacts",
    "NodeFacts",
    "PartitionFacts",
    "PendingJob",
    "ReservationFacts",
    "assemble",
]

UNUSABLE_STATES = frozenset(
    {
        "BLOCKED",
        "DOWN",
        "DRAIN",
        "DRAINED",
        "DRAINING",
        "ERROR",
        "FAIL",
        "FAILING",
        "FUTURE",
        "INVAL",
        "INVALID",
        "INVALID_REG",
        "NOT_RESPONDING",
        "NO_RESPOND",
        "POWERING_DOWN",
        "POWER_DOWN",
        "REBOOT",
        "REBOOT_ISSUED",
        "REBOOT_REQUESTED",
        "UNKNOWN",
    }
)
"""Words of a node's state with any of which it starts no new job. A powered-down node is none: Slurm wakes it."""
RESERVED_STATES = frozenset({"MAINT", "MAINTENANCE", "RESERVED", "RES"})
# Reasons for which Slurm passes over a waiting job whatever is free: such a job stands in nobody's way. Not "BadConstraints":
# a job for several partitions has it when one of them does not suit.
_HELD_BACK = re.compile(
    r"JobHeld|BeginTime|Dependency|JobArrayTaskLimit|Assoc|QOS|InvalidAccount|InvalidQOS|launch_failed_requeued_held"
)


@dataclass(frozen=True)
class NodeFacts:
    """One node.

    ``states`` are Slurm's words in capitals, ``reason`` the operator's own text (for operators; untrusted), ``free`` what
    no job has. Whether anybody may have that is :attr:`is_usable`; ``reservation`` is the one that keeps everybody else
    off the whole node at the moment, ``until`` when the next one does (in seconds since 1970; ``None`` if none is known).
    """

    name: str
    address: str
    states: tuple[str, ...]
    reason: str
    total: Resources
    free: Resources
    features: tuple[str, ...]
    partitions: tuple[str, ...]
    reservation: str = ""
    until: int | None = None

    @property
    def obstacle(self) -> str:
        """The word that says why it starts no new job, ``"RESERVED"`` for a reservation; empty if it does."""
        for state in self.states:
            if state in UNUSABLE_STATES:
                return state
        return "RESERVED" if self.reservation else ""

    @property
    def is_usable(self) -> bool:
        """Whether it starts new jobs of those who name no reservation."""
        return not self.obstacle


@dataclass(frozen=True)
class Admission:
    """Who is let in: ``only`` those named (``None``: everybody), ``never`` those."""

    only: frozenset[str] | None = None
    never: frozenset[str] = frozenset()

    @classmethod
    def listed(cls, names: Iterable[str]) -> Admission:
        """``a, b`` lets those in, ``-c, -d`` everybody but those; no names say nothing of anybody."""
        listed = tuple(names)
        only = frozenset(name for name in listed if not name.startswith("-"))
        return cls(only or None, frozenset(name[1:] for name in listed if name.startswith("-")))

    def admits(self, names: Iterable[str]) -> bool:
        """Whether one of these names lets its bearer in."""
        allowed = set(names) - self.never
        return bool(allowed) if self.only is None else bool(allowed & self.only)

    @property
    def is_open(self) -> bool:
        """Whether it asks nobody's name."""
        return self.only is None and not self.never


@dataclass(frozen=True)
class PartitionFacts:
    """One partition; times in minutes, ``None`` where there is no limit or default.

    ``gpu_billing`` is what a minute of a whole GPU is billed; 0 where Slurm bills none, or does not say. ``own_qos`` is the one
    whose limits hold for all that runs there, empty for none.
    """

    name: str
    state: str
    max_minutes: int | None
    default_minutes: int | None = None
    accounts: Admission = Admission()
    qos: Admission = Admission()
    groups: Admission = Admission()
    nodes: tuple[NodeFacts, ...] = ()
    gpu_billing: float = 0.0
    own_qos: str = ""

    @property
    def is_up(self) -> bool:
        """Whether it starts jobs."""
        return self.state == "UP"

    @property
    def usable(self) -> tuple[NodeFacts, ...]:
        """Its nodes that start new jobs of those who name no reservation."""
        return tuple(node for node in self.nodes if node.is_usable)

    @property
    def total(self) -> Resources:
        """What all its nodes have."""
        return sum((node.total for node in self.nodes), Resources())

    @property
    def free(self) -> Resources:
        """What its usable nodes have free, all together."""
        return sum((node.free for node in self.usable), Resources())

    @property
    def largest(self) -> Resources:
        """The most of each kind that one usable node has free; the kinds may be on different nodes."""
        largest = Resources()
        for node in self.usable:
            largest = largest.most(node.free)
        return largest

    def room(self, wanted: Resources, ends: float = 0.0, features: Iterable[str] = ()) -> int:
        """How many sessions of ``wanted``, each on one node, could start at this moment if nobody else waited.

        ``ends`` is when they would end (seconds since 1970): where a reservation takes the node before, none starts.
        """
        if not self.is_up:
            return 0
        return sum(
            node.free.times(wanted)
            for node in self.usable
            if set(features) <= set(node.features) and (node.until is None or ends <= node.until)
        )


@dataclass(frozen=True)
class ReservationFacts:
    """One reservation; times in seconds since 1970. ``cpus``: how many it holds of a node, for each of its ``nodes`` that
    it does not hold as a whole."""

    name: str
    start: int
    end: int
    nodes: tuple[str, ...] = ()
    partition: str = ""
    users: Admission = Admission()
    accounts: Admission = Admission()
    groups: Admission = Admission()
    flags: tuple[str, ...] = ()
    cpus: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_maintenance(self) -> bool:
        """Whether nobody works there meanwhile."""
        return "MAINT" in self.flags

    def names(self, person: str) -> bool:
        """Whether it names this person as one of its own."""
        return self.users.only is not None and self.users.admits([person])


@dataclass(frozen=True)
class PendingJob:
    """A waiting job, once for each partition that it waits for; ``reservation`` is empty for none."""

    job: int
    partition: str
    priority: int
    reservation: str = ""
    reason: str = "None"

    @property
    def is_in_line(self) -> bool:
        """Whether Slurm starts it as soon as there is room: it is not held back by a hold, a date or a limit of its own."""
        return self.priority > 0 and not _HELD_BACK.match(self.reason)


@dataclass(frozen=True)
class ClusterFacts:
    """One cluster at one moment; ``taken`` in seconds since 1970 when it was asked, ``pending`` in Slurm's order."""

    taken: float
    nodes: tuple[NodeFacts, ...]
    partitions: Mapping[str, PartitionFacts]
    reservations: tuple[ReservationFacts, ...]
    pending: tuple[PendingJob, ...]

    def waiting(self, partition: str, reservation: str = "") -> int:
        """How many jobs stand in line for a partition; those inside a reservation are a line of their own."""
        return len(self._lines.get((partition, reservation), ()))

    def place(self, job: int) -> tuple[int, int] | None:
        """A waiting job's place in its line, from 1, and the length of that line; ``None`` if it stands in none.

        If it waits in several lines, the one counts where it is furthest ahead. Jobs that are held back (by a hold, a date,
        a limit of their own) stand in no line. A job behind may still start earlier, where it fits in and others do not.
        """
        return self._places.get(job)

    @cached_property
    def _lines(self) -> dict[tuple[str, str], dict[int, None]]:
        lines: dict[tuple[str, str], dict[int, None]] = {}
        for waiting in self.pending:
            if waiting.is_in_line:
                lines.setdefault((waiting.partition, waiting.reservation), {})[waiting.job] = None
        return lines

    @cached_property
    def _places(self) -> dict[int, tuple[int, int]]:
        places: dict[int, tuple[int, int]] = {}
        for line in self._lines.values():
            for number, job in enumerate(line, start=1):
                places[job] = min((number, len(line)), places.get(job, (number, len(line))))
        return places


def assemble(
    taken: float,
    nodes: Sequence[NodeFacts],
    partitions: Iterable[PartitionFacts],
    reservations: Sequence[ReservationFacts],
    pending: Iterable[PendingJob] = (),
) -> ClusterFacts:
    """Put the parts of one answer together: a partition's nodes are those that name it, active reservations take theirs.

    Slurm shows a reservation in its nodes' states up to a minute late, so that word counts only where no reservation names
    the node: one that the hub is not allowed to see.
    """
    by_node: dict[str, list[ReservationFacts]] = {}
    for reservation in reservations:
        for name in reservation.nodes:
            by_node.setdefault(name, []).append(reservation)
    judged = tuple(_reserved(node, by_node.get(node.name, ()), taken) for node in nodes)
    return ClusterFacts(
        taken=taken,
        nodes=judged,
        partitions={
            partition.name: replace(
                partition, nodes=tuple(node for node in judged if partition.name in node.partitions)
            )
            for partition in partitions
        },
        reservations=tuple(reservations),
        pending=tuple(pending),
    )


def _reserved(node: NodeFacts, reservations: Sequence[ReservationFacts], now: float) -> NodeFacts:
    if not reservations and RESERVED_STATES & set(node.states):
        return replace(node, reservation="(hidden)")
    for reservation in reservations:
        if reservation.start > now:
            if node.name in reservation.cpus:
                continue  # the others go on
            node = replace(node, until=min(reservation.start, node.until or reservation.start))
        elif reservation.end > now:
            if node.name not in reservation.cpus:
                return replace(node, reservation=reservation.name)
            # Those CPUs may be in use already: at least so many are left for everybody else.
            left = max(0, node.free.cpus - reservation.cpus[node.name])
            node = replace(node, free=replace(node.free, cpus=left))
    return node
