"""Sixty people wait in the queue of a closed partition: how often is Slurm asked in a minute, and what does it cost the hub?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import stock
from class_start import CLASS, OURS, PARTITION, entries, people, stock_settings
from ground import Ground, until
from hubs import Hub
from linux import cpu_of
from results import Row, row, said
from sdiag import calls

SETTLING = 10.0  # after the last one has joined the queue
SECONDS = 60.0


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure ``runs`` times a minute of each side; only one hub runs at a time."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
    with ground.offering(entries(ground)):
        for _ in range(runs):
            found["ours"].append(asyncio.run(one_wait(ground, ground.hub(), OURS)))
            with ExitStack() as stack:
                stack.enter_context(ground.hub_stopped())
                hub = stack.enter_context(stock.running(ground, stock_settings(ground)))
                stock.add_people(hub, people(ground))
                found["stock"].append(asyncio.run(one_wait(ground, hub, {})))
            for side, measured in found.items():
                print(said(side, dict(zip(("calls/min", "% of core"), measured[-1], strict=True))), flush=True)
    asked, cpus = ([[run[at] for run in found[side]] for side in ("ours", "stock")] for at in (0, 1))
    return [
        row(f"scheduler-calls-waiting-{CLASS}", "calls/min", *asked),
        row(f"hub-cpu-waiting-{CLASS}", "% of core", *cpus),
    ]


async def one_wait(ground: Ground, hub: Hub, options: Mapping[str, Any]) -> tuple[float, float]:
    """Calls to Slurm's daemons in a minute, and per cent of a core that the hub took, with all people on their page."""
    learners = people(ground)
    async with hub.clients(learners) as clients:
        with ground.closed(PARTITION):
            pages = [asyncio.create_task(hub.start(client, learner, options)) for learner, client in clients.items()]
            try:
                await asyncio.to_thread(until, "sixty waiting jobs", lambda: len(ground.jobs("--states=PD")) >= CLASS)
                await asyncio.sleep(SETTLING)
                return await _minute(ground, hub, learners)
            finally:
                for page in pages:
                    page.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.gather(*pages, return_exceptions=True)
                await hub.stop_all(clients)
                # Stock loses sight of some that it stops while they wait; ours must not, and this would wait in vain.
                await asyncio.to_thread(ground.await_quiet if options is OURS else ground.clear)


async def _minute(ground: Ground, hub: Hub, learners: list[str]) -> tuple[float, float]:
    asked, computed, begun = calls(ground, learners), cpu_of(hub.pid), time.monotonic()
    await asyncio.sleep(SECONDS)
    asked, computed = calls(ground, learners) - asked, cpu_of(hub.pid) - computed
    passed = time.monotonic() - begun
    return asked * 60 / passed, 100 * computed / passed
