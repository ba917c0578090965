"""A class of sixty starts together: seconds from the first click to the last server's first answer.

Each server is the featherweight, so that what is measured is hub, spawner and scheduler, not the imports of sixty
JupyterLabs on one machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import stock
from ground import BenchError, Ground
from hubs import Hub
from linux import cpu_of
from results import Row, row

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
    """Measure ``runs`` classes of each side in turn; our hub does not run during stock's and the other way round."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}

    def ours() -> None:
        found["ours"].append(asyncio.run(one_class(ground, ground.hub(), OURS)))

    def theirs() -> None:
        with ExitStack() as stack:
            stack.enter_context(ground.hub_stopped())
            hub = stack.enter_context(stock.running(ground, stock_settings(ground)))
            stock.add_people(hub, people(ground))
            found["stock"].append(asyncio.run(one_class(ground, hub, {})))

    with ground.offering(entries(ground)):
        for number in range(runs):
            turn: list[Callable[[], None]] = [ours, theirs]
            for act in turn[:: 1 if number % 2 == 0 else -1]:
                act()
                ground.await_quiet()
    walls, cpus = ([[run[at] for run in found[side]] for side in ("ours", "stock")] for at in (0, 1))
    return [row(f"class-start-{CLASS}", "s", *walls), row(f"class-start-{CLASS}-hub-cpu", "s", *cpus)]


async def one_class(ground: Ground, hub: Hub, options: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds until all servers have answered through the proxy, and seconds of processor that the hub took."""
    learners = people(ground)
    computed = cpu_of(hub.pid)
    async with hub.client() as client:
        begun = time.time()
        try:
            times = await asyncio.gather(
                *(hub.click_to_answer(client, learner, options, page="api") for learner in learners)
            )
            computed = cpu_of(hub.pid) - computed
        finally:
            await hub.stop_all(learners)
    return max(answer for _, _, answer in times) - begun, computed
