"""Limits of people, accounts and QoS beside what is left of their hours, as Slurm keeps them in memory. Plain functions.

``scontrol show assoc_mgr`` tells of each limit what is allowed and what is in use. Where a QoS has a limit of its own, Slurm
does not look at that of the account (https://slurm.schedmd.com/resource_limits.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Bound", "Demand", "QosLimits", "hinders", "parse_bounds", "parse_qos"]

JOBS = "jobs"
WALL = "wall"

Rule = Literal["job", "job-minutes", "in-use", "queue", "minutes", "running-minutes"]
_RULES: Mapping[str, Rule] = {
    "GrpJobs": "in-use",
    "GrpSubmitJobs": "queue",
    "GrpWall": "minutes",
    "GrpTRES": "in-use",
    "GrpTRESMins": "minutes",
    "GrpTRESRunMins": "running-minutes",
    "MaxJobs": "in-use",
    "MaxSubmitJobs": "queue",
    "MaxWallPJ": "job-minutes",
    "MaxTRESPJ": "job",
    "MaxTRESPN": "job",  # a session is on one node
    "MaxTRESMinsPJ": "job-minutes",
    "MaxTRESPA": "in-use",
    "MaxTRESPU": "in-use",
}
_LIMITED = re.compile(r"=[0-9]")
_FOR_EACH = re.compile(r"P[AU]$")
_FACT = re.compile(r"\b((?:Grp|Max)[A-Za-z]+)=(\S*)")
_NUMBER = re.compile(r"([0-9]{1,18})(?:\(([0-9]{1,18})(?:\.[0-9]+)?\))?")
_AMOUNT = re.compile(r"([^=,]+)=([0-9]{1,18})(?:\(([0-9]{1,18})\))?")
_EACH = re.compile(r"(\S+)=\{([^}]*)\}")
_QOS = re.compile(
    r"QOS=(?P<name>\S+?)\([0-9]+\) (?P<own>.*?) Account Limits=(?P<accounts>.*?) User Limits=(?P<people>.*)"
)


@dataclass(frozen=True)
class Bound:
    """One limit by Slurm's ``name`` of it; ``kind`` is that of a resource, ``"jobs"`` or ``"wall"``. Memory in mebibytes,
    times in minutes; ``used`` is ``None`` where nothing is counted."""

    name: str
    kind: str
    allowed: int
    used: int | None = None

    @property
    def family(self) -> str:
        """Its name at an account or a person: a QoS's ``MaxJobsPU`` is for each person what ``MaxJobs`` is for one."""
        return _FOR_EACH.sub("", self.name)

    @property
    def rule(self) -> Rule:
        """How it is meant."""
        return _RULES.get(self.name) or _RULES[self.family]


@dataclass(frozen=True)
class Demand:
    """What a session would take, by Slurm's names of resources, and for how long."""

    amounts: Mapping[str, int]
    minutes: int

    def of(self, bound: Bound) -> int:
        """What of a bound it would take up."""
        amount = {JOBS: 1, WALL: 1, **self.amounts}.get(bound.kind, 0)
        return amount * self.minutes if bound.rule in ("job-minutes", "minutes", "running-minutes") else amount


@dataclass(frozen=True)
class QosLimits:
    """Of one QoS: its ``own`` limits, those of accounts and people in it by name, and what is one's who has used nothing yet."""

    own: tuple[Bound, ...] = ()
    accounts: Mapping[str, tuple[Bound, ...]] = field(default_factory=dict)
    people: Mapping[str, tuple[Bound, ...]] = field(default_factory=dict)

    def each(self, known: Mapping[str, tuple[Bound, ...]], name: str) -> tuple[Bound, ...]:
        """Of one account or person: they all have the same limits, and Slurm names those alone who have used something."""
        if name in known:
            return known[name]
        anyone: tuple[Bound, ...] = next(iter(known.values()), ())
        return tuple(Bound(bound.name, bound.kind, bound.allowed, 0) for bound in anyone)

    @property
    def overrides(self) -> Iterator[tuple[str, str]]:
        """Which limits of accounts it stands in for."""
        people: Iterable[Bound] = next(iter(self.people.values()), ())
        return ((bound.family, bound.kind) for bound in (*self.own, *people))


def hinders(bound: Bound, demand: Demand) -> Literal["", "never", "waits"]:
    """Whether a session can not begin for a limit: ``"never"`` as it stands, or ``"waits"`` until something else ends."""
    needs = demand.of(bound)
    if not needs:
        return ""
    if needs > bound.allowed:
        return "never"
    if bound.used is None or needs + bound.used <= bound.allowed or bound.rule in ("job", "job-minutes"):
        return ""
    return "waits" if bound.rule in ("in-use", "running-minutes") else "never"


def parse_bounds(text: str) -> tuple[Bound, ...]:
    """Read ``GrpJobs=30(1) GrpTRES=cpu=64(1),mem=N(100) MaxWallPJ=720``; what has no limit (``N``, nothing) is left out."""
    found: list[Bound] = []
    if not _LIMITED.search(text):  # most of a large site's thousands of lines
        return ()
    for name, value in _FACT.findall(text):
        if name not in _RULES and _FOR_EACH.sub("", name) not in _RULES:
            continue
        if "TRES" in name:
            for kind, allowed, used in _AMOUNT.findall(value):
                found.append(Bound(name, kind.lower(), int(allowed), int(used) if used else None))
        elif number := _NUMBER.fullmatch(value):
            kind = WALL if "Wall" in name else JOBS
            found.append(Bound(name, kind, int(number[1]), int(number[2]) if number[2] else None))
    return tuple(found)


def parse_qos(line: str, people: Mapping[str, str]) -> tuple[str, QosLimits]:
    """Read a line of ``QOS Records``; ``people`` are names by number. Raises ``ValueError``."""
    fact = _QOS.match(line)
    if fact is None:
        raise ValueError(f"no limits in {line[:200]!r}")
    own = parse_bounds(fact["own"])
    accounts = {_name(name, {}): parse_bounds(text) for name, text in _EACH.findall(fact["accounts"])}
    persons = {_name(name, people): parse_bounds(text) for name, text in _EACH.findall(fact["people"])}
    return fact["name"].lower(), QosLimits(own, accounts, persons)


def _name(text: str, numbers: Mapping[str, str]) -> str:
    """``1075`` or ``ada(1075)`` -> ``ada``."""
    name = text.partition("(")[0].lower()
    return numbers.get(name, name)
