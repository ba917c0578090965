"""What ``scontrol --oneliner show node``, ``partition`` and ``reservation`` print -> values. Plain functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from studiolo.slurm.facts import Admission, NodeFacts, PartitionFacts, ReservationFacts
from studiolo.slurm.notation import billing, expand_hosts, state_words
from studiolo.slurm.resources import cpus_held, resources_of
from studiolo.units import slurm_minutes

__all__ = ["parse_nodes", "parse_partitions", "parse_reservations"]

_RESERVATION = re.compile(r"ReservationName=(.*?) (?=StartTime=)")
_CORES = re.compile(r"NodeName=(\S+) CoreIDs=([0-9,-]+)")
_EMPTY = frozenset({"", "(null)", "N/A"})


def parse_nodes(output: str) -> tuple[NodeFacts, ...]:
    """Read ``show node``; what is free is exact with ``--details`` alone. Raises ``ValueError`` on half an answer."""
    return tuple(_node(line) for line in _lines(output, "NodeName="))


def _node(line: str) -> NodeFacts:
    fact = _facts(line)
    cpus = _number(fact, "CPUEfctv") if "CPUEfctv" in fact else _number(fact, "CPUTot")
    total, free = resources_of(
        cpus=cpus,
        cpus_used=_number(fact, "CPUAlloc", "0"),
        memory=_number(fact, "RealMemory") - _number(fact, "MemSpecLimit", "0"),
        memory_used=_number(fact, "AllocMem", "0"),
        gres=fact.get("Gres", ""),
        gres_used=fact.get("GresUsed", ""),
        tres_used=fact.get("AllocTRES", ""),
    )
    return NodeFacts(
        name=fact["NodeName"],
        address=fact.get("NodeAddr", fact["NodeName"]),
        states=state_words(_word(fact, "State")),
        reason=line.partition(" Reason=")[2].strip(),  # a free text, and so the last fact that can be relied on
        total=total,
        free=free,
        features=_names(fact.get("AvailableFeatures", "")),
        partitions=_names(fact.get("Partitions", "")),
    )


def parse_partitions(output: str) -> tuple[PartitionFacts, ...]:
    """Read ``show partition``, without their nodes. Raises ``ValueError`` on half an answer."""
    return tuple(
        PartitionFacts(
            name=fact["PartitionName"],
            state=_word(fact, "State"),
            max_minutes=_minutes(_word(fact, "MaxTime")),
            default_minutes=_minutes(fact.get("DefaultTime", "NONE")),
            accounts=_admission(fact, "Accounts"),
            qos=_admission(fact, "Qos"),
            groups=_admission(fact, "Groups"),
            gpu_billing=billing(fact.get("TRESBillingWeights", "")),
            own_qos="" if fact.get("QoS", "") in _EMPTY else fact["QoS"].lower(),
        )
        for fact in map(_facts, _lines(output, "PartitionName="))
    )


def parse_reservations(output: str) -> tuple[ReservationFacts, ...]:
    """Read ``show reservation`` with times in seconds since 1970. Raises ``ValueError`` on half an answer."""
    return tuple(_reservation(line) for line in _lines(output, "ReservationName="))


def _reservation(line: str) -> ReservationFacts:
    match = _RESERVATION.match(line)  # Slurm takes blanks and "=" in a reservation's name
    if match is None:
        raise ValueError(f"no StartTime in {line[:200]!r}")
    fact = _facts(line[match.end() :])
    return ReservationFacts(
        name=match[1],
        start=_number(fact, "StartTime"),
        end=_number(fact, "EndTime"),
        nodes=expand_hosts("" if fact.get("Nodes", "") in _EMPTY else fact["Nodes"]),
        partition="" if fact.get("PartitionName", "") in _EMPTY else fact["PartitionName"],
        users=Admission.listed(_names(fact.get("Users", ""))),
        accounts=Admission.listed(_names(fact.get("Accounts", ""))),
        groups=Admission.listed(_names(fact.get("Groups", ""))),
        flags=_names(fact.get("Flags", "")),
        cpus=cpus_held(fact.get("TRES", ""), dict(_CORES.findall(line))),
    )


def _lines(output: str, start: str) -> Iterator[str]:
    if output and not output.endswith("\n"):
        raise ValueError(f"the last line is half: {output[-200:]!r}")
    return (line for line in output.split("\n") if line.startswith(start))


def _facts(line: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in line.split()]
    # The first of a name counts: a free text such as Reason comes last.
    return {key: value for key, sign, value in reversed(pairs) if sign}


def _word(fact: dict[str, str], key: str) -> str:
    if not fact.get(key):
        raise ValueError(f"no {key} in {' '.join(f'{k}={v}' for k, v in reversed(fact.items()))[:200]!r}")
    return fact[key]


def _number(fact: dict[str, str], key: str, default: str = "") -> int:
    text = fact.get(key, default)
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"{key} is {text[:40]!r}, not a number")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name not in _EMPTY)


def _minutes(text: str) -> int | None:
    if text in {"UNLIMITED", "INFINITE", "NONE"}:
        return None
    minutes = slurm_minutes(text)
    if minutes is None:
        raise ValueError(f"{text[:40]!r} is no time")
    return minutes


def _admission(fact: dict[str, str], what: str) -> Admission:
    """``AllowAccounts=ALL``, ``AllowAccounts=a,b`` or, in its place, ``DenyAccounts=c``."""
    allowed = fact.get(f"Allow{what}", "ALL")
    never = frozenset(_names(fact.get(f"Deny{what}", "")))
    return Admission(None if allowed in {"ALL", *_EMPTY} else frozenset(_names(allowed)), never)
