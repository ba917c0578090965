"""A failed start, told to its owner: what happened, what to do, Slurm's word and the last lines of the log, escaped.

The two exceptions are what JupyterHub shows; the functions below make them of what went wrong.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from jupyterhub.spawner import SpawnException

from studiolo.errors import HomeUnusable, LauncherFailed, RequestError, SlurmError, SlurmRefused
from studiolo.slurm.states import JobState, ended_words
from studiolo.units import minutes_words

__all__ = [
    "RequestRefused",
    "SessionFailed",
    "ended",
    "not_saved",
    "not_submitted",
    "silent",
    "slurms_word",
]


class SessionFailed(SpawnException):  # type: ignore[misc]  # JupyterHub has no types
    """Ends a start. ``reason`` is a short word for metrics; ``log`` the last lines, shown to the owner alone.

    A SpawnException, so that JupyterHub does not count it as its own failure and exit after some of them.
    """

    def __init__(
        self, what: str, advice: str, *, reason: str, log: Sequence[str] = (), support: str = "", status: int = 500
    ) -> None:
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
        self.jupyterhub_html_message = f"<p>This can not be started as it stands:</p><ul>{items}</ul>"
        super().__init__(str(error), reason="request", message_html=self.jupyterhub_html_message, status_code=400)


def _page(what: str, advice: str, lines: Sequence[str], support: str) -> str:
    parts = [
        f'<p class="studiolo-what">{html.escape(what)}</p>',
        f'<p class="studiolo-advice">{html.escape(advice)}</p>',
    ]
    if lines:
        log = html.escape("\n".join(lines))
        parts.append(f'<p>The last lines of its log:</p><pre class="studiolo-log" tabindex="0">{log}</pre>')
    if support:
        parts.append(f'<p class="studiolo-support">{html.escape(support)}</p>')
    return "".join(parts)


def not_submitted(error: SlurmError, support: str) -> SessionFailed:
    """The job could not be submitted."""
    if isinstance(error, SlurmRefused):
        advice = "Nothing was started. Choose something else, or ask the support to look at this answer."
        what = f"Slurm refused this session: {error.words}"
        return SessionFailed(what, advice, reason="refused", support=support, status=400)
    mend = "Nothing was started. The support has to mend this."
    if isinstance(error, LauncherFailed):
        what = "Studiolo may not start sessions for your account on this machine."
        return SessionFailed(what, mend, reason="launcher", support=support)
    if isinstance(error, HomeUnusable):
        what = f"{error.words[:1].upper()}{error.words[1:]}."
        return SessionFailed(what, mend, reason="home", support=support)
    what = "The machine's scheduler does not answer at the moment."
    advice = "Nothing was lost. Try again in a few minutes."
    return SessionFailed(what, advice, reason="scheduler", support=support, status=503)


def not_saved(support: str) -> SessionFailed:
    """The hub's database can not be written: a full disk, say."""
    what = "The hub can not write down that your session starts."
    advice = "Nothing was started, or it is being cancelled. Tell the support: the hub's database or disk needs a look."
    return SessionFailed(what, advice, reason="database", support=support, status=503)


def ended(state: JobState, log: Sequence[str], support: str) -> SessionFailed:
    """The job was over before its server answered."""
    words = ended_words(state)
    what = f"{words.what} {slurms_word(state)}"
    return SessionFailed(what, words.advice, reason=state.state.lower(), log=log, support=support)


def silent(job: int, node: str, minutes: int, log: Sequence[str], support: str) -> SessionFailed:
    """The job runs, but its server has not answered within so many ``minutes``."""
    where = f" on {node}" if node else ""
    what = f"Job {job} runs{where}, but its notebook server did not answer within {minutes_words(minutes)}."
    advice = "It has been stopped. Start again; if it happens twice, choose another environment or tell the support."
    return SessionFailed(what, advice, reason="silent", log=log, support=support)


def slurms_word(state: JobState) -> str:
    """Slurm's own word for a job's end, for those who know it and for the support."""
    where = f" on {state.node}" if state.node else ""
    return f"Slurm's word for it is {state.state} (job {state.job}{where})."
