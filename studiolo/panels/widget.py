"""A panel in a notebook: ipywidgets where they are there, else the same page as it was at that moment.

Nothing here decides or asks. Each part is one ``HTML``, assigned only where it differs; buttons are made anew only where what
can be done is another. They work while a cell runs: JupyterLab sends clicks to a thread of their own, on which nothing waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from studiolo.errors import StudioloError
from studiolo.panels.page import PanelView, numbers, render, short, text
from studiolo.panels.poller import Poller
from studiolo.views import Action, JobView

__all__ = ["Panel"]

log = logging.getLogger(__name__)

LISTS = ("jobs", "dask", "batch")
SURE_SECONDS = 10.0
Key = tuple[str, str, str]
"""Kind and identity of a thing, and the name of an action."""


class Panel:
    """What :func:`studiolo.panel` returns: shown where a cell ends with it. ``parts`` are those that it shows.

    ``html`` and ``text`` are what it shows now, ``close()`` takes it away and stops looking.
    """

    def __init__(self, parts: tuple[str, ...], first: PanelView, poller: Poller) -> None:
        self.parts = parts
        self._view = replace(first, parts=parts)
        self._poller = poller
        self._told = ""
        self._lock = threading.Lock()
        self._shown: _Widgets | None = None

    @property
    def html(self) -> str:
        """The panel as HTML, as of its last look."""
        return render(replace(self._view, live=False))

    @property
    def text(self) -> str:
        """The same in plain lines."""
        return text(replace(self._view, live=False))

    def close(self) -> None:
        """Take the panel away."""
        if self._shown is not None:
            self._shown.close()

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": self.text, "text/html": self.html}
        if self._shown is None:
            try:
                self._shown = _Widgets(self)
            except ImportError:  # an environment of one's own may be without ipywidgets
                return bundle
            self._poller.add(self)
        return {**self._shown.bundle(), **bundle}

    # --- For the poller ----------------------------------------------------------------------------------------------

    @property
    def is_shown(self) -> bool:
        """Whether somebody may be looking at it."""
        return self._shown is not None and self._shown.is_shown

    def update(self, view: PanelView) -> None:
        """Show this. From any thread."""
        with self._lock:
            self._view = replace(view, told=self._told)
            if self._shown is not None:
                self._shown.show(self._view)

    # --- For its buttons ---------------------------------------------------------------------------------------------

    def tell(self, words: str) -> None:
        """Say something below everything else."""
        self._told = words
        self.update(self._view)

    def refresh(self) -> None:
        """Look at once."""
        self._told = ""
        self._poller.touch()

    def act(self, key: Key, words: str) -> None:
        """Do what a button says, beside: whoever pressed it does not wait."""
        self._poller.desk.begin(self._act(key, words))

    async def _act(self, key: Key, words: str) -> None:
        kind, identity, action = key
        thing = self._poller.board.live.get((kind, identity))
        if thing is None:
            self.tell("It has ended already.")
            return
        self.tell(f"{words}: asked for.")
        try:
            await asyncio.to_thread(thing.act, action)
        except StudioloError as error:
            self.tell(str(error))
        except Exception as error:
            log.exception("a button failed")
            self.tell(f"{words}: this did not work ({type(error).__name__}). The home page can stop it as well.")
        else:
            self.tell(f"{words}: done.")
        finally:
            if self._shown is not None:
                self._shown.release(key)
        self._poller.touch()


class _Widgets:
    """The widgets of one panel. Raises ``ImportError`` where there is no ipywidgets."""

    def __init__(self, panel: Panel) -> None:
        import ipywidgets

        self._ipywidgets = ipywidgets
        # Widgets live until they are closed: what they call must not keep the panel, or it would be looked after for ever.
        self._panel = weakref.ref(panel)
        self._pages = {part: ipywidgets.HTML() for part in panel.parts}
        self._buttons = {part: self._row() for part in panel.parts if part in LISTS}
        self._foot = ipywidgets.HTML()
        self._made: dict[Key, Any] = {}
        self._asked: dict[Key, threading.Timer] = {}
        self._seen = False
        refresh = self._button("Refresh", "Look again now")
        refresh.on_click(self._refresh)
        children: list[Any] = []
        for part, page in self._pages.items():
            children += [page, *([self._buttons[part]] if part in self._buttons else [])]
        self.box = ipywidgets.VBox([*children, self._foot, refresh])
        # Pages count on how many places they show it, where they know how to. One that is reloaded or closed does not say so
        # any more, and counts on: then the panel is looked after until it pauses.
        self.box._view_count = 0
        answer_where_asked(self.box)
        self.box.observe(self._counted, "_view_count")
        self.show(replace(panel._view, live=True))

    def _row(self) -> Any:
        return self._ipywidgets.HBox(layout=self._ipywidgets.Layout(flex_flow="row wrap"))

    def bundle(self) -> dict[str, Any]:
        """The widgets, as a notebook's page wants them."""
        found = self.box._repr_mimebundle_()
        return {mime: data for mime, data in (found or {}).items() if mime != "text/plain"}

    @property
    def is_shown(self) -> bool:
        """Whether a page shows it, or does not tell how often."""
        if self.box.comm is None:
            return False
        return not self._seen or bool(self.box._view_count)

    def close(self) -> None:
        """Take all of them away."""
        for timer in self._asked.values():
            timer.cancel()
        for widget in (*self._pages.values(), *self._buttons.values(), *self._made.values(), self._foot, self.box):
            widget.close()

    # --- Showing -----------------------------------------------------------------------------------------------------

    def show(self, view: PanelView) -> None:
        """Assign what differs. Called with the panel's lock held, on the thread of whoever has something new."""
        if self.box.comm is None:
            return
        for number, (part, page) in enumerate(self._pages.items()):
            one = replace(view, parts=(part,), trouble=view.trouble if number == 0 else "", told="", live=True)
            _assign(page, render(one))
        _assign(self._foot, render(replace(view, parts=(), trouble="")))
        for part, row in self._buttons.items():
            wanted = list(_actions(view.things(part)))
            buttons = tuple(self._made.get(key) or self._make(key, job, action) for key, job, action in wanted)
            if row.children != buttons:
                gone = [button for button in row.children if button not in buttons]
                row.children = buttons
                for button in gone:
                    self._forget(button)

    def _make(self, key: Key, job: JobView, action: Action) -> Any:
        words = f"{action.words} {short(job.name)}{numbers(job.jobs)}"
        button = self._button(words, words)
        button.on_click(partial(self._pressed, key, words, action.destroys))
        self._made[key] = button
        return button

    def _button(self, words: str, tooltip: str) -> Any:
        layout = self._ipywidgets.Layout(width="auto", max_width="100%")
        button = self._ipywidgets.Button(description=words, tooltip=tooltip, layout=layout)
        answer_where_asked(button)
        return button

    def _forget(self, button: Any) -> None:
        for key in [key for key, made in self._made.items() if made is button]:
            del self._made[key]
            if key in self._asked:
                self._asked.pop(key).cancel()
        button.close()

    # --- Buttons and pages, on whatever thread they are heard --------------------------------------------------------

    def _counted(self, change: Any) -> None:
        self._seen = self._seen or bool(change["new"])
        if change["new"]:
            self._refresh()

    def _refresh(self, _button: object = None) -> None:
        if (panel := self._panel()) is not None:
            panel.refresh()

    def _pressed(self, key: Key, words: str, destroys: bool, button: Any) -> None:
        panel = self._panel()
        if panel is None:
            return
        if destroys and key not in self._asked:
            button.description = f"Really? {words}"
            timer = threading.Timer(SURE_SECONDS, self._unsure, (key, words))
            timer.daemon = True
            self._asked[key] = timer
            timer.start()
            return
        if key in self._asked:
            self._asked.pop(key).cancel()
        button.description = words
        button.disabled = True
        panel.act(key, words)

    def release(self, key: Key) -> None:
        """What a button said is done, or could not be: as long as it is there, it can be pressed again."""
        if (button := self._made.get(key)) is not None:
            button.disabled = False

    def _unsure(self, key: Key, words: str) -> None:
        """Nobody pressed it a second time."""
        if key in self._asked:
            del self._asked[key]
        if (button := self._made.get(key)) is not None and button.comm is not None:
            button.description = words


def _actions(things: tuple[JobView, ...]) -> Iterator[tuple[Key, JobView, Action]]:
    for thing in things:
        for action in thing.actions:
            yield (thing.kind, thing.identity, action.name), thing, action


def _assign(page: Any, told: str) -> None:
    if page.value != told:
        page.value = told


def answer_where_asked(widget: Any) -> None:
    """Have clicks on ``widget`` handled on the thread that the page sends them to, on every ipykernel.

    ipykernel 7.4 sends a click to the thread that published last on its comm, which for a button made in a cell is the main
    one: dead while a cell runs (ipykernel#1564). Before 7.4 there is no such thing, and it can go when that is mended.
    """
    comm = widget.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = _default


def _default(_data: object, default: Any) -> Any:
    return default
