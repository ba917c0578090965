"""One worker's job, as dask-jobqueue's plan of workers handles it."""

from __future__ import annotations

from typing import Any, Protocol

import dask.config
from distributed.core import Status

from studiolo import script
from studiolo.dask_stock import Job
from studiolo.request import Request
from studiolo.site import Site

__all__ = ["Crew", "WorkerJob"]

# A notebook's cluster has nothing from anybody's settings of stock clusters.
dask.config.update_defaults(
    {
        "jobqueue": {
            "studiolo": dict.fromkeys(
                [
                    "cores",
                    "memory",
                    "processes",
                    "python",
                    "interface",
                    "death-timeout",
                    "local-directory",
                    "shared-temp-directory",
                    "extra",
                    "worker-command",
                    "env-extra",
                    "job-cpu",
                    "job-mem",
                    "log-directory",
                    "shebang",
                ]
            )
            | {"name": "dask", "worker-extra-args": [], "job-script-prologue": [], "scheduler-options": {}}
            | {"job-extra": None, "job-extra-directives": [], "header-skip": None, "job-directives-skip": []}
        }
    }
)


class Crew(Protocol):
    """The cluster, as its jobs see it."""

    site: Site

    def request_now(self) -> Request:
        """What a worker asks for now."""

    def job(self, name: str, request: Request) -> script.Job:
        """The job of the worker of that name."""

    async def submit(self, name: str) -> int:
        """Ask Slurm for a worker."""

    async def cancel(self, jobs: list[int]) -> None:
        """End jobs."""


class WorkerJob(Job):  # type: ignore[misc]  # dask-jobqueue has no types
    """One worker's job, as dask-jobqueue's plan of workers handles it; ``crew`` is the cluster."""

    config_name = "studiolo"
    status: Any

    def __init__(self, scheduler: str | None = None, name: str = "", crew: Any = None, **kwargs: Any) -> None:
        super().__init__(scheduler=scheduler, name=name, processes=1, shebang="", **kwargs)
        self.crew: Crew = crew

    def job_script(self) -> str:
        """The batch script."""
        request = self.crew.request_now()
        return script.render(request, self.crew.site, self.crew.job(self.name, request)).text

    async def start(self) -> None:
        """Submit. Raises what Slurm says against it."""
        if self.status == Status.closed:
            return
        try:
            self.job_id = str(await self.crew.submit(self.name))
        except BaseException:
            self.status = Status.failed
            raise
        self.status = Status.running

    async def close(self) -> None:
        """Cancel. What Slurm can not be told now, the worker's guard sees by itself."""
        if self.status == Status.running:
            self.status = Status.closing
            await self.crew.cancel([int(self.job_id)])
        self.status = Status.closed
        self._event_finished.set()
