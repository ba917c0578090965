"""How often slurmctld and slurmdbd were asked, by their own statistics: the truth for every client alike."""

from __future__ import annotations

import pwd
from collections.abc import Collection

from ground import Ground
from rpc_counts import calls_by_user


def calls(ground: Ground, people: Collection[str]) -> int:
    """Calls of a hub so far: those that its account made, and those made in the name of people."""
    uids = {pwd.getpwnam(name).pw_uid for name in (ground.box.hub_user, *people)}
    controller = calls_by_user(ground.slurm("sdiag"))
    accounting = calls_by_user(ground.slurm("sacctmgr", "show", "stats"))
    return sum(count for counts in (controller, accounting) for uid, count in counts.items() if uid in uids)
