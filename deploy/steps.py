"""What a person sees while a command works: numbered steps, each with its time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from deploy.errors import Interrupted
from deploy.runner import Log

CLEAR_LINE = "\r\x1b[2K"


class Steps:
    """Numbered steps. On a terminal the running one shows its seconds; elsewhere plain lines.

    ``first`` and ``total`` let two processes share one numbering.
    """

    def __init__(self, log: Log, total: int, *, first: int = 1, out: TextIO | None = None) -> None:
        self.log = log
        self._total = total
        self._next = first
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._notes: list[str] = []
        self._parts: list[tuple[str, float]] = []
        self._part: str | None = None
        self._title: str | None = None

    def say(self, text: str) -> None:
        """A line of its own, between steps."""
        self._out.write(f"{text}\n")
        self._out.flush()

    def note(self, text: str) -> None:
        """A word to stand behind the running step's time, such as ``unchanged``."""
        self._notes.append(text)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show that a step runs, how it ended and after how many seconds."""
        head = f"[{self._next}/{self._total}] {title} …"
        self._next += 1
        self._notes, self._parts, self._title = [], [], title
        self.log.line(f"== {title}")
        start = time.monotonic()
        if not self._live:
            self._out.write(f"{head} ")
            self._out.flush()
        try:
            with self._clock(head, start):
                yield
        except (Interrupted, KeyboardInterrupt):
            self._end(head, f"interrupted after {time.monotonic() - start:.1f} s")
            raise
        except BaseException:
            self._end(head, f"failed after {time.monotonic() - start:.1f} s")
            raise
        note = f" ({', '.join(self._notes)})" if self._notes else ""
        self._end(head, f"{time.monotonic() - start:.1f} s{note}")

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """A part of the running step; shown with its own time where it took more than a blink."""
        start = time.monotonic()
        self._part = title
        self.log.line(f"-- {title}")
        try:
            yield
        except BaseException:
            self._parts.append((f"{title} failed", time.monotonic() - start))
            raise
        finally:
            self._part = None
        self._parts.append((title, time.monotonic() - start))

    def _end(self, head: str, text: str) -> None:
        self.log.line(f"== {self._title}: {text}")
        self._out.write(f"{CLEAR_LINE}{head} {text}\n" if self._live else f"{text}\n")
        for title, seconds in self._parts:
            if seconds >= 0.1:
                self._out.write(f"        {title}, {seconds:.1f} s\n")
        self._out.flush()

    @contextmanager
    def _clock(self, head: str, start: float) -> Iterator[None]:
        if not self._live:
            yield
            return
        ended = threading.Event()

        def tick() -> None:
            while True:
                part = f" {self._part}" if self._part else ""
                self._out.write(f"{CLEAR_LINE}{head} {time.monotonic() - start:.0f} s{part}")
                self._out.flush()
                if ended.wait(0.5):
                    return

        clock = threading.Thread(target=tick, daemon=True)
        clock.start()
        try:
            yield
        finally:
            ended.set()
            clock.join()
