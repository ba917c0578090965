"""For operators: everything that is wrong with a folder of data sets or models, at once."""

from __future__ import annotations

import grp
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from studiolo.errors import CardError, Fault, shown
from studiolo.holdings.card import CARD, Card, Place
from studiolo.holdings.files import faults_of
from studiolo.holdings.keep import ADDING, REMOVING
from studiolo.holdings.models_card import read_model
from studiolo.holdings.places import read_set
from studiolo.modelcache import is_model_folder

__all__ = ["examine"]

_DAY = 86400


def examine(folder: Path) -> Iterator[tuple[Path, list[Fault]]]:
    """Each data set or model of a folder (or the folder itself, where it is one) with its faults; good ones with none.

    Reads all files once, to compare their hashes. Raises ``OSError`` where the folder can not be read.
    """
    if (folder / CARD).exists() or is_model_folder(folder.name):
        yield folder, list(_faults(folder))
        return
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.startswith((ADDING, REMOVING)):
            if time.time() - os.lstat(path).st_mtime > _DAY:
                yield (
                    path,
                    [Fault("the folder", "", "nothing: left by an addition or removal that was cut off; remove it")],
                )
        elif not name.startswith(".") and (path.is_dir() or path.is_symlink()):
            yield path, list(_faults(path))


def _faults(folder: Path) -> Iterator[Fault]:
    place = Place("site", folder.parent)
    try:
        card = read_model(place, folder) if is_model_folder(folder.name) else read_set(place, folder)
    except CardError as error:
        yield from error.faults
        return
    except PermissionError as error:
        yield Fault("the folder", str(error.filename), "readable for whoever checks it")
        return
    if card is None:
        missing = "refs/main, and what it names below snapshots" if is_model_folder(folder.name) else CARD
        yield Fault("the folder", "", f"a folder with {missing}")
        return
    for part in card.parts:
        yield from faults_of(card, part, deep=True)
    yield from _permission_faults(card)


def _permission_faults(card: Card) -> Iterator[Fault]:
    """The card says who may see a set; files' permissions have to hold it."""
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
