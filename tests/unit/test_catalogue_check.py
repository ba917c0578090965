"""``studiolo catalogue check``: what an operator has to mend, all of it at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shelves import put, put_model

from studiolo.cli import main
from studiolo.errors import SiteError
from studiolo.site import parse

CSV = b"a,b\n1,2\n"
SITE = Path(__file__).parent / "site_for_tests.toml"


@pytest.fixture(autouse=True)
def _usual_permissions() -> None:
    os.umask(0o022)


def checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = main(["catalogue", "check", str(folder)])
    return status, capsys.readouterr().out.splitlines()


def test_a_good_folder_is_said_to_be_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "sales", {"t.csv": CSV})
    put_model(tmp_path, "org/small", {"config.json": b"{}"})
    assert checked(tmp_path, capsys) == (0, [f"{tmp_path}: 2 data set(s) or model(s), 0 with faults"])
    assert checked(tmp_path / "sales", capsys)[0] == 0


def test_all_faults_are_told_at_once_with_folder_and_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "good", {"t.csv": CSV})
    put(tmp_path, "card", {"t.csv": CSV}, license=None, name="other")
    changed = put(tmp_path, "changed", {"t.csv": CSV, "u.csv": CSV})
    (changed / "t.csv").write_bytes(CSV.replace(b"1", b"3"))
    (changed / "u.csv").unlink()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "good")
    tricked = put_model(tmp_path, "org/tricked", {"config.json": b"{}"})
    (tricked / "refs/main").write_text("../..")
    put_model(tmp_path, "org/unfinished", {"config.json": b"{}"}).joinpath("refs/main").unlink()
    left = tmp_path / ".adding-x-1"
    left.mkdir()
    os.utime(left, (0, 0))
    (tmp_path / ".adding-y-2").mkdir()  # at work this moment
    status, lines = checked(tmp_path, capsys)
    assert status == 1
    assert lines[-1] == f"{tmp_path}: 8 data set(s) or model(s), 7 with faults"
    told = "\n".join(lines)
    for words in ("card: croissant.json: license = None", "changed: part 't.csv' = sha256", "changed: part 'u.csv'", "nothing: the folder: a folder with",
                  "link: the folder", "models--org--tricked: the folder: refs/main", "models--org--unfinished", ".adding-x-1: the folder"):  # fmt: skip
        assert words in told
    assert "good:" not in told
    assert ".adding-y" not in told


def test_permissions_are_compared_with_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "open", {"t.csv": CSV}, **{"studiolo:groups": ["games"]})
    os.chmod(put(tmp_path, "closed", {"t.csv": CSV}) / "t.csv", 0o600)
    os.chmod(put(tmp_path, "loose", {"t.csv": CSV}) / "t.csv", 0o666)
    put(tmp_path, "unknown", {"t.csv": CSV}, **{"studiolo:groups": ["no-such-group"]})
    told = "\n".join(checked(tmp_path, capsys)[1])
    assert "open: the folder = mode 755: closed to others: the card is for games" in told
    assert "open: the folder = group" in told
    assert "closed: 't.csv' = mode 600: readable for those whom the card names" in told
    assert "loose: 't.csv' = mode 666: not to be written by everybody" in told
    assert "unknown: studiolo:groups = 'no-such-group': a unix group that this host knows" in told


def test_a_folder_that_can_not_be_read_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "check", str(tmp_path / "nothing")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_without_a_folder_all_of_the_site_file_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "models").mkdir()
    site = tmp_path / "site.toml"
    told = f'[catalogue]\ndata = ["{tmp_path}/data"]\nmodels = ["{tmp_path}/models"]\n\n[clusters'
    site.write_text(SITE.read_text(encoding="utf-8").replace("[clusters", told, 1), encoding="utf-8")
    put(tmp_path / "data", "sales", {"t.csv": CSV}, license=None)
    assert main(["catalogue", "check", "--site", str(site)]) == 1
    assert [line.rpartition(" with")[0] for line in capsys.readouterr().out.splitlines()][1:] == [
        f"{tmp_path}/data: 1 data set(s) or model(s), 1",
        f"{tmp_path}/models: 0 data set(s) or model(s), 0",
    ]


@pytest.mark.parametrize(
    "groups", ["/srv/groups", "srv/{group}", "/srv/{group}/{group}", "/srv/{person}/{group}", "/srv/../{group}"]
)
def test_the_folder_of_groups_has_their_name_in_it(groups: str) -> None:
    text = SITE.read_text(encoding="utf-8").replace("[clusters", f'[catalogue]\ngroups = "{groups}"\n\n[clusters', 1)
    with pytest.raises(SiteError, match=r"catalogue\.groups"):
        parse(text)
    assert parse(text.replace(groups, "")).catalogue.model_folders == ("/opt/studiolo/catalogue/models",)
