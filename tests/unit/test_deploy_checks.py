"""What stands in the way of `make up`: facts of a machine in, sentences out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy import checks, facts
from deploy.facts import Facts, FolderFacts, PythonFacts

DEBIAN = {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian 12"}


def folder(path: str, **changes: Any) -> FolderFacts:
    plain = FolderFacts(Path(path), 50_000, None, None, noexec=False, is_ours=False, is_empty=True, device=1)
    return replace(plain, **changes)


def machine(**changes: Any) -> Facts:
    good = Facts(
        system="linux",
        machine="x86_64",
        os_release=DEBIAN,
        has_apt=True,
        is_root=True,
        memory_mb=16_000,
        python=PythonFacts(Path("/usr/bin/python3"), (3, 11), None),
        state=folder("/var/lib/studiolo"),
        prefix=folder("/opt/studiolo"),
        software_installed=False,
    )
    return replace(good, **changes)


def problems(**changes: Any) -> tuple[str, ...]:
    return checks.check(machine(**changes)).problems


def test_a_good_machine_has_neither_problems_nor_warnings() -> None:
    assert checks.check(machine()) == checks.Findings()


@pytest.mark.parametrize(
    "fields",
    [
        {"ID": "debian", "VERSION_ID": "13"},
        {"ID": "debian"},  # testing and unstable have no number
        {"ID": "ubuntu", "VERSION_ID": "22.04"},
        {"ID": "ubuntu", "VERSION_ID": "24.10"},
    ],
)
def test_systems_that_will_do(fields: dict[str, str]) -> None:
    assert checks.check(machine(os_release=fields)) == checks.Findings()


@pytest.mark.parametrize(
    "fields",
    [
        {"ID": "debian", "VERSION_ID": "11"},
        {"ID": "ubuntu", "VERSION_ID": "20.04"},
        {"ID": "fedora", "VERSION_ID": "42"},
        {},
    ],
)
def test_systems_that_will_not_do_are_told_which_would(fields: dict[str, str]) -> None:
    (sentence,) = problems(os_release=fields)
    assert "Debian 12 or later" in sentence


def test_a_derivative_is_warned_about_and_let_through() -> None:
    found = checks.check(machine(os_release={"ID": "linuxmint", "ID_LIKE": "ubuntu debian", "PRETTY_NAME": "Mint"}))
    assert found.problems == ()
    assert found.warnings == ("Mint is not tested; going on as on Debian.",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": "darwin"}, "runs on Linux"),
        ({"machine": "riscv64"}, "riscv64"),
        ({"has_apt": False}, "apt-get is missing"),
        ({"is_root": False}, "run this as root"),
        ({"memory_mb": 900}, "900 MB of memory"),
        ({"python": PythonFacts(Path("/usr/bin/python3"), None, None)}, "apt-get install python3"),
        ({"python": PythonFacts(Path("/usr/bin/python3"), (3, 9), None)}, "is Python 3.9"),
        ({"python": PythonFacts(Path("/usr/bin/python3"), (3, 11), Path("/root"))}, "`chmod o+x /root`"),
        ({"state": folder("lib/studiolo")}, "name a full path"),
        ({"state": folder("/var/../studiolo")}, "without `..`"),
        ({"state": folder("/var/lib/with space")}, "letters, digits"),
        ({"state": folder("/var/lib")}, "belongs to the system"),
        ({"state": folder("/srv/data", is_empty=False)}, "not ours"),
        ({"state": folder("/root/x/state", closed_parent=Path("/root"))}, "`chmod o+x /root`"),
        ({"state": folder("/srv/a/state", loose_parent=Path("/srv/a"))}, "`chmod o-w /srv/a`"),
        ({"state": folder("/srv/" + "s" * 60)}, "65 characters"),
        ({"state": folder("/opt/studiolo/state")}, "must not lie in each other"),
        ({"prefix": folder("/opt/studiolo", noexec=True)}, "noexec"),
        ({"busy": "`make up` is at work."}, "`make up` is at work."),
    ],
)
def test_what_stands_in_the_way_is_said_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    (sentence,) = problems(**changes)
    assert words in sentence
    assert "\n" not in sentence


def test_all_problems_are_reported_at_once() -> None:
    assert len(problems(machine="i686", is_root=False, memory_mb=100)) == 3


def test_disk_space_is_added_up_where_both_folders_share_a_disk() -> None:
    together = {"state": folder("/var/lib/studiolo", free_mb=3500), "prefix": folder("/opt/studiolo", free_mb=3500)}
    (sentence,) = problems(**together)
    assert "4000 MB" in sentence
    assert problems(**together, software_installed=True) == ()
    assert problems(state=folder("/var/lib/studiolo", free_mb=3500, device=2), prefix=together["prefix"]) == ()


def test_a_folder_of_ours_may_be_full() -> None:
    assert problems(state=folder("/var/lib/studiolo", is_ours=True, is_empty=False)) == ()


def test_the_first_folder_closed_to_others_is_found(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "open").chmod(0o755)
    found = facts.look_at_folder(closed / "open" / "state", "mark")
    assert found.closed_parent is not None
    assert found.closed_parent == closed or found.closed_parent in closed.parents  # pytest's own folder may be closed
    assert found.is_empty
    assert not found.is_ours


def test_a_folder_that_anybody_may_write_to_is_found_unless_it_is_sticky(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    assert facts.look_at_folder(loose / "state", "mark").loose_parent == loose
    loose.chmod(0o1777)
    assert facts.look_at_folder(loose / "state", "mark").loose_parent is None


def test_a_python_behind_a_closed_folder_is_hidden(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    python = private / "python3"
    python.symlink_to("/usr/bin/python3")
    private.chmod(0o700)
    found = facts.look_at_python(python)
    assert found.version is not None
    assert found.hidden_by is not None
    assert facts.look_at_python(private / "none").version is None


def test_os_release_is_read_without_quotes_and_comments() -> None:
    assert facts.parse_os_release('# c\nID=debian\nVERSION_ID="12"\n\n') == {"ID": "debian", "VERSION_ID": "12"}
