"""A notebook as a batch job: ours beside papermill in a script of one's own, and functions beside submitit's.

``batch-first-cell`` is from before the submission to the first moment of the notebook's first cell, ``batch-to-end`` to the
finished copy; the floor of both is the same code as a plain Python program, without notebook and kernel. ``map-4-results`` is
from before the submission of four calls until all results are in hand; its floor is four jobs that import nothing.

Each run is a process of its own of one person, on the same quiet cluster, one after the other.
"""

from __future__ import annotations

import json
from pathlib import Path

from ground import Ground
from results import Row, row, said

from slurmbox.files import write_atomic
from studiolo.outline import VARIABLE, outline
from studiolo.site import load

PROGRAM = Path(__file__).with_name("batch_run.py")
NAMES = {"first": "batch-first-cell", "end": "batch-to-end", "map": "map-4-results"}


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure on a platform that is up and idle."""
    program, told = ground.folder / PROGRAM.name, ground.folder / "outline.json"
    write_atomic(program, PROGRAM.read_text(encoding="utf-8"), mode=0o644)
    write_atomic(told, outline(load(ground.box.state / "site.toml")), mode=0o644)
    sides = ("ours", "stock", "floor")
    found: dict[str, dict[str, list[float]]] = {name: {side: [] for side in sides} for name in NAMES}
    for _run in range(runs):
        for side in sides:
            for what in ("notebook", "map"):
                seconds = measured(ground, program, told, side, what)
                for name, value in seconds.items():
                    found[name][side].append(value)
                print(said(side, seconds), flush=True)
                ground.await_quiet()
    return [row(NAMES[name], "s", *(found[name][side] for side in sides)) for name in NAMES]


def measured(ground: Ground, program: Path, told: Path, side: str, what: str) -> dict[str, float]:
    """The seconds of one run of one side."""
    session = {"SLURM_JOB_ID": "1", "STUDIOLO_SESSION": "benchmark", VARIABLE: str(told)}
    environment = {"HOME": str(ground.box.homes / ground.researcher)} | (session if side == "ours" else {})
    argv = (str(ground.python), str(program), side, what)
    printed = ground.as_person(ground.researcher, *argv, environment=environment)
    seconds: dict[str, float] = json.loads(printed.splitlines()[-1])
    return seconds
