"""The files of a set as they lie there: which ones a part of its card means, and whether they are what the card says."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from studiolo.errors import CardError, Fault, shown
from studiolo.holdings.card import CARD, LARGEST, MODEL_CARD, PROGRAMS, Card, Part

__all__ = ["checked", "faults_of", "hash_of", "hash_of_many", "part_files", "read_text", "walk"]

_CHUNK = 1 << 20
_seen: dict[tuple[str, int, int, int], str] = {}
"""Hashes that this process has made already, by path, inode, size and time of change."""


def read_text(path: Path, limit: int = LARGEST) -> str:
    """The text of a plain file of at most ``limit`` bytes. Raises ``OSError``, or ``ValueError`` for what is none."""
    # A pipe in the place of a card would keep its reader for ever; a link could lead anywhere.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a plain file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    return data.decode("utf-8")


def walk(folder: Path) -> Iterator[str]:
    """The paths of all plain files and links below a folder, relative to it, sorted; hidden ones are left out.

    Links to folders are not followed. Raises ``OSError`` where a folder can not be read: half a listing is none.
    """

    def stop(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in sorted([*names, *linked]):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(where, name), folder)


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern of a card means this path: ``*`` and ``?`` within a folder's name, ``**/`` for folders below, or none."""
    # Folder by folder, by fnmatch, which never tries a name's letters in all combinations: patterns come from anybody.
    wanted, parts = pattern.split("/"), path.split("/")
    if "**" not in wanted:
        return len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted))
    at = wanted.index("**")
    before, after = wanted[:at], wanted[at + 1 :]
    rest = parts[len(before) :]
    if len(rest) < max(len(after), 1):
        return False
    return all(map(fnmatchcase, parts, before)) and all(map(fnmatchcase, rest[len(rest) - len(after) :], after))


def part_files(card: Card, part: Part) -> list[Path]:
    """The files of a part, all of them plain and within the set's folder. Raises ``CardError`` where one is not."""
    if part.many:
        files = [name for name in _walked(card) if name not in (CARD, MODEL_CARD)]
        names = [name for name in files if any(matches(pattern, name) for pattern in part.patterns)]
        if not names:
            raise _refused(card, part, shown(", ".join(part.patterns)), "some file: none is there")
    else:
        names = [part.patterns[0]]
    return [_inside(card, part, name) for name in names]


def _walked(card: Card) -> list[str]:
    try:
        return list(walk(card.folder))
    except OSError as error:
        raise CardError(
            [Fault("the folder", str(error.filename), f"a folder to read ({error.strerror})")], _source(card)
        ) from error


def _inside(card: Card, part: Part, name: str) -> Path:
    if name.lower().endswith(PROGRAMS):
        raise _refused(card, part, shown(name), "no pickles: reading one runs whatever its writer wants")
    base = os.path.realpath(card.folder)
    found = os.path.realpath(os.path.join(base, name))
    if not found.startswith(base + os.sep):
        raise _refused(card, part, shown(name), "a file in the set's own folder: this one leads out of it")
    try:
        mode = os.stat(found).st_mode
    except OSError as error:
        raise _refused(card, part, shown(name), f"a file to read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise _refused(card, part, shown(name), "a plain file")
    return Path(found)


def _refused(card: Card, part: Part, value: str, allowed: str) -> CardError:
    return CardError([Fault(f"part {shown(part.name)}", value, allowed)], _source(card))


def _source(card: Card) -> str:
    return f"{card.folder}/{CARD}"


def hash_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        state = os.fstat(file.fileno())
        key = (str(path), state.st_ino, state.st_size, state.st_mtime_ns)
        if key not in _seen:
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            _seen[key] = digest.hexdigest()
        return _seen[key]


def hash_of_many(hashes: Sequence[tuple[str, str]]) -> str:
    """The hash of many files, given as name and hash: that of what ``sha256sum`` prints of them, sorted by name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def faults_of(card: Card, part: Part, *, deep: bool) -> Iterator[Fault]:
    """What of a part is not as its card says: files, sizes, and where ``deep`` also hashes."""
    try:
        files = part_files(card, part)
        size = sum(os.stat(path).st_size for path in files)
    except CardError as error:
        yield from error.faults
        return
    except OSError as error:
        yield Fault(f"part {shown(part.name)}", shown(error.filename), f"a file to read ({error.strerror})")
        return
    where = f"part {shown(part.name)}"
    if part.many and len(files) != part.files:
        yield Fault(where, f"{part.files} files", f"the number of files that are there, {len(files)}")
    if size != part.size:
        yield Fault(where, f"{part.size} bytes", f"the size of what is there, {size} bytes")
    elif deep:
        try:
            found = _hash(card, part, files)
        except OSError as error:
            yield Fault(where, shown(error.filename), f"a file to read ({error.strerror})")
            return
        if found != part.sha256:
            yield Fault(where, f"sha256 {part.sha256}", f"that of what is there, {found}")


def _hash(card: Card, part: Part, files: Sequence[Path]) -> str:
    if not part.many:
        return hash_of(files[0])
    base = os.path.realpath(card.folder)
    return hash_of_many([(os.path.relpath(path, base), hash_of(path)) for path in files])


def checked(card: Card, part: Part, *, deep: bool) -> list[Path]:
    """The files of a part, after a look at whether they are those of the card. Raises ``CardError`` where they are not."""
    faults = list(faults_of(card, part, deep=deep))
    if faults:
        raise CardError(faults, _source(card))
    return part_files(card, part)
