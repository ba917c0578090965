"""The folder of one Dask cluster, in its person's home: what its workers read when they begin, and their logs."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import time
from contextlib import suppress

from studiolo.dask_crew import last_line
from studiolo.dask_worker import HANDOVER, IDENTITY, Handover, read_handover

__all__ = ["IDENTITY_FORM", "ClusterFolder", "folders", "tell_to_end"]

IDENTITY_FORM = re.compile(r"[0-9a-f]{8}")
KEPT = 10
EXTENDED_SECONDS = 7 * 86400.0
"""Sessions can be extended after they have told their workers when they end: by less than this, it is trusted."""

LOG_BYTES = 4096


def folders() -> str:
    """Where the folders of all clusters of this person are: the same place on every node."""
    return os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".studiolo", "dask")


def tell_to_end(root: str, name: str) -> None:
    """Have the cluster whose jobs' tag has this ``name`` (``OWNER.CLUSTER``) end, whichever notebook it belongs to.

    Cancel its jobs afterwards: a cluster that is not told asks for others in their place.
    """
    identity = name.rpartition(".")[2]
    if IDENTITY_FORM.fullmatch(identity):  # people can write any comment into their jobs
        ClusterFolder(root, identity).shut()


class ClusterFolder:
    """One cluster's, named for its ``identity``; nobody else may look into it."""

    def __init__(self, root: str, identity: str) -> None:
        self.root = root
        self.path = os.path.join(root, identity)

    def open(self, handover: Handover, credentials: str) -> None:
        """Make it, with what workers are told and the key and certificate that they show. Raises ``OSError``."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        self._tidy()
        os.mkdir(self.path, mode=0o700)
        handover.write(self.path, credentials)

    def shut(self) -> None:
        """From now on a job that starts does nothing."""
        for name in (HANDOVER, IDENTITY):
            with suppress(OSError):
                os.unlink(os.path.join(self.path, name))

    def is_shut(self) -> bool:
        """Whether somebody has told the cluster to end. A home that can not be asked says nothing."""
        try:
            # Opened, because a home on the network may say for a minute that a file is there which another node has removed.
            os.close(os.open(os.path.join(self.path, HANDOVER), os.O_RDONLY))
        except FileNotFoundError:
            return True
        except OSError:
            pass
        return False

    def remove(self) -> None:
        """Remove it with all its logs."""
        shutil.rmtree(self.path, ignore_errors=True)

    def log(self, worker: str) -> str:
        """The file that a worker writes its log to."""
        return os.path.join(self.path, f"{worker}.log")

    def last_words(self, worker: str) -> str:
        """The last line of a worker's log, empty where there is none."""
        try:
            with open(self.log(worker), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                return last_line(file.read().decode(errors="replace"))
        except OSError:
            return ""

    def _tidy(self) -> None:
        """Remove what older clusters have left: all but the newest, once the sessions that they belong to must be over."""
        with os.scandir(self.root) as entries:
            newest_first = sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)
        for entry in newest_first[KEPT:]:
            try:
                over = 0 < read_handover(entry.path).ends < time.time() - EXTENDED_SECONDS
            except FileNotFoundError:
                over = True  # closed; its logs were kept for a while
            except (OSError, ValueError, TypeError):
                over = False
            if over:
                shutil.rmtree(entry.path, ignore_errors=True)
