"""Inside a job: what this allocation has and how long it still lasts, read from the job's own environment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["REQUEST", "Session", "session"]


REQUEST = "STUDIOLO_REQUEST"
"""The environment variable that holds, as JSON, what this session asked for."""


@dataclass(frozen=True)
class Session:
    """The allocation that this process runs in.

    ``memory`` is in mebibytes, ``ends`` in seconds since 1970 (``None`` where Slurm does not say). ``gpus`` counts the
    whole GPUs or those shared; ``shards`` the parts of one (0 for whole ones). ``owner`` names the session, or the batch run,
    that jobs of this process belong to (empty outside of Studiolo); ``asked`` are the fields of its checked request
    (:class:`studiolo.request.Request`), empty where the hub has told none.
    """

    job: int
    node: str
    partition: str
    account: str
    cpus: int
    memory: int
    gpus: int
    shards: int
    ends: int | None
    owner: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the walltime, at least 0; ``None`` where it is not known."""
        return None if self.ends is None else max(0.0, self.ends - time.time())

    def like(self, *fields: str) -> dict[str, Any]:
        """These fields of what this session asked for, as options of another request; those left open are left out."""
        return {name: self.asked[name] for name in fields if self.asked.get(name) not in (None, "", [], 0)}


def session(environ: Mapping[str, str] = os.environ) -> Session | None:
    """Describe the Slurm job that this process belongs to; ``None`` outside of one."""
    job = environ.get("SLURM_JOB_ID", "")
    if not (job.isascii() and job.isdigit()):
        return None
    return Session(
        job=int(job),
        node=environ.get("SLURMD_NODENAME", ""),
        partition=environ.get("SLURM_JOB_PARTITION", ""),
        account=environ.get("SLURM_JOB_ACCOUNT", ""),
        cpus=_number(environ, "SLURM_CPUS_PER_TASK") or _number(environ, "SLURM_CPUS_ON_NODE"),
        memory=_number(environ, "SLURM_MEM_PER_NODE"),
        gpus=_number(environ, "SLURM_GPUS_ON_NODE"),
        shards=_number(environ, "SLURM_SHARDS_ON_NODE"),
        ends=_number(environ, "SLURM_JOB_END_TIME") or _number(environ, "STUDIOLO_ENDS") or None,
        owner=environ.get("STUDIOLO_RUN", "") or environ.get("STUDIOLO_SESSION", ""),
        asked=_asked(environ.get(REQUEST, "")),
    )


def _asked(text: str) -> Mapping[str, Any]:
    try:
        asked = json.loads(text) if text else {}
    except ValueError:  # somebody's own text
        return {}
    return asked if isinstance(asked, dict) else {}


def _number(environ: Mapping[str, str], key: str) -> int:
    value = environ.get(key, "")
    return int(value) if value.isascii() and value.isdigit() else 0
