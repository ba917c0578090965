"""What all that one notebook kernel does on the cluster shares: the site, one client and one watcher of the queue.

They live on a thread of their own with an event loop: a kernel's own loop stands still while a cell runs. Whatever is
asked for in a cell is handed to it with :meth:`Desk.do`, which waits, or :meth:`Desk.begin`, which does not. One question
follows all jobs of a kernel, however many clusters, runs and panels look at them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from studiolo.errors import OutsideSession
from studiolo.outline import read_outline
from studiolo.request import Request, check
from studiolo.script import Job, render
from studiolo.session import Session, session
from studiolo.site import Site
from studiolo.slurm.own import OwnSlurm
from studiolo.slurm.watcher import Pace, QueueWatcher

__all__ = ["Desk", "desk"]

_Value = TypeVar("_Value")

# A person's own jobs, asked for by the person: gentler than the hub, which asks once for everybody.
PACE = Pace(first=0.25, growth=1.4, waiting=5.0, quiet=60.0, silent=60.0)


class Desk:
    """One for each process; get it with :func:`desk`. ``session`` is ``None`` outside of a job."""

    def __init__(self, site: Site, own: Session | None) -> None:
        self.site = site
        self.session = own
        self.slurm = {name: OwnSlurm(cluster, site.mark) for name, cluster in site.clusters.items()}
        self.watchers = {name: QueueWatcher(client, PACE) for name, client in self.slurm.items()}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="studiolo", daemon=True)
        self.thread.start()

    def begin(self, work: Coroutine[Any, Any, _Value]) -> concurrent.futures.Future[_Value]:
        """Have ``work`` done on the desk's own thread, and go on; the future tells what became of it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def do(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Have ``work`` done and wait for it. An interrupted cell (``KeyboardInterrupt``) cancels it."""
        if threading.current_thread() is self.thread:
            work.close()
            raise RuntimeError("the desk's own thread can not wait for itself: use await")
        future = self.begin(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def check(self, options: Mapping[str, object]) -> Request:
        """Pass ``options`` through the gate that every job passes. Raises :class:`~studiolo.errors.RequestError`."""
        return check(options, self.site)

    async def submit(self, request: Request, job: Job, environment: Mapping[str, str]) -> int:
        """Submit a job and return its number; it is not followed yet.

        ``environment`` are variables named ``STUDIOLO_…``, beside which a job has a person's plain ones and nothing of this
        process's. Raises :class:`~studiolo.errors.SlurmRefused` with Slurm's words, or another
        :class:`~studiolo.errors.SlurmError`.
        """
        slurm = self.slurm[request.cluster]
        return await slurm.submit(slurm.person, render(request, self.site, job), environment)

    async def cancel(self, cluster: str, jobs: list[int]) -> None:
        """Cancel one's own jobs; what is over already is no error."""
        slurm = self.slurm[cluster]
        await slurm.cancel(slurm.person, jobs)

    @property
    def owner(self) -> str:
        """The name of the session or run that this process's jobs belong to; raises ``OutsideSession`` where there is none."""
        if self.session is None or not self.session.owner:
            raise OutsideSession
        return self.session.owner


_lock = threading.Lock()
_desk: Desk | None = None


def desk() -> Desk:
    """This process's desk. Raises :class:`~studiolo.errors.OutsideSession` outside of a session."""
    global _desk  # noqa: PLW0603 - one thread and one watcher for each process is the purpose
    with _lock:
        if _desk is None:
            _desk = Desk(read_outline(), session())
        return _desk


def _forget() -> None:
    """In a forked child the thread is gone: it gets a desk of its own when it needs one."""
    global _desk, _lock
    _desk, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
