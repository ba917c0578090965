"""One poller for all panels of a kernel, on the desk's thread: the kernel's own loop stands still while a cell runs.

It looks every two seconds, and stops where nobody looks: when all panels are closed or gone from the page, and when nothing
was run or pressed for a quarter of an hour: a page that is closed does not say so, and a kernel that is left alone is not to ask
Slurm for the rest of its session. Nor is it to seem busy: the session's server takes what a thread sends for nobody's doing
(``spawners/session_api.py``), but for what bears the name of the last click. Running a cell, or Refresh, begins it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from studiolo.desk import Desk
from studiolo.panels.board import Board
from studiolo.panels.page import PanelView

__all__ = ["Poller", "Shown", "interval"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
TROUBLE_SECONDS = 30.0
QUIET_SECONDS = 900.0
"""So long after the last cell or click, panels pause."""


class Shown(Protocol):
    """A panel, as the poller sees it."""

    parts: tuple[str, ...]

    @property
    def is_shown(self) -> bool:
        """Whether somebody may be looking at it."""
        ...

    def update(self, view: PanelView) -> None:
        """Show this. Called on the desk's thread."""
        ...


def interval(failures: int) -> float:
    """How long to sleep between two looks, by how many of the last ones failed in a row."""
    return min(TROUBLE_SECONDS, LOOK_SECONDS * 2.0 ** min(failures, 10))


class Poller:
    """Keeps panels up to date. Everything here but :meth:`touch` and :meth:`add` runs on the desk's thread."""

    def __init__(self, desk: Desk, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self.desk = desk
        self.board = board
        self.looks = 0
        self._clock = clock
        self._panels: weakref.WeakSet[Shown] = weakref.WeakSet()
        self._busy = False
        self._last_doing = clock()
        self._task: asyncio.Task[None] | None = None
        self._woken: asyncio.Event | None = None

    # --- From any thread ---------------------------------------------------------------------------------------------

    def add(self, panel: Shown) -> None:
        """Keep ``panel`` up to date as long as it lives and is shown."""
        self.desk.loop.call_soon_threadsafe(self._add, weakref.ref(panel))

    def touch(self) -> None:
        """Somebody has done something here: look at once, for new jobs too, and go on looking."""
        self.desk.loop.call_soon_threadsafe(self._wake, True, True)

    def cell_begins(self, *_arguments: object) -> None:
        """A cell begins to run."""
        self._busy = True
        self.desk.loop.call_soon_threadsafe(self._wake, False, False)

    def cell_ends(self, *_arguments: object) -> None:
        """A cell has run: what it started is looked for."""
        self._busy = False
        self.desk.loop.call_soon_threadsafe(self._wake, True, False)

    # --- On the desk's thread ----------------------------------------------------------------------------------------

    def _add(self, panel: weakref.ref[Shown]) -> None:
        if (shown := panel()) is not None:
            self._panels.add(shown)
            self._wake(False, True)

    def _wake(self, find: bool, at_once: bool) -> None:
        self._last_doing = self._clock()
        if find:
            self.board.find_again()
        if at_once and self._woken is not None:
            self._woken.set()
        if self._task is None or self._task.done():
            self._task = self.desk.loop.create_task(self._run())

    def _quiet(self) -> bool:
        return not self._busy and self._clock() - self._last_doing > QUIET_SECONDS

    async def _run(self) -> None:
        self._woken = asyncio.Event()
        failures = 0
        while panels := [panel for panel in self._panels if panel.is_shown]:
            paused = self._quiet()
            failures = 0 if await self._look(panels, paused=paused) else failures + 1
            del panels[:]  # nothing here may keep a panel alive
            if paused:
                return
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), interval(failures))
            except asyncio.TimeoutError:
                continue

    async def _look(self, panels: list[Shown], *, paused: bool) -> bool:
        self.looks += 1
        try:
            view = await self.board.look({part for panel in panels for part in panel.parts})
            for panel in panels:
                panel.update(_as_seen(view, panel, paused=paused))
        except Exception:  # a bug must not freeze what is shown without a word
            log.exception("a panel stumbled; it goes on")
            return False
        return True


def _as_seen(view: PanelView, panel: Shown, *, paused: bool) -> PanelView:
    return replace(view, parts=panel.parts, live=not paused, paused=paused)
