"""What `make status` shows: daemons, nodes, sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from deploy.summary import table
from slurmbox.box import NodeState, Status
from slurmbox.supervise import ProgramState


def report(url: str, status: Status, sessions: Sequence[Sequence[str]] | str) -> str:
    """The whole page. ``sessions`` are rows, or the sentence why there are none to show."""
    lines = [f"Studiolo at {url}", "", *daemon_lines(status.daemons), "", *node_lines(status.nodes), ""]
    if isinstance(sessions, str):
        lines.append(sessions)
    elif sessions:
        lines += table(("person", "session", "state", "job", "node", "since"), sessions)
    else:
        lines.append("  no sessions")
    if status.jobs_running or status.jobs_pending:
        lines += ["", f"  Slurm: {status.jobs_running} jobs run, {status.jobs_pending} wait"]
    return "\n".join(lines)


def is_healthy(status: Status) -> bool:
    """Whether all daemons run and the controller answers."""
    return status.controller and all(daemon.state == "RUNNING" for daemon in status.daemons)


def daemon_lines(daemons: Iterable[ProgramState]) -> list[str]:
    rows = [(d.name, d.state.lower(), str(d.pid or "-"), duration(d.uptime_s)) for d in daemons]
    return table(("daemon", "state", "process", "for"), rows)


def node_lines(nodes: Sequence[NodeState]) -> list[str]:
    if not nodes:
        return ["  the Slurm controller does not answer"]
    rows = [
        (
            n.name,
            n.state,
            f"{n.cpus_free} of {n.cpus}",
            f"{n.gpus_free} of {n.gpus}" if n.gpus else "-",
            f"{n.shards_free} of {n.shards}" if n.shards else "-",
        )
        for n in nodes
    ]
    return table(("node", "state", "CPUs free", "GPUs free", "shards free"), rows)


def session_rows(users: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The hub's list of active people to rows; what the hub does not tell is a dash."""
    rows: list[tuple[str, ...]] = []
    for user in users:
        for name, server in sorted((user.get("servers") or {}).items()):
            known = server.get("state") or {}
            rows.append(
                (
                    str(user["name"]),
                    name or "default",
                    "ready" if server.get("ready") else str(server.get("pending") or "stopped"),
                    first_of(known, "job_id", "job"),
                    first_of(known, "node", "host", "nodes"),
                    local_time(server.get("started")),
                )
            )
    return rows


def first_of(known: Mapping[str, Any], *keys: str) -> str:
    return next((str(known[key]) for key in keys if known.get(key)), "-")


def duration(seconds: int) -> str:
    """``3725`` -> ``1:02:05``; a dash for what does not run."""
    if seconds <= 0:
        return "-"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def local_time(stamp: object) -> str:
    """The hub's UTC time in this machine's time zone."""
    try:
        moment = datetime.fromisoformat(str(stamp).replace("Z", "+00:00"))
    except ValueError:
        return "-"
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
