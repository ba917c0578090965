"""A queue before a narrow door: so many go through at a time, in order, and everybody can see how many are ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Turnstile"]


class Turnstile:
    """Lets ``width`` at a time through, first come, first served.

    A class of sixty that presses Start together would otherwise be sixty programs competing for the hub's processors,
    each slower than the next, and some beyond their time limit.
    """

    def __init__(self, width: int) -> None:
        self._free = width
        self._line: deque[asyncio.Future[None]] = deque()
        self._places: dict[str, asyncio.Future[None]] = {}

    def ahead(self, name: str) -> int:
        """How many stand in line before ``name``; 0 for who is through or never came."""
        own = self._places.get(name)
        return self._line.index(own) if own is not None and own in self._line else 0

    @asynccontextmanager
    async def passing(self, name: str) -> AsyncIterator[None]:
        """Wait for one's turn; the next one's comes when the block ends."""
        await self._enter(name)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, name: str) -> None:
        if self._free and not self._line:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._places[name] = turn
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came in the same moment
                self._leave()
            elif turn in self._line:
                self._line.remove(turn)
            raise
        finally:
            self._places.pop(name, None)

    def _leave(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
