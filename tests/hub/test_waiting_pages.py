"""However many look at a start, the scheduler is asked no more than for one."""

from __future__ import annotations

import asyncio
import math
import re
import time

import httpx
from hubclient import Hub

from studiolo.slurm.snapshot import SnapshotPace
from studiolo.slurm.watcher import Pace

PAGES = 200
QUESTIONS_A_SNAPSHOT = 4


def calls(hub: Hub) -> float:
    """How often the hub has asked Slurm anything since it began."""
    answer = httpx.get(f"{hub.url}hub/metrics", headers={"Authorization": f"token {hub.token}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    return sum(
        float(number) for number in re.findall(r"^studiolo_slurm_calls_total\{.*\} (\S+)$", answer.text, re.MULTILINE)
    )


async def look(hub: Hub, user: str, pages: int) -> tuple[int, float]:
    """Have so many pages open until each has been told something; returns how many were, and the seconds that took."""
    url = f"{hub.url}hub/api/users/{user}/server/progress"
    told = asyncio.Event()
    heard = 0

    async def page(client: httpx.AsyncClient) -> None:
        nonlocal heard
        async with client.stream("GET", url, headers={"Authorization": f"token {hub.token}"}) as answer:
            async for line in answer.aiter_lines():
                if "PartitionDown" in line:
                    heard += 1
                    if heard == pages:
                        told.set()
                    await told.wait()
                    return

    began = time.monotonic()
    async with httpx.AsyncClient(verify=False, timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        await asyncio.wait_for(asyncio.gather(*(page(client) for _n in range(pages))), 120)
    return heard, time.monotonic() - began


def test_two_hundred_open_pages_cost_no_scheduler_call(hub: Hub, ada: str) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(ada, {"profile": "learn"})
        hub.progress(ada, "PartitionDown")
        before, began = calls(hub), time.monotonic()
        heard, _seconds = asyncio.run(look(hub, ada, PAGES))
        asked, seconds = calls(hub) - before, time.monotonic() - began
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert heard == PAGES
    # What one who waits costs: the watcher's question at its pace, and the snapshots, with one more of each for the edges.
    pace = Pace()
    quick = math.ceil(math.log(pace.waiting / pace.first, pace.growth))  # it asks sooner at first, after a submission
    watched = seconds / pace.waiting + quick
    snapshots = QUESTIONS_A_SNAPSHOT * (seconds / SnapshotPace().fresh + 1)
    assert asked <= watched + snapshots + 2  # budgets among them
    assert watched + snapshots < PAGES
