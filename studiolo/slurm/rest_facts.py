"""slurmrestd's JSON about nodes, partitions, reservations and waiting jobs -> values. Plain functions.

The values are those of :mod:`studiolo.slurm.scontrol`: REST has the commands' small notations inside its fields. v0.0.38 has
flat fields and single words, v0.0.39 and later nested ones, lists of words, and numbers as objects. All raise ``ValueError`` for
an answer of another shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studiolo.slurm.facts import Admission, NodeFacts, PartitionFacts, PendingJob, ReservationFacts
from studiolo.slurm.notation import billing, expand_hosts, state_words
from studiolo.slurm.resources import cpus_held, resources_of
from studiolo.slurm.rest_parse import read_entries, read_integer, read_mapping, read_number

__all__ = ["rest_nodes", "rest_partitions", "rest_pending", "rest_reservations"]


def rest_nodes(answer: object) -> tuple[NodeFacts, ...]:
    """Read ``/slurm/…/nodes``."""
    return tuple(map(_node, read_entries(answer, "nodes")))


def _node(node: Mapping[str, Any]) -> NodeFacts:
    cpus = node.get("effective_cpus")
    total, free = resources_of(
        cpus=read_integer(node.get("cpus") if cpus is None else cpus),
        cpus_used=read_integer(node.get("alloc_cpus")),
        memory=read_integer(node.get("real_memory")) - read_integer(node.get("specialized_memory", 0)),
        memory_used=read_integer(node.get("alloc_memory")),
        gres=_text(node, "gres"),
        gres_used=_text(node, "gres_used"),
        tres_used=_text(node, "tres_used"),
    )
    name = _word(node.get("name"))
    words = "+".join([*_words(node.get("state")), *_words(node.get("state_flags"))])
    reason, by, when = (
        _text(node, "reason"),
        _text(node, "reason_set_by_user"),
        read_number(node.get("reason_changed_at")),
    )
    return NodeFacts(
        name=name,
        address=_text(node, "address") or name,
        states=state_words(_word(words)),
        reason=f"{reason} [{by}@{when}]" if reason and by and when else reason,
        total=total,
        free=free,
        features=_words(node.get("features")),
        partitions=_words(node.get("partitions")),
    )


def rest_partitions(answer: object) -> tuple[PartitionFacts, ...]:
    """Read ``/slurm/…/partitions``, without their nodes."""
    return tuple(map(_partition, read_entries(answer, "partitions")))


def _partition(partition: Mapping[str, Any]) -> PartitionFacts:
    if "max_time_limit" in partition:  # v0.0.38
        return PartitionFacts(
            name=_word(partition.get("name")),
            state=_word(partition.get("state")),
            max_minutes=read_number(partition.get("max_time_limit")),
            default_minutes=read_number(partition.get("default_time_limit")),
            accounts=_admission(partition, "allowed_accounts", "denied_accounts"),
            qos=_admission(partition, "allowed_qos", "denied_qos"),
            groups=_admission(partition, "allowed_groups", ""),
            gpu_billing=billing(_text(partition, "billing_weights")),
        )
    return PartitionFacts(
        name=_word(partition.get("name")),
        state=_state(read_mapping(partition.get("partition")).get("state")),
        max_minutes=read_number(read_mapping(partition.get("maximums")).get("time")),
        default_minutes=read_number(read_mapping(partition.get("defaults")).get("time")),
        accounts=_admission(read_mapping(partition.get("accounts")), "allowed", "deny"),
        qos=_admission(read_mapping(partition.get("qos")), "allowed", "deny"),
        groups=_admission(read_mapping(partition.get("groups")), "allowed", ""),
        gpu_billing=billing(_text(read_mapping(partition.get("tres", {})), "billing_weights")),
    )


def _state(value: object) -> str:
    """A partition that is drained or inactive may be told by several words, of which ``UP`` is one."""
    words = _words(value)
    return _word(next((word for word in words if word != "UP"), words[0] if words else ""))


def rest_reservations(answer: object) -> tuple[ReservationFacts, ...]:
    """Read ``/slurm/…/reservations``."""
    return tuple(map(_reservation, read_entries(answer, "reservations")))


def _reservation(reservation: Mapping[str, Any]) -> ReservationFacts:
    nodes = expand_hosts(_text(reservation, "node_list"))
    held = _text(reservation, "tres")
    cores = {
        _word(entry.get("node")): _word(entry.get("core")) for entry in _entries(reservation, "core_specializations")
    }
    if not cores and read_number(reservation.get("core_spec_cnt")):
        # v0.0.38 does not say how they lie on the nodes: each may hold all of them.
        listed = f"0-{read_integer(reservation.get('core_count')) - 1}"
        cpus = {node: number for name in nodes for node, number in cpus_held(held, {name: listed}).items()}
    else:
        cpus = cpus_held(held, cores)
    return ReservationFacts(
        name=_word(reservation.get("name")),
        start=_when(reservation.get("start_time")),
        end=_when(reservation.get("end_time")),
        nodes=nodes,
        partition=_text(reservation, "partition"),
        users=Admission.listed(_words(reservation.get("users"))),
        accounts=Admission.listed(_words(reservation.get("accounts"))),
        groups=Admission.listed(_words(reservation.get("groups"))),
        flags=_words(reservation.get("flags")),
        cpus=cpus,
    )


def rest_pending(answer: object) -> tuple[PendingJob, ...]:
    """Read ``/slurm/…/jobs``: those that wait, in the order of their priority, as ``squeue --priority --sort=-p,i``."""
    waiting = []
    for job in read_entries(answer, "jobs"):
        if _words(job.get("job_state"))[:1] != ("PENDING",):
            continue
        number, reservation = read_integer(job.get("job_id")), _text(job, "resv_name")
        own = read_number(job.get("priority")) or 0
        by_partition = {
            str(entry.get("partition")): read_number(entry.get("priority"))
            for entry in _entries(job, "priority_by_partition")
        }
        for partition in _words(job.get("partition")):
            priority = by_partition.get(partition) if own else 0
            reason = str(job.get("state_reason") or "None")
            waiting.append(PendingJob(number, partition, own if priority is None else priority, reservation, reason))
    return tuple(sorted(waiting, key=lambda job: (-job.priority, job.job)))


def _admission(value: Mapping[str, Any], allowed: str, denied: str) -> Admission:
    only, never = _words(value.get(allowed)), _words(value.get(denied)) if denied else ()
    return Admission(None if not only or "ALL" in only else frozenset(only), frozenset(never))


def _words(value: object) -> tuple[str, ...]:
    """A list of words, or words with commas between them."""
    words = value if isinstance(value, list) else str(value or "").split(",")
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"words are expected, not {str(value)[:80]!r}")
    return tuple(word for word in words if word)


def _word(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"a word is expected, not {str(value)[:80]!r}")
    return value


def _text(value: Mapping[str, Any], key: str) -> str:
    """Some text; REST has ``null`` or nothing where there is none."""
    text = value.get(key)
    return text if isinstance(text, str) else ""


def _entries(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """A list of objects that some versions do not have."""
    return read_entries(value, key) if value.get(key) else []


def _when(value: object) -> int:
    when = read_number(value)
    if when is None:
        raise ValueError(f"a time is expected, not {str(value)[:80]!r}")
    return when
