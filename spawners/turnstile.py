"""A queue before a narrow door: so many go through at a time, in order, and everybody can see how many are ahead."""

from __future__ import annotations

import asyncio

__all__ = ["Turnstile"]


class Turnstile:
    """Lets ``width`` at a time through, first come, first served.

    A class of sixty that presses Start together would otherwise be sixty programs competing for the hub's processors,
    each slower than the next, and some beyond their time limit. Who comes must have a name of their own each time.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._line: dict[str, asyncio.Future[None]] = {}
        self._inside: set[str] = set()

    def ahead(self, name: str) -> int:
        """How many stand in line before ``name``; 0 for who is through or never came."""
        return list(self._line).index(name) if name in self._line else 0

    def holds(self, name: str) -> bool:
        """Whether ``name`` is in line or inside."""
        return name in self._line or name in self._inside

    async def enter(self, name: str) -> None:
        """Wait for one's turn. Who is inside already may enter again; who is cancelled meanwhile is out."""
        if name in self._inside:
            return
        self._line[name] = turn = asyncio.get_running_loop().create_future()
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            self._line.pop(name, None)
            self.leave(name)  # its turn may have come in the same moment
            raise

    def leave(self, name: str) -> None:
        """Make room for the next one. Nothing happens for who is not inside."""
        self._inside.discard(name)
        self._let_in()

    def _let_in(self) -> None:
        for name in list(self._line):
            if len(self._inside) >= self._width:
                return
            turn = self._line.pop(name)
            if not turn.done():  # else cancelled, and about to notice
                self._inside.add(name)
                turn.set_result(None)
