"""Presets: kept whole or not at all, a person's own alone, and never lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners.presets import MAX_FILE, MOST, Presets, PresetsUnreadable, faults_of, kept, name_refusal, told
from studiolo.site import Site


@pytest.fixture
def ada(tmp_path: Path) -> Presets:
    return Presets(tmp_path / "presets", "ada")


def test_who_has_saved_nothing_has_none(ada: Presets) -> None:
    assert ada.all() == {}
    assert not ada.delete("x")
    assert not ada.folder.exists()


def test_a_preset_is_kept_replaced_and_deleted(ada: Presets) -> None:
    assert ada.save("night", {"profile": "one"})
    assert ada.save("Day", {"profile": "learn"})
    assert ada.save("night", {"profile": "one", "minutes": "8h"})
    again = Presets(ada.folder, "ada")
    assert list(again.all().items()) == [("Day", {"profile": "learn"}), ("night", {"profile": "one", "minutes": "8h"})]
    assert again.delete("Day")
    assert list(ada.all()) == ["night"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", "\ud800", "x" * 500, "ADA", "ada\0"])
def test_nobody_else_sees_them_whatever_they_are_called(ada: Presets, name: str) -> None:
    ada.save("mine", {"profile": "one"})
    other = Presets(ada.folder, name)
    assert other.file.parent == ada.folder
    assert other.all() == {}


def test_only_the_hub_can_read_them(ada: Presets) -> None:
    ada.save("mine", {"profile": "one"})
    assert ada.folder.stat().st_mode & 0o777 == 0o700
    assert ada.file.stat().st_mode & 0o777 == 0o600


def test_there_are_so_many_at_most_and_the_old_ones_can_still_be_changed(ada: Presets) -> None:
    for number in range(MOST):
        assert ada.save(f"p{number}", {})
    assert not ada.save("one more", {})
    assert ada.save("p0", {"profile": "one"})
    assert len(ada.all()) == MOST


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"presets": []}', b'{"presets": {"a": 1}}', b"\xff", b"[" * 100_000]
)
def test_a_file_that_can_not_be_read_is_no_empty_one_and_is_not_written_over(ada: Presets, content: bytes) -> None:
    ada.save("mine", {"profile": "one"})
    ada.file.write_bytes(content)
    for act in (ada.all, lambda: ada.save("x", {}), lambda: ada.delete("mine")):
        with pytest.raises(PresetsUnreadable):
            act()
    assert ada.file.read_bytes() == content


def test_what_could_not_be_read_again_is_not_written(ada: Presets) -> None:
    ada.save("mine", {"profile": "one"})
    with pytest.raises(OSError, match="too large"):
        ada.save("endless", {"workdir": "x" * MAX_FILE})
    assert list(ada.all()) == ["mine"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(ada: Presets, monkeypatch: pytest.MonkeyPatch) -> None:
    ada.save("mine", {"profile": "one"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        ada.save("other", {"profile": "learn"})
    assert list(ada.all()) == ["mine"]
    assert list(ada.folder.iterdir()) == [ada.file]


def test_the_file_says_whose_it_is(ada: Presets) -> None:
    ada.save("mine", {"profile": "one"})
    assert json.loads(ada.file.read_text()) == {"person": "ada", "presets": {"mine": {"profile": "one"}}}


@pytest.mark.parametrize("name", ["a", "My training run (8 h)", "数学", "<b>", "100 %", "x" * 40, "..a"])
def test_a_name_may_be_any_short_text(name: str) -> None:
    assert name_refusal(name) == ""


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a ", "a  b", "a/b", "a\\b", ".", "..", "a\nb", "a\0", "a\u202eb", "x" * 41]
)
def test_any_other_name_is_refused_with_the_rule(name: str) -> None:
    words = name_refusal(name)
    assert "up to 40 printable characters without slashes" in words
    assert words.isprintable()


def test_only_what_is_set_is_kept() -> None:
    given = {"profile": "one", "cpus": "", "gpus": None, "features": [], "shards": 0, "unknown": "x"}
    assert kept(given) == {"profile": "one", "shards": 0}


def test_a_preset_that_the_site_no_longer_allows_says_what_is_wrong(site: Site) -> None:
    assert told(site, "good", {"profile": "one"})["allowed"]
    model = told(site, "old", {"profile": "learn", "cpus": 64})
    assert not model["allowed"]
    assert model["options"] == {"profile": "learn", "cpus": 64}
    assert [fault["field"] for fault in model["faults"]] == ["cpus"]


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())))
def test_whatever_stands_in_the_file_is_judged_and_never_believed(site: Site, options: dict[str, object]) -> None:
    assert isinstance(faults_of(site, options), tuple)
