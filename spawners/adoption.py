"""Starts that the end of a hub process has cut off, taken up again by the next one.

JupyterHub takes a server that does not answer when the hub begins for dead. A session that still waits in the queue, or
whose server is just beginning, is not: its record is laid aside here while JupyterHub tidies up, and then started again
through the hub's own API. That start submits nothing; it finds the record and goes on where the last process stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
from jupyterhub.httpclient import fetch

__all__ = ["CutOff", "CutOffStarts", "begin_again"]

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 300
PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
TOO_MANY = 429  # where an operator has set a limit: there is room in a moment


@dataclass(frozen=True)
class CutOff:
    """A start that was cut off: whose it is, what the spawner had saved of it, and what was asked for."""

    person: str
    server_name: str
    state: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the one-time secret that its job holds."""
        return str(self.state.get("secret_digest", ""))


class CutOffStarts:
    """Those not yet taken up again. Each is offered once for each hub process: what fails twice is not tried for ever."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], CutOff] = {}
        self._seen: set[str] = set()

    def lay_aside(self, start: CutOff) -> bool:
        """Keep a start for later; ``False`` where this process has had it before."""
        session = str(start.state["session_id"])
        if session in self._seen:
            return False
        self._seen.add(session)
        self._left[start.person, start.server_name] = start
        return True

    def holds(self, person: str, server_name: str) -> bool:
        """Whether a start of this server is laid aside."""
        return (person, server_name) in self._left

    def take(self, person: str, server_name: str) -> CutOff | None:
        """Hand over the start that was laid aside for this server, once."""
        return self._left.pop((person, server_name), None)

    def sessions(self) -> list[str]:
        """The names of the sessions that are laid aside."""
        return [str(start.state["session_id"]) for start in self._left.values()]

    def awaits(self, digest: str) -> bool:
        """Whether a job that holds the secret of this digest will be awaited again in a moment."""
        return any(start.digest == digest for start in self._left.values())


async def begin_again(api_url: str, token: str, start: CutOff, wanted: Callable[[], bool] = lambda: True) -> bool:
    """Ask the hub at ``api_url`` to start this server, until it answers: it may just be beginning itself.

    Whether it took the start up; a refusal is logged in the hub's words. Ends as soon as it is not ``wanted`` any more:
    its owner has started or stopped the server meanwhile.
    """
    server = f"servers/{quote(start.server_name, safe='')}" if start.server_name else "server"
    url = f"{api_url}/users/{quote(start.person, safe='')}/{server}"
    name = f"{start.person}/{start.server_name}"
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + PATIENCE_SECONDS, PAUSE_SECONDS
    while loop.time() < deadline:
        if not wanted():
            return False
        try:
            answer = await fetch(
                url, method="POST", headers={"Authorization": f"token {token}"}, raise_for_status=False
            )
            words = (await answer.text())[:500]
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            log.debug("the hub does not answer itself yet: %s", error)
        else:
            if answer.status < 400:
                log.info("the cut-off start of %s goes on", name)
                return True
            if answer.status < 500 and answer.status != TOO_MANY:
                log.error("the cut-off start of %s can not go on: %s", name, words)
                return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, max(pause, LONGEST_PAUSE_SECONDS))
    log.error("the hub did not take up the cut-off start of %s", name)
    return False
