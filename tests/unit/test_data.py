"""``studiolo.data``: what is at hand is found and loaded, what is hostile or broken is refused and hides nothing else."""

from __future__ import annotations

import errno
import grp
import gzip
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from shelves import Shelves, npz, picture, put, shelves_in

import studiolo
from studiolo import data
from studiolo.cli import main
from studiolo.errors import CardError, NotAtHand, NotKept, NotLoadable, OutsideSession
from studiolo.holdings import files as holdings_files
from studiolo.holdings import keep
from studiolo.holdings.card import Place
from studiolo.holdings.wanted import wanted
from studiolo.modelcache import my_groups

CSV = b"shop,items,price\nnorth,3,1.5\nsouth,4,2.5\n"


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelves:
    return shelves_in(tmp_path, monkeypatch)


def parquet(folder: Path) -> bytes:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"shop": ["north", "south"], "items": [3, 4], "price": [1.5, 2.5]}).to_parquet(
        folder / "t.parquet"
    )
    return (folder / "t.parquet").read_bytes()


class FakeTorch(ModuleType):
    """What this package uses of torch: its tensors are NumPy's arrays."""

    def __init__(self) -> None:
        import numpy

        super().__init__("torch")
        self.tensor = numpy.asarray
        self.from_numpy = numpy.asarray
        self.utils = ModuleType("utils")
        self.utils.data = ModuleType("data")  # type: ignore[attr-defined]
        self.utils.data.TensorDataset = lambda *tensors: tensors  # type: ignore[attr-defined]


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch())


# --- Finding ---------------------------------------------------------------------------------------------------------


def test_the_modules_are_there_after_import_studiolo() -> None:
    code = "import sys, studiolo; assert 'pydantic' not in sys.modules; print(studiolo.data.load.__name__, studiolo.models.get.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["load", "get"]
    assert {"data", "models"} <= set(dir(studiolo))


def test_outside_of_a_session_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDIOLO_OUTLINE", raising=False)
    with pytest.raises(OutsideSession):
        data.list()


def test_an_empty_catalogue_says_what_can_be_done(shelves: Shelves) -> None:
    listing = data.list()
    assert len(listing) == 0
    for text in (repr(listing), listing._repr_html_()):
        assert "studiolo.data.add" in text
    with pytest.raises(NotAtHand, match="no data set at all"):
        data.load("sales")


def test_a_table_of_all_that_is_at_hand(shelves: Shelves) -> None:
    put(shelves.data, "sales", {"a.csv": CSV})
    put(shelves.data, "weather", {"a.csv": CSV}, description="<b>Rain</b> & sun", **{"studiolo:simulated": True})
    (shelves.data / "notes").mkdir()  # a folder without a card is no set
    listing = data.list()
    assert [card.name for card in listing] == ["sales", "weather"]
    assert listing[1].simulated
    assert "&lt;b&gt;Rain" in listing._repr_html_()
    assert "<b>" not in listing._repr_html_()
    assert "CC0-1.0" in repr(listing)
    assert [card.name for card in data.search("rain SUN")] == ["weather"]
    assert len(data.search("snow")) == 0


def test_a_missing_name_says_what_is_there_and_what_is_close(shelves: Shelves) -> None:
    for name in ("fashion-mnist", "sales", "weather"):
        put(shelves.data, name, {"a.csv": CSV})
    with pytest.raises(NotAtHand) as missing:
        data.load("Fashon-MNIST")
    said = str(missing.value)
    assert "Did you mean fashion-mnist?" in said
    assert "fashion-mnist, sales, weather" in said
    assert "studiolo.data.add" in said
    with pytest.raises(NotAtHand, match="is called by its name"):
        data.card(3)  # type: ignore[arg-type]


def test_the_sites_set_wins_over_ones_own_of_the_same_name(shelves: Shelves) -> None:
    put(shelves.data, "sales", {"a.csv": CSV})
    put(shelves.home / ".local/share/studiolo/data", "sales", {"a.csv": b"x\n1\n"})
    assert data.card("sales").place.of == "site"
    assert data.card("me:sales").place.of == "me"
    assert [card.full_name for card in data.list()] == ["sales", "me:sales"]


def test_a_broken_card_is_told_and_hides_no_other(shelves: Shelves) -> None:
    put(shelves.data, "good", {"a.csv": CSV})
    put(shelves.data, "evil", {"a.csv": CSV}, license=None)
    (shelves.data / "deep").mkdir()
    (shelves.data / "deep/croissant.json").write_text("[" * 200_000)
    (shelves.data / "binary").mkdir()
    (shelves.data / "binary/croissant.json").write_bytes(b"\xff\xfe")
    (shelves.data / "pipe").mkdir()
    os.mkfifo(shelves.data / "pipe/croissant.json")
    (shelves.data / "link").symlink_to(shelves.data / "good")
    (shelves.data / "led-away").mkdir()
    (shelves.data / "led-away/croissant.json").symlink_to(shelves.data / "good/croissant.json")
    listing = data.list()
    assert [card.name for card in listing] == ["good"]
    told = " ".join(error.source for error in listing.refused)
    for name in ("evil", "deep", "binary", "pipe", "link", "led-away"):
        assert f"/{name}" in told
    assert "license" in repr(listing)
    assert "license" in listing._repr_html_()
    assert len(data.load("good")) == 2
    with pytest.raises(CardError, match="license"):
        data.load("evil")


def test_a_huge_card_is_not_read(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(shelves.data, "huge", {"a.csv": CSV})
    with (folder / "croissant.json").open("ab") as file:
        file.truncate(1 << 40)
    (error,) = data.list().refused
    assert "larger than 16 MiB" in str(error)


def test_a_folder_that_can_not_be_read_is_not_taken_for_empty(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir = os.listdir

    def stale(path: Any) -> list[str]:
        if Path(path) == shelves.data:
            raise OSError(errno.ESTALE, "Stale file handle")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", stale)
    (error,) = data.list().refused
    assert "Stale file handle" in str(error)


# --- Loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content"),
    [("t.csv", CSV), ("t.csv.gz", gzip.compress(CSV, mtime=0)), ("t.tsv", CSV.replace(b",", b"\t")),
     ("t.json", b'[{"shop":"north","items":3,"price":1.5},{"shop":"south","items":4,"price":2.5}]'),
     ("t.jsonl", b'{"shop":"north","items":3,"price":1.5}\n{"shop":"south","items":4,"price":2.5}\n')],
)  # fmt: skip
def test_a_table_of_any_format_is_the_same_table(shelves: Shelves, path: str, content: bytes) -> None:
    put(shelves.data, "sales", {path: content})
    table = data.load("sales")
    assert list(table.columns) == ["shop", "items", "price"]
    assert list(table["items"]) == [3, 4]
    assert list(data.load("sales", columns=["price"]).columns) == ["price"]
    assert data.load("sales", "numpy", columns=["items"]).tolist() == [[3], [4]]


def test_parquet_becomes_pandas_and_dask(shelves: Shelves, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    put(shelves.data, "sales", {"t.parquet": parquet(tmp_path)})
    assert list(data.load("sales", columns=["items"])["items"]) == [3, 4]
    lazy = data.load("sales", into="dask", columns=["price"])
    assert lazy["price"].sum().compute(scheduler="synchronous") == 4.0


@pytest.mark.parametrize(
    ("path", "content"),
    [("t.csv", CSV), ("t.csv.gz", gzip.compress(CSV, mtime=0)), ("t.jsonl", b'{"items":3}\n{"items":4}\n')],
)
def test_text_tables_become_dask(shelves: Shelves, path: str, content: bytes) -> None:
    pytest.importorskip("pyarrow")
    put(shelves.data, "sales", {path: content})
    assert data.load("sales", "dask", columns=["items"])["items"].sum().compute(scheduler="synchronous") == 7


def test_arrays_stay_arrays_or_become_a_table(shelves: Shelves) -> None:
    put(shelves.data, "digits", {"d.npz": npz(x=[[1, 2], [3, 4]], y=[0, 1], z=[5, 6])})
    assert data.load("digits", "numpy")["x"].tolist() == [[1, 2], [3, 4]]
    assert data.load("digits", columns=["y", "z"])["z"].tolist() == [5, 6]
    with pytest.raises(NotLoadable, match=r"x \(2, 2\)"):
        data.load("digits")
    with pytest.raises(NotLoadable, match="no array 'w'; there are x, y, z"):
        data.load("digits", "numpy", columns=["w"])


def test_lines_of_text_are_a_table_of_one_column(shelves: Shelves) -> None:
    put(shelves.data, "log", {"a.log": b"first\r\nsecond \xff\n"})
    assert data.load("log")["text"].tolist() == ["first", "second �"]


def test_pictures_in_folders_are_labelled_by_them(shelves: Shelves, torch: None) -> None:
    files = {"cat/1.png": picture(1), "dog/2.png": picture(2), "dog/3.png": picture(3)}
    data.add(_laid(shelves.home / "pets", files), name="pets", licence="internal")
    table = data.load("pets")
    assert table["label"].tolist() == ["cat", "dog", "dog"]
    images = data.load("pets", "torch")
    assert images.classes == ["cat", "dog"]
    images.transform = lambda image: image.getpixel((0, 0))
    assert [images[number] for number in range(len(images))] == [((1, 0, 0), 0), ((2, 0, 0), 1), ((3, 0, 0), 1)]


def test_a_table_becomes_a_torch_data_set_of_numbers(shelves: Shelves, torch: None) -> None:
    put(shelves.data, "sales", {"t.csv": CSV})
    features, target = data.load("sales", "torch", columns=["price"], target="items")
    assert (features.tolist(), str(features.dtype)) == ([[1.5], [2.5]], "float32")
    assert (target.tolist(), str(target.dtype)) == ([3, 4], "int64")
    with pytest.raises(NotLoadable, match="these columns are no numbers: shop"):
        data.load("sales", "torch")
    with pytest.raises(NotLoadable, match="no column 'colour'"):
        data.load("sales", "torch", target="colour")
    with pytest.raises(NotLoadable, match="the target 'shop' is no number"):
        data.load("sales", "torch", columns=["price"], target="shop")


def test_arrays_become_a_torch_data_set_with_the_target_last(shelves: Shelves, torch: None) -> None:
    put(shelves.data, "digits", {"d.npz": npz(y=[0, 1], x=[[1, 2], [3, 4]], odd=[1])})
    x, y = data.load("digits", "torch", columns=["x"], target="y")
    assert (x.tolist(), y.tolist()) == ([[1, 2], [3, 4]], [0, 1])
    with pytest.raises(NotLoadable, match="arrays of one length"):
        data.load("digits", "torch")


def test_without_torch_the_way_on_is_told(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    put(shelves.data, "sales", {"t.csv": CSV})
    with pytest.raises(NotLoadable, match="no torch: start a session in one that has it"):
        data.load("sales", "torch")


def test_a_set_of_several_parts_asks_which(shelves: Shelves) -> None:
    put(shelves.data, "shop", {"sales.csv": CSV, "people.csv": b"name\nada\n"})
    with pytest.raises(NotLoadable, match=r"several parts; say which: sales\.csv, people\.csv\."):
        data.load("shop")
    for name in ("people", "people.csv"):
        assert data.load("shop", part=name)["name"].tolist() == ["ada"]
    with pytest.raises(NotLoadable, match="has no part 'x'"):
        data.load("shop", part="x")
    assert data.load("shop", "path", part="people").read_bytes() == b"name\nada\n"
    assert data.load("shop", "path") == data.path("shop") == shelves.data / "shop"


def test_what_can_not_be_says_what_can(shelves: Shelves) -> None:
    put(shelves.data, "orbits", {"a.nc": b"CDF"}, "application/x-netcdf")
    with pytest.raises(NotLoadable, match="other can not become into='pandas', but path"):
        data.load("orbits")
    assert data.load("orbits", "path").is_dir()
    with pytest.raises(NotLoadable, match="one of pandas, dask, numpy, torch, path"):
        data.load("orbits", "spark")
    with pytest.raises(NotLoadable, match="belongs to into='torch'"):
        put(shelves.data, "sales", {"t.csv": CSV}) and data.load("sales", target="items")


# --- What is not as its card says ------------------------------------------------------------------------------------


def test_a_changed_file_is_refused_by_its_hash(shelves: Shelves) -> None:
    folder = put(shelves.data, "sales", {"t.csv": CSV})
    (folder / "t.csv").write_bytes(CSV.replace(b"north", b"NORTH"))
    with pytest.raises(CardError, match="sha256"):
        data.load("sales")
    assert len(data.load("sales", verify=False)) == 2


def test_a_file_of_another_size_is_refused_even_unverified(shelves: Shelves) -> None:
    folder = put(shelves.data, "sales", {"t.csv": CSV})
    (folder / "t.csv").write_bytes(CSV * 2)
    with pytest.raises(CardError, match="the size of what is there"):
        data.load("sales", verify=False)


def test_a_large_part_is_compared_by_size_unless_asked_for_more(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "HASHED_AT_MOST", 3)
    folder = put(shelves.data, "sales", {"t.csv": CSV})
    (folder / "t.csv").write_bytes(CSV.replace(b"north", b"NORTH"))
    assert len(data.load("sales")) == 2
    with pytest.raises(CardError, match="sha256"):
        data.load("sales", verify=True)


def test_a_link_that_leads_out_of_the_folder_is_not_followed(shelves: Shelves) -> None:
    secret = shelves.home / "secret.csv"
    secret.write_bytes(CSV)
    folder = put(shelves.data, "sales", {"t.csv": CSV})
    (folder / "t.csv").unlink()
    (folder / "t.csv").symlink_to(secret)
    with pytest.raises(CardError, match="leads out of it"):
        data.load("sales")
    (folder / "t.csv").unlink()
    os.mkfifo(folder / "t.csv")
    with pytest.raises(CardError, match="a plain file"):
        data.load("sales")
    (folder / "t.csv").unlink()
    with pytest.raises(CardError, match="No such file"):
        data.load("sales")


def test_a_folder_that_is_a_link_is_no_part_of_a_set_of_files(shelves: Shelves) -> None:
    source = _laid(shelves.home / "pets", {"cat/1.png": picture(1), "cat/2.png": picture(2)})
    data.add(source, name="pets", licence="internal")
    folder = data.path("pets")
    (folder / "more.png").symlink_to(source)
    with pytest.raises(CardError, match="leads out of it"):
        data.load("pets")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


def test_nothing_is_ever_unpickled(shelves: Shelves, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    marker = tmp_path / "ran"
    array = numpy.empty(1, dtype=object)
    array[0] = Bomb(marker)
    put(shelves.data, "objects", {"a.npz": npz(a=array)})
    for into in ("numpy", "pandas"):
        with pytest.raises(NotLoadable, match="allow_pickle=False"):
            data.load("objects", into)
    bomb = pickle.dumps(Bomb(marker))
    put(shelves.data, "disguised", {"a.npz": bomb, "b.parquet": bomb, "c.csv": bomb, "d.json": bomb})
    for part in ("a.npz", "b.parquet", "d.json"):
        with pytest.raises(NotLoadable, match="failed"):
            data.load("disguised", part=part)
    put(shelves.data, "plain", {"a.pkl": bomb})
    with pytest.raises(CardError, match="no pickles"):
        data.load("plain")
    files = [{"@type": "cr:FileSet", "name": "all", "includes": "**/*", "encodingFormat": "application/octet-stream",
              "studiolo:files": 1, "studiolo:size": len(bomb), "studiolo:sha256": "0" * 64}]  # fmt: skip
    put(shelves.data, "pattern", {"a.pkl": bomb}, distribution=files)
    with pytest.raises(CardError, match="no pickles"):
        data.load("pattern", "path")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("path", "content"),
    [("a.parquet", b"PAR1 no"), ("a.npz", b"PK\x03\x04 no"), ("a.npz", b""), ("a.json", b"{"), ("a.csv", b"")],
)
def test_a_file_that_is_not_of_its_format_is_told_in_a_sentence(shelves: Shelves, path: str, content: bytes) -> None:
    put(shelves.data, "broken", {path: content})
    with pytest.raises(NotLoadable, match="reading it as"):
        data.load("broken")


# --- Adding and removing ---------------------------------------------------------------------------------------------


def _laid(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_what_one_adds_for_oneself_is_ones_own_alone(shelves: Shelves) -> None:
    (shelves.home / "t.csv").write_bytes(CSV)
    card = data.add("~/t.csv", name="mine", licence="internal", description="My sales.", limits="Never publish.")
    assert data.card("mine") == card
    assert (card.place.of, card.simulated, card.limits) == ("me", None, "Never publish.")
    assert "Real or simulated" not in repr(card), "nobody has said so"
    assert len(data.load("mine")) == 2
    modes = {path.stat().st_mode & 0o777 for path in card.folder.iterdir()}
    assert (modes, card.folder.stat().st_mode & 0o777) == ({0o600}, 0o700)
    data.remove("mine")
    assert not card.folder.exists()
    assert not list(card.folder.parent.iterdir())


def test_a_folder_is_added_with_all_that_is_in_it(shelves: Shelves, tmp_path: Path) -> None:
    many = {f"p/{number}.txt": b"x" for number in range(300)}
    source = _laid(tmp_path / "new", {"a.csv": CSV, "b.parquet": parquet(tmp_path), ".git/config": b"secret", **many})
    card = data.add(source, name="mixed", licence="internal")
    assert {part.name: part.files for part in card.parts} == {"a.csv": 1, "b.parquet": 1, "text": 300}
    assert len(data.load("mixed", part="text")) == 300
    assert not (card.folder / ".git").exists()


def test_a_name_that_is_taken_is_refused_wherever_it_is(shelves: Shelves) -> None:
    put(shelves.data, "sales", {"t.csv": CSV})
    (shelves.home / "t.csv").write_bytes(CSV)
    with pytest.raises(NotKept, match="sales is there already"):
        data.add(shelves.home / "t.csv", name="sales", licence="internal")
    data.add(shelves.home / "t.csv", name="mine", licence="internal")
    before = data.card("mine")
    with pytest.raises(NotKept, match="me:mine is there already"):
        data.add(shelves.home / "t.csv", name="mine", licence="other")
    assert data.card("mine") == before


def test_all_that_is_wrong_with_an_addition_is_told_at_once(shelves: Shelves) -> None:
    (shelves.home / "t.csv").write_bytes(CSV)
    with pytest.raises(NotKept) as refused:
        data.add(shelves.home / "t.csv", name="../x", licence="", description="\x1b")
    assert [fault.where for fault in refused.value.faults] == ["name", "licence", "description"]
    with pytest.raises(NotKept, match="a file or folder that is there"):
        data.add(shelves.home / "nothing", name="x", licence="internal")
    with pytest.raises(NotKept, match="one of your groups"):
        data.add(shelves.home / "t.csv", name="x", licence="internal", group="no-such-group")


def test_what_could_lead_elsewhere_or_run_is_not_added(shelves: Shelves) -> None:
    source = _laid(shelves.home / "new", {"a.csv": CSV, "b.pkl": b"", "croissant.json": b"{}"})
    (source / "out.csv").symlink_to("/etc/passwd")
    (source / "away").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    with pytest.raises(NotKept) as refused:
        data.add(source, name="x", licence="internal")
    assert sorted(fault.value for fault in refused.value.faults) == [
        "'away'",
        "'b.pkl'",
        "'croissant.json'",
        "'out.csv'",
        "'pipe'",
    ]
    assert not list((shelves.home / ".local/share/studiolo/data").iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_half_done(shelves: Shelves, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    source = _laid(shelves.home / "new", {"a.csv": CSV, "b.csv": CSV})
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotKept, match="make room there"):
        data.add(source, name="x", licence="internal")
    assert not list((shelves.home / ".local/share/studiolo/data").iterdir())
    assert not data.list().refused


def test_an_interruption_leaves_nothing_half_done(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _laid(shelves.home / "new", {"a.csv": CSV})

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.add(source, name="x", licence="internal")
    assert not list((shelves.home / ".local/share/studiolo/data").iterdir())


def test_of_two_who_add_the_same_name_the_first_keeps_it(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _laid(shelves.home / "new", {"a.csv": CSV})
    place = shelves.home / ".local/share/studiolo/data"
    rename = os.rename

    def raced(old: Any, new: Any) -> None:
        if Path(new) == place / "x":
            put(place, "x", {"other.csv": b"a\n1\n"})
        rename(old, new)

    monkeypatch.setattr(os, "rename", raced)
    with pytest.raises(NotKept, match="somebody else has just added"):
        data.add(source, name="x", licence="internal")
    assert [part.name for part in data.card("x").parts] == ["other.csv"]
    assert [path.name for path in place.iterdir()] == ["x"]


def test_the_sites_own_is_not_for_people_to_remove(shelves: Shelves) -> None:
    put(shelves.data, "sales", {"t.csv": CSV})
    with pytest.raises(NotKept, match="the site's own"):
        data.remove("sales")
    assert data.card("sales")


def test_what_an_operators_program_adds_is_for_everybody(shelves: Shelves, capsys: pytest.CaptureFixture[str]) -> None:
    source = _laid(shelves.home / "new", {"a/t.csv": CSV})
    os.chmod(source / "a/t.csv", 0o600)
    place = Place("site", shelves.data)
    told = wanted(
        "data",
        place,
        name="sales",
        licence="CC0-1.0",
        description="",
        citation="",
        url="",
        limits="",
        simulated=True,
    )
    keep.add_set(source, told, place)
    assert len(data.load("sales")) == 2
    assert main(["catalogue", "check", str(shelves.data)]) == 0, capsys.readouterr().out


def test_one_name_is_found_without_reading_all_others(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelves.data, "sales", {"t.csv": CSV})
    monkeypatch.setattr(os, "listdir", None)
    assert data.card("sales").name == "sales"


@pytest.mark.parametrize(
    "name", ["../data/sales", "sales/", "/etc", ".", "", "me:", "other:sales", "sales\0", "me:me:sales"]
)
def test_a_name_is_never_a_path(shelves: Shelves, name: str) -> None:
    put(shelves.data, "sales", {"t.csv": CSV})
    with pytest.raises(NotAtHand):
        data.card(name)


def test_a_group_without_a_place_is_told_how_to_get_one(shelves: Shelves) -> None:
    (shelves.home / "t.csv").write_bytes(CSV)
    group = my_groups()[0]
    with pytest.raises(NotKept, match=f"install -d -m 3770 -g {group} .*/groups/{group}/data"):
        data.add(shelves.home / "t.csv", name="x", licence="internal", group=group)


# --- Who sees what ---------------------------------------------------------------------------------------------------

GROUP, OTHER = "games", "audio"  # of every Debian; nobody of importance is in them
SAYS = """
import json, sys
from studiolo import data
said = {"names": [card.full_name for card in data.list()], "refused": len(data.list().refused)}
try:
    said["rows"] = len(data.load("secret"))
except Exception as error:
    said["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""
ADDS = """
from studiolo import data
data.add({source!r}, name="secret", licence="internal", group="games")
"""


@pytest.fixture
def grouped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelves]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be two people")
    # Not below pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory(prefix="studiolo-catalogue-") as top:
        os.chmod(top, 0o755)
        shelves = shelves_in(Path(top), monkeypatch)
        _open_places(shelves)
        yield shelves


def _open_places(shelves: Shelves) -> None:
    for group in (GROUP, OTHER):
        folder = shelves.group(group)
        folder.mkdir(parents=True)
        os.chown(folder, 0, grp.getgrnam(group).gr_gid)
        os.chmod(folder, 0o3770)


def as_member(shelves: Shelves, user: int, group: str, code: str) -> str:
    """Run code as somebody of that group, with a home of their own."""
    home = shelves.top / f"home-{user}"
    home.mkdir(exist_ok=True)
    os.chown(home, user, user)
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        user=user,
        group=user,
        extra_groups=[group],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_groups_set_is_seen_by_its_members_alone(grouped: Shelves) -> None:
    source = grouped.top / "t.csv"
    source.write_bytes(CSV)
    as_member(grouped, 60001, GROUP, ADDS.format(source=str(source)))
    folder = grouped.group(GROUP) / "secret"
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
    colleague = json.loads(as_member(grouped, 60002, GROUP, SAYS))
    assert colleague == {"names": ["games:secret"], "refused": 0, "rows": 2}
    stranger = json.loads(as_member(grouped, 60003, OTHER, SAYS))
    assert stranger["names"] == []
    assert stranger["refused"] == 0
    assert stranger["error"].startswith("NotAtHand")


def test_a_colleagues_set_is_theirs_to_remove(grouped: Shelves) -> None:
    source = grouped.top / "t.csv"
    source.write_bytes(CSV)
    as_member(grouped, 60001, GROUP, ADDS.format(source=str(source)))
    code = "from studiolo import data\ntry: data.remove('secret')\nexcept Exception as e: print(e)"
    assert "ask its owner" in as_member(grouped, 60002, GROUP, code)
    as_member(grouped, 60001, GROUP, "from studiolo import data; data.remove('secret')")
    assert not list(grouped.group(GROUP).iterdir())


def test_permissions_hold_what_the_card_only_says(grouped: Shelves) -> None:
    # The card names another group than the one that may read it: the reader sees it, and what the card says of it.
    folder = put(grouped.data, "secret", {"t.csv": CSV}, **{"studiolo:groups": [OTHER]})
    assert json.loads(as_member(grouped, 60001, GROUP, SAYS))["rows"] == 2
    # The card is for everybody, the permissions are not.
    put(grouped.data, "closed", {"t.csv": CSV})
    os.chmod(grouped.data / "closed", 0o700)
    os.chmod(folder, 0o700)
    assert json.loads(as_member(grouped, 60001, GROUP, SAYS))["names"] == []


def test_hashes_are_made_once_for_a_file_that_has_not_changed(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelves.data, "sales", {"t.csv": CSV})
    data.load("sales")
    made: list[str] = []
    sha256 = holdings_files.hashlib.sha256
    monkeypatch.setattr(holdings_files.hashlib, "sha256", lambda *given: made.append("") or sha256(*given))
    data.load("sales")
    assert made == []


def test_record_sets_are_read_by_mlcroissant_where_it_is_installed(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(shelves.data, "sales", {"t.csv": CSV})
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    with pytest.raises(NotLoadable, match="need the package mlcroissant"):
        next(data.records("sales", "rows"))
    asked = []

    class Dataset:
        def __init__(self, jsonld: str) -> None:
            asked.append(jsonld)

        def records(self, record_set: str) -> list[dict[str, Any]]:
            return [{record_set: 1}]

    fake = ModuleType("mlcroissant")
    fake.Dataset = Dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlcroissant", fake)
    assert list(data.records("sales", "rows")) == [{"rows": 1}]
    assert asked == [str(folder / "croissant.json")]
    (folder / "t.csv").write_bytes(CSV.replace(b"north", b"NORTH"))
    with pytest.raises(CardError, match="sha256"):
        next(data.records("sales", "rows"))
