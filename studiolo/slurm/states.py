"""What Slurm says of a job, as a value. What people are told of it is in ``reasons`` and ``spawners/kinds.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["JobState", "Owned", "Tagged"]

PENDING_STATES = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING_STATES = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"})
OVER_STATES = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REVOKED",
        "TIMEOUT",
        "VANISHED",
    }
)
"""States from which a job does not come back. ``VANISHED`` is ours: neither queue nor accounting knows the job."""


@dataclass(frozen=True)
class JobState:
    """One answer about one job.

    ``state`` is Slurm's word in capitals, ``reason`` why it waits or ended (``"None"`` if none), ``node`` where its
    script runs (empty before), ``start`` and ``end`` in seconds since 1970 (expected ones for a waiting job, ``None``
    if unknown), ``exit_code`` of its script and ``signal`` that ended it, where known.
    """

    job: int
    state: str
    reason: str = "None"
    node: str = ""
    start: int | None = None
    end: int | None = None
    exit_code: int | None = None
    signal: int | None = None

    @property
    def is_pending(self) -> bool:
        """It waits to start."""
        return self.state in PENDING_STATES

    @property
    def runs_somewhere(self) -> bool:
        """It runs, and on which node is known."""
        return bool(self.node) and not self.is_pending and not self.is_over

    @property
    def is_over(self) -> bool:
        """It has ended or is ending, and will not run again."""
        return self.state in OVER_STATES


@dataclass(frozen=True)
class Tagged:
    """A job in the queue whose comment says that it is this hub's: ``kind`` is what it is, ``name`` which one.

    ``person`` is whose job it is, by Slurm's word. The comment is only a hint: people can write any into their own jobs.
    ``state`` is how it was at that moment, ``asked`` when it was submitted (seconds since 1970), ``None`` where the answer
    does not tell; neither makes it another job.
    """

    job: int
    person: str
    kind: str
    name: str
    state: JobState | None = field(default=None, compare=False, kw_only=True)
    asked: int | None = field(default=None, compare=False, kw_only=True)


@dataclass(frozen=True)
class Owned(Tagged):
    """The same of one job, with the terms that it is held to now: its owner may change each of them while it waits.

    ``reservation`` is empty where it uses none; ``nodes`` is how many it has.
    """

    partition: str
    account: str
    qos: str
    reservation: str
    nodes: int
