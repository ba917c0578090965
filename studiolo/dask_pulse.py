"""The pulse of a notebook: what the guards of its Dask workers listen to (:mod:`studiolo.dask_worker`).

A line on which one byte comes every few seconds, from a thread that is busy with nothing else. It breaks when the notebook's
process ends, however it ends, and falls silent when that hangs. Only who shows the cluster's certificate may listen.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

__all__ = ["Pulse"]


class Pulse:
    """One cluster's pulse; lives on the event loop that it is started on. ``every`` is in seconds."""

    def __init__(self, context: ssl.SSLContext, every: float) -> None:
        self.context = context
        self.every = every
        self._server: asyncio.Server | None = None
        self._listeners: set[asyncio.Task[None]] = set()

    async def start(self, host: str) -> int:
        """Begin to beat at a free port of ``host``, and return the port."""
        self._server = await asyncio.start_server(self._listen, host, 0, ssl=self.context)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop: every listener knows at once."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._listeners):
            task.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)

    async def _listen(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._listeners.add(task)
        try:
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(self.every)
        except (OSError, asyncio.CancelledError):  # it has ended, or all of this ends
            return
        finally:
            self._listeners.discard(task)
            with suppress(OSError, RuntimeError):  # a loop that is being closed
                writer.transport.abort()
