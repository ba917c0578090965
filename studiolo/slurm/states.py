"""What Slurm says of a job, as a value, and in words for people who have never seen Slurm."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JobState", "Tagged", "Words", "ended_words", "pending_words"]

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
    """

    job: int
    person: str
    kind: str
    name: str


@dataclass(frozen=True)
class Words:
    """What happened and what to do next, each one sentence."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"


_PENDING = {
    "None": "Slurm is looking for a place.",
    "Priority": "Others are ahead of you in the queue.",
    "Resources": "You are next: waiting for enough free resources.",
    "Dependency": "Waiting for another job to end first.",
    "BeginTime": "Waiting for its begin time.",
    "JobHeldUser": "You put this job on hold.",
    "JobHeldAdmin": "An operator put this job on hold.",
    "Reservation": "Waiting for its reservation to begin.",
    "ReqNodeNotAvail": "The nodes it needs are down or reserved, perhaps for maintenance.",
    "PartitionDown": "This part of the machine is closed at the moment.",
    "PartitionInactive": "This part of the machine does not start jobs at the moment.",
    "PartitionTimeLimit": "It asks for more time than this part of the machine allows: choose fewer hours.",
    "PartitionNodeLimit": "It asks for more than this part of the machine allows: choose less.",
    "AssocGrpGRESMinutes": "The project's GPU budget is used up: ask whoever runs the project.",
    "AssocGrpBillingMinutes": "The project's budget is used up: ask whoever runs the project.",
    "QOSMaxJobsPerUserLimit": "You have as many sessions running as you may: stop one to start this.",
    "QOSMaxGRESPerUser": "You use as many GPUs as you may: stop a session to start this.",
    "QOSMaxCpuPerUserLimit": "You use as many CPUs as you may: stop a session to start this.",
    "QOSMaxMemoryPerUser": "You use as much memory as you may: stop a session to start this.",
    "Prolog": "The node is getting ready.",
    "Cleaning": "The node is being cleaned.",
    "BadConstraints": "No node has what it asks for: choose another profile.",
    "NodeDown": "A node that it needs is down.",
    "launch_failed_requeued_held": "The node could not start it, so Slurm holds it: stop it and start again.",
}


def pending_words(reason: str) -> str:
    """Say in one sentence why a job waits; ``reason`` is Slurm's word, kept beside the sentence where it is one."""
    word = reason.partition(",")[0].strip(" ()") or "None"
    sentence = _PENDING.get(word, "Waiting in the queue.")
    return sentence if word == "None" else f"{sentence} (Slurm says: {word})"


_ENDED = {
    "BOOT_FAIL": Words("The node could not be started.", "Start again: Slurm will choose another node."),
    "CANCELLED": Words("The job was cancelled.", "If it was not you, ask the support; otherwise just start again."),
    "COMPLETED": Words(
        "The job ended before its notebook server answered.",
        "Look at the log below, then start again or choose another environment.",
    ),
    "DEADLINE": Words("The job's deadline passed before it could end.", "Start again with less time."),
    "FAILED": Words("The job's program failed.", "Look at the log below: it says why. Another environment may help."),
    "NODE_FAIL": Words("The node that it ran on failed.", "Start again: Slurm will choose another node."),
    "OUT_OF_MEMORY": Words("The job needed more memory than it had.", "Start again with more memory."),
    "PREEMPTED": Words("The job made way for one of higher priority.", "Start again; it will wait for its turn."),
    "REQUEUED": Words(
        "The job was put back into the queue, which ended its notebook server.", "Your files are safe: start again."
    ),
    "TIMEOUT": Words("The job reached the end of its time.", "Start again, with more time if you need it."),
    "VANISHED": Words(
        "Neither Slurm's queue nor its accounting knows the job any more.",
        "Start again; tell the support if it happens twice.",
    ),
}


# Who has worked in a session already has no log to look at, and other questions than who waits for one.
_ENDED_AFTER_SERVING = {
    "COMPLETED": Words(
        "The session was shut down from within: by you, or by a program in it.", "Start again whenever you like."
    ),
    "FAILED": Words("The session's notebook server failed.", "Start again; tell the support if it happens twice."),
}


def ended_words(state: JobState, *, served: bool = False) -> Words:
    """Say what ended a job and what its owner can do. ``served``: its server had answered already."""
    if served and state.state in _ENDED_AFTER_SERVING:
        return _ENDED_AFTER_SERVING[state.state]
    return _ENDED.get(state.state, Words(f"The job ended (Slurm says: {state.state}).", "Start again."))
