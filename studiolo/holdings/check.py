"""For operators: everything that is wrong with a folder of data sets or models, at once."""

from __future__ import annotations

import grp
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from studiolo.errors import CardError, Fault, shown
from studiolo.holdings.card import CARD, MODEL_CARD, Card, Place
from studiolo.holdings.files import faults_of
from studiolo.holdings.keep import ADDING, REMOVING
from studiolo.holdings.models_card import read_model
from studiolo.holdings.places import read_set
from studiolo.modelcache import is_model_folder

__all__ = ["examine"]

_DAY = 86400


def examine(folder: Path, *, deep: bool = True) -> Iterator[tuple[Path, list[Fault]]]:
    """Each data set or model of a folder (or the folder itself, where it is one) with its faults; good ones with none.

    ``deep`` reads all files once, to compare their hashes, and looks at the permissions of each; otherwise files are
    looked for and their sizes compared, and what has no card is passed over. Raises ``OSError`` where the folder can not
    be read.
    """
    if (folder / CARD).exists() or is_model_folder(folder.name):
        yield folder, list(_faults(folder, deep))
        return
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.startswith((ADDING, REMOVING)):
            if time.time() - os.lstat(path).st_mtime > _DAY:
                yield (
                    path,
                    [Fault("the folder", "", "nothing: left by an addition or removal that was cut off; remove it")],
                )
        elif _is_meant(path) and (deep or os.path.lexists(path / CARD) or is_model_folder(name)):
            yield path, list(_faults(path, deep))


def _is_meant(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.is_symlink())


def _faults(folder: Path, deep: bool) -> Iterator[Fault]:
    place = Place("site", folder.parent)
    try:
        card = read_model(place, folder) if is_model_folder(folder.name) else read_set(place, folder)
    except CardError as error:
        file = Path(error.source).name
        for fault in error.faults:
            yield replace(fault, where=f"{file}: {fault.where}") if file in (CARD, MODEL_CARD) else fault
        return
    except PermissionError as error:
        yield Fault("the folder", str(error.filename), "readable for whoever checks it")
        return
    if card is None:
        missing = "refs/main, and what it names below snapshots" if is_model_folder(folder.name) else CARD
        yield Fault("the folder", "", f"a folder with {missing}")
        return
    if card.kind == "model" and (begun := _unfinished(folder)):
        yield Fault(shown(begun), "", "a whole file: its download was cut off or goes on; run it again")
    for part in card.parts:
        yield from faults_of(card, part, deep=deep)
    yield from _group_faults(card)
    if deep:
        yield from _file_faults(card)


def _unfinished(folder: Path) -> str:
    """What Hugging Face's library has begun to download and not finished, if anything."""
    blobs = folder / "blobs"
    names = sorted(os.listdir(blobs)) if blobs.is_dir() else []
    return next((f"blobs/{name}" for name in names if name.endswith(".incomplete")), "")


def _group_faults(card: Card) -> Iterator[Fault]:
    """The card says who may see a set; its folder's permissions have to hold it."""
    for name in card.groups:
        try:
            grp.getgrnam(name)
        except KeyError:
            yield Fault("studiolo:groups", shown(name), "a unix group that this host knows")
    state = os.stat(card.folder)
    mode = stat.S_IMODE(state.st_mode)
    if card.groups:
        if mode & stat.S_IRWXO:
            yield Fault(
                "the folder", f"mode {mode:o}", f"closed to others: the card is for {', '.join(card.groups)} (chmod o=)"
            )
        if _group(state.st_gid) not in card.groups:
            yield Fault("the folder", f"group {_group(state.st_gid)}", f"group {' or '.join(card.groups)} (chgrp -R)")


def _file_faults(card: Card) -> Iterator[Fault]:
    """All of a set's files can be read by those whom its card names, and are not for everybody to write."""
    unreadable = stat.S_IRGRP if card.groups else stat.S_IROTH
    enterable = stat.S_IXGRP if card.groups else stat.S_IXOTH
    for where, folders, names in os.walk(card.folder):
        for path in (os.path.join(where, name) for name in (*folders, *names, ".")):
            found = os.stat(path).st_mode if os.path.exists(path) else 0
            needed = unreadable | (enterable if stat.S_ISDIR(found) else 0)
            shown_path = shown(os.path.relpath(path, card.folder))
            if found and found & needed != needed:
                yield Fault(shown_path, f"mode {stat.S_IMODE(found):o}", "readable for those whom the card names")
            if found & stat.S_IWOTH:
                yield Fault(shown_path, f"mode {stat.S_IMODE(found):o}", "not to be written by everybody")


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
