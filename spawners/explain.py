"""The page after a start that failed or a session that ended: why, from what the hub and accounting know, and its report.

Who cancelled a job is known to accounting alone, and is asked for when its owner looks, not before.
"""

from __future__ import annotations

import asyncio
import pwd
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jupyterhub.utils import AnyTimeoutError, url_escape_path, url_path_join

from spawners.causes import Cause, cancelled_by, ended_cause
from spawners.failure import Failure, RequestRefused, SessionFailed, tell
from spawners.remedies import Asked, RoomCommands
from spawners.verdict import payer
from studiolo.errors import SlurmError
from studiolo.slurm.states import JobState

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["Explanation", "WhoCancelled", "explain", "known", "without_secrets"]

PATIENCE_SECONDS = 3
PAUSE_SECONDS = 10


@dataclass(frozen=True)
class Explanation:
    """A failure as its page shows it.

    ``report`` is plain text for the support; ``page`` the start page's address, ``link`` the same filled in; ``fields`` what a
    retry sends there. ``log_is_read``: the failure's lines are the log's own, and not where it is.
    """

    failure: Failure
    report: str
    page: str
    link: str
    fields: tuple[tuple[str, str], ...]
    log_is_read: bool = True
    room: RoomCommands = field(default_factory=RoomCommands)


class WhoCancelled:
    """Whose cancellations were, of one session's jobs: asked of accounting once, and again only after a while in vain."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._known: dict[int, str] = {}
        self._clock = clock
        self._next = float("-inf")

    async def find(self, source: Any, job: int) -> str:
        """The account that cancelled ``job``, by name or number; empty where accounting does not say (yet)."""
        if job not in self._known and self._clock() >= self._next:
            self._next = self._clock() + PAUSE_SECONDS
            try:
                found = await asyncio.wait_for(source.finished([job]), PATIENCE_SECONDS)
            except (SlurmError, asyncio.TimeoutError):
                return ""
            state = found.get(job)
            match = re.match(r"by ([\w.@-]{1,64})", state.reason) if state and state.state == "CANCELLED" else None
            if match:
                self._known = {job: match[1]}
        return self._known.get(job, "")


async def explain(spawner: StudioloSpawner, error: BaseException | None) -> Explanation | None:
    """Why the last start failed with ``error``, or, without one, what ended the last session that was not stopped through
    the hub; ``None`` where nothing did."""
    if isinstance(error, RequestRefused):
        return None  # the page shows its list of faults
    cause, lines, cluster = known(spawner, error)
    if cause is None and error is None:
        return None
    asked = _asked(spawner, cluster)
    if cause is None:
        assert isinstance(error, SessionFailed)
        told = replace(tell(Cause("refused"), asked, lines), kind=error.reason, what=error.what, advice=error.advice)
        return _explanation(spawner, told, None, cluster)
    if cause.kind == "cancelled" and cause.state and cluster in spawner.engine.slurm:
        who = await spawner.who_cancelled.find(spawner.engine.slurm[cluster], cause.state.job)
        cause = _named(cause, who, spawner.user.name) if who else cause
    return _explanation(spawner, tell(cause, asked, lines), cause.state, cluster)


def _asked(spawner: StudioloSpawner, cluster: str) -> Asked:
    """What had been asked for, and what else counts for the next thing to do. Asks nobody."""
    engine = spawner.engine
    budgets = engine.choosing.accounting(cluster) if cluster in engine.slurm else None
    running = sum(1 for other in spawner.user.spawners.values() if other is not spawner and other.active)
    return Asked(dict(spawner.user_options), engine.site, payer=payer(spawner.user.name, budgets), running=running)


def known(spawner: StudioloSpawner, error: BaseException | None) -> tuple[Cause | None, tuple[str, ...], str]:
    """The cause of a failed start (``error``) or of the last end, the last lines of the log, and the cluster. Asks nobody."""
    if isinstance(error, SessionFailed):
        return error.cause, error.lines, spawner.last_cluster
    if isinstance(error, AnyTimeoutError):
        return _out_of_time(spawner), (), spawner.last_cluster
    if error is not None:
        return Cause("bug"), (), spawner.last_cluster
    return _known_end(spawner, spawner.last_end)


def _out_of_time(spawner: StudioloSpawner) -> Cause:
    """Why JupyterHub has given up waiting."""
    return Cause("unreachable") if spawner.has_listened else Cause("waited", words=spawner.waited_for)


def _known_end(spawner: StudioloSpawner, end: Mapping[str, Any]) -> tuple[Cause | None, tuple[str, ...], str]:
    """The same of what is kept of a session's end (:attr:`StudioloSpawner.last_end`)."""
    cluster = str(end.get("cluster", ""))
    state = JobState(int(end["job"]), str(end["state"]), node=str(end["node"])) if end.get("job") else None
    if end.get("stopped"):
        minutes, who = int(end.get("minutes", 0)), str(end.get("who", ""))
        return Cause(str(end["stopped"]), state, minutes=minutes, who=who), (), cluster
    if state is None:
        return None, (), ""
    lines = tuple(spawner.log_tail(str(end.get("session", "")), str(end.get("log", "")))) if end.get("session") else ()
    served, unattended = bool(end.get("served", True)), int(end.get("unattended", 0))
    return ended_cause(state, lines, served=served, unattended=unattended), lines, cluster


def _named(cause: Cause, who: str, person: str) -> Cause:
    """Say whose cancellation it was; accounting tells a name or a number, by its version."""
    try:
        entry = pwd.getpwuid(int(who)) if who.isdecimal() else pwd.getpwnam(who)
    except (KeyError, OverflowError):
        return cancelled_by(cause, who, is_owner=who == person, is_system=who in ("0", "root", "slurm"))
    is_system = entry.pw_uid == 0 or entry.pw_name == "slurm"
    return cancelled_by(cause, entry.pw_name, is_owner=entry.pw_name == person, is_system=is_system)


def _explanation(spawner: StudioloSpawner, failure: Failure, state: JobState | None, cluster: str) -> Explanation:
    page = url_path_join(spawner.hub.base_url, "spawn", spawner.user.escaped_name, url_escape_path(spawner.name))
    fields = _fields(failure.action.options)
    link = f"{page}?{urlencode(fields)}" if fields else page
    log_is_read = bool(spawner.engine.site.paths.logs)
    return Explanation(failure, _report(spawner, failure, state, cluster), page, link, fields, log_is_read)


def _fields(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Options as a form sends them: a list has its name several times."""
    return tuple(
        (key, str(value))
        for key, values in options.items()
        for value in (values if isinstance(values, (list, tuple)) else [values])
        if value not in (None, "")
    )


def _report(spawner: StudioloSpawner, failure: Failure, state: JobState | None, cluster: str) -> str:
    """What the support needs to know, as plain text in English but for the sentences. Holds no secret."""
    asked = " ".join(f"{key}={value}" for key, value in _fields(spawner.user_options))
    rows = {
        "Time": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "Hub": f"{spawner.engine.site.title}, Studiolo {_version('studiolo')}, JupyterHub {_version('jupyterhub')}",
        "Person": spawner.user.name,
        "Session": spawner.name or "(without a name)",
        "Job": str(state.job) if state else "none",
        "Node": state.node if state and state.node else "none",
        "Cluster": cluster or "none",
        "State": state.state if state else "none",
        "Kind": failure.kind,
        "Request": asked or "(nothing but the usual)",
        "Told": " ".join(part for part in (failure.what, failure.why, failure.advice) if part),
    }
    lines = [f"{key}: {without_secrets(value)}" for key, value in rows.items()]
    return "\n".join([*lines, "Log:", *(f"  {without_secrets(line)}" for line in failure.lines or ("(none)",))])


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed: a checkout)"


_SECRET = re.compile(
    r"(?i)((?:token|secret|passw(?:or)?d|passphrase|authorization|cookie|api[_-]?key|credential)[\w-]{0,40}[\"']?\s*[=:\s]\s*[\"']?"
    r"(?:bearer\s+|token\s+|basic\s+)?)[^\s\"'&;,]+"
)
_LONG_SECRET = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{32,}\b|\beyJ[\w-]{1,2000}\.[\w-]{1,2000}\.[\w-]{1,2000}")


def without_secrets(text: str) -> str:
    """A line that may be shown to somebody else: whatever looks like a password or a token is left out."""
    return _LONG_SECRET.sub("(left out)", _SECRET.sub(r"\1(left out)", text))
