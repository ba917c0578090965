"""slurmrestd's JSON about accounts -> values. Plain functions; all raise ``ValueError`` for an answer of another shape.

Accounting (slurmdbd) knows limits and who is in which account; what has been used slurmctld tells, from v0.0.40 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studiolo.slurm.budgets import Allowance, Budgets
from studiolo.slurm.rest_parse import read_entries, read_integer, read_mapping

__all__ = ["SHARES_SINCE", "rest_budgets", "rest_usage"]

SHARES_SINCE = "v0.0.40"
"""The first version of the API that tells what has been used."""


Usage = Mapping[tuple[str, str], Mapping[str, int]]
"""Minutes by kind of resource, of (account, person), the latter empty for the account itself."""


def rest_usage(answer: object) -> Usage:
    """Read ``/slurm/…/shares``: what has been used, which is told in seconds."""
    found: dict[tuple[str, str], Mapping[str, int]] = {}
    for entry in read_entries(read_mapping(answer).get("shares"), "shares"):
        name, parent = _name(entry, "name"), _name(entry, "parent")
        key = (parent, name) if "USER" in entry.get("type", ()) else (name, "")
        used = {_name(amount, "name"): _seconds(amount) // 60 for amount in read_entries(entry.get("tres"), "usage")}
        if not entry.get("partition"):
            found[key] = used
    return found


def _seconds(amount: Mapping[str, Any]) -> int:
    value = amount.get("value")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise ValueError(f"a number is expected, not {str(value)[:80]!r}")
    return int(value)


def rest_budgets(answer: object, taken: float, usage: Usage | None = None) -> Budgets:
    """Read ``/slurmdb/…/associations``; without ``usage``, nothing is known of what is used."""
    accounts: dict[str, Allowance] = {}
    members: dict[str, set[str]] = {}
    defaults: dict[str, str] = {}
    personal: dict[tuple[str, str], Allowance] = {}
    for entry in read_entries(answer, "associations"):
        account, person = _name(entry, "account"), _name(entry, "user")
        if not account:
            raise ValueError(f"no account in {str(entry)[:200]!r}")
        allowance = Allowance(
            _limits(entry), (usage or {}).get((account, person)), "" if person else _name(entry, "parent_account")
        )
        if not person:
            accounts[account] = allowance
            continue
        members.setdefault(person, set()).add(account)
        if entry.get("is_default"):
            defaults[person] = account
        if allowance.limits and not entry.get("partition"):
            personal[account, person] = allowance
    return Budgets(taken, accounts, {person: frozenset(of) for person, of in members.items()}, defaults, personal)


def _name(entry: Mapping[str, Any], key: str) -> str:
    name = entry.get(key)
    if not isinstance(name, (str, type(None))):
        raise ValueError(f"{key} is {str(name)[:80]!r}, not a name")
    return (name or "").lower()


def _limits(entry: Mapping[str, Any]) -> dict[str, int]:
    found: Any = entry
    for key in ("max", "tres", "group"):
        found = read_mapping(found.get(key))
    limits = {}
    for limit in read_entries(found, "minutes"):
        name = "/".join(str(limit[key]).lower() for key in ("type", "name") if limit.get(key))
        limits[name] = read_integer(limit.get("count"))
    return limits
