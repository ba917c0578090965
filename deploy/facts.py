"""What this machine is: looked up, never guessed. Reads; changes and decides nothing."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy import folders
from deploy.settings import Settings

OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
SYSTEM_PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True)
class FolderFacts:
    """What is known about a folder that may not exist yet."""

    path: Path
    free_mb: int
    closed_parent: Path | None  # the first folder on the way that other users can't pass
    loose_parent: Path | None  # the first folder on the way in which anybody may rename things
    noexec: bool  # on a file system that runs no programs
    is_ours: bool  # made by an earlier `make up`
    is_empty: bool  # nothing there, or an empty folder
    device: int  # number of its file system


@dataclass(frozen=True)
class PythonFacts:
    """An interpreter. ``hidden_by`` is the file or folder that keeps other users from running it."""

    path: Path
    version: tuple[int, int] | None  # None: not there
    hidden_by: Path | None


@dataclass(frozen=True)
class Facts:
    """One look at the machine, and at the folders that were asked for."""

    system: str
    machine: str
    os_release: Mapping[str, str]
    has_apt: bool
    is_root: bool
    memory_mb: int
    python: PythonFacts
    state: FolderFacts
    prefix: FolderFacts
    software_installed: bool
    busy: str | None = None  # the sentence about a command at work on these folders


def gather(settings: Settings, busy: str | None) -> Facts:
    """Look at everything that the checks want to know; takes some milliseconds."""
    return Facts(
        system=sys.platform,
        machine=platform.machine(),
        os_release=read_os_release(),
        has_apt=shutil.which("apt-get", path="/usr/bin:/bin") is not None,
        is_root=os.geteuid() == 0,
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        python=look_at_python(SYSTEM_PYTHON),
        state=look_at_folder(settings.state, folders.STATE_MARK),
        prefix=look_at_folder(settings.prefix, folders.PREFIX_MARK),
        software_installed=settings.python.exists(),
        busy=busy,
    )


def read_os_release() -> dict[str, str]:
    """The fields of ``/etc/os-release`` without their quotes; empty where there is no such file."""
    for file in OS_RELEASE:
        if file.is_file():
            return parse_os_release(file.read_text())
    return {}


def parse_os_release(text: str) -> dict[str, str]:
    """``ID=debian`` lines to a dictionary; comments and blank lines are left out."""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            fields[name] = value.strip("\"'")
    return fields


def look_at_folder(path: Path, mark: str) -> FolderFacts:
    """Facts of a folder; for one that does not exist, of the nearest parent that does."""
    there = nearest_existing(path)
    disk = os.statvfs(there)
    return FolderFacts(
        path=path,
        free_mb=disk.f_bavail * disk.f_frsize // 2**20,
        closed_parent=first_where(there, _is_closed),
        loose_parent=first_where(there, _is_loose),
        noexec=bool(disk.f_flag & os.ST_NOEXEC),
        is_ours=folders.is_ours(path, mark),
        is_empty=_is_empty(path),
        device=there.stat().st_dev,
    )


def nearest_existing(path: Path) -> Path:
    """``path`` itself or its nearest parent that exists; ``/`` at the worst."""
    candidates = (path, *path.parents) if path.is_absolute() else (Path("/"),)
    return next((p for p in candidates if os.path.exists(p)), Path("/"))  # Path.exists raises where it may not look


def first_where(path: Path, test: Callable[[int], bool]) -> Path | None:
    """The topmost of a path's folders, itself included, whose mode meets ``test``."""
    for folder in (*reversed(path.parents), path):
        if test(folder.stat().st_mode):
            return folder
    return None


def _is_closed(mode: int) -> bool:
    return stat.S_ISDIR(mode) and not mode & stat.S_IXOTH


def _is_loose(mode: int) -> bool:
    return stat.S_ISDIR(mode) and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _is_empty(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, PermissionError):  # where we may not look, the closed folder is the problem
        return True
    except NotADirectoryError:
        return False


def look_at_python(path: Path) -> PythonFacts:
    """Version of an interpreter and whether every user of the machine can run it."""
    if not path.exists():
        return PythonFacts(path, None, None)
    real = path.resolve()
    ask = [str(path), "-I", "-c", "import sys; print(*sys.version_info[:2])"]
    answer = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=False)
    major, _, minor = answer.stdout.strip().partition(" ")
    version = (int(major), int(minor)) if answer.returncode == 0 else None
    hidden = first_where(path.parent, _is_closed) or first_where(real.parent, _is_closed)
    if hidden is None and not real.stat().st_mode & stat.S_IXOTH:
        hidden = real
    return PythonFacts(path, version, hidden)
