"""The log of a session: the last lines for its owner after a failure, removal after a clean end.

The file is made by the job as the person, in a folder that people may add files to but not list. Its owner could put
anything in its place, so it is only read where it is a plain file that belongs to that person and has one name.
"""

from __future__ import annotations

import logging
import os
import stat

__all__ = ["remove", "sweep", "tail"]

logger = logging.getLogger(__name__)

MAX_BYTES = 16 * 1024
KEPT_DAYS = 14


def tail(path: str, uid: int, lines: int = 20) -> list[str]:
    """Return the last ``lines`` lines of a log that belongs to ``uid``; empty where there is none to be trusted."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != uid or facts.st_nlink != 1:
            return []
        data = os.pread(handle, MAX_BYTES, max(0, facts.st_size - MAX_BYTES))
    finally:
        os.close(handle)
    text = data.decode("utf-8", errors="replace")
    kept = [_clean(line) for line in text.splitlines() if line.strip()]
    return kept[-lines:]


def remove(path: str) -> None:
    """Remove a log. One that is gone is no error; one that can not go (its owner put a folder there) must stop nobody."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("the log %s stays: %s", path, error.strerror)


def sweep(folder: str, now: float) -> int:
    """Remove the logs of failed starts that are older than two weeks; ``now`` in seconds since 1970. Returns how many."""
    old = [
        entry.path
        for entry in os.scandir(folder)
        if entry.name.endswith(".log") and entry.stat(follow_symlinks=False).st_mtime < now - KEPT_DAYS * 86400
    ]
    for path in old:
        remove(path)
    return len(old)


def _clean(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)[:500]
