"""A run's folder: all that is known of it, in plain files, each written whole or not at all.

::

    ~/.studiolo/runs/20261122-154501-k3f9/
        run.json       what was asked for; its parameters, where it came from            written once, before the job is submitted
        source.ipynb   the notebook as it was then                                       written once
        site.json      what the session knew of its site                                 written once
        job.json       Slurm's number                                                    written by whoever submitted it
        state.json     how far it is                                                     written by the run
        output.ipynb   the executed copy, outputs so far                                 written by the run
        result.json    what the notebook passed to studiolo.record                       written by the notebook
        packages.txt   what its environment held                                         written by the run
        log.txt        what it printed                                                   written by Slurm
        end.json       how it ended, by Slurm's word, once that is known                 written by whoever asked

A sweep has one folder too; what its runs write lies in folders ``0``, ``1`` … of it. Whatever is read here may have been edited
by hand: it is data, and no error where it makes no sense.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeGuard

from studiolo.errors import RunsUnusable

__all__ = [
    "LOG",
    "Place",
    "Record",
    "make",
    "new_id",
    "newest",
    "plausible",
    "read_json",
    "root",
    "write_json",
    "write_whole",
]

RUN, SOURCE, OUTPUT, STATE, RESULT = "run.json", "source.ipynb", "output.ipynb", "state.json", "result.json"
SITE, JOB, LOG, END, PACKAGES = "site.json", "job.json", "log.txt", "end.json", "packages.txt"
CALL, RETURNED = "submitted.pkl", "result.pkl"  # of a function: with its item, and what came of it
CHECKPOINT = "checkpoint"
LARGEST_NUMBER = 1e12
LARGEST = 64 << 20  # nothing that is read here is larger, but for notebooks
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-z]{4}", re.ASCII)
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def home() -> Path:
    """The person's home, where Slurm starts their jobs: not what ``HOME`` may say in a notebook."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def root() -> Path:
    """The folder of all runs."""
    return home() / ".studiolo" / "runs"


def new_id(now: float | None = None) -> str:
    """A name for a run that sorts by time (UTC): ``20261122-154501-k3f9``."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{stamp}-{''.join(secrets.choice(_LETTERS) for _ in range(4))}"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that whoever reads it finds the old content or the new one. Raises ``OSError`` and leaves nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            # A full quota shows itself here on network file systems, and not when the file is renamed.
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON, whole. Raises ``OSError``."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=True).encode("ascii"))


def read_json(path: Path) -> dict[str, Any]:
    """An object that a file holds; empty where there is no such file or it holds something else."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def plausible(value: object) -> TypeGuard[float]:
    """Whether a number may be one of ours: a time, an amount or a count, which all are finite, not negative, and no larger."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST_NUMBER


@dataclass(frozen=True)
class Place:
    """Where one run's files are: ``base`` is the folder of what was submitted, ``index`` its number within a sweep."""

    base: Path
    index: int | None = None

    @property
    def own(self) -> Path:
        """The folder of what the run itself writes."""
        return self.base if self.index is None else self.base / str(self.index)

    @property
    def id(self) -> str:
        """The name of what was submitted."""
        return self.base.name


@dataclass(frozen=True)
class Record:
    """What was asked for, as ``run.json`` keeps it.

    ``kind`` is ``"run"``, ``"sweep"``, ``"rehearsal"`` or ``"map"``. ``notebook`` is where it came from, ``folder`` the one that
    it runs in. ``parameters`` are those of a run, ``points`` those of each run of a sweep; ``options`` are the resources as
    they were asked for, ``request`` what was made of them. ``submitted`` in seconds since 1970. ``commands`` is the folder of
    Slurm's commands, ``scratch`` that of temporary files on a node.
    """

    kind: str = "run"
    title: str = ""
    notebook: str = ""
    folder: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    points: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""
    submitted: float = 0.0
    session: str = ""
    git: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    at_once: int = 0
    rehearsal: str = ""
    commands: str = "/usr/bin"
    scratch: str = "/tmp"

    @property
    def minutes(self) -> int:
        """The walltime."""
        minutes = self.request.get("minutes", 0)
        return minutes if plausible(minutes) and isinstance(minutes, int) else 0

    @property
    def file(self) -> str:
        """The notebook's name, for people."""
        return self.title or os.path.basename(self.notebook)


_DEFAULTS = Record()


def write_record(place: Place, record: Record) -> None:
    """Keep what was asked for. Raises ``OSError``."""
    write_json(place.base / RUN, asdict(record))


def read_record(place: Place) -> Record | None:
    """What was asked for; ``None`` where the folder says nothing of it. A value of another kind than ours counts as none."""
    data = read_json(place.base / RUN)
    if not data:
        return None
    kept: dict[str, Any] = {}
    for item in fields(Record):
        value, usual = data.get(item.name), getattr(_DEFAULTS, item.name)
        if isinstance(usual, tuple):
            points = value if isinstance(value, list) else []
            kept[item.name] = tuple(point for point in points if isinstance(point, dict))
        elif isinstance(usual, float):
            if plausible(value):
                kept[item.name] = float(value)
        elif isinstance(value, type(usual)) and not (
            isinstance(usual, int) and not isinstance(usual, bool) and not plausible(value)
        ):
            kept[item.name] = value
    return Record(**kept)


def make(files: Mapping[str, bytes], record: Record, tasks: int = 0) -> Place:
    """Make the folder of a new run, with these files in it, whole or not at all.

    ``tasks`` is the number of a sweep's runs. Raises :class:`~studiolo.errors.RunsUnusable` where the home has no room.
    """
    folder = root()
    beside = folder / f".new-{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside.mkdir(mode=0o700)
        for index in range(tasks):
            (beside / str(index)).mkdir(mode=0o700)
        for name, content in files.items():
            write_whole(beside / name, content)
        write_record(Place(beside), record)
        while True:
            place = Place(folder / new_id())
            try:
                # Makes the folder or fails where it is there: a rename alone would take the place of an empty one.
                place.base.mkdir(mode=0o700)
            except FileExistsError:
                continue
            os.replace(beside, place.base)
            return place
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise RunsUnusable(str(folder), error) from error


def is_gone(place: Place) -> bool:
    """Whether somebody has removed the folder of a run. One that can not be looked at is there, for all that is known."""
    try:
        os.stat(place.own)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def remove(place: Place) -> None:
    """Remove the folder of what was never submitted, or is over and not wanted any more."""
    shutil.rmtree(place.base, ignore_errors=True)


def newest(limit: int | None = None) -> Iterator[Place]:
    """The folders of runs, newest first, without a look into them. A home that can not be read has none."""
    try:
        names = sorted((entry.name for entry in os.scandir(root()) if _ID.fullmatch(entry.name)), reverse=True)
    except OSError:
        return
    for name in names[:limit]:
        yield Place(root() / name)


def find(run: str) -> Place | None:
    """The folder of the run of that name, ``NAME`` or ``NAME/3`` for one of a sweep; ``None`` where there is none."""
    name, _, index = run.partition("/")
    if not _ID.fullmatch(name) or not os.path.isfile(root() / name / RUN):
        return None
    if not index:
        return Place(root() / name)
    return Place(root() / name, int(index)) if index.isascii() and index.isdigit() and len(index) < 8 else None
