"""Why a job waits: Slurm's own words, each with a sentence that says what is meant and whose move it is.

The words are those of Slurm 22.05 to 26.05 (``src/common/job_state_reason.c``, before that ``slurm_protocol_defs.c``).
Most name a limit, and are built by a rule: whose limit (``Assoc`` a project's, ``QOS`` a service class's), of what (``GRES``,
``Cpu``, …) and how counted (used up, at once, by one person, by one job). Those are read by that rule, so that a word of a
later Slurm that follows it has its sentence too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from studiolo.language import _, later

__all__ = ["Reason", "limit_of", "limit_words", "never_starts", "pending_words", "read_reason"]


@dataclass(frozen=True)
class Reason:
    """Why a job waits: one ``sentence``, and Slurm's own ``word`` for it, empty where it has none yet."""

    sentence: str
    word: str

    def __str__(self) -> str:
        return (
            _("%(sentence)s (Slurm says: %(word)s)", sentence=self.sentence, word=self.word)
            if self.word
            else self.sentence
        )


def pending_words(reason: str) -> str:
    """Say why a job waits, with Slurm's own word beside it; ``reason`` is what Slurm told."""
    return str(read_reason(reason))


def read_reason(reason: str) -> Reason:
    """The sentence for what Slurm told, in the language that is spoken now."""
    # Some reasons come with details ("ReqNodeNotAvail, UnavailableNodes:…"), some as a whole sentence of Slurm's.
    told = reason.strip().strip("()").strip()
    word = re.split(r"[,:]", told, maxsplit=1)[0].strip().replace(" ", "_")[:LONGEST] or "None"
    if word == "None":
        return Reason(_(_SENTENCES["None"]), "")
    sentence = _SENTENCES.get(word) or _PHRASES.get(_phrase(word), "") or _limit(word) or _OTHER
    return Reason(_(sentence), word)


def never_starts(reason: str) -> bool:
    """Whether a job that waits for this does not start as it stands, and somebody has to do something: a budget that is spent,
    more than one may ask for."""
    word = read_reason(reason).word
    limit = limit_of(word)
    return word in _NEVER or (limit is not None and limit[0] in ("project spent", "class spent", "large", "small"))


def limit_words(text: str) -> str:
    """The sentence for the limit that a refusal of Slurm's names, in whatever it printed; empty where it names none."""
    for word in re.findall(r"[A-Za-z]+", text[:LONGEST_TEXT]):
        if sentence := _limit(word) or (_SENTENCES[word] if word in _REFUSALS else ""):
            return _(sentence)
    return ""


LONGEST = 80
LONGEST_TEXT = 4000
_OTHER = later("Waiting in the queue.")

_SENTENCES = {
    # The line itself
    "None": later("Slurm is looking for a place."),
    "WaitingForScheduling": later("Slurm is looking for a place."),
    "SchedDefer": later("Slurm is looking for a place."),
    "Priority": later("Others are ahead of you in the queue."),
    "Resources": later("You are next: waiting for enough free resources."),
    "Licenses": later("Waiting for a licence that others use at the moment."),
    "NvidiaImexChannels": later("Waiting for a link between GPUs that others use at the moment."),
    "MpiPortsBusy": later("Waiting for network ports that others use at the moment."),
    "BurstBufferResources": later("Waiting for room in the fast storage."),
    "BurstBufferStageIn": later("Its data is being copied to the fast storage."),
    "MaxPoweredUpNodes": later("Waiting: as many nodes are switched on as may be at once."),
    "PowerNotAvail": later("Waiting for electrical power: the machine runs at its limit."),
    "PowerReserved": later("Waiting for electrical power, which is reserved for others at the moment."),
    "FedJobLock": later("Several clusters are agreeing on where it starts."),
    # Times and other jobs
    "BeginTime": later("Waiting for its begin time."),
    "Dependency": later("Waiting for another job to end first."),
    "DependencyNeverSatisfied": later(
        "It waits for a job that will never end as it should, so it will not start: cancel it and start again."
    ),
    "JobArrayTaskLimit": later("Waiting for others of its series to end."),
    "DeadLine": later("It can not end before its deadline, so it will not start: cancel it and start again."),
    "Prolog": later("The node is getting ready."),
    "Cleaning": later("The node is being cleaned."),
    # Held
    "JobHeldUser": later("You put this job on hold: release it, or cancel it and start again."),
    "JobHeldAdmin": later("An operator put this job on hold: ask the support why."),
    "JobHoldMaxRequeue": later(
        "It failed to start too often, so Slurm holds it: cancel it and start again, and tell the support if it happens twice."
    ),
    "launch_failed_requeued_held": later("The node could not start it, so Slurm holds it: cancel it and start again."),
    "job_requeued_in_held_state": later("It was put back into the queue and on hold: cancel it and start again."),
    # Reservations
    "Reservation": later("Waiting for its reservation to begin."),
    "ReservationDeleted": later("Its reservation is gone, so it will not start: cancel it, and choose without one."),
    "ReservationInvalid": later(
        "Its reservation can not be used, so it will not start: cancel it, and choose without one."
    ),
    # Nodes and partitions
    "ReqNodeNotAvail": later("The nodes it needs are down or reserved, perhaps for maintenance."),
    "NodeDown": later("A node that it needs is down."),
    "FrontEndDown": later("A node that it needs is down."),
    "PartitionDown": later("This part of the machine is closed at the moment."),
    "PartitionInactive": later("This part of the machine does not start jobs at the moment."),
    "PartitionTimeLimit": later(
        "It asks for more time than this part of the machine allows: cancel it, and choose fewer hours."
    ),
    "PartitionNodeLimit": later("It asks for more than this part of the machine allows: cancel it, and choose less."),
    "PartitionConfig": later("It asks for more than this part of the machine allows: cancel it, and choose less."),
    "MaxMemPerLimit": later(
        "It asks for more memory than this part of the machine allows: cancel it, and choose less."
    ),
    "BadConstraints": later("No node has what it asks for: cancel it, and choose another profile."),
    "Constraints": later("No node has what it asks for at the moment."),
    # Projects and service classes
    "AccountNotAllowed": later(
        "Its project may not use this part of the machine: cancel it, and choose another project."
    ),
    "InvalidAccount": later(
        "Its project is not known or closed: cancel it, and choose another project or ask the support."
    ),
    "InvalidQOS": later("Its service class (QoS) is not known: cancel it, and choose another one or ask the support."),
    "QOSNotAllowed": later(
        "Its service class (QoS) may not be used here: cancel it, and choose another one or another part of the machine."
    ),
    "QOSUsageThreshold": later(
        "Its project has used too much lately for this service class (QoS): cancel it and choose another one, or wait."
    ),
    "AccountingPolicy": later("A limit of your project stands against it at the moment: wait, or choose less."),
    # Names of older Slurms for limits, which do not follow the rule
    "AssociationJobLimit": later("You have as many jobs running as you may: stop one to start this."),
    "AssociationResourceLimit": later("You use as much as you may: stop a session to start this."),
    "AssociationTimeLimit": later("Your time is used up: ask whoever runs the project."),
    "QOSJobLimit": later("As many jobs of this service class (QoS) run as may: wait until one ends."),
    "QOSResourceLimit": later("This service class (QoS) uses as much as it may: wait until others end."),
    "QOSTimeLimit": later(
        "The time of this service class (QoS) is used up: choose another one, or ask whoever runs the project."
    ),
    # What Slurm says of a job that was running and was put back
    "JobLaunchFailure": later("The node could not start it: Slurm tries again."),
    "SystemFailure": later("Something failed on the machine: Slurm tries again."),
    "NonZeroExitCode": later("Its last attempt failed: Slurm tries again."),
    "RaisedSignal": later("Its last attempt was ended: Slurm tries again."),
    "OutOfMemory": later("Its last attempt needed more memory than it had: cancel it, and choose more."),
    "TimeLimit": later("Its last attempt reached the end of its time: Slurm tries again."),
    "InactiveLimit": later("Its last attempt did nothing for too long: Slurm tries again."),
    "BurstBufferOperation": later("The fast storage failed: tell the support."),
    # A kind of machine that is gone
    "BlockFreeAction": later("The machine is freeing a part of itself."),
    "BlockMaxError": later("A part of the machine fails too often: tell the support."),
}

_NEVER = frozenset(
    {
        "AccountNotAllowed",
        "BadConstraints",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSNotAllowed",
    }
)

_PHRASES = {
    "Nodes_required_for_job": later("The nodes it needs are down or reserved, perhaps for maintenance."),
    "Burst_buffer": later("The fast storage failed: tell the support."),
    "burst_buffer": later("The fast storage failed: tell the support."),
}
"""How sentences of Slurm's begin which stand where a word would."""

_REFUSALS = frozenset({"AccountNotAllowed", "InvalidAccount", "InvalidQOS", "QOSNotAllowed", "PartitionTimeLimit"})


def _phrase(word: str) -> str:
    return next((begin for begin in _PHRASES if word.startswith(begin)), "")


# --- Limits, by the rule of their names ------------------------------------------------------------------------------

_LIMIT = re.compile(
    r"(?P<whose>AssocGrp|AssocMax|QOSGrp|QOSMax|QOSMin|Max)"
    r"(?P<what>BB|Billing|CPU|Cpu|Energy|GRES|License|Memory|Mem|Node|Unknown|SubmitJobs?|Jobs|WallDuration|Wall)"
    r"(?P<run>Run)?(?P<minutes>Minutes|Mins)?(?P<counted>PerJob|PerNode|PerUser|PerAccount|NotSatisfied)?(?:Limit)?"
)
_THINGS = {
    "GRES": "gpus",
    "CPU": "cpus",
    "Cpu": "cpus",
    "Mem": "memory",
    "Memory": "memory",
    "Node": "nodes",
    "Jobs": "jobs",
    "SubmitJob": "jobs",
    "SubmitJobs": "jobs",
    "Wall": "time",
    "WallDuration": "time",
}

_LIMITS = {
    # A budget of the project is used up: the move is that of whoever runs it
    ("project spent", "gpus"): later("The project's GPU budget is used up: ask whoever runs the project."),
    ("project spent", "cpus"): later("The project's CPU budget is used up: ask whoever runs the project."),
    ("project spent", "memory"): later("The project's memory budget is used up: ask whoever runs the project."),
    ("project spent", ""): later("The project's budget is used up: ask whoever runs the project."),
    ("class spent", "gpus"): later(
        "The GPU budget of this service class (QoS) is used up: choose another one, or ask whoever runs the project."
    ),
    ("class spent", "cpus"): later(
        "The CPU budget of this service class (QoS) is used up: choose another one, or ask whoever runs the project."
    ),
    ("class spent", ""): later(
        "The budget of this service class (QoS) is used up: choose another one, or ask whoever runs the project."
    ),
    # The project or the class has as much at once as it may: it passes when others end
    ("project full", "gpus"): later(
        "The project uses as many GPUs as it may at once: wait until others of the project end."
    ),
    ("project full", "cpus"): later(
        "The project uses as many CPUs as it may at once: wait until others of the project end."
    ),
    ("project full", "memory"): later(
        "The project uses as much memory as it may at once: wait until others of the project end."
    ),
    ("project full", "nodes"): later(
        "The project uses as many nodes as it may at once: wait until others of the project end."
    ),
    ("project full", "jobs"): later(
        "The project has as many jobs as it may at once: wait until others of the project end."
    ),
    ("project full", ""): later("The project uses as much as it may at once: wait until others of the project end."),
    ("class full", "gpus"): later(
        "This service class (QoS) uses as many GPUs as it may at once: wait until others end, or choose another one."
    ),
    ("class full", "cpus"): later(
        "This service class (QoS) uses as many CPUs as it may at once: wait until others end, or choose another one."
    ),
    ("class full", "memory"): later(
        "This service class (QoS) uses as much memory as it may at once: wait until others end, or choose another one."
    ),
    ("class full", "nodes"): later(
        "This service class (QoS) uses as many nodes as it may at once: wait until others end, or choose another one."
    ),
    ("class full", "jobs"): later(
        "This service class (QoS) has as many jobs as it may at once: wait until others end, or choose another one."
    ),
    ("class full", ""): later(
        "This service class (QoS) uses as much as it may at once: wait until others end, or choose another one."
    ),
    # One person has as much at once as one may: the move is theirs
    ("mine", "gpus"): later("You use as many GPUs as you may: stop a session to start this."),
    ("mine", "cpus"): later("You use as many CPUs as you may: stop a session to start this."),
    ("mine", "memory"): later("You use as much memory as you may: stop a session to start this."),
    ("mine", "nodes"): later("You use as many nodes as you may: stop a session to start this."),
    ("mine", "jobs"): later("You have as many sessions and jobs as you may: stop one to start this."),
    ("mine", ""): later("You use as much as you may: stop a session to start this."),
    # It is too large for one, or too small: it never starts as it stands
    ("large", "gpus"): later("It asks for more GPUs than one session may have: cancel it, and choose fewer."),
    ("large", "cpus"): later("It asks for more CPUs than one session may have: cancel it, and choose fewer."),
    ("large", "memory"): later("It asks for more memory than one session may have: cancel it, and choose less."),
    ("large", "nodes"): later("It asks for more nodes than one session may have: cancel it, and choose fewer."),
    ("large", "time"): later("It asks for more time than one session may have: cancel it, and choose less."),
    ("large", ""): later("It asks for more than one session may have: cancel it, and choose less."),
    ("small", "gpus"): later(
        "It asks for fewer GPUs than this service class (QoS) is for: cancel it, and choose another one."
    ),
    ("small", "cpus"): later(
        "It asks for fewer CPUs than this service class (QoS) is for: cancel it, and choose another one."
    ),
    ("small", "memory"): later(
        "It asks for less memory than this service class (QoS) is for: cancel it, and choose another one."
    ),
    ("small", ""): later("It asks for less than this service class (QoS) is for: cancel it, and choose another one."),
}


def limit_of(text: str) -> tuple[str, str] | None:
    """Which limit a refusal or a reason of Slurm's names: its family, and of what (``gpus``, ``jobs`` …, or empty).

    Families: ``project spent`` and ``class spent``, a budget that is used up; ``project full`` and ``class full``, as much at
    once as all of them may; ``mine``, as much at once as one person may; ``large`` and ``small``, for one session.
    """
    for word in re.findall(r"[A-Za-z]+", text[:LONGEST_TEXT]):
        if match := _LIMIT.fullmatch(word):
            return _family(match), _THINGS.get(match["what"], "")
    return None


def _limit(word: str) -> str:
    """The sentence for a limit, not translated; empty where the word does not follow the rule."""
    match = _LIMIT.fullmatch(word)
    if match is None:
        return ""
    family, thing = _family(match), _THINGS.get(match["what"], "")
    return _LIMITS.get((family, thing), _LIMITS[family, ""])


def _family(match: re.Match[str]) -> str:
    whose, counted = match["whose"], match["counted"]
    if whose == "QOSMin":
        return "small"
    if whose in ("AssocGrp", "QOSGrp"):
        group = "project" if whose == "AssocGrp" else "class"
        spent = (match["minutes"] and not match["run"]) or match["what"] == "Wall"
        return f"{group} {'spent' if spent else 'full'}"
    if counted == "PerAccount":
        return "project full"
    # Jobs are counted by person also where the word does not say so.
    return "mine" if counted == "PerUser" or match["what"] in ("Jobs", "SubmitJob", "SubmitJobs") else "large"
