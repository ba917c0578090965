"""What all spawners of one hub share: the site, one Slurm client and one watcher a cluster, and who is being awaited."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from spawners import sessionlog
from spawners.adoption import CutOffStarts
from spawners.choosing import Choosing
from spawners.everything import JobsCache
from spawners.orphans import OrphanSweeper
from spawners.rightsize import LookBack
from spawners.turnstile import Turnstile
from studiolo.errors import SlurmError
from studiolo.outline import outline
from studiolo.site import Site, load
from studiolo.slurm.client import connect
from studiolo.slurm.snapshot import FactsCache
from studiolo.slurm.watcher import QueueWatcher

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["SITE_SETTING", "Engine", "digest", "engine_for"]

log = logging.getLogger(__name__)

SITE_SETTING = "studiolo_site_file"
"""Under this name the hub's web server tells its handlers which site file is meant."""

# Each submission is a process or three for some tens of milliseconds: more at once than this only slows all of them.
SUBMISSIONS_AT_ONCE = 4 + 2 * (os.cpu_count() or 1)


def digest(secret: str) -> str:
    """What is kept of a one-time secret: enough to recognise it, nothing to use it with."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class Engine:
    """One for each hub process."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.outline = outline(site)
        self.slurm = {name: connect(site, name) for name in site.clusters}
        self.watchers = {name: QueueWatcher(client) for name, client in self.slurm.items()}
        self.facts = {name: FactsCache(client) for name, client in self.slurm.items()}
        self.choosing = Choosing(site, self.slurm, self.facts, self.watchers)
        self.jobs = {name: JobsCache(client) for name, client in self.slurm.items()}
        self.lookback = {name: LookBack(client) for name, client in self.slurm.items()}
        self.door = Turnstile(SUBMISSIONS_AT_ONCE)
        self.cut_off = CutOffStarts()
        self._sweepers: dict[str, OrphanSweeper] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._awaited: dict[str, StudioloSpawner] = {}
        self.sweep_logs()

    def begin(self, known: Callable[[], Iterable[str]]) -> None:
        """Begin to look for orphaned jobs; ``known`` tells the names of the sessions that live. Needs the event loop."""
        for name, client in self.slurm.items():
            self._sweepers[name] = OrphanSweeper(client, lambda: [*known(), *self.cut_off.sessions()])
            self.keep(self._sweepers[name].run())

    def keep(self, work: Coroutine[object, object, object]) -> None:
        """Run something beside everything else, and hold on to it: asyncio itself forgets tasks that nobody names."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def sweep_logs(self) -> None:
        """Remove old logs of failed starts: when the hub begins, and whenever another one is kept."""
        if self.site.paths.logs:
            try:
                sessionlog.sweep(self.site.paths.logs, time.time())
            except OSError as error:
                log.warning("old logs in %s were not looked at: %s", self.site.paths.logs, error.strerror)

    def expect(self, secret_digest: str, spawner: StudioloSpawner) -> None:
        """Remember whose job will come with the secret of this digest."""
        self._awaited[secret_digest] = spawner

    def awaited(self, secret: str) -> StudioloSpawner | None:
        """The spawner whose job holds ``secret``; ``None`` for a wrong, used or outdated one."""
        return self._awaited.get(digest(secret))

    def redeem(self, secret: str) -> StudioloSpawner | None:
        """Return the spawner whose job holds ``secret``, once; ``None`` for a wrong, used or outdated one."""
        return self._awaited.pop(digest(secret), None)

    def withdraw(self, secret_digest: str) -> None:
        """Make a secret worthless."""
        self._awaited.pop(secret_digest, None)

    async def cancel(self, cluster: str, person: str, job: int) -> None:
        """Cancel a job. Where Slurm does not answer now, it becomes an orphan, which is cancelled once Slurm does."""
        try:
            await self.slurm[cluster].cancel(person, [job])
        except SlurmError as error:
            log.warning("%s; job %d will be cancelled as soon as that is possible", error, job)
            self.look_for_orphans(cluster)

    def look_for_orphans(self, cluster: str) -> None:
        """Something was cut off: see to it, as soon as Slurm answers, that no job is left behind."""
        if sweeper := self._sweepers.get(cluster):
            sweeper.soon()


@lru_cache(maxsize=1)
def engine_for(site_file: str) -> Engine:
    """The process's engine for a site file; the file is read once, a changed one needs a new hub process."""
    return Engine(load(site_file))
