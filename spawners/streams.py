"""Streams of events to open pages: the same object again whenever something in it has changed.

What all of them keep: so many for each person, a word now and then so that no proxy cuts them, an end after a while, so that
whoever has logged out or may no more is not told for ever. A page asks again by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, ClassVar

from jupyterhub.apihandlers import APIHandler
from tornado import web
from tornado.iostream import StreamClosedError

from spawners.callers import TAGLESS

__all__ = ["STREAMS_PER_PERSON", "EventStream"]

STREAMS_PER_PERSON = 20
STREAM_SECONDS = 900.0
SILENCE_SECONDS = 15.0  # proxies cut what says nothing for a minute
PATIENCE_SECONDS = 30.0  # for a page that does not read what it is sent


class EventStream(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """One page that listens; a class of its own for each kind of news."""

    LOOK_SECONDS: ClassVar[float] = 3.0
    """Between two looks at what the hub knows."""
    streams: ClassVar[Counter[str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.streams = Counter()

    def listener(self) -> str:
        """Whose page it is. Raises 403: whoever may not listen is told so with a status, and not amid a stream."""
        raise NotImplementedError

    async def news(self) -> dict[str, Any] | None:
        """What is to be told now; ``None`` where nothing can have changed since the last time."""
        raise NotImplementedError

    def essence(self, news: dict[str, Any]) -> object:
        """That of the news for a change of which they are told again: not the time, for one."""
        return {**news, "now": 0}

    def initialize(self) -> None:
        super().initialize()
        self._gone = asyncio.get_running_loop().create_future()

    def get_content_type(self) -> str:
        """As EventSource wants it."""
        return "text/event-stream"

    def on_connection_close(self) -> None:
        """The page is gone."""
        super().on_connection_close()
        if not self._gone.done():
            self._gone.set_result(None)

    async def get(self) -> None:
        """Tell until the page is closed, a quarter of an hour at most; 403 for who may not, 429 for too many at once."""
        person = self.listener()
        if self.streams[person] >= STREAMS_PER_PERSON:
            raise web.HTTPError(429, f"{STREAMS_PER_PERSON} pages of yours are looking already")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")
        self.streams[person] += 1
        try:
            await self._tell()
        except (StreamClosedError, asyncio.TimeoutError):
            self.log.debug("%s looks no longer", person)
        finally:
            self.streams[person] -= 1
            if not self.streams[person]:
                del self.streams[person]

    async def _tell(self) -> None:
        clock = asyncio.get_running_loop().time
        ends, said, told = clock() + STREAM_SECONDS, clock(), object()
        while not self._gone.done() and clock() < ends:
            news = await self.news()
            if news is not None and (essence := self.essence(news)) != told:
                told, said = essence, clock()
                await self._send(f"data: {json.dumps(news).translate(TAGLESS)}\n\n")
            elif clock() - said >= SILENCE_SECONDS:
                said = clock()
                await self._send(": nothing has changed\n\n")
            await asyncio.wait([self._gone], timeout=self.LOOK_SECONDS)

    async def _send(self, text: str) -> None:
        self.write(text)
        await asyncio.wait_for(self.flush(), PATIENCE_SECONDS)
