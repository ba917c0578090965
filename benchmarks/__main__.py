"""`make bench`: ours beside stock batchspawner and a floor in one run, on a platform of its own.

Prints a table and writes results.json: each row has the median of its runs for ``ours``, ``stock`` and ``floor`` (what
no configuration can beat; ``null`` where there is none), in the row's ``unit``. ``make bench ARGS="class-start-60
--runs 5"`` measures some rows only; the others keep what an earlier run has found.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ground import BenchError, Ground
from hubs import HubFailed
from results import Row, table, write

from deploy.signals import exit_status_of, polite

RESULTS = Path(__file__).parent / "results.json"
# Row family -> (module, runs unless told otherwise). A module is imported when its turn comes.
FAMILIES = {
    "job-start": ("job_start", 15),
    "click-to-ready": ("click_to_ready", 7),
    "class-start-60": ("class_start", 3),
    "scheduler-calls-waiting-60": ("waiting", 1),
    "running-1000": ("running", 1),
    "offers-2000-nodes": ("offers", 5),
    "dask-4-workers": ("dask_start", 5),
    "batch": ("batch", 5),
}


def main() -> int:
    """Run the benchmarks asked for; exit status 0 where all of them gave results."""
    parser = argparse.ArgumentParser(prog="make bench", description="Ours beside stock and a floor, in one run.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; none: all")
    parser.add_argument("--runs", type=int, default=int(os.environ.get("RUNS", "0")), help="runs of each family")
    options = parser.parse_args()
    if unknown := set(options.families) - set(FAMILIES):
        parser.error(f"no rows are called {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    ground = Ground.of(Path(os.environ["STUDIOLO_STATE"]))
    rows: list[Row] = []
    ground.clear()
    for family in options.families or FAMILIES:
        module, runs = FAMILIES[family]
        measure: Callable[[Ground, int], list[Row]] = importlib.import_module(module).rows
        print(f"Measuring {family} …", flush=True)
        found = measure(ground, options.runs or runs)
        rows += found
        write(rows, RESULTS)  # what is measured is kept, whatever happens to the next
        print(table(found), flush=True)
    print(f"\n{table(rows)}\n\nAlso in {RESULTS}")
    return 0


if __name__ == "__main__":
    with polite():
        sys.exit(
            exit_status_of(main, also=(BenchError, HubFailed), interrupted="Interrupted; what was changed is put back.")
        )
