"""Who may charge which account, and what is left of each: one frozen answer for everybody, as Slurm keeps it in memory.

Slurm counts use in minutes of each kind of resource (``GrpTRESMins``), for an account, for each of those above it, and for a
person in it. :func:`parse_associations` reads what ``scontrol show assoc_mgr`` prints, which costs the scheduler a
look into its own tables and the accounting daemon nothing. What nobody told is ``None``, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from studiolo.slurm.limits import Bound, QosLimits, parse_bounds, parse_qos

__all__ = ["Allowance", "Bounds", "Budgets", "GpuHours", "parse_associations"]

_HOURS = frozenset({"gres/gpu", "billing"})  # of which what is left is told in hours of GPUs
MINUTES_AN_HOUR = 60
MAX_PARENTS = 64  # an account above itself must not be followed for ever
_AMOUNT = re.compile(r"([^=,]+)=(N|[0-9]{1,18})\(([0-9]{1,18})\)")
# Of the forty facts of a line, these; a large site has thousands of lines.
_ASSOCIATION = re.compile(
    r"ClusterName=\S* Account=(?P<account>\S+) UserName=(?P<person>\S*) Partition=(?P<partition>\S*) .*?"
    r"ParentAccount=(?P<parent>\S*) .*?DefAssoc=(?P<default>Yes|No) .*?GrpTRESMins=(?P<minutes>\S*) "
)


@dataclass(frozen=True)
class GpuHours:
    """Hours of whole GPUs: ``limit`` and ``left`` are ``None`` where there is no limit or none is known, ``used`` where
    nobody says."""

    limit: float | None = None
    used: float | None = None

    @property
    def left(self) -> float | None:
        """What is left of the limit."""
        return None if self.limit is None or self.used is None else max(0.0, self.limit - self.used)


@dataclass(frozen=True)
class Allowance:
    """What an account, or a person in it, may use in all and has used, by kind of resource in minutes.

    ``used`` is ``None`` where nobody says; ``parent`` is the account above, empty for none; ``bounds`` are its other limits.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] | None = None
    parent: str = ""
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True)
class Bounds:
    """Limits of one that Slurm holds to them: ``of`` a person in an account or QoS, an account (perhaps in a QoS), a QoS."""

    of: Literal["person", "account", "qos"]
    account: str
    qos: str
    bounds: tuple[Bound, ...]


@dataclass(frozen=True)
class Budgets:
    """All accounts of a cluster at one moment, ``taken`` in seconds since 1970. Names are in small letters, as Slurm's are.

    ``members`` are the accounts of each person, ``defaults`` the one charged where they name none, ``personal`` the
    allowances of (account, person).
    """

    taken: float
    accounts: Mapping[str, Allowance]
    members: Mapping[str, frozenset[str]]
    defaults: Mapping[str, str]
    personal: Mapping[tuple[str, str], Allowance] = field(default_factory=dict)
    qos: Mapping[str, QosLimits] = field(default_factory=dict)

    def of(self, person: str) -> frozenset[str] | None:
        """The accounts of a person; ``None`` where Slurm told of none: it may just not show them to the hub."""
        return self.members.get(person)

    def allowances(self, person: str, account: str) -> Iterator[Allowance]:
        """All that bind a person who charges an account: their own in it, the account's, those above."""
        if own := self.personal.get((account, person)):
            yield own
        for _ in range(MAX_PARENTS):
            found = self.accounts.get(account)
            if found is None:
                return
            yield found
            account = found.parent

    def bounds(self, person: str, account: str, qos: str | None, partition_qos: str = "") -> Iterator[Bounds]:
        """All further limits that bind a person who charges an account under a QoS; ``None`` for one that is not known.

        The partition's QoS comes first, then the session's, then accounts: what one has a limit for, those behind it have not.
        Where it may be any QoS, what some of them has a limit for is left out.
        """
        overridden: set[tuple[str, str]] = set()

        def held(of: Literal["person", "account", "qos"], account: str, qos: str, bounds: Iterable[Bound]) -> Bounds:
            kept = [bound for bound in bounds if (bound.family, bound.kind) not in overridden]
            return Bounds(of, account, qos, tuple(kept))

        for name in (partition_qos, qos):
            if name and (limits := self.qos.get(name)):
                yield held("person", "", name, limits.each(limits.people, person))
                yield held("account", account, name, limits.each(limits.accounts, account))
                yield held("qos", "", name, limits.own)
                overridden |= set(limits.overrides)
        if qos is None:
            overridden |= {limit for limits in self.qos.values() for limit in limits.overrides}
        own = self.personal.get((account, person))
        for allowance in self.allowances(person, account):
            if allowance is own:
                yield held("person", account, "", allowance.bounds)
                continue
            # The rest says what becomes of people, each of whom has a copy.
            yield held("account", account, "", [one for one in allowance.bounds if one.name.startswith("Grp")])
            account = allowance.parent

    def gpu_hours(self, person: str, account: str, weight: float = 0.0) -> GpuHours:
        """GPU-hours of an account for a person: those of the limit of which least is left.

        ``weight`` is what a minute of a whole GPU is billed; with it, a limit of ``billing`` counts too.
        """
        known = [*self.allowances(person, account)]
        bounds = [bound for allowance in known for bound in _bounds(allowance, weight)]
        if bounds:
            return min(bounds, key=lambda bound: float("inf") if bound.left is None else bound.left)
        used = self.accounts[account].used if account in self.accounts else None
        return GpuHours(None, None if used is None else used.get("gres/gpu", 0) / MINUTES_AN_HOUR)


def _bounds(allowance: Allowance, weight: float) -> Iterator[GpuHours]:
    for kind, minutes in (("gres/gpu", 1.0), ("billing", weight)):
        if minutes > 0 and kind in allowance.limits:
            an_hour = minutes * MINUTES_AN_HOUR
            used = None if allowance.used is None else allowance.used.get(kind, 0) / an_hour
            yield GpuHours(allowance.limits[kind] / an_hour, used)


def parse_associations(output: str, taken: float) -> Budgets:
    """Read ``scontrol --oneliner show assoc_mgr flags=assoc,qos``. Raises ``ValueError`` on half an answer."""
    if not output.endswith("\n"):
        raise ValueError(f"the last line is half: {output[-200:]!r}")
    accounts: dict[str, Allowance] = {}
    members: dict[str, set[str]] = {}
    defaults: dict[str, str] = {}
    personal: dict[tuple[str, str], Allowance] = {}
    qos: list[str] = []
    numbers: dict[str, str] = {}
    for line in output.split("\n"):
        if line.startswith("QOS="):
            qos.append(line)
        if not line.startswith("ClusterName="):
            continue
        fact = _ASSOCIATION.match(line)
        if fact is None:
            raise ValueError(f"no account, limits or default in {line[:200]!r}")
        account, person = fact["account"].lower(), _unnumbered(fact["person"])
        allowance = _allowance(fact["minutes"], _unnumbered(fact["parent"]), line[fact.end("default") :])
        if not person:
            accounts[account] = allowance
            continue
        numbers[fact["person"].partition("(")[2].rstrip(")")] = person
        members.setdefault(person, set()).add(account)
        if fact["default"] == "Yes":
            defaults[person] = account
        if (allowance.limits or allowance.bounds) and not fact[
            "partition"
        ]:  # one for a partition alone binds nowhere else
            personal[account, person] = allowance
    people = {person: frozenset(of) for person, of in members.items()}
    return Budgets(taken, accounts, people, defaults, personal, dict(parse_qos(line, numbers) for line in qos))


def _allowance(text: str, parent: str, facts: str) -> Allowance:
    limits, used = {}, {}
    for kind, limit, minutes in _AMOUNT.findall(text):
        used[kind.lower()] = int(minutes)
        if limit != "N":
            limits[kind.lower()] = int(limit)
    bounds = [one for one in parse_bounds(facts) if one.name != "GrpTRESMins" or one.kind not in _HOURS]
    return Allowance(limits, used, parent, tuple(bounds))


def _unnumbered(text: str) -> str:
    """``ada(1001)`` -> ``ada``."""
    return text.partition("(")[0].lower()
