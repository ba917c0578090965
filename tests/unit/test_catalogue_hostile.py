"""Sets and models that somebody has laid out to harm, to mislead or to be odd: told, shown as text, and hiding nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shelves import Shelves, put, put_model, shelves_in

from studiolo import data, ipython, models
from studiolo.cli import main
from studiolo.errors import CardError, NotKept
from studiolo.holdings.files import matches

CSV = b"a,b\n1,2\n"
HASH = "0" * 64


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelves:
    return shelves_in(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("*.png", "a.png", True),
        ("*.png", "x/a.png", False),
        ("x/*.png", "x/a.png", True),
        ("**/*.png", "a.png", True),
        ("**/*.png", "x/y/a.png", True),
        ("x/**/*.png", "x/a.png", True),
        ("x/**/*.png", "x/y/z/a.png", True),
        ("x/**/*.png", "y/a.png", False),
        ("x/**", "x/y/a.png", True),
        ("x/**", "x", False),
        ("x/**/x/a", "x/a", False),
        ("a?.png", "ab.png", True),
        ("a?.png", "a/.png", False),
        ("*.PNG", "a.png", False),
        ("*", "line\nbreak", True),
        ("*a*a*a*a*a*b", "a" * 250, False),  # tried in all combinations, it would not end this year
    ],
)
def test_a_pattern_means_these_files(pattern: str, path: str, meant: bool) -> None:
    assert matches(pattern, path) is meant


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000,
        "[" * 100_000,
        '{"name": ' + "9" * 100_000 + "}",
        json.dumps({"name": "x" * 1_000_000, "distribution": [{"@type": "y" * 1000}] * 6000}),
        '{"name": "\\ud800", "description": "\\u202e<script>"}',
        "\x00" * 100,
    ],
)
def test_a_hostile_card_is_told_in_a_few_plain_words_beside_the_others(shelves: Shelves, text: str) -> None:
    put(shelves.data, "good", {"t.csv": CSV})
    (shelves.data / "evil").mkdir()
    (shelves.data / "evil/croissant.json").write_text(text)
    listing = data.list()
    assert [card.name for card in listing] == ["good"]
    for shown in (repr(listing), listing._repr_html_()):
        assert "evil/croissant.json" in shown
        assert len(shown) < 2000
        shown.encode()
    assert "<script" not in listing._repr_html_()
    with pytest.raises(CardError):
        data.load("evil")


def test_a_card_that_is_too_large_is_not_read(shelves: Shelves) -> None:
    (shelves.data / "evil").mkdir()
    with open(shelves.data / "evil/croissant.json", "wb") as file:
        file.truncate(1 << 40)
    (refused,) = data.list().refused
    assert "larger than 16 MiB" in str(refused)


@pytest.mark.parametrize("name", ["\x1b[31mred", "line\nbreak", os.fsdecode(b"\xff"), "<b>bold"])
def test_the_name_of_a_folder_is_shown_as_text(shelves: Shelves, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(shelves.data, name, {"t.csv": CSV})
    listing = data.list()
    (refused,) = listing.refused
    assert main(["catalogue", "check", str(shelves.data)]) == 1
    for text in (repr(listing), listing._repr_html_(), str(refused), capsys.readouterr().out):
        assert all(line.isprintable() for line in text.splitlines())
        text.encode()
    assert "<b>" not in listing._repr_html_()


def test_long_words_on_a_card_do_not_fill_the_table(shelves: Shelves) -> None:
    put(shelves.data, "sales", {"t.csv": CSV}, license="CC " * 5000, description="D" * 10_000)
    assert len(repr(data.list())) < 500
    assert data.card("sales").licence == ("CC " * 5000).strip()


@pytest.mark.parametrize("name", ["x[1]", "y*", "z?"])
@pytest.mark.parametrize("into", ["pandas", "dask"])
def test_a_files_name_is_no_pattern(shelves: Shelves, name: str, into: str) -> None:
    pytest.importorskip("dask")
    pandas = pytest.importorskip("pandas")
    (shelves.home / "new").mkdir()
    for number, one in enumerate((name, "x1", "y1", "z1")):
        pandas.DataFrame({"a": [number]}).to_parquet(shelves.home / "new" / f"{one}.parquet")
    data.add(shelves.home / "new", name="odd", licence="internal")
    table = data.load("odd", into, part=name)
    assert list(table.compute()["a"] if into == "dask" else table["a"]) == [0]


@pytest.mark.parametrize("name", ["~x.csv", "a::b.csv", "a\\b.csv", "new\nline.csv", "d/" * 3 + "x" * 240 + ".csv"])
def test_what_a_card_could_not_name_is_not_added_or_is_found_again(shelves: Shelves, name: str) -> None:
    path = shelves.home / "new" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(CSV)
    if len(name) > 200:
        data.add(shelves.home / "new", name="odd", licence="internal")
        assert len(data.load("odd")) == 1
    else:
        with pytest.raises(NotKept, match="source = "):
            data.add(shelves.home / "new", name="odd", licence="internal")


def test_pictures_with_odd_endings_are_one_part_all_the_same(shelves: Shelves) -> None:
    for number in range(210):
        path = shelves.home / "new" / f"{number}.[x]"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (part,) = data.add(shelves.home / "new", name="odd", licence="internal").parts
    assert (part.files, part.patterns) == (210, ("**/*",))
    assert data.load("odd", "path").is_dir()


def test_half_copied_sets_are_told_by_what_is_missing(shelves: Shelves) -> None:
    folder = put(shelves.data, "sales", {"t.csv": CSV, "u.csv": CSV})
    (folder / "t.csv").write_bytes(CSV[:3])
    (folder / "u.csv").unlink()
    assert [card.name for card in data.list()] == ["sales"]
    with pytest.raises(CardError, match="the size of what is there, 3 bytes"):
        data.load("sales", part="t")
    with pytest.raises(CardError, match=r"'u\.csv' = 'u\.csv': a file to read"):
        data.load("sales", part="u")


def test_a_model_whose_download_was_cut_off_is_told_to_operators(
    shelves: Shelves, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = put_model(shelves.models, "org/small", {"config.json": b"{}"})
    assert main(["catalogue", "check", str(shelves.models)]) == 0
    (folder / "blobs" / f"{HASH}.incomplete").write_bytes(b"")
    assert main(["catalogue", "check", str(shelves.models)]) == 1
    assert "its download was cut off or goes on" in capsys.readouterr().out


@pytest.mark.parametrize("main", ["", "../../..", "b" * 40])
def test_a_model_from_a_cache_that_is_broken_is_not_added(shelves: Shelves, main: str) -> None:
    folder = put_model(shelves.top / "elsewhere", "org/small", {"config.json": b"{}"})
    (folder / "refs/main").write_text(main)
    with pytest.raises(NotKept, match="a model that was downloaded completely"):
        models.add(folder, name="org/small", licence="internal")
    (folder / "refs/main").unlink()
    with pytest.raises(NotKept, match="a model that was downloaded completely"):
        models.add(folder, name="org/small", licence="internal")


# --- The word after a cell that failed -------------------------------------------------------------------------------


def failed(name: str) -> Any:
    """What IPython tells after a cell in which Hugging Face's library has missed a model."""
    kind = type("LocalEntryNotFoundError", (Exception,), {"__module__": "huggingface_hub.errors"})
    library = {"__name__": "transformers.hub", "kind": kind}
    exec("def load(repo_id):\n    raise kind('check your connection')", library)
    try:
        library["load"](name)  # type: ignore[operator]
    except kind as error:
        return SimpleNamespace(error_in_exec=error)


def test_the_word_says_what_is_missing_or_why_it_can_not_be_told(
    shelves: Shelves, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_model(shelves.models, "org/small", {"config.json": b"{}"})
    ipython._after(failed("org/smal"))
    assert "Did you mean org/small?" in capsys.readouterr().err

    def full(*_arguments: object) -> int:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(models.modelcache, "fill", full)
    ipython._after(failed("org/small"))
    assert "make room in your home" in capsys.readouterr().err
    monkeypatch.delenv("STUDIOLO_OUTLINE")
    ipython._after(failed("org/small"))
    assert capsys.readouterr().err == ""
