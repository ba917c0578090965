"""Adding to the catalogue and removing from it: whole or not at all, and for no other eyes than those that were meant.

What is added is copied into a hidden folder beside its place, which nobody but its owner can enter, and gets its permissions
there; one rename shows it. So a full quota, an interruption or a second person with the same name leaves nothing half-done.
"""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from studiolo.errors import Fault, NotKept, shown
from studiolo.holdings.card import (
    CARD,
    MODEL_CARD,
    PROGRAMS,
    Card,
    Part,
    Place,
    as_json,
    format_of,
    parse_card,
    relative,
)
from studiolo.holdings.files import hash_of_many, walk
from studiolo.holdings.show import bytes_words
from studiolo.modelcache import folder_name

__all__ = ["ADDING", "REMOVING", "add_model", "add_set", "is_pickle", "remove", "target_place"]

ADDING = ".adding-"
"""How the hidden folders begin in which something is being added."""
REMOVING = ".removing-"
"""The same of what is being removed."""

_CHUNK = 1 << 20
_MOST_PARTS = 200
_SUFFIX = re.compile(r"\.[A-Za-z0-9_-]+", re.ASCII)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Copied:
    """A file that has been copied: its path in the set, size in bytes and SHA-256."""

    path: str
    size: int
    sha256: str


def target_place(name: str, group: str | None, places: Sequence[Place], groups: Sequence[str], ready: str) -> Place:
    """Where something for ``group`` (``None``: for oneself) belongs. Raises ``NotKept`` with whose move it is.

    ``ready`` tells an operator how to make a group's place, with ``{group}`` in it; empty where groups keep nothing.
    """
    if group is None:
        return next(place for place in places if place.of == "me")
    if group in ("site", "me") or group not in groups:
        raise NotKept(
            [Fault("group", shown(group), f"one of your groups: {', '.join(groups)}")], f"{name} was not added"
        )
    place = next((place for place in places if place.of == group), None)
    if place is None or not os.path.isdir(place.folder):
        how = ready.replace("{group}", group) if ready else "this site keeps nothing for groups"
        raise NotKept(
            [Fault("group", shown(group), f"a group with a place of its own; operators: {how}")],
            f"{name} was not added",
        )
    return place


def add_set(source: Path, card: Card, place: Place, *, over: bool = False) -> Card:
    """Copy a file or folder into ``place`` as the data set of ``card`` (whose parts are made here), and return its card.

    For the ``site``'s own place (an operator's program) it is made readable for everybody. ``over`` lets it take the place
    of one that is there, at once and whole.
    """

    def fill(folder: Path) -> Card:
        copied = _copy(source, folder, card.name)
        parts = _parts(copied)
        return replace(card, parts=parts, size=sum(part.size for part in parts), folder=place.folder / card.name)

    return _add(card, place, card.name, CARD, fill, over=over)


def add_model(source: Path, card: Card, place: Place) -> Card:
    """Copy a folder with a model's files into ``place``, in Hugging Face's layout, and return its card."""
    name = folder_name(card.name)

    def fill(folder: Path) -> Card:
        beside = folder / "snapshots" / "new"
        os.makedirs(beside)
        copied = _copy(source, beside, card.name)
        whole = hash_of_many([(one.path, one.sha256) for one in copied])
        revision = whole[:40]
        os.rename(beside, folder / "snapshots" / revision)
        os.mkdir(folder / "refs")
        (folder / "refs" / "main").write_text(revision, encoding="ascii")
        parts = _parts([replace(one, path=f"snapshots/{revision}/{one.path}") for one in copied])
        size = sum(part.size for part in parts)
        return replace(card, parts=parts, size=size, version=revision, folder=place.folder / name)

    return _add(card, place, name, MODEL_CARD, fill)


def _add(
    card: Card, place: Place, name: str, card_file: str, fill: Callable[[Path], Card], *, over: bool = False
) -> Card:
    source = f"{card.name} was not added"
    final = place.folder / name
    try:
        if place.of == "me":
            os.makedirs(place.folder, mode=0o700, exist_ok=True)
        if os.path.lexists(final) and not over:
            raise NotKept(
                [Fault("name", shown(card.name), f"a new name: {final} is there already; remove it first")], source
            )
        beside = Path(tempfile.mkdtemp(prefix=f"{ADDING}{name}-", dir=place.folder))
    except OSError as error:
        raise _not_kept(error, place.folder, source) from error
    try:
        made = fill(beside)
        text = as_json(made)
        parse_card(text, place, final, made.kind)  # nobody is to find a card that can not be read
        _write(beside / card_file, text)
        _permit(beside, place)
        old = _aside(final) if over and os.path.lexists(final) else None
        # Takes the place of an empty folder at most: whoever was first with this name keeps it.
        os.rename(beside, final)
    except OSError as error:
        _discard(beside)
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            taken = f"a new name: somebody else has just added {final}"
            raise NotKept([Fault("name", shown(card.name), taken)], source) from error
        raise _not_kept(error, place.folder, source) from error
    except BaseException:
        _discard(beside)
        raise
    if old is not None:
        _discard(old)
    return made


def _aside(folder: Path) -> Path:
    """Take a set's folder from everybody's eyes, at once."""
    beside = folder.with_name(f"{REMOVING}{folder.name}-{os.getpid()}")
    os.rename(folder, beside)
    return beside


def _not_kept(error: OSError, folder: Path, source: str) -> NotKept:
    if error.errno in _FULL:
        return NotKept([Fault("the folder", str(folder), f"{_room(folder)}: make room there, or ask for more")], source)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotKept(
            [Fault("the folder", str(error.filename or folder), "one that you may use; ask its owner")], source
        )
    return NotKept([Fault("the folder", str(error.filename or folder), error.strerror or str(error))], source)


def _room(folder: Path) -> str:
    try:
        state = os.statvfs(folder)
    except OSError:
        return "some room: it is full"
    left = state.f_bavail * state.f_frsize
    # A quota leaves the file system room that is not this person's.
    return f"some room: the disk or a quota is full ({bytes_words(left)} free on the disk)"


def _discard(folder: Path) -> None:
    """Remove what was begun; what can not be removed stays hidden, and ``studiolo catalogue check`` names it."""
    shutil.rmtree(folder, ignore_errors=True)


# --- Copying ---------------------------------------------------------------------------------------------------------


def _sources(source: Path, name: str) -> list[str]:
    """The files to copy, relative to the source. Raises ``NotKept`` with all that can not be taken."""
    if source.is_file():
        names = [source.name]
    elif source.is_dir():
        names = list(walk(source))
    else:
        raise NotKept([Fault("source", shown(str(source)), "a file or folder that is there")], f"{name} was not added")
    base = source if source.is_dir() else source.parent
    faults = [fault for one in names for fault in _file_faults(base, one)]
    if not names:
        faults = [Fault("source", shown(str(source)), "a folder with at least one file (hidden ones do not count)")]
    if faults:
        more = [Fault("and", "", f"{len(faults) - 20} more")] if len(faults) > 20 else []
        raise NotKept([*faults[:20], *more], f"{name} was not added")
    return names


def _file_faults(base: Path, name: str) -> Iterator[Fault]:
    mode = os.lstat(base / name).st_mode
    inside = stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and _leads_within(base, name))
    try:
        relative(name)
    except ValueError as error:
        yield Fault("source", shown(name), str(error))
    if name in (CARD, MODEL_CARD):
        yield Fault("source", shown(name), "no card: it is written for you")
    elif name.lower().endswith(PROGRAMS) or (inside and is_pickle(base / name)):
        yield Fault(
            "source", shown(name), "no pickles: reading one runs whatever its writer wants (Parquet, npz, safetensors)"
        )
    if not inside:
        yield Fault("source", shown(name), "a plain file, or a link to one in the same folder")


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle by its name or, for weights (``.bin``), is one or the archive around one that torch writes.

    Raises ``OSError`` where such a file can not be read.
    """
    if path.name.lower().endswith(PROGRAMS):
        return True
    if path.suffix.lower() != ".bin" or not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(4)
    return head == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 1)


def _leads_within(base: Path, name: str) -> bool:
    found = os.path.realpath(base / name)
    # The snapshots of a downloaded model are links to blobs two folders above.
    top = os.path.realpath(base)
    blobs = os.path.realpath(base / ".." / ".." / "blobs")
    return os.path.isfile(found) and found.startswith((top + os.sep, blobs + os.sep))


def _copy(source: Path, folder: Path, name: str) -> list[Copied]:
    base = source if source.is_dir() else source.parent
    copied = []
    for path in _sources(source, name):
        os.makedirs((folder / path).parent, exist_ok=True)
        copied.append(_copy_file(base / path, folder / path, path))
    return copied


def _copy_file(source: Path, target: Path, path: str) -> Copied:
    digest, size = hashlib.sha256(), 0
    with open(source, "rb") as reading, open(target, "xb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            writing.write(chunk)
            size += len(chunk)
        writing.flush()
        os.fsync(writing.fileno())  # a full quota on a network file system shows here, or never
    return Copied(path, size, digest.hexdigest())


def _write(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _parts(copied: Sequence[Copied]) -> tuple[Part, ...]:
    """A part for each file; for pictures, and for a format with very many files, one for all of them."""
    by_format: dict[str, list[Copied]] = {}
    for one in copied:
        by_format.setdefault(format_of(one.path), []).append(one)
    parts: list[Part] = []
    for word, files in by_format.items():
        if (word == "image" and len(files) > 1) or len(files) > _MOST_PARTS:
            suffixes = sorted({os.path.splitext(one.path)[1] for one in files})
            # Patterns, so that one with other letters or none takes files of no other format: each suffix by itself.
            plain = all(_SUFFIX.fullmatch(suffix) for suffix in suffixes) and len(suffixes) <= 20
            patterns = tuple(f"**/*{suffix}" for suffix in suffixes) if plain else ("**/*",)
            chosen = files if patterns != ("**/*",) else list(copied)
            parts.append(_many(f"{word}s" if word == "image" else word, word, patterns, chosen))
        else:
            parts += [Part(one.path, word, (one.path,), one.size, one.sha256, 1, False) for one in files]
    return tuple(parts)


def _many(name: str, word: str, patterns: tuple[str, ...], files: Sequence[Copied]) -> Part:
    whole = hash_of_many([(one.path, one.sha256) for one in files])
    return Part(name, word, patterns, sum(one.size for one in files), whole, len(files), True)


def _permit(folder: Path, place: Place) -> None:
    """Files for those whom their place is for, the outermost folder last."""
    folders, files = {"site": (0o755, 0o644), "me": (0o700, 0o600)}.get(place.of, (0o2750, 0o640))
    group = None if place.of in ("site", "me") else grp.getgrnam(place.of).gr_gid
    for where, _names, names in os.walk(folder, topdown=False):
        for name in names:
            _own(os.path.join(where, name), group, files)
        _own(where, group, folders)


def _own(path: str, group: int | None, mode: int) -> None:
    if group is not None:
        os.chown(path, -1, group)
    os.chmod(path, mode)


# --- Removing --------------------------------------------------------------------------------------------------------


def remove(card: Card) -> None:
    """Remove what its owner has added. Raises ``NotKept`` where it is the site's or somebody else's."""
    source = f"{card.full_name} was not removed"
    if card.place.of == "site":
        raise NotKept([Fault("name", shown(card.name), "one that people have added: this is the site's own")], source)
    try:
        if os.lstat(card.folder).st_uid != os.geteuid():
            raise NotKept([Fault("name", shown(card.name), "one of your own: ask its owner to remove it")], source)
        shutil.rmtree(_aside(card.folder))  # gone for everybody at once, however long the rest takes
    except OSError as error:
        raise _not_kept(error, card.folder, source) from error
