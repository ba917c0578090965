"""A failed start or an ended session, told to its owner: what happened, why, what to do, and the one next thing to press.

What is known is a :class:`~spawners.causes.Cause`, frozen and without words; :func:`tell` says it in the language of whoever
reads it (``spawners/kinds.py``), with the next thing to do, made of what had been asked for (``spawners/remedies.py``). The
two exceptions are what JupyterHub shows.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jupyterhub.spawner import SpawnException

from spawners.causes import Cause, ended_cause, refusal_kind
from spawners.kinds import KINDS, SILENT_SOMEWHERE
from spawners.remedies import BUSY, Action, Asked, choose
from studiolo.errors import HomeUnusable, LauncherFailed, RequestError, SlurmError, SlurmRefused
from studiolo.language import _
from studiolo.slurm.reasons import limit_of, limit_words, read_reason
from studiolo.slurm.states import JobState
from studiolo.units import minutes_words

__all__ = [
    "Failure",
    "RequestRefused",
    "SessionFailed",
    "ended",
    "not_saved",
    "not_submitted",
    "sentences",
    "silent",
    "slurms_word",
    "tell",
]


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
        return _failed(
            Cause(refusal_kind(error.words), words=error.words), support=support, status=400, reason="refused"
        )
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


# --- In words --------------------------------------------------------------------------------------------------------


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
    what = SILENT_SOMEWHERE if cause.kind == "silent" and not values["node"] else told.what
    limit = _limit_of(cause)
    why = limit or (_(told.why, **values) if told.why else "")
    advice = _(told.advice)
    if cause.kind == "waited" and cause.words not in BUSY:
        why = limit or read_reason(cause.words).sentence
        family = (limit_of(cause.words) or ("", ""))[0]
        if family not in ("large", "small") and cause.words != "PartitionTimeLimit":
            advice = _("Start again once that has changed.")
    # Who reads of a job that still ran has its number and node already.
    slurm = slurms_word(state) if state and state.is_over else ""
    return _(what, **values), why, advice, slurm


def tell(cause: Cause, asked: Asked, lines: Sequence[str] = ()) -> Failure:
    """Say it, with the next thing to do, in the language that is spoken now; ``lines`` are the end of the log."""
    what, why, advice, slurm = sentences(cause)
    told = KINDS[cause.kind]
    if told.unread and not asked.site.paths.logs:
        advice = _(told.unread)
    elif told.choosing and len(asked.site.environments) > 1:
        advice = _(told.choosing)
    action = told.next(replace(asked, words=cause.words)) or choose(asked)
    return Failure(cause.kind, what, why, advice, slurm, action, tuple(lines))


_LIMITED = frozenset({"limit", "refused", "account", "too-long", "too-large", "waited"})


def _limit_of(cause: Cause) -> str:
    return limit_words(cause.words) if cause.kind in _LIMITED else ""


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
