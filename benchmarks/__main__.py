"""`make bench`: ours beside the stock way in one run, on a platform of its own. Prints a table, writes results.json.

Each row has the median of its runs for ``ours``, ``stock`` and ``floor`` (what no configuration can beat; ``null``
where there is none), in the row's ``unit``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import job_start

RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """Run all benchmarks; exit status 0 where all of them gave results."""
    rows = job_start.rows(Path(os.environ["STUDIOLO_STATE"]))
    RESULTS.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"\n{'':30}{'unit':>6}{'ours':>9}{'stock':>9}{'floor':>9}{'runs':>6}")
    for row in rows:
        cells = "".join(
            f"{'-' if row[key] is None else format(row[key], '.2f'):>9}" for key in ("ours", "stock", "floor")
        )
        print(f"{row['name']:30}{row['unit']:>6}{cells}{row['runs']:>6}")
    print(f"\nAlso in {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
