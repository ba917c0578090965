"""One notebook, or one function for four items, as batch jobs, by ours, stock or the floor. Run as a person; prints seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ITEMS = 4
PATIENCE = 120
RESOURCES = ("--partition=cpu", "--cpus-per-task=2", "--mem=4G", "--time=60", "--output=/dev/null", "--parsable")


def main(side: str, what: str) -> None:
    """Measure one."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=Path.home()))
    try:
        measure: dict[tuple[str, str], Callable[[Path], dict[str, float]]] = {
            ("ours", "notebook"): our_notebook,
            ("stock", "notebook"): papermill,
            ("floor", "notebook"): program,
            ("ours", "map"): our_map,
            ("stock", "map"): submitit_map,
            ("floor", "map"): programs,
        }
        print(json.dumps(measure[side, what](folder)))
    finally:
        shutil.rmtree(folder)


# --- A notebook ------------------------------------------------------------------------------------------------------


def cells(folder: Path) -> list[str]:
    """Its cells, of which the first says when it began."""
    return [f"import time; open({str(folder / 'first')!r}, 'w').write(repr(time.time()))", "n = 1", "m = n + 1\nm"]


def write_notebook(folder: Path) -> Path:
    """Write it."""

    def code(source: str, *tags: str) -> dict[str, Any]:
        return {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"tags": list(tags)},
            "outputs": [],
            "source": source,
        }

    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    content = {
        "cells": [code("lr = 1", "parameters"), *map(code, cells(folder))],
        "metadata": kernel,
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    path = folder / "in.ipynb"
    path.write_text(json.dumps(content))
    return path


def our_notebook(folder: Path) -> dict[str, float]:
    """As a notebook sends it off."""
    import studiolo

    notebook = write_notebook(folder)
    began = time.time()
    run = studiolo.run(notebook, {"lr": 2}, profile="learn")
    run.wait(PATIENCE)
    return {"first": first(folder) - began, "end": run.notebook.stat().st_mtime - began}


def papermill(folder: Path) -> dict[str, float]:
    """As one writes it by hand."""
    notebook, done = write_notebook(folder), folder / "out.ipynb"
    mill = f"exec {sys.executable} -m papermill {notebook} {done} -p lr 2"
    began = time.time()
    submit(mill, wait=True)
    return {"first": first(folder) - began, "end": done.stat().st_mtime - began}


def program(folder: Path) -> dict[str, float]:
    """The same code as a program."""
    script, done = folder / "program.py", folder / "done"
    script.write_text("\n".join([*cells(folder), f"open({str(done)!r}, 'w').close()"]))
    began = time.time()
    submit(f"exec {sys.executable} {script}", wait=True)
    return {"first": first(folder) - began, "end": done.stat().st_mtime - began}


def first(folder: Path) -> float:
    """When the first cell began."""
    return float((folder / "first").read_text())


def submit(command: str, wait: bool = False) -> None:
    """Submit a script."""
    argv = ["sbatch", *RESOURCES, *(["--wait"] if wait else []), f"--wrap={command}"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)


# --- A function ------------------------------------------------------------------------------------------------------


def square(item: int) -> int:
    """What is called."""
    return item * item


def our_map(_folder: Path) -> dict[str, float]:
    """As a notebook has it."""
    import studiolo

    began = time.time()
    results = studiolo.map(square, range(ITEMS), profile="learn").results(PATIENCE)
    return checked(results, began)


def submitit_map(folder: Path) -> dict[str, float]:
    """As submitit's documentation has it."""
    import submitit

    executor = submitit.AutoExecutor(folder=folder)
    executor.update_parameters(slurm_partition="cpu", cpus_per_task=2, mem_gb=4, timeout_min=60)
    began = time.time()
    return checked([job.result() for job in executor.map_array(square, range(ITEMS))], began)


def programs(folder: Path) -> dict[str, float]:
    """As many jobs that import nothing."""
    began = time.time()
    marks = [folder / str(item) for item in range(ITEMS)]
    for mark in marks:
        submit(f"exec {sys.executable} -c \"open('{mark}', 'w').close()\"")
    while not all(mark.exists() for mark in marks):
        if time.time() > began + PATIENCE:
            raise TimeoutError("the jobs did not end")
        time.sleep(0.05)
    return {"map": time.time() - began}


def checked(results: list[int], began: float) -> dict[str, float]:
    """The seconds until all results were there."""
    if results != [square(item) for item in range(ITEMS)]:
        raise ValueError(f"not the squares: {results}")
    return {"map": time.time() - began}


if __name__ == "__main__":
    main(*sys.argv[1:])
