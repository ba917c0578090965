"""A thousand sessions run and nobody clicks: how often is Slurm asked in a minute, and what does it cost the hub?

All but hubs and proxies is simulated (simulation.py). What is counted are Slurm's commands.
"""

from __future__ import annotations

import time

import simulation
from ground import Ground
from hubs import Hub
from linux import cpu_of
from results import Row, row, said
from simulation import Simulation

SESSIONS = 1000
SETTLING = 30.0  # after the hub has found all of them alive
SECONDS = 300.0  # as long as the longest interval that either hub does anything in


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure both hubs one after the other, ``runs`` times."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
    with ground.hub_stopped():
        for _ in range(runs):
            for side, hub_of in (("ours", simulation.our_hub), ("stock", simulation.stock_hub)):
                with simulation.simulated(ground, SESSIONS) as crowd, hub_of(crowd) as hub:
                    found[side].append(one_crowd(crowd, hub))
                print(said(side, dict(zip(("calls/min", "% of core"), found[side][-1], strict=True))), flush=True)
    asked, cpus = ([[run[at] for run in found[side]] for side in ("ours", "stock")] for at in (0, 1))
    return [
        row(f"scheduler-calls-running-{SESSIONS}", "calls/min", *asked),
        row(f"hub-cpu-running-{SESSIONS}", "% of core", *cpus),
    ]


def one_crowd(crowd: Simulation, hub: Hub) -> tuple[float, float]:
    """Calls of Slurm's commands in a minute, and per cent of a core that the hub took."""
    simulation.await_all(hub, SESSIONS)
    with simulation.active(hub, crowd.people):
        time.sleep(SETTLING)
        asked, computed, begun = crowd.calls(), cpu_of(hub.pid), time.monotonic()
        time.sleep(SECONDS)
        asked, computed, passed = crowd.calls() - asked, cpu_of(hub.pid) - computed, time.monotonic() - begun
    return asked * 60 / passed, 100 * computed / passed
