"""Files that are either the old or the new, never half of it, and private from their first byte."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurmbox.errors import BoxError


def write_atomic(path: Path, content: str | bytes, *, mode: int, uid: int = 0, gid: int = 0) -> bool:
    """Give ``path`` this content, owner and mode; returns whether the content has changed.

    The new file gets its mode when it is created, so a secret is never readable to others, not
    even for a moment, and takes the old one's place in one step.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.is_symlink():
        raise BoxError(f"{path} is a symbolic link, where a plain file of ours is expected. Remove it.")
    try:
        changed = path.read_bytes() != data
    except FileNotFoundError:
        changed = True
    if not changed:
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return False
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def ensure_folder(path: Path, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Path:
    """Create a folder if it is missing and give it exactly this owner and mode."""
    if path.is_symlink():
        raise BoxError(f"{path} is a symbolic link, where a folder of ours is expected. Remove it.")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not path.is_dir():
            raise BoxError(f"{path} exists and is no folder. Move it away.") from None
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return path


def ensure_secret(path: Path, *, size: int, mode: int, uid: int, gid: int) -> None:
    """Create a file of ``size`` random bytes unless it exists; an existing one keeps its content."""
    if path.is_symlink() or not path.exists() or path.stat().st_size < size:
        write_atomic(path, secrets.token_bytes(size), mode=mode, uid=uid, gid=gid)
    else:
        os.chown(path, uid, gid)
        os.chmod(path, mode)


def copy_tree_contents(source: Path, target: Path, *, uid: int, gid: int) -> None:
    """Copy the plain files of a flat folder such as ``/etc/skel`` that ``target`` lacks."""
    if not source.is_dir():
        return
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if entry.is_file() and not entry.is_symlink() and not there.exists():
            shutil.copyfile(entry, there, follow_symlinks=False)
            os.chmod(there, 0o644)
            os.chown(there, uid, gid, follow_symlinks=False)


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the instance's lock, so that two commands on one instance take turns."""
    descriptor = os.open(state / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log, for an error message; an empty string if there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 16_384))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-count:])
