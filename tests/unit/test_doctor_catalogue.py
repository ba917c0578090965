"""The doctor's look at the catalogue: each thing that can be wrong is told with its path and whose move it is."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shelves import put, put_model

from studiolo.doctor_catalogue import catalogue_findings
from studiolo.finding import Finding
from studiolo.site import Catalogue, Site

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to others")
CSV = b"a,b\n1,2\n"
ADA = pwd.struct_passwd(("ada", "x", 70001, 70002, "", "/home/ada", "/bin/sh"))
AURORA = grp.struct_group(("aurora", "x", 70010, ["ada"]))


@pytest.fixture
def top(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody reaches, with the two of a catalogue; pytest's own are closed to others."""
    umask = os.umask(0o022)
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    for name in ("data", "models"):
        (made / name).mkdir()
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, AURORA.gr_gid])
    monkeypatch.setattr(grp, "getgrall", lambda: [AURORA])
    yield made
    os.umask(umask)
    shutil.rmtree(made)


def look(site: Site, top: Path, people: tuple[pwd.struct_passwd, ...] = (ADA,), **changes: Any) -> list[Finding]:
    told = {"data": (str(top / "data"),), "models": (str(top / "models"),), "groups": f"{top}/groups/{{group}}"}
    catalogue = Catalogue(**{**told, **changes})
    return list(catalogue_findings(site.model_copy(update={"catalogue": catalogue}), people))


def bad(findings: list[Finding]) -> list[tuple[str, str, str]]:
    assert all(one.advice for one in findings if one.level != "good")
    return [(one.level, one.what, one.advice) for one in findings if one.level != "good"]


def test_a_catalogue_in_order_has_no_fault(site: Site, top: Path) -> None:
    put(top / "data", "sales", {"t.csv": CSV})
    put_model(top / "models", "org/small", {"config.json": b"{}"})
    (top / "data/notes").mkdir()  # without a card: no set
    (top / "models/version.txt").write_text("1")
    for people in ((ADA,), ()):
        findings = look(site, top, people)
        assert bad(findings) == []
    assert [one.what.removeprefix("catalogue.") for one in findings] == [
        f"data: {top}/data: 1 data set(s) at hand",
        f"models: {top}/models: 1 model(s) at hand",
        "groups: 0 group(s) of people may keep sets of their own",
    ]


def test_folders_that_are_missing_or_none(site: Site, top: Path) -> None:
    (top / "file").write_text("")
    findings = look(site, top, data=(f"{top}/gone", f"{top}/file"), models=(), groups="")
    assert bad(findings) == [
        (
            "warning",
            f"catalogue.data: {top}/gone does not exist",
            f"install -d -m 755 {top}/gone, or take it out where you keep none there",
        ),
        ("fault", f"catalogue.data: {top}/file is not a folder", "name the folder that the sets lie in"),
    ]


def test_a_file_system_that_does_not_answer_is_a_fault(site: Site, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(_folder: object) -> list[str]:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "listdir", stale)
    ((level, what, _advice),) = bad(look(site, top, models=(), groups=""))
    assert (level, what) == ("fault", f"catalogue.data: {top}/data can not be read (Stale file handle)")


@pytest.mark.parametrize("place", ["", "data"])
def test_a_folder_that_people_can_not_read_is_a_fault(site: Site, top: Path, place: str) -> None:
    (top / place).chmod(0o750)
    ((level, what, advice),) = bad(look(site, top, models=()))
    assert level == "fault"
    assert what == f"catalogue.data: {top}/data can not be read by ada: {top / place} is closed to them"
    assert advice == f"chmod a+rX {top / place}"


@needs_root
def test_a_folder_for_a_group_that_all_people_are_in_is_open_to_them(site: Site, top: Path) -> None:
    os.chown(top / "data", 0, AURORA.gr_gid)
    (top / "data").chmod(0o750)
    assert bad(look(site, top)) == []
    assert [what for _level, what, _advice in bad(look(site, top, ()))] == [
        f"catalogue.data: {top}/data can not be read by other users: {top}/data is closed to them"
    ]


@pytest.mark.parametrize("place", ["", "data", "data/sales"])
def test_what_everybody_can_change_is_a_fault(site: Site, top: Path, place: str) -> None:
    put(top / "data", "sales", {"t.csv": CSV})
    (top / place).chmod(0o777)
    ((level, what, advice),) = bad(look(site, top, models=()))
    assert level == "fault"
    assert f"can be changed by everybody: {top / place} has mode 777" in what
    assert advice == f"chmod o-w {top / place}"


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [((ADA.pw_uid, 0), 0o755), ((0, AURORA.gr_gid), 0o775)])
def test_what_people_can_change_deserves_a_look(site: Site, top: Path, owner: tuple[int, int], mode: int) -> None:
    made = put(top / "data", "sales", {"t.csv": CSV})
    os.chown(made, *owner)
    made.chmod(mode)
    ((level, what, _advice),) = bad(look(site, top))
    assert (level, what) == (
        "warning",
        f"{made} can be changed by ada, who have sessions too: {made} has mode {mode:o}",
    )


def test_sets_that_can_not_be_used_are_told_with_file_and_field(site: Site, top: Path) -> None:
    put(top / "data", "good", {"t.csv": CSV})
    card = put(top / "data", "card", {"t.csv": CSV}, license=None, name="other")
    gone = put(top / "data", "gone", {"t.csv": CSV, "u.csv": CSV})
    (gone / "u.csv").unlink()
    closed = put(top / "data", "closed", {"t.csv": CSV}, **{"studiolo:groups": ["root"]})
    (top / "data/odd\nname").mkdir()
    (top / "data/odd\nname/croissant.json").write_text("{}")
    wrong = bad(look(site, top))
    assert [level for level, _what, _advice in wrong] == ["fault"] * 4
    told = [what for _level, what, _advice in wrong]
    assert told[0].startswith(f"{card}: croissant.json: license = None")
    assert f"{closed}: the folder = mode 755: closed to others" in told[1]
    assert told[2] == f"{gone}: part 'u.csv' = 'u.csv': a file to read (No such file or directory)"
    assert "odd\\nname" in told[3]
    assert all("studiolo catalogue check" in advice for _level, _what, advice in wrong)


def test_very_many_are_counted(site: Site, top: Path) -> None:
    for number in range(13):
        put(top / "data", f"set{number:02}", {"t.csv": CSV}, license="")
    wrong = bad(look(site, top))
    assert len(wrong) == 11
    assert wrong[-1][1] == f"catalogue.data: {top}/data: 3 more with faults"


def test_a_model_cache_that_is_none_is_told(site: Site, top: Path) -> None:
    (top / "models/small").mkdir()
    ((level, what, advice),) = bad(look(site, top))
    assert level == "fault"
    assert what.endswith("not laid out as Hugging Face's cache: no folder models--ORG--NAME, but 'small'")
    assert "hf download" in advice
    put_model(top / "models/hub", "org/small", {"config.json": b"{}"})
    ((_level, _what, advice),) = bad(look(site, top))
    assert advice == f"its folder hub is: name {top}/models/hub"


def test_models_among_data_sets_and_data_without_cards_are_told(site: Site, top: Path) -> None:
    put_model(top / "data", "org/small", {"config.json": b"{}"})
    assert [what for _level, what, _advice in bad(look(site, top))] == [
        f"catalogue.data: {top}/data holds models (models--org--small)",
        f"catalogue.data: {top}/data holds no data set: nothing in it has a card",
    ]


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "level", "words"),
    [
        (AURORA.gr_gid, 0o3770, "", ""),
        (0, 0o3770, "fault", "belongs to another group than aurora"),
        (AURORA.gr_gid, 0o3775, "fault", "is open to others than aurora: mode 3775"),
        (AURORA.gr_gid, 0o2750, "warning", "takes nothing from members of aurora: mode 2750"),
        (AURORA.gr_gid, 0o2770, "warning", "lets members of aurora remove what is another's: mode 2770"),
    ],
)
def test_the_place_of_a_group(site: Site, top: Path, owner: int, mode: int, level: str, words: str) -> None:
    folder = top / "groups/aurora/data"
    folder.mkdir(parents=True)
    os.chown(folder, 0, owner)
    folder.chmod(mode)
    findings = look(site, top)
    expected = [(level, f"catalogue.groups: {folder} {words}")] if level else []
    assert [(level, what) for level, what, _advice in bad(findings)] == expected
    assert findings[-1].what == "catalogue.groups: 1 group(s) of people may keep sets of their own"


def test_a_link_in_the_place_of_a_groups_folder_is_a_fault(site: Site, top: Path) -> None:
    (top / "groups/aurora").mkdir(parents=True)
    (top / "groups/aurora/data").symlink_to(top / "data")
    ((level, what, _advice),) = bad(look(site, top))
    assert (level, what) == ("fault", f"catalogue.groups: {top}/groups/aurora/data is not a folder of its own")
