"""What all spawners of one hub share: the site, one Slurm client and one watcher a cluster, and who is being awaited."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from spawners import sessionlog
from studiolo.errors import SlurmError, SlurmUnavailable
from studiolo.site import Site, load
from studiolo.slurm.commands import CommandSlurm
from studiolo.slurm.watcher import QueueWatcher

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["Engine", "digest", "engine_for"]

log = logging.getLogger(__name__)


def digest(secret: str) -> str:
    """What is kept of a one-time secret: enough to recognise it, nothing to use it with."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class Engine:
    """One for each hub process."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.slurm = {name: CommandSlurm(cluster, site.mark) for name, cluster in site.clusters.items()}
        self.watchers = {name: QueueWatcher(client) for name, client in self.slurm.items()}
        self._awaited: dict[str, StudioloSpawner] = {}
        self._cancelling: set[asyncio.Task[None]] = set()
        self.sweep_logs()

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

    def redeem(self, secret: str) -> StudioloSpawner | None:
        """Return the spawner whose job holds ``secret``, once; ``None`` for a wrong, used or outdated one."""
        return self._awaited.pop(digest(secret), None)

    def withdraw(self, secret_digest: str) -> None:
        """Make a secret worthless."""
        self._awaited.pop(secret_digest, None)

    async def cancel(self, cluster: str, person: str, job: int) -> None:
        """Cancel a job. Where Slurm does not answer now, go on trying in the background, so that no orphan stays."""
        try:
            await self.slurm[cluster].cancel(person, [job])
        except SlurmUnavailable as error:
            log.warning("%s; job %d will be cancelled as soon as Slurm answers", error, job)
            self.cancel_soon(cluster, person, job)

    def cancel_soon(self, cluster: str, person: str, job: int) -> None:
        """Cancel a job in the background, trying until Slurm answers."""
        task = asyncio.get_running_loop().create_task(self._cancel_later(cluster, person, job))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancel_later(self, cluster: str, person: str, job: int) -> None:
        pause = 1.0
        while True:
            await asyncio.sleep(pause)
            try:
                await self.slurm[cluster].cancel(person, [job])
            except SlurmUnavailable:
                pause = min(pause * 2, 60.0)
            except SlurmError as error:
                log.error("job %d of %s can not be cancelled: %s", job, person, error)
                return
            else:
                log.info("job %d of %s is cancelled", job, person)
                return


@lru_cache(maxsize=1)
def engine_for(site_file: str) -> Engine:
    """The process's engine for a site file; the file is read once, a changed one needs a new hub process."""
    return Engine(load(site_file))
