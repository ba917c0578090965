"""How often slurmctld and slurmdbd were asked, by their own statistics: the truth for every client alike."""

from __future__ import annotations

import pwd
import re
from collections.abc import Collection

from ground import Ground

_USER = re.compile(r"\S+\s*\(\s*(\d+)\)\s+count:(\d+)")
_TITLE = "Remote Procedure Call statistics by user"


def calls_by_user(report: str) -> dict[int, int]:
    """Calls since the daemon's start by uid, from what ``sdiag`` or ``sacctmgr show stats`` print."""
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


def calls(ground: Ground, people: Collection[str]) -> int:
    """Calls of a hub so far: those that its account made, and those made in the name of people."""
    uids = {pwd.getpwnam(name).pw_uid for name in (ground.box.hub_user, *people)}
    controller = calls_by_user(ground.slurm("sdiag"))
    accounting = calls_by_user(ground.slurm("sacctmgr", "show", "stats"))
    return sum(count for counts in (controller, accounting) for uid, count in counts.items() if uid in uids)
