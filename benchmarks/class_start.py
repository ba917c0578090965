"""A class of sixty starts together: seconds from the first click to the last server's first answer.

Each server is the featherweight, so that what is measured is hub, spawner and scheduler, not the imports of sixty
JupyterLabs on one machine.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import stock
from ground import BenchError, Ground
from hubs import Hub
from linux import cpu_by_kind
from results import Row, row, said

from slurmbox import accounts

CLASS = 60
PARTITION, CPUS, MEMORY, TIME = "gpu", 1, "1G", "1:00:00"  # its 64 CPUs hold sixty sessions of one, without a GPU
OURS: Mapping[str, Any] = {"profile": "featherweight"}


def entries(ground: Ground) -> str:
    """What the site file is given for it: the same server and resources as stock's."""
    return f"""
[environments.featherweight]
title = "Featherweight"
python = "{ground.featherweight()}"

[profiles.featherweight]
title = "Featherweight"
description = "Benchmarks only."
environment = "featherweight"
partition = "{PARTITION}"
cpus = {CPUS}
memory = "{MEMORY}"
time = "1h"
"""


def stock_settings(ground: Ground) -> dict[str, object]:
    """Stock's spawner for the same: the featherweight posts its port as ``batchspawner-singleuser`` does."""
    settings = stock.Resources(PARTITION, CPUS, MEMORY, TIME).settings()
    return {**settings, "batchspawner_singleuser_cmd": str(ground.featherweight())}


def people(ground: Ground) -> list[str]:
    """The class."""
    learners = ground.learners[:CLASS]
    if len(learners) < CLASS:
        raise BenchError(f"this platform has {len(learners)} learners, {CLASS} are needed: `make bench` makes them")
    return learners


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure ``runs`` classes of each side in turn; no other hub runs meanwhile.

    Stock talks plain http to its sessions. Ours is measured as it ships, with TLS, and, in rows of their own, like stock.
    """
    found: dict[str, list[tuple[float, dict[str, float]]]] = {"ours": [], "plain": [], "stock": []}
    for number in range(runs):
        sides = list(found)
        for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
            found[side].append(one_side(ground, side))
            print(said(side, {"seconds": found[side][-1][0], **found[side][-1][1]}), flush=True)
    walls = {side: [wall for wall, _ in measured] for side, measured in found.items()}
    return [
        row(f"class-start-{CLASS}", "s", walls["ours"], walls["stock"]),
        row(f"class-start-{CLASS}-plain", "s", walls["plain"], walls["stock"]),
        *(
            row(name, "s", *([cpu[kind] for _, cpu in found[side]] for side in (ours, "stock")))
            for ours, title in (("ours", "class-cpu"), ("plain", "class-cpu-plain"))
            for kind, name in ((kind, f"{title}-{kind}") for kind in found["ours"][0][1])
        ),
    ]


def one_side(ground: Ground, side: str) -> tuple[float, dict[str, float]]:
    """One class on one side's hub: our hub with TLS (``ours``), without (``plain``), or ``stock``'s."""
    with ExitStack() as stack:
        if side == "stock":
            stack.enter_context(ground.hub_stopped())
            hub = stack.enter_context(stock.running(ground, stock_settings(ground)))
            stock.add_people(hub, people(ground))
            measured = asyncio.run(one_class(ground, hub, {}))
        else:
            stack.enter_context(ground.offering(entries(ground), plain=side == "plain"))
            measured = asyncio.run(one_class(ground, ground.hub(), OURS))
        ground.await_quiet()
    return measured


async def one_class(ground: Ground, hub: Hub, options: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
    """Seconds until all servers have answered through the proxy, and who took how many seconds of processor meanwhile."""
    learners = people(ground)
    kinds = who_computes(ground)
    async with hub.clients(learners) as clients:
        before, begun = cpu_by_kind(kinds, hub.pid), time.time()
        try:
            times = await asyncio.gather(
                *(hub.click_to_answer(client, learner, options, page="api") for learner, client in clients.items())
            )
            after = cpu_by_kind(kinds, hub.pid)
        finally:
            await hub.stop_all(clients)
    return max(answer for _, _, answer in times) - begun, {kind: after[kind] - before[kind] for kind in after}


def who_computes(ground: Ground) -> dict[str, Callable[[int, str], bool]]:
    """Kinds of processes that take part in a start; whoever is asked first counts."""
    box = ground.box
    daemons = {accounts.ids(name)[0] for name in (box.slurm_user, box.db_user)}
    learners = {accounts.ids(name)[0] for name in people(ground)}
    words = f"-f {box.slurm_conf}"
    return {
        "client": lambda uid, command: "benchmarks" in command and uid == os.getuid(),
        "proxy": lambda uid, command: "configurable-http-proxy" in command and uid == accounts.ids(box.hub_user)[0],
        "controller": lambda uid, command: uid in daemons,
        "nodes": lambda uid, command: command.startswith("/usr/sbin/slurmd ") and words in command,
        "steps": lambda uid, command: command.startswith("slurmstepd: ["),
        "servers": lambda uid, command: uid in learners,
    }
