"""Hugging Face's cache as it lies on disk: ``models--ORG--NAME/refs/main`` names the folder below ``snapshots`` to take.

Only the standard library: a session's start uses it.
"""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "OVERLAY",
    "fill",
    "folder_name",
    "is_model_folder",
    "is_name",
    "model_name",
    "my_groups",
    "own_cache",
    "snapshot",
    "sources",
]

OVERLAY = ".cache/studiolo/models"
"""Below a person's home: the cache that libraries look into, with links to all models that are at hand."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)


def is_name(name: str) -> bool:
    """Whether a model can be called so: ``NAME`` or ``ORG/NAME``, as Hugging Face has it."""
    return len(name) <= 96 and _NAME.fullmatch(name) is not None and "--" not in name and ".." not in name


def folder_name(name: str) -> str:
    """The folder of a model in a cache."""
    return f"models--{name.replace('/', '--')}"


def model_name(folder: str) -> str:
    """The model of a folder in a cache."""
    return folder.removeprefix("models--").replace("--", "/")


def is_model_folder(name: str) -> bool:
    """Whether a folder's name is that of a model."""
    return name.startswith("models--") and is_name(model_name(name))


def snapshot(folder: Path) -> Path:
    """The folder with the files of a model's main revision. Raises ``OSError`` or ``ValueError`` where there is none."""
    with open(folder / "refs" / "main", "rb") as file:
        revision = file.read(200).decode("ascii").strip()
    if not _REVISION.fullmatch(revision):
        raise ValueError("refs/main does not name a folder of snapshots")
    found = folder / "snapshots" / revision
    os.stat(found / ".")
    return found


def own_cache(environ: Mapping[str, str]) -> Path:
    """Where Hugging Face's libraries keep what a person has downloaded, were they not told another place."""
    home = environ.get("HOME") or os.path.expanduser("~")
    caches = environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
    return Path(os.path.expanduser(environ.get("HF_HOME") or f"{caches}/huggingface")) / "hub"


def my_groups() -> list[str]:
    """The names of the unix groups that this process belongs to."""
    names = []
    for number in dict.fromkeys([os.getegid(), *os.getgroups()]):
        try:
            name = grp.getgrgid(number).gr_name
        except KeyError:  # a number without a name: no folder can be called so
            continue
        if "/" not in name:
            names.append(name)
    return sorted(names)


def sources(folders: Sequence[str], environ: Mapping[str, str]) -> list[Path]:
    """Where to look for models, in this order: ``folders``, ``{group}`` standing for each of one's groups, then one's own."""
    found = []
    for folder in folders:
        names = my_groups() if "{group}" in folder else [""]
        found += [Path(folder.replace("{group}", name)) for name in names]
    return [*found, own_cache(environ)]


def fill(overlay: Path, sources: Sequence[Path]) -> int:
    """Make ``overlay`` lead to every model of ``sources``; the first of them that has one wins. Returns how many there are.

    Links whose model is gone are removed, unless a source could not be read: then nobody knows. What is no link (a download)
    stays. Safe beside another session that does the same. Raises ``OSError`` where the overlay can not be written.
    """
    wanted: dict[str, str] = {}
    sure = True
    for source in sources:
        try:
            names = sorted(os.listdir(source))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # no such place, or another group's
        except OSError:
            sure = False
            continue
        for name in names:
            if is_model_folder(name) and name not in wanted and os.path.isdir(source / name / "snapshots"):
                wanted[name] = str(source / name)
    os.makedirs(overlay, mode=0o700, exist_ok=True)
    for name in os.listdir(overlay):
        path = overlay / name
        if not path.is_symlink():
            wanted.pop(name, None)
        elif name in wanted and os.readlink(path) == wanted[name]:
            del wanted[name]
        elif name not in wanted and sure:
            path.unlink(missing_ok=True)
    for name, target in wanted.items():
        _link(target, overlay / name)
    return sum(1 for name in os.listdir(overlay) if is_model_folder(name))


def _link(target: str, path: Path) -> None:
    # By way of another name: between unlink and symlink, a library in another session would miss it.
    beside = path.with_name(f".{path.name}-{os.uname().nodename}-{os.getpid()}")
    beside.unlink(missing_ok=True)
    os.symlink(target, beside)
    try:
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
