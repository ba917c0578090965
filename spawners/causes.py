"""Why a start failed or a session ended, as a value: from Slurm's refusal, a job's last state, the last lines of its log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spawners.kinds import KINDS
from studiolo.slurm.states import JobState

__all__ = ["Cause", "cancelled_by", "ended_cause", "refusal_kind"]


@dataclass(frozen=True)
class Cause:
    """Why a session did not start or ended, as facts.

    ``kind`` is one of :data:`spawners.kinds.KINDS`, ``state`` the job's last one, ``words`` Slurm's or the node's own,
    ``minutes`` a time that passed, ``who`` the account that cancelled the job or stopped the session, where somebody else did.
    """

    kind: str
    state: JobState | None = None
    words: str = ""
    minutes: int = 0
    who: str = ""


# What Slurm prints with a refusal, in its errors of submission (slurm_errno.c), and what it is about.
_REFUSALS = (
    (re.compile(r"accounting/QOS policy|QOS.*limit|association.*limit", re.IGNORECASE), "limit"),
    (re.compile(r"time limit", re.IGNORECASE), "too-long"),
    (re.compile(r"reservation", re.IGNORECASE), "reservation"),
    (re.compile(r"account|qos|permission|access", re.IGNORECASE), "account"),
    (re.compile(r"configuration|specification|available", re.IGNORECASE), "too-large"),
)


def refusal_kind(words: str) -> str:
    """What a refusal of Slurm's is about, by its words."""
    return next((kind for pattern, kind in _REFUSALS if pattern.search(words)), "refused")


# What a job's log says of why it failed. Its owner can write there what they like, and is the only one to read this.
_LOGGED = (
    (re.compile(r"disk quota exceeded|no space left on device", re.IGNORECASE), "quota"),
    (re.compile(r"^studiolo: the folder ", re.MULTILINE), "folder"),
    (re.compile(r"^studiolo: .* can not be reached from this node", re.MULTILINE), "hub-away"),
    (
        re.compile(
            r"ModuleNotFoundError|ImportError|No module named|Lmod has detected|Unable to locate a modulefile"
            r"|command not found|exec: .*(not found|No such file)|^FATAL: |cannot execute",
            re.MULTILINE,
        ),
        "environment",
    ),
)


def ended_cause(state: JobState, log: Sequence[str] = (), *, served: bool = False, unattended: int = 0) -> Cause:
    """Why a job ended. ``served``: its server had answered already; ``unattended``: it ended itself after so many minutes
    in which nobody came."""
    kind = state.state.lower().replace("_", "-")
    if kind == "completed" and served:
        kind = "unattended" if unattended else "shut-down"
    elif kind == "failed":
        text = "\n".join(log)
        kind = next((found for pattern, found in _LOGGED if pattern.search(text)), "server-failed" if served else kind)
    elif kind == "timeout" and served:
        kind = "time-over"
    return Cause(kind if kind in KINDS else "ended", state, minutes=unattended)


def cancelled_by(cause: Cause, who: str, *, is_owner: bool, is_system: bool) -> Cause:
    """The same cancellation, now that accounting says whose it was: the account ``who``."""
    kind = "cancelled-by-you" if is_owner else "cancelled-by-system" if is_system else "cancelled-by"
    return replace(cause, kind=kind, who=who)
