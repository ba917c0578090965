"""From ``scale(4)`` to four workers connected: our cluster, stock dask-jobqueue's, and the floor.

Each run is a process of its own of one person, on the same quiet cluster, one after the other. Stock is as its
documentation has it for a small worker. The floor is four jobs that import what a worker imports, and end: no
configuration of either can have a worker connected before that.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dask_cluster import WORKERS
from ground import Ground, until
from results import Row, row, said

from slurmbox.files import write_atomic
from studiolo.outline import VARIABLE, outline
from studiolo.site import load

PROGRAM = Path(__file__).with_name("dask_cluster.py")
IMPORTS = "distributed.cli.dask_worker"


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure on a platform that is up and idle."""
    program, told = _readable(ground)
    seconds: dict[str, list[float]] = {"ours": [], "stock": [], "floor": []}
    # The hub would cancel the workers of a session that it does not know.
    with ground.hub_stopped():
        for _run in range(runs):
            for side, found in seconds.items():
                found.append(floor(ground) if side == "floor" else scaled(ground, program, told, side))
                print(said(side, {"seconds": found[-1]}), flush=True)
                ground.await_quiet()
    return [row(f"dask-{WORKERS}-workers", "s", seconds["ours"], seconds["stock"], seconds["floor"])]


def _readable(ground: Ground) -> tuple[Path, Path]:
    """The program and what a session knows of the site, where people can read them."""
    program, told = ground.folder / PROGRAM.name, ground.folder / "outline.json"
    write_atomic(program, PROGRAM.read_text(encoding="utf-8"), mode=0o644)
    write_atomic(told, outline(load(ground.box.state / "site.toml")), mode=0o644)
    return program, told


def scaled(ground: Ground, program: Path, told: Path, side: str) -> float:
    """Seconds from ``scale`` to the last worker, in a process that has its scheduler already."""
    session = {"SLURM_JOB_ID": "1", "STUDIOLO_SESSION": "benchmark", VARIABLE: str(told)}
    environment = {"HOME": str(ground.box.homes / ground.researcher)} | (session if side == "ours" else {})
    printed = ground.as_person(ground.researcher, str(ground.python), str(program), side, environment=environment)
    return float(printed.split()[-1])


def floor(ground: Ground) -> float:
    """Seconds from before the first ``sbatch`` until as many jobs have imported what a worker does."""
    home = ground.box.homes / ground.researcher
    marks = [home / f"imported-{time.monotonic_ns()}-{number}" for number in range(WORKERS)]
    began = time.time()
    for mark in marks:
        script = f"{ground.python} -c 'import {IMPORTS}' && date +%s.%N > {mark}.new && mv {mark}.new {mark}"
        options = ("--quiet", "--output=/dev/null", "--partition=cpu", "--cpus-per-task=2", "--mem=4G", "--time=60")
        ground.as_person(ground.researcher, "sbatch", *options, f"--wrap={script}")
    until("the imports", lambda: all(mark.exists() for mark in marks))
    seconds = max(float(mark.read_text(encoding="utf-8")) for mark in marks) - began
    for mark in marks:
        os.unlink(mark)
    return seconds
