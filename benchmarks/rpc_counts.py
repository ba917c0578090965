"""Counts of calls in what ``sdiag`` and ``sacctmgr show stats`` print. A plain function."""

from __future__ import annotations

import re

_USER = re.compile(r"\S+\s*\(\s*(\d+)\)\s+count:(\d+)")
_TITLE = "Remote Procedure Call statistics by user"


def calls_by_user(report: str) -> dict[int, int]:
    """Calls since the daemon's start, by uid. Raises ``ValueError`` where the report has none."""
    _, title, section = report.partition(_TITLE)
    if not title:
        raise ValueError(f"no {_TITLE!r} in the report")
    counts: dict[int, int] = {}
    for line in section.splitlines()[1:]:
        if not line.strip():
            break
        if found := _USER.match(line.strip()):
            counts[int(found[1])] = int(found[2])
    return counts
