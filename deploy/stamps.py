"""What was installed last, so that it is not done again. A stamp is written last, after all it vouches for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = ".stamps"


def digest(words: Iterable[str] = (), files: Iterable[Path] = ()) -> str:
    """A hash of some words and of the content of some files, in their order."""
    whole = hashlib.sha256()
    for word in words:
        whole.update(f"word {len(word)} {word}".encode())
    for file in files:
        content = file.read_bytes()
        whole.update(f"file {file.name} {len(content)} ".encode())
        whole.update(content)
    return whole.hexdigest()


def tree_digest(folders: Iterable[Path]) -> str:
    """A hash of all files below some folders, by their names and content; bytecode is left out."""
    whole = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                name = f"{folder.name}/{file.relative_to(folder)}"
                whole.update(f"{name} {digest(files=[file])}\n".encode())
    return whole.hexdigest()


def read(root: Path, name: str) -> str:
    """The stamp of this name; an empty string if there is none."""
    try:
        return (root / FOLDER / name).read_text()
    except FileNotFoundError:
        return ""


def matches(root: Path, name: str, value: str) -> bool:
    """Whether the stamp of this name says this value."""
    return read(root, name) == value


def write(root: Path, name: str, value: str) -> None:
    """Write a stamp in one step."""
    folder = root / FOLDER
    folder.mkdir(mode=0o755, exist_ok=True)
    temporary = folder / f".{name}.new"
    temporary.write_text(value)
    os.replace(temporary, folder / name)


def drop(root: Path, name: str) -> None:
    """Take a stamp away before changing what it vouches for."""
    (root / FOLDER / name).unlink(missing_ok=True)
