"""Where the time goes between a click and JupyterLab on the screen, read from what both hubs and servers log anyway.

Log lines carry milliseconds, ``/proc`` the moment a process began to a hundredth of a second; Slurm's own times are
whole seconds and not used. Nothing is added to what is measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

_STAMP = re.compile(r"\[[A-Z] (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) ")

# Each phase ends with the moment of its name. A moment that a side does not have joins the next phase.
PHASES: Mapping[str, str] = {
    "request": "the click until the hub calls the spawner",
    "submit": "sudo, launcher and sbatch, until the job's number is known",
    "scheduling": "Slurm, until the batch script's process begins",
    "process": "the batch script's process until the server's (srun and its step; none where the script becomes the server)",
    "imports": "Python and imports, until the server's first word in its log",
    "setup": "the server's extensions, until it says that it listens",
    "notice": "until the hub calls the session started",
    "route": "the proxy's route, until the browser is told",
    "answer": "/lab asked for through the proxy, until it has come",
    "paint": "/lab opened in Chromium with an empty cache, until JupyterLab's shell stands there",
}


@dataclass(frozen=True)
class Moments:
    """When what happened, in seconds since 1970; ``None`` where nothing tells."""

    click: float
    request: float | None
    submit: float | None
    scheduling: float | None
    process: float | None
    imports: float | None
    setup: float | None
    notice: float | None
    route: float
    answer: float
    paint: float | None = None


def durations(moments: Moments) -> dict[str, float | None]:
    """Seconds of each phase, each from the last moment known before it."""
    last = moments.click
    found: dict[str, float | None] = {}
    for name in PHASES:
        moment: float | None = getattr(moments, name)
        found[name] = None if moment is None else moment - last
        last = last if moment is None else moment
    return found


def stamp(line: str) -> float | None:
    """The moment in a line of a Jupyter log, local time -> seconds since 1970; ``None`` where it has none."""
    found = _STAMP.match(line)
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S.%f").astimezone().timestamp() if found else None


def moment_of(log: str, pattern: str, since: float) -> float | None:
    """The moment of the first line that holds ``pattern`` and is not older than ``since``."""
    for line in log.splitlines():
        if re.search(pattern, line) and (when := stamp(line)) is not None and when >= since:
            return when
    return None


def moments(
    *,
    person: str,
    times: tuple[float, float, float],
    hub_log: str,
    server_log: str,
    processes: Sequence[tuple[str, float]],
    paint: float | None,
) -> Moments:
    """Put together what one start has left: ``times`` of click, news and answer, logs, ``(command, began)`` of processes.

    ``paint`` is how long the page took to stand there, in seconds.
    """
    click, ready, answer = times
    who = re.escape(person)
    server = next((began for command, began in processes if "singleuser" in command and "srun" not in command), None)
    begun = click - 0.02  # a process's beginning is rounded down, a log's stamp too
    return Moments(
        click=click,
        request=moment_of(hub_log, rf"Creating oauth client jupyterhub-user-{who}\b", begun),
        submit=moment_of(hub_log, rf"{who} submitted as job|Job submitted\. output", begun),
        scheduling=processes[0][1] if processes else None,
        process=server,
        imports=moment_of(server_log, r"", begun),
        setup=moment_of(server_log, r"is running at:", begun),
        notice=moment_of(hub_log, rf"User {who} took ", begun),
        route=ready,
        answer=answer,
        paint=None if paint is None else answer + paint,
    )
