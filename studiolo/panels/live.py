"""Live panels in a notebook: what this session has and uses, what else of one's own runs, why it waits, and what it costs."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any

from studiolo.desk import Desk, desk
from studiolo.panels.board import Board
from studiolo.panels.page import PARTS
from studiolo.panels.poller import Poller
from studiolo.panels.widget import Panel
from studiolo.views import Live

__all__ = ["Panel", "panel"]

FIRST_SECONDS = 2.0
"""How long a panel's cell waits at most for Slurm's first answer."""

MOST_RUNS = 20

_lock = threading.Lock()
_pollers: weakref.WeakKeyDictionary[Desk, Poller] = weakref.WeakKeyDictionary()


def panel(*parts: str) -> Panel:
    """Show what this session has and uses, and what else of yours runs; as the last line of a cell.

    ``parts`` are some of ``"session"`` (resources, time left, cost, the project's budget), ``"gauges"`` (CPU, memory, GPU,
    energy), ``"jobs"``, ``"dask"`` and ``"batch"``; without any, all of them. It is kept up to date while cells run, and
    pauses where nothing was run or pressed for a quarter of an hour. In a notebook that is saved, printed or read without a
    kernel, the last state stands in its place.

    Raises ``ValueError`` for a part that there is not, :class:`~studiolo.errors.OutsideSession` outside of a session.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"no part of a panel: {', '.join(map(repr, unknown))}; there are {', '.join(PARTS)}")
    poller = _poller(desk())
    wanted = tuple(part for part in PARTS if part in parts or not parts)
    first = poller.desk.do(poller.board.look(wanted, FIRST_SECONDS))
    return Panel(wanted, first, poller)


def _poller(of: Desk) -> Poller:
    with _lock:
        if of not in _pollers:
            poller = Poller(of, Board(of, runs=_runs))
            _pollers[of] = poller
            _listen(poller)
        return _pollers[of]


def _listen(poller: Poller) -> None:
    """Hear of cells that begin and end, where there is a kernel."""
    try:
        from IPython import get_ipython
    except ImportError:  # a plain Python
        return
    shell: Any = get_ipython()
    if shell is not None:
        shell.events.register("pre_run_cell", poller.cell_begins)
        shell.events.register("post_run_cell", poller.cell_ends)


def _runs() -> Iterable[Live]:
    """The latest batch runs, those of earlier sessions too."""
    from studiolo.jobs import runs  # reads folders: not before somebody looks

    return list(runs(MOST_RUNS))
