"""A thousand sessions run and nobody clicks: how often is Slurm asked in a minute, and what does it cost the hub?

The sessions are simulated: a database with a thousand people whose servers run, Slurm's commands replaced by programs
that answer RUNNING for every job and count themselves, one program that answers for all servers and reports each one's
activity as often as real ones do. Hub and proxy are real processes. Nobody of these people has an account here, so
stock's ``sudo`` is replaced too; its real one costs processes, not the hub.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import simulated_ours
import stock
from ground import Ground, daemon, until
from hubs import Hub
from linux import cpu_of
from results import Row, row

from slurmbox import accounts
from slurmbox.files import ensure_folder, write_atomic

SESSIONS = 1000
SETTLING = 45.0  # after the hub has found all of them alive: caches are filled, the first round of polls is over
SECONDS = 90.0
NODE = "gpu1"
HERE = Path(__file__).parent

# What stock and ours ask is answered alike; each counts itself by a byte in a file.
COUNTED = """#!/bin/sh
printf . >> {counts}/{name}
{act}
"""


@dataclass(frozen=True)
class Simulation:
    """A folder with commands that count themselves, and the port of the crowd's program."""

    ground: Ground
    folder: Path
    port: int

    @property
    def commands(self) -> Path:
        """The folder of Slurm's commands."""
        return self.folder / "commands"

    @property
    def counts(self) -> Path:
        """A file for each command, a byte for each call."""
        return self.folder / "counts"

    def calls(self) -> int:
        """How often any of Slurm's commands was run."""
        return sum(file.stat().st_size for file in self.counts.iterdir())


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure both hubs one after the other, ``runs`` times."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
    for _ in range(runs):
        for side, hub_of in (("ours", simulated_ours.running), ("stock", simulated_stock)):
            found[side].append(one_crowd(ground, side, hub_of))
    asked, cpus = ([[run[at] for run in found[side]] for side in ("ours", "stock")] for at in (0, 1))
    return [
        row(f"scheduler-calls-running-{SESSIONS}", "calls/min", *asked),
        row(f"hub-cpu-running-{SESSIONS}", "% of core", *cpus),
    ]
