"""What `make up` keeps in the catalogue: the world's time zones, and an operator's own sets left alone."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
from shelves import put, shelves_in

from deploy import catalogue, stamps, time_zones
from deploy.catalogue import Offer
from deploy.errors import DeployError
from studiolo import data
from studiolo.holdings import keep
from studiolo.holdings.card import CARD
from studiolo.holdings.check import examine


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A prefix whose catalogue is that of the session this process is in."""
    umask = os.umask(0o077)
    (tmp_path / "prefix").mkdir(mode=0o755)
    folder = tmp_path / "prefix/catalogue/data"
    # Who runs the tests need not be root.
    monkeypatch.setattr(os, "fchown", lambda *_arguments: None)
    shelves_in(tmp_path / "session", monkeypatch, data=(str(folder),))
    yield tmp_path / "prefix"
    os.umask(umask)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(**values: object) -> Offer:
    return dataclasses.replace(time_zones.offer(), **values)


def put_a_word(folder: Path) -> None:
    (folder / "words.csv").write_text("word\nhello\n")


def test_a_fresh_catalogue_has_the_worlds_time_zones_for_everybody(prefix: Path) -> None:
    assert catalogue.ensure(prefix, [time_zones.offer()]) == ["time-zones"]
    (card,) = data.list()
    assert (card.name, card.licence, card.simulated, card.groups) == ("time-zones", "Public domain", False, ())
    assert [faults for _path, faults in examine(prefix / "catalogue/data")] == [[]]
    for folder in (prefix / "catalogue", prefix / "catalogue/data", prefix / "catalogue/models", card.folder):
        assert folder.stat().st_mode & 0o777 == 0o755
    table = data.load("time-zones")
    assert list(table.columns) == list(time_zones.COLUMNS)
    assert len(table) > 300
    assert not table.isna().any().any()  # Namibia's code is NA
    zurich = table.set_index("zone").loc["Europe/Zurich"]
    assert (zurich["utc_january"], zurich["utc_july"]) == (1, 2)
    assert zurich["countries"] == "Switzerland; Germany; Liechtenstein"
    assert table["latitude"].between(-90, 90).all()
    assert table["longitude"].between(-180, 180).all()
    # Clocks follow the sun: fifteen degrees an hour.
    assert (table["longitude"] / 15).corr(table["utc_january"]) > 0.8


@pytest.mark.parametrize(
    ("place", "found"),
    [("+4230+00131", (42.5, 1.5167)), ("-3352+15113", (-33.8667, 151.2167)), ("-690022+0393524", (-69.0061, 39.59))],
)
def test_places_become_degrees(place: str, found: tuple[float, float]) -> None:
    assert time_zones.degrees(place) == found


@pytest.mark.parametrize("place", ["", "4230+00131", "+4230+0131", "+42.30+001.31"])
def test_other_places_are_refused(place: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        time_zones.degrees(place)


def test_doing_it_again_writes_nothing(prefix: Path) -> None:
    catalogue.ensure(prefix, [time_zones.offer()])
    before = (prefix / "catalogue/data/time-zones").stat()
    assert catalogue.ensure(prefix, [time_zones.offer()]) == []
    after = (prefix / "catalogue/data/time-zones").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize("change", [{"version": "2099.1"}, {"limits": "For nothing at all."}, {"write": put_a_word}])
def test_a_newer_one_takes_its_place_whole(prefix: Path, change: dict[str, object]) -> None:
    catalogue.ensure(prefix, [time_zones.offer()])
    newer = changed(**change)
    if "write" in change:
        newer = dataclasses.replace(newer, version="2099.1")
    assert catalogue.ensure(prefix, [newer]) == ["time-zones"]
    (card,) = data.list()
    assert (card.version, card.limits) == (newer.version, newer.limits)
    assert [part.name for part in card.parts] == (["words.csv"] if "write" in change else ["zones.csv"])
    assert os.listdir(prefix / "catalogue/data") == ["time-zones"]


@pytest.mark.parametrize("broken", ["card", "file", "all", "half a card"])
def test_what_has_broken_is_mended(prefix: Path, broken: str) -> None:
    catalogue.ensure(prefix, [time_zones.offer()])
    folder = prefix / "catalogue/data/time-zones"
    whole = files(folder)
    if broken == "all":
        shutil.rmtree(folder)
    elif broken == "half a card":  # by an interrupted `make up`
        (folder / CARD).write_bytes(whole[CARD][:100])
        stamps.write(prefix, "catalogue-time-zones", "begun")
    elif broken == "file":
        (folder / "zones.csv").unlink()
    else:
        shutil.rmtree(folder)
        folder.mkdir()
        stamps.write(prefix, "catalogue-time-zones", "begun")
    assert catalogue.ensure(prefix, [time_zones.offer()]) == ["time-zones"]
    assert files(folder) == whole


def test_what_an_interruption_left_is_removed(prefix: Path) -> None:
    catalogue.ensure(prefix, [])
    left = prefix / f"catalogue/data/{keep.ADDING}time-zones-abc"
    left.mkdir()
    (left / "zones.csv").write_text("half")
    catalogue.ensure(prefix, [time_zones.offer()])
    assert os.listdir(prefix / "catalogue/data") == ["time-zones"]


def test_an_operators_own_set_of_the_same_name_stays(prefix: Path) -> None:
    catalogue.ensure(prefix, [])
    put(prefix / "catalogue/data", "time-zones", {"own.csv": b"a\n1\n"})
    assert catalogue.ensure(prefix, [time_zones.offer()]) == []
    assert data.load("time-zones")["a"].tolist() == [1]


def test_one_that_an_operator_put_in_its_place_stays_too(prefix: Path) -> None:
    catalogue.ensure(prefix, [time_zones.offer()])
    shutil.rmtree(prefix / "catalogue/data/time-zones")
    put(prefix / "catalogue/data", "time-zones", {"own.csv": b"a\n1\n"})
    assert catalogue.ensure(prefix, [changed(version="2099.1")]) == []
    assert isinstance(data.load("time-zones"), pandas.DataFrame)
    assert list(data.load("time-zones").columns) == ["a"]


def test_a_full_disk_for_temporary_files_is_told(prefix: Path) -> None:
    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DeployError, match=r"time-zones could not be written: .*Make room"):
        catalogue.ensure(prefix, [changed(write=full)])
    assert not (prefix / "catalogue/data/time-zones").exists()


def test_a_full_disk_is_told_and_leaves_the_old_one(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue.ensure(prefix, [time_zones.offer()])
    whole = files(prefix / "catalogue/data/time-zones")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(keep, "_copy_file", full)
        with pytest.raises(DeployError, match="make room"):
            catalogue.ensure(prefix, [changed(version="2099.1")])
    assert files(prefix / "catalogue/data/time-zones") == whole
    assert catalogue.ensure(prefix, [changed(version="2099.1")]) == ["time-zones"]
