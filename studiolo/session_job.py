"""What a session's job runs: one place for the spawner and for ``studiolo script``."""

from __future__ import annotations

from studiolo.request import Request
from studiolo.script import Job
from studiolo.site import Site

__all__ = ["session_job", "session_log"]


def session_log(site: Site, session_id: str, log_id: str) -> str:
    """Where a session's log is: below ``paths.logs``, else in the person's home (a relative path).

    ``log_id`` is random and told to nobody but the job's own script: whoever could name the file in the folder that all
    may write to could put something in its place. In a home the session's own name will do.
    """
    return f"{site.paths.logs}/{log_id}.log" if site.paths.logs else f".studiolo-{session_id}.log"


def session_job(site: Site, request: Request, session_id: str, log_id: str) -> Job:
    """The job of the session named ``session_id``: Studiolo's node program in the request's environment."""
    python = site.environments[request.environment].python or site.python
    return Job(
        name="studiolo",
        comment=site.tag("session", session_id),
        log=session_log(site, session_id, log_id),
        # -I: neither the person's home nor their PYTHON* variables can put another module in the server's place.
        command=[python, "-I", "-m", "spawners.singleuser"],
    )
