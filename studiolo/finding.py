"""What the doctor says of one thing that it has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "fault", "good", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``level`` is ``"good"``, ``"warning"`` (works, but look) or ``"fault"`` (will not work)."""

    level: Literal["good", "warning", "fault"]
    what: str
    advice: str = ""

    def __str__(self) -> str:
        mark = {"good": "  ok   ", "warning": "  LOOK ", "fault": " FAULT "}[self.level]
        return f"{mark} {self.what}" + (f"\n         -> {self.advice}" if self.advice else "")


def good(what: str) -> Finding:
    """It is as it should be."""
    return Finding("good", what)


def warning(what: str, advice: str) -> Finding:
    """It works, but deserves a look."""
    return Finding("warning", what, advice)


def fault(what: str, advice: str) -> Finding:
    """It will not work; ``advice`` is the operator's next move."""
    return Finding("fault", what, advice)
