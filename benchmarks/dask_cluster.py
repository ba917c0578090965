"""One Dask cluster, ours or stock's: prints the seconds from ``scale`` until all workers are connected. Run as a person."""

from __future__ import annotations

import sys
import time
from typing import Any

WORKERS = 4


def ours() -> Any:
    """As a notebook has it."""
    import studiolo

    return studiolo.cluster(profile="learn")


def stock() -> Any:
    """The same size, on the same partition, as the documentation of dask-jobqueue has it."""
    from dask_jobqueue import SLURMCluster

    return SLURMCluster(
        queue="cpu",
        cores=2,
        processes=1,
        memory="4GiB",
        walltime="01:00:00",
        interface="lo",
        job_extra_directives=["--output=/dev/null"],
    )


def main(side: str) -> None:
    """Measure one."""
    from distributed import Client

    with {"ours": ours, "stock": stock}[side]() as cluster, Client(cluster) as client:
        began = time.monotonic()
        cluster.scale(WORKERS)
        client.wait_for_workers(WORKERS, timeout=120)
        print(time.monotonic() - began)


if __name__ == "__main__":
    main(sys.argv[1])
