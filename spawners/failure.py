"""A failed start or an ended session, told to its owner: what happened, why, what to do, and the one next thing to press.

What is known is a :class:`Cause`, frozen and without words; :func:`tell` says it in the language of whoever reads it, with
the next :class:`Action` made of what had been asked for. The two exceptions are what JupyterHub shows.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jupyterhub.spawner import SpawnException

from studiolo.errors import HomeUnusable, LauncherFailed, RequestError, SlurmError, SlurmRefused
from studiolo.language import _, later
from studiolo.request import Request, check
from studiolo.site import Site
from studiolo.slurm.reasons import limit_words
from studiolo.slurm.states import JobState
from studiolo.units import memory_words, minutes_words, slurm_memory

__all__ = [
    "Action",
    "Asked",
    "Cause",
    "Failure",
    "RequestRefused",
    "SessionFailed",
    "cancelled_by",
    "ended",
    "ended_cause",
    "not_saved",
    "not_submitted",
    "sentences",
    "silent",
    "slurms_word",
    "tell",
]


@dataclass(frozen=True)
class Cause:
    """Why a session did not start or ended, as facts.

    ``kind`` is one of :data:`KINDS`, ``state`` the job's last one, ``words`` Slurm's or the node's own, ``minutes`` a time
    that passed, ``who`` the account that cancelled the job, where somebody else did.
    """

    kind: str
    state: JobState | None = None
    words: str = ""
    minutes: int = 0
    who: str = ""


@dataclass(frozen=True)
class Action:
    """The next sensible thing. ``retry`` starts the same again, ``report`` copies the report; every other kind opens the
    start page, filled in with ``options``, and starts nothing."""

    kind: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """What its owner is told, each part a sentence or empty. ``slurm`` is Slurm's own word, ``lines`` the end of the log."""

    kind: str
    what: str
    why: str
    advice: str
    slurm: str
    action: Action
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What had been asked for, and the site that it was asked of."""

    options: Mapping[str, Any]
    site: Site

    @property
    def request(self) -> Request | None:
        """The same as a request; ``None`` where the site does not grant it any more."""
        try:
            return check(self.options, self.site)
        except RequestError:
            return None


class SessionFailed(SpawnException):  # type: ignore[misc]  # JupyterHub has no types
    """Ends a start. ``reason`` is a short word for metrics; ``log`` the last lines, shown to the owner alone.

    A SpawnException, so that JupyterHub does not count it as its own failure and exit after some of them. ``cause`` is there
    where its owner can be told more than these words.
    """

    def __init__(
        self,
        what: str,
        advice: str,
        *,
        reason: str,
        log: Sequence[str] = (),
        support: str = "",
        status: int = 500,
        cause: Cause | None = None,
    ) -> None:
        self.cause = cause
        self.what = what
        self.advice = advice
        self.lines = tuple(log)
        text = f"{what} {advice}".strip()
        self.jupyterhub_message = "\n".join([text, *self.lines])
        self.jupyterhub_html_message = _page(what, advice, self.lines, support)
        super().__init__(text, reason=reason, message_html=self.jupyterhub_html_message, status_code=status)


class RequestRefused(SpawnException):  # type: ignore[misc]
    """The request did not pass the gate: status 400, with every fault."""

    def __init__(self, error: RequestError) -> None:
        self.error = error
        self.jupyterhub_message = str(error)
        items = "".join(f"<li>{html.escape(str(fault))}</li>" for fault in error.faults)
        head = html.escape(_("This can not be started as it stands:"))
        self.jupyterhub_html_message = f"<p>{head}</p><ul>{items}</ul>"
        super().__init__(str(error), reason="request", message_html=self.jupyterhub_html_message, status_code=400)


def _page(what: str, advice: str, lines: Sequence[str], support: str) -> str:
    parts = [
        f'<p class="studiolo-what">{html.escape(what)}</p>',
        f'<p class="studiolo-advice">{html.escape(advice)}</p>',
    ]
    if lines:
        log = html.escape("\n".join(lines))
        head = html.escape(_("The last lines of its log:"))
        parts.append(f'<p>{head}</p><pre class="studiolo-log" tabindex="0">{log}</pre>')
    if support:
        parts.append(f'<p class="studiolo-support">{html.escape(support)}</p>')
    return "".join(parts)


# --- What went wrong -------------------------------------------------------------------------------------------------


def not_submitted(error: SlurmError, support: str) -> SessionFailed:
    """The job could not be submitted."""
    if isinstance(error, SlurmRefused):
        return _failed(Cause(_refusal(error.words), words=error.words), support=support, status=400, reason="refused")
    if isinstance(error, LauncherFailed):
        return _failed(Cause("launcher"), support=support)
    if isinstance(error, HomeUnusable):
        return _failed(Cause("home", words=f"{error.words[:1].upper()}{error.words[1:]}."), support=support)
    return _failed(Cause("scheduler"), support=support, status=503)


def not_saved(support: str) -> SessionFailed:
    """The hub's database can not be written: a full disk, say."""
    return _failed(Cause("database"), support=support, status=503)


def ended(state: JobState, log: Sequence[str], support: str) -> SessionFailed:
    """The job was over before its server answered."""
    return _failed(ended_cause(state, log), log, support=support, reason=state.state.lower())


def silent(job: int, node: str, minutes: int, log: Sequence[str], support: str) -> SessionFailed:
    """The job runs, but its server has not answered within so many ``minutes``."""
    return _failed(Cause("silent", JobState(job, "RUNNING", node=node), minutes=minutes), log, support=support)


def _failed(
    cause: Cause, log: Sequence[str] = (), *, support: str, status: int = 500, reason: str = ""
) -> SessionFailed:
    what, why, advice, slurm = sentences(cause)
    told = " ".join(part for part in (what, why, slurm) if part)
    return SessionFailed(
        told, advice, reason=reason or cause.kind, log=log, support=support, status=status, cause=cause
    )


# What Slurm prints with a refusal, in its errors of submission (slurm_errno.c), and what it is about.
_REFUSALS = (
    (re.compile(r"accounting/QOS policy|QOS.*limit|association.*limit", re.IGNORECASE), "limit"),
    (re.compile(r"time limit", re.IGNORECASE), "too-long"),
    (re.compile(r"reservation", re.IGNORECASE), "reservation"),
    (re.compile(r"account|qos|permission|access", re.IGNORECASE), "account"),
    (re.compile(r"configuration|specification|available", re.IGNORECASE), "too-large"),
)


def _refusal(words: str) -> str:
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


def slurms_word(state: JobState) -> str:
    """Slurm's own word for a job's end, for those who know it and for the support."""
    if state.node:
        return _(
            "Slurm's word for it is %(state)s (job %(job)s on %(node)s).",
            state=state.state,
            job=state.job,
            node=state.node,
        )
    return _("Slurm's word for it is %(state)s (job %(job)s).", state=state.state, job=state.job)


# --- In words --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    """What happened, why, what to do; and what makes the next action of what was asked for."""

    what: str
    why: str
    advice: str
    next: Callable[[Asked], Action | None]


def sentences(cause: Cause) -> tuple[str, str, str, str]:
    """What happened, why, what to do, and Slurm's own word, in the language that is spoken now; those that lack are empty."""
    told, state = KINDS[cause.kind], cause.state
    values = {
        "words": cause.words,
        "who": cause.who,
        "state": state.state if state else "",
        "job": state.job if state else "",
        "node": state.node if state else "",
        "minutes": minutes_words(cause.minutes),
    }
    what = _SILENT_SOMEWHERE if cause.kind == "silent" and not values["node"] else told.what
    why = _limit_of(cause) or (_(told.why, **values) if told.why else "")
    # Who reads of a job that still ran has its number and node already.
    slurm = slurms_word(state) if state and state.is_over else ""
    return _(what, **values), why, _(told.advice), slurm


def tell(cause: Cause, asked: Asked, lines: Sequence[str] = ()) -> Failure:
    """Say it, with the next thing to do, in the language that is spoken now; ``lines`` are the end of the log."""
    what, why, advice, slurm = sentences(cause)
    following = KINDS[cause.kind].next
    return Failure(cause.kind, what, why, advice, slurm, following(asked) or _choose(asked), tuple(lines))


def _limit_of(cause: Cause) -> str:
    return limit_words(cause.words) if cause.kind in ("limit", "refused", "account", "too-long", "too-large") else ""


def _retry(asked: Asked) -> Action:
    return Action("retry", _("Start again"), dict(asked.options))


def _choose(asked: Asked) -> Action:
    return Action("choose", _("Choose and start again"), dict(asked.options))


def _report(asked: Asked) -> Action:
    return Action("report", _("Copy the report for the support"))


def _more_memory(asked: Asked) -> Action | None:
    """Twice as much, as far as the partition goes."""
    request = asked.request
    if request is None:
        return None
    memory = min(2 * request.memory, asked.site.partitions[request.partition].max_memory)
    if memory <= request.memory:
        return _other_partition(asked, least_memory=request.memory + 1)
    label = _("Choose again, with %(memory)s of memory", memory=memory_words(memory))
    return Action("more-memory", label, {**asked.options, "memory": slurm_memory(memory)})


def _more_time(asked: Asked) -> Action | None:
    """Twice as long, as far as the partition goes; the same again where it goes no further."""
    request = asked.request
    if request is None:
        return None
    minutes = min(2 * request.minutes, asked.site.partitions[request.partition].max_time)
    if minutes <= request.minutes:
        return _retry(asked)
    return Action("more-time", _("Choose again, with %(time)s", time=minutes_words(minutes)), _timed(asked, minutes))


def _less_time(asked: Asked) -> Action | None:
    request = asked.request
    if request is None or request.minutes < 2:
        return None
    minutes = request.minutes // 2
    return Action("smaller", _("Choose again, with %(time)s", time=minutes_words(minutes)), _timed(asked, minutes))


def _smaller(asked: Asked) -> Action | None:
    """Half of what is scarcest: GPUs, parts of one, or else CPUs and memory."""
    request = asked.request
    if request is None:
        return None
    halves: dict[str, Any] = {}
    if request.gpus > 1:
        halves = {"gpus": request.gpus // 2}
    elif request.shards > 1:
        halves = {"shards": request.shards // 2}
    elif request.cpus > 1:
        halves = {"cpus": request.cpus // 2, "memory": slurm_memory(max(1, request.memory // 2))}
    return Action("smaller", _("Choose something smaller"), {**asked.options, **halves}) if halves else None


def _other_partition(asked: Asked, least_memory: int = 0) -> Action | None:
    """The same in the first other partition that grants it."""
    request = asked.request
    here = request.partition if request else ""
    for name, partition in asked.site.partitions.items():
        options = {**asked.options, "partition": name}
        if name != here and partition.max_memory >= least_memory and Asked(options, asked.site).request is not None:
            label = _("Choose again, in %(partition)s", partition=partition.title or name)
            return Action("other-partition", label, options)
    return None


def _other_environment(asked: Asked) -> Action | None:
    """The same in the site's usual environment, where another one was chosen."""
    usual, request = asked.site.default_environment, asked.request
    if request is None or request.environment == usual:
        return None
    label = _("Choose again, with %(environment)s", environment=asked.site.environments[usual].title or usual)
    return Action("choose", label, {**asked.options, "environment": usual})


def _no_folder(asked: Asked) -> Action | None:
    options = {key: value for key, value in asked.options.items() if key != "workdir"}
    return Action("choose", _("Choose another folder"), options)


def _no_reservation(asked: Asked) -> Action | None:
    options = {key: value for key, value in asked.options.items() if key != "reservation"}
    return Action("choose", _("Choose again, without a reservation"), options)


def _timed(asked: Asked, minutes: int) -> dict[str, Any]:
    return {**{key: value for key, value in asked.options.items() if key != "hours"}, "minutes": minutes}


_SILENT_SOMEWHERE = later("Job %(job)s runs, but its notebook server did not answer within %(minutes)s.")
_SUPPORT = later("Nothing was started. The support has to mend this.")

KINDS: Mapping[str, _Told] = {
    # Not submitted
    "limit": _Told(
        later("Slurm refused this session: %(words)s"),
        later("A limit of your project or its service class (QoS) stands against it."),
        later("Nothing was started. Choose less, stop another session, or ask whoever runs the project."),
        _smaller,
    ),
    "too-long": _Told(
        later("Slurm refused this session: %(words)s"),
        later("It asks for more time than is allowed there."),
        later("Nothing was started. Choose less time."),
        _less_time,
    ),
    "too-large": _Told(
        later("Slurm refused this session: %(words)s"),
        later("No node there has what it asks for."),
        later("Nothing was started. Choose less, or another part of the machine."),
        _other_partition,
    ),
    "reservation": _Told(
        later("Slurm refused this session: %(words)s"),
        later("Its reservation can not be used: it may be over, or not for you."),
        later("Nothing was started. Choose again without it."),
        _no_reservation,
    ),
    "account": _Told(
        later("Slurm refused this session: %(words)s"),
        later("The project or its service class (QoS) may not be used there, or not by you."),
        later("Nothing was started. Choose something else, or ask the support to look at this answer."),
        _choose,
    ),
    "refused": _Told(
        later("Slurm refused this session: %(words)s"),
        "",
        later("Nothing was started. Choose something else, or ask the support to look at this answer."),
        _choose,
    ),
    "launcher": _Told(
        later("Studiolo may not start sessions for your account on this machine."),
        later("Your account is not among those that it may act for."),
        _SUPPORT,
        _report,
    ),
    "home": _Told(
        "%(words)s",
        later("A session needs its owner's home folder."),
        _SUPPORT,
        _report,
    ),
    "scheduler": _Told(
        later("The machine's scheduler does not answer at the moment."),
        later("It may be restarting, or very busy."),
        later("Nothing was lost. Try again in a few minutes."),
        _retry,
    ),
    "database": _Told(
        later("The hub can not write down that your session starts."),
        later("Its disk is full, or its database does not answer."),
        later(
            "Nothing was started, or it is being cancelled. Tell the support: the hub's database or disk needs a look."
        ),
        _report,
    ),
    "bug": _Told(
        later("Something went wrong in the hub itself."),
        later("This is a fault of ours, not of yours."),
        later("Start again; copy the report for the support if it happens twice."),
        _retry,
    ),
    # Submitted, and never reached
    "waited": _Told(
        later("It waited in line longer than the hub waits, so it was cancelled."),
        later("The machine was too busy for what it asks for."),
        later("Ask for less, or for another part of the machine: that starts sooner."),
        _smaller,
    ),
    "silent": _Told(
        later("Job %(job)s runs on %(node)s, but its notebook server did not answer within %(minutes)s."),
        later("The node may be slow, or its environment does not work."),
        later("It has been stopped. Start again; if it happens twice, choose another environment or tell the support."),
        _retry,
    ),
    "unreachable": _Told(
        later("Your notebook server runs, but the hub can not reach it."),
        later("Something between hub and node is in the way."),
        later("It has been stopped. Start again; tell the support if it happens twice."),
        _retry,
    ),
    # The job ended
    "boot-fail": _Told(
        later("The node could not be started."),
        later("Slurm tried to switch it on in vain."),
        later("Start again: Slurm will choose another node."),
        _retry,
    ),
    "cancelled": _Told(
        later("The job was cancelled."),
        "",
        later("If it was not you, ask the support; otherwise just start again."),
        _retry,
    ),
    "cancelled-by": _Told(
        later("The job was cancelled by the account %(who)s."),
        later("That is an operator, or somebody who may act for your project."),
        later("Ask the support why, or start again."),
        _retry,
    ),
    "cancelled-by-you": _Told(
        later("The job was cancelled by yourself."),
        later("Your own account ended it, here or with scancel."),
        later("Start again whenever you like."),
        _retry,
    ),
    "cancelled-by-system": _Told(
        later("The job was cancelled by an operator or by the system."),
        later("It was ended as the machine's own account (%(who)s)."),
        later("Ask the support why, or start again."),
        _retry,
    ),
    "completed": _Told(
        later("The job ended before its notebook server answered."),
        later("The program that should serve it ended without a word of failure."),
        later("Look at the log below, then start again or choose another environment."),
        _other_environment,
    ),
    "deadline": _Told(
        later("The job's deadline passed before it could end."),
        later("It had to be over by a certain time."),
        later("Start again with less time."),
        _less_time,
    ),
    "failed": _Told(
        later("The job's program failed."),
        "",
        later("Look at the log below: it says why. Another environment may help."),
        _other_environment,
    ),
    "quota": _Told(
        later("There was no room left to write to."),
        later("Your home folder, or a disk that the session writes to, is full."),
        later("Remove files that you do not need, then start again; ask the support for more room."),
        _retry,
    ),
    "folder": _Told(
        later("The folder that was asked for can not be opened."),
        later("It is not there on the node, or not yours to open."),
        later("Choose another folder, or leave it empty for your home."),
        _no_folder,
    ),
    "hub-away": _Told(
        later("The node could not reach the hub."),
        later("Something between node and hub is in the way."),
        later("Start again; tell the support if it happens twice."),
        _retry,
    ),
    "environment": _Told(
        later("The software environment does not work on the node."),
        later("A program, module or package that the notebook server needs is missing there."),
        later("Choose another environment, and show the log below to whoever made this one."),
        _other_environment,
    ),
    "launch-failed": _Told(
        later("The node could not start the job."),
        later("Something on the node failed before any program of yours ran."),
        later("Start again; tell the support if it happens twice."),
        _retry,
    ),
    "node-fail": _Told(
        later("The node that it ran on failed."),
        later("Nothing that you did was the cause."),
        later("Start again: Slurm will choose another node."),
        _retry,
    ),
    "out-of-memory": _Told(
        later("The job needed more memory than it had."),
        later("Slurm ends what takes more than was asked for."),
        later("Start again with more memory."),
        _more_memory,
    ),
    "preempted": _Told(
        later("The job made way for one of higher priority."),
        later("Sessions like this one run only while nobody with a higher claim needs their place."),
        later("Start again; it will wait for its turn."),
        _retry,
    ),
    "requeued": _Told(
        later("The job was put back into the queue, which ended its notebook server."),
        later("An operator or the system did that, for a repair say."),
        later("Your files are safe: start again."),
        _retry,
    ),
    "revoked": _Told(
        later("The job was taken over by another cluster."),
        "",
        later("Start again."),
        _retry,
    ),
    "timeout": _Told(
        later("The job reached the end of its time."),
        later("It had as much as was asked for, and was not ready by then."),
        later("Start again, with more time if you need it."),
        _more_time,
    ),
    "time-over": _Told(
        later("The job reached the end of its time."),
        later("It had as much as was asked for."),
        later("Start again, with more time if you need it."),
        _more_time,
    ),
    "vanished": _Told(
        later("Neither Slurm's queue nor its accounting knows the job any more."),
        later("Slurm may have been restarted and have lost it."),
        later("Start again; tell the support if it happens twice."),
        _retry,
    ),
    "ended": _Told(
        later("The job ended (Slurm says: %(state)s)."),
        "",
        later("Start again."),
        _retry,
    ),
    # Served, and ended by itself
    "shut-down": _Told(
        later("The session was shut down from within: by you, or by a program in it."),
        "",
        later("Start again whenever you like."),
        _retry,
    ),
    "server-failed": _Told(
        later("The session's notebook server failed."),
        "",
        later("Start again; tell the support if it happens twice."),
        _retry,
    ),
    "unattended": _Told(
        later("Nobody came within %(minutes)s, so it was released."),
        later("A session that nobody opens keeps its place from others."),
        later("Start again when you are there."),
        _retry,
    ),
}
"""Every way to fail or to end, by name."""
