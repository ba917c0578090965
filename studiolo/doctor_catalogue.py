"""What the doctor finds in the catalogue: folders that people can not read or should not change, sets that can not be used."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from studiolo.errors import printable, shown
from studiolo.finding import Finding, fault, good, warning
from studiolo.holdings.card import CARD
from studiolo.holdings.check import examine
from studiolo.holdings.places import DATA, MODELS, Kind
from studiolo.modelcache import is_model_folder
from studiolo.site import Site

__all__ = ["catalogue_findings"]

_NAMED = 10
"""How many sets with faults are told one by one; the command ``studiolo catalogue check`` tells all."""


@dataclass(frozen=True)
class _Person:
    name: str
    uid: int
    groups: frozenset[int]

    def may(self, state: os.stat_result, bits: int) -> bool:
        """Whether the mode gives this person ``bits`` (of ``rwx``); access lists are not looked at."""
        shift = 6 if self.uid == state.st_uid else 3 if state.st_gid in self.groups else 0
        return (state.st_mode >> shift) & bits == bits


# Who is in no group and owns nothing: what such a one may, all may.
_ANYBODY = _Person("other users", -1, frozenset())


def catalogue_findings(site: Site, people: Sequence[pwd.struct_passwd]) -> Iterator[Finding]:
    """Look at all folders of the catalogue: files are looked for, not read."""
    those = [
        _Person(one.pw_name, one.pw_uid, frozenset(os.getgrouplist(one.pw_name, one.pw_gid))) for one in people
    ] or [_ANYBODY]
    for key, kind, folders in (("data", DATA, site.catalogue.data), ("models", MODELS, site.catalogue.models)):
        for folder in folders:
            yield from _folder_findings(f"catalogue.{key}: {folder}", Path(folder), kind, those)
    if site.catalogue.groups:
        yield from _groups_findings(site.catalogue.groups, {one.pw_name for one in people})


def _folder_findings(key: str, folder: Path, kind: Kind, people: Sequence[_Person]) -> Iterator[Finding]:
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        yield warning(f"{key} does not exist", f"install -d -m 755 {folder}, or take it out where you keep none there")
        return
    except NotADirectoryError:
        yield fault(f"{key} is not a folder", "name the folder that the sets lie in")
        return
    except PermissionError:
        yield warning(f"{key} can not be read by this account", "run the doctor as root")
        return
    except OSError as error:
        yield fault(f"{key} can not be read ({error.strerror})", "is its file system mounted, and does it answer?")
        return
    yield from _access_findings(key, folder, people)
    yield from _content_findings(key, folder, kind, names, people)


def _access_findings(key: str, folder: Path, people: Sequence[_Person]) -> Iterator[Finding]:
    real = folder.resolve()
    for place in (real, *real.parents):
        state = os.stat(place)
        bits = 5 if place == real else 1
        barred = [one.name for one in people if not one.may(state, bits)]
        if barred:
            yield fault(f"{key} can not be read by {_some(barred)}: {place} is closed to them", f"chmod a+rX {place}")
        # In a sticky folder nobody removes or renames what is another's.
        if place == real or not state.st_mode & stat.S_ISVTX:
            yield from _change_findings(key, place, state, people)


def _change_findings(key: str, place: Path, state: os.stat_result, people: Sequence[_Person]) -> Iterator[Finding]:
    """Whether a folder can be changed by those who are to read it alone."""
    if _ANYBODY.may(state, 2):
        yield fault(f"{key} can be changed by everybody: {place} has mode {_mode(state)}", f"chmod o-w {place}")
    elif able := [one.name for one in people if one.may(state, 2)]:
        yield warning(
            f"{key} can be changed by {_some(able)}, who have sessions too: {place} has mode {_mode(state)}",
            f"fine where they keep it; else chown -R root {place}; chmod -R g-w {place}",
        )


def _content_findings(
    key: str, folder: Path, kind: Kind, names: Sequence[str], people: Sequence[_Person]
) -> Iterator[Finding]:
    models = [name for name in names if is_model_folder(name)]
    if kind is DATA and models:
        yield fault(f"{key} holds models ({models[0]})", "move them to a folder of catalogue.models")
    if kind is MODELS and names and not models:
        yield _no_cache(key, folder, names)
        return
    found = [
        (path, faults) for path, faults in examine(folder, deep=False) if is_model_folder(path.name) == (kind is MODELS)
    ]
    broken = [(path, faults) for path, faults in found if faults]
    for path, faults in islice(broken, _NAMED):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        told = printable(str(path))
        yield fault(f"{told}: {faults[0]}{more}", f"mend it, or ask who keeps it; studiolo catalogue check {told}")
    if len(broken) > _NAMED:
        yield fault(f"{key}: {len(broken) - _NAMED} more with faults", f"studiolo catalogue check {folder} lists all")
    for path, _faults in found:
        yield from _change_findings(printable(str(path)), path, os.stat(path), people)
    if kind is DATA and names and not found:
        yield warning(f"{key} holds no data set: nothing in it has a card", f"give each set its {CARD}")
    else:
        yield good(f"{key}: {len(found) - len(broken)} {kind.word}(s) at hand")


def _no_cache(key: str, folder: Path, names: Sequence[str]) -> Finding:
    what = f"{key} is not laid out as Hugging Face's cache: no folder models--ORG--NAME, but {shown(min(names))}"
    if "hub" in names and any(is_model_folder(name) for name in os.listdir(folder / "hub")):
        return fault(what, f"its folder hub is: name {folder}/hub")
    return fault(what, f"fill it by HF_HUB_CACHE={folder} hf download ORG/NAME")


# --- Groups ----------------------------------------------------------------------------------------------------------


def _groups_findings(template: str, people: set[str]) -> Iterator[Finding]:
    keeping = set()
    for group in grp.getgrall():
        if people.intersection(group.gr_mem):
            for kind in (DATA, MODELS):
                folder = Path(template.replace("{group}", group.gr_name), kind.folder)
                if os.path.lexists(folder):
                    keeping.add(group.gr_name)
                    yield from _group_findings(folder, group)
    yield good(f"catalogue.groups: {len(keeping)} group(s) of people may keep sets of their own")


def _group_findings(folder: Path, group: grp.struct_group) -> Iterator[Finding]:
    state = os.lstat(folder)
    key, name = f"catalogue.groups: {folder}", group.gr_name
    if not stat.S_ISDIR(state.st_mode):
        yield fault(f"{key} is not a folder of its own", f"put a folder there: install -d -m 3770 -g {name} {folder}")
        return
    if state.st_gid != group.gr_gid:
        yield fault(f"{key} belongs to another group than {name}", f"chgrp {name} {folder}")
    if state.st_mode & stat.S_IRWXO:
        yield fault(f"{key} is open to others than {name}: mode {_mode(state)}", f"chmod o= {folder}")
    if state.st_mode & stat.S_IRWXG != stat.S_IRWXG:
        yield warning(f"{key} takes nothing from members of {name}: mode {_mode(state)}", f"chmod 3770 {folder}")
    elif not state.st_mode & stat.S_ISVTX:
        yield warning(
            f"{key} lets members of {name} remove what is another's: mode {_mode(state)}", f"chmod +t {folder}"
        )


def _mode(state: os.stat_result) -> str:
    return f"{stat.S_IMODE(state.st_mode):o}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
