"""Who may charge which account, and what is left of each: one frozen answer for everybody, as Slurm keeps it in memory.

Slurm counts use in minutes of each kind of resource (``GrpTRESMins``), for an account, for each of those above it, and for a
person in it. :func:`parse_associations` reads what ``scontrol show assoc_mgr`` prints, which costs the scheduler a
look into its own tables and the accounting daemon nothing. What nobody told is ``None``, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Allowance", "Budgets", "GpuHours", "parse_associations"]

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

    ``used`` is ``None`` where nobody says; ``parent`` is the account above, empty for none.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] | None = None
    parent: str = ""


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
    """Read ``scontrol --oneliner show assoc_mgr flags=assoc``. Raises ``ValueError`` on half an answer."""
    if not output.endswith("\n"):
        raise ValueError(f"the last line is half: {output[-200:]!r}")
    accounts: dict[str, Allowance] = {}
    members: dict[str, set[str]] = {}
    defaults: dict[str, str] = {}
    personal: dict[tuple[str, str], Allowance] = {}
    for line in output.split("\n"):
        if not line.startswith("ClusterName="):
            continue
        fact = _ASSOCIATION.match(line)
        if fact is None:
            raise ValueError(f"no account, limits or default in {line[:200]!r}")
        account, person = fact["account"].lower(), _unnumbered(fact["person"])
        allowance = _allowance(fact["minutes"], _unnumbered(fact["parent"]))
        if not person:
            accounts[account] = allowance
            continue
        members.setdefault(person, set()).add(account)
        if fact["default"] == "Yes":
            defaults[person] = account
        if allowance.limits and not fact["partition"]:  # one for a partition alone binds nowhere else
            personal[account, person] = allowance
    return Budgets(taken, accounts, {person: frozenset(of) for person, of in members.items()}, defaults, personal)


def _allowance(text: str, parent: str) -> Allowance:
    limits, used = {}, {}
    for kind, limit, minutes in _AMOUNT.findall(text):
        used[kind.lower()] = int(minutes)
        if limit != "N":
            limits[kind.lower()] = int(limit)
    return Allowance(limits, used, parent)


def _unnumbered(text: str) -> str:
    """``ada(1001)`` -> ``ada``."""
    return text.partition("(")[0].lower()
