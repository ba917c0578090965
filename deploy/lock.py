"""One command at a time on a folder: a lock on the folder itself, so no file has to be there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from deploy.errors import Refused

LOCKS = Path("/proc/locks")


def holder(folder: Path) -> str | None:
    """Who is at work on a folder, in a sentence; None if nobody is, or there is no folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return busy_sentence(folder, find_holder(os.fstat(descriptor).st_ino))
    finally:
        os.close(descriptor)
    return None


@contextlib.contextmanager
def held(*folders: Path) -> Iterator[None]:
    """Hold folders for one command; Refused names the command that holds one already.

    The lock goes with the process, however that ends. Started programs do not inherit it.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = find_holder(os.fstat(descriptor).st_ino)
                raise Refused([busy_sentence(folder, who)]) from None
        yield


def busy_sentence(folder: Path, pid: int | None) -> str:
    """What to tell the second one."""
    return f"{describe(pid)} is at work on {folder}: wait until it has ended, then try again."


def find_holder(inode: int, locks: str | None = None) -> int | None:
    """The process that the kernel's list of locks names for a file's inode; None if it names none."""
    try:
        listing = LOCKS.read_text() if locks is None else locks
    except OSError:
        return None
    for line in listing.splitlines():
        words = line.split()
        # "2: FLOCK  ADVISORY  WRITE 4711 fe:00:393 0 EOF"; a waiting one has "->" in front.
        if len(words) == 8 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4]) if int(words[4]) > 0 else None
    return None


def describe(pid: int | None) -> str:
    """A process in words: what it runs, its number, whose it is."""
    if pid is None:
        return "Another command"
    process = Path("/proc") / str(pid)
    try:
        words = process.joinpath("cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        user = pwd.getpwuid(process.stat().st_uid).pw_name
    except (OSError, KeyError):
        return f"Another command (process {pid})"
    line = b" ".join(words).decode(errors="replace")
    return f"`{line}` (process {pid} of {user})"
