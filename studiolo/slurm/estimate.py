"""When Slurm would start a job, by its own word: what ``sbatch --test-only`` is asked and what it answers. Plain functions.

The question holds nothing of a person's but what a job asks for, so that one answer serves everybody who asks the same.
Slurm takes into account what runs, what waits before it, reservations and the partition's state. It does not look at a
partition's longest time, and not at budgets: the gate and the hub's own decisions come first.
"""

from __future__ import annotations

import calendar
import re
import time

from studiolo.request import Request
from studiolo.script import Batch, Directives, Job, render
from studiolo.site import Site

__all__ = ["parse_estimate", "question", "trial", "waits"]

# "sbatch: Job 17 to start at 1795331000 using 8 processors on nodes gpu1 in partition gpu"; on a federation "… on cluster
# NAME using …". What job_submit plugins have to say may stand before it.
_FORETOLD = re.compile(r"(?:sbatch: )?Job \d+ to start at (\S+) (?:on cluster \S+ )?using \d+ processors\b", re.ASCII)


# What a submission is taken in spite of: all its nodes are down, or busy without an end.
_WAITS = re.compile(r"Required node not available|Requested nodes are busy", re.IGNORECASE)


def question(request: Request, site: Site) -> Directives:
    """What Slurm is asked: what the request asks for, with nothing in it that tells one session from another."""
    return render(request, site, Job(name="studiolo", comment="", log="/dev/null", command=["true"])).directives


def trial(directives: Directives) -> Batch:
    """The job that is never run."""
    return Batch(directives, "#!/bin/bash", "exec true\n")


def waits(words: str) -> bool:
    """Whether Slurm's refusal to foretell means only that nobody knows: it would take the job, which waits for a node."""
    return _WAITS.search(words) is not None


def parse_estimate(said: str) -> int:
    """Read what ``sbatch --test-only`` says on standard error -> seconds since 1970. Raises ``ValueError``.

    Times are asked for as seconds since 1970, in UTC; where a Slurm does not heed that, its usual way of writing is read
    as UTC too.
    """
    found = [match[1] for line in said.splitlines() if (match := _FORETOLD.match(line.strip()))]
    if len(found) != 1:
        raise ValueError(f"no start in {said[:200]!r}")
    if re.fullmatch(r"[0-9]{1,12}", found[0], re.ASCII):
        return int(found[0])
    return calendar.timegm(time.strptime(found[0], "%Y-%m-%dT%H:%M:%S"))
