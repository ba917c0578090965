"""On the node: the session's reports to the hub of what it uses (:mod:`studiolo.meter`).

The hub answers each with the time at which the session ends by Slurm's word, which an operator or an extension may
have moved, and with how long to wait until the next one: rarely, unless somebody looks or the end is near.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable
from typing import Any

from tornado.log import app_log

from studiolo.meter import Meter

__all__ = ["Reporter", "read_answer"]

FIRST_SECONDS = 10.0  # after the server's start, which has better things to do
PAUSE_SECONDS = 300.0
SHORTEST_PAUSE = 5.0
LONGEST_PAUSE = 3600.0


class Reporter:
    """Tells the hub what the session uses, again and again, and learns when it ends.

    ``send`` posts a report and returns the hub's answer; it may block, and raises ``OSError`` or ``ValueError`` where that
    fails. ``ends`` is the last answer's, in seconds since 1970; ``None`` before the first.
    """

    def __init__(self, meter: Meter, send: Callable[[dict[str, Any]], Any]) -> None:
        self.ends: int | None = None
        self._meter = meter
        self._send = send

    async def run(self) -> None:
        """Report for ever. A hub that does not answer is told again later: nothing here is worth a session's life."""
        pause = FIRST_SECONDS
        await self._meter.report()  # CPUs are told by what they did since the last time
        while True:
            await asyncio.sleep(pause)
            pause = await self.once()

    async def once(self) -> float:
        """Report once; return how long to wait until the next time, in seconds."""
        report = await self._meter.report()
        try:
            answer = await asyncio.get_running_loop().run_in_executor(None, self._send, report)
            ends, pause = read_answer(answer)
        except (OSError, ValueError, http.client.HTTPException) as error:
            app_log.debug("studiolo: the hub did not take what this session uses: %s", error)
            return PAUSE_SECONDS
        # A hub that has just begun does not know it yet: the last one's word holds.
        self.ends = ends or self.ends
        return pause


def read_answer(answer: object) -> tuple[int | None, float]:
    """The hub's ``{"ends", "pause"}``. Raises ``ValueError`` for anything else."""
    if not isinstance(answer, dict):
        raise ValueError("no object")
    ends, pause = answer.get("ends"), answer.get("pause")
    if not (ends is None or type(ends) is int) or not isinstance(pause, (int, float)):
        raise ValueError(f"no end and pause: {json.dumps(answer)[:200]}")
    return ends, min(LONGEST_PAUSE, max(SHORTEST_PAUSE, pause))
