"""Which folders are ours: what marks them, and which instances run from a prefix.

A state folder is ours once the cluster has written its ``instance.json`` there. A prefix carries a
mark that lists the state folders of the instances that run from it.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path

from deploy.errors import Refused

STATE_MARK = "instance.json"
PREFIX_MARK = ".studiolo"


def is_ours(path: Path, mark: str) -> bool:
    """Whether an earlier `make up` made this folder."""
    try:
        return (path / mark).is_file()
    except (PermissionError, NotADirectoryError):
        return False


def never_started(state: Path) -> bool:
    """Whether an instance has neither processes nor accounts yet: removing its folder is all there is to do."""
    try:
        accounts = json.loads((state / STATE_MARK).read_text())["accounts"]
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return not (state / "supervisor").exists() and not any(_account_exists(name) for name in accounts)


def _account_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def claim_prefix(prefix: Path, state: Path) -> None:
    """Create the prefix, open to every user, and put an instance on its list."""
    prefix.mkdir(mode=0o755, parents=True, exist_ok=True)
    users = prefix_users(prefix)
    if str(state) not in users:
        _write(prefix / PREFIX_MARK, (*users, str(state)))


def prefix_users(prefix: Path) -> tuple[str, ...]:
    """State folders of the instances that were ever installed with this prefix."""
    try:
        listing = json.loads((prefix / PREFIX_MARK).read_text())
    except (FileNotFoundError, ValueError):
        return ()
    return tuple(str(user) for user in listing["used_by"])


def other_users(prefix: Path, state: Path) -> tuple[str, ...]:
    """Other instances that still exist and run from this prefix."""
    return tuple(user for user in prefix_users(prefix) if user != str(state) and is_ours(Path(user), STATE_MARK))


def forget_user(prefix: Path, state: Path) -> None:
    """Take an instance off a prefix's list."""
    if is_ours(prefix, PREFIX_MARK):
        users = prefix_users(prefix)
        _write(prefix / PREFIX_MARK, tuple(user for user in users if user != str(state)))


def refuse_foreign(path: Path, mark: str) -> None:
    """Refuse to remove what `make up` did not make. A missing or an empty folder is fine."""
    if not path.exists() or is_ours(path, mark):
        return
    if path.is_symlink() or not path.is_dir() or any(path.iterdir()):
        raise Refused([f"{path} was not made by `make up` (it has no {mark}), so it stays."])


def remove(path: Path, mark: str) -> bool:
    """Remove one of our folders, its mark last, so that an interrupted removal can be taken up again."""
    if not path.exists():
        return False
    with os.scandir(path) as found:
        entries = [entry for entry in found if entry.name != mark]
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    (path / mark).unlink(missing_ok=True)
    path.rmdir()
    return True


def _write(mark: Path, users: tuple[str, ...]) -> None:
    text = json.dumps({"made_by": "studiolo make up", "used_by": list(users)}, indent=2) + "\n"
    temporary = mark.with_name(f"{mark.name}.new")
    temporary.write_text(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, mark)
