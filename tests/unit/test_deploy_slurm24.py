"""Tests in another Debian: what is decided before debootstrap and unshare run, and the first process of the inside."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import commands, enclosure, slurm24
from deploy.errors import DeployError
from deploy.facts import FolderFacts
from deploy.settings import for_tests

FOLDER = FolderFacts(Path("/var/cache/x"), 50_000, None, None, noexec=False, is_ours=False, is_empty=True, device=1)
DUMP = """\
APT::Architecture "amd64";
Acquire::Languages "none";
Acquire::http::Proxy "http://me:secret@proxy:3128";
Acquire::http::Proxy-Auto-Detect "/usr/local/bin/find-proxy";
Acquire::https::Proxy "DIRECT";
Acquire::Check-Valid-Until "false";
DPkg::Post-Invoke:: "rm -rf /";
"""


def test_the_place_is_what_the_environment_names() -> None:
    assert slurm24.place_from({}) == slurm24.Place(slurm24.DEFAULT_FOLDER, "")
    named = slurm24.place_from(
        {"STUDIOLO_SLURM24_FOLDER": "/srv/d13", "STUDIOLO_DEBIAN_MIRROR": "http://mirror/debian"}
    )
    assert named == slurm24.Place(Path("/srv/d13"), "http://mirror/debian")
    assert named.root == Path("/srv/d13/root")


def test_each_folder_has_an_instance_of_its_own_name_and_keeps_it() -> None:
    one, other = slurm24.Place(Path("/srv/one")), slurm24.Place(Path("/srv/other"))
    assert one.state != other.state
    assert one.state == slurm24.Place(Path("/srv/one"), "http://elsewhere").state


def test_the_chore_hands_pytests_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[str]] = []
    monkeypatch.setattr(slurm24, "test", lambda environ, rest: handed.append(list(rest)) or 7)
    monkeypatch.setattr(commands.phase1, "need_root", lambda words, checks_follow: None)
    assert commands.main(["test-slurm24", "--", "tests/slurm", "-k", "gpu"]) == 7
    assert handed == [["tests/slurm", "-k", "gpu"]]


# -- checks -------------------------------------------------------------------------------------------


def test_a_new_and_an_earlier_folder_will_do_though_it_is_closed_to_others() -> None:
    assert slurm24.check_place(FOLDER, made=False).problems == ()
    ours = replace(FOLDER, is_ours=True, is_empty=False, closed_parent=FOLDER.path)
    assert slurm24.check_place(ours, made=True).problems == ()


def test_all_that_is_wrong_with_a_folder_is_told_at_once() -> None:
    bad = replace(FOLDER, is_empty=False, noexec=True, free_mb=10, loose_parent=Path("/var/cache"))
    problems = slurm24.check_place(bad, made=False).problems
    assert len(problems) == 4
    for word in ("not ours", "noexec", "3000 MB", "anybody may write to /var/cache"):
        assert any(word in problem for problem in problems), word
    assert all("STUDIOLO_SLURM24_FOLDER" in problem for problem in problems)


def test_a_folder_that_is_made_needs_less_room() -> None:
    tight = replace(FOLDER, free_mb=slurm24.AGAIN_MB)
    assert slurm24.check_place(tight, made=True).problems == ()
    assert slurm24.check_place(tight, made=False).problems


def test_a_folder_is_usable_once_stamped_and_as_long_as_no_run_left_its_instance(tmp_path: Path) -> None:
    place = slurm24.Place(tmp_path)
    assert not slurm24.is_usable(place)
    slurm24.stamps.write(tmp_path, slurm24.STAMP, slurm24.wanted())
    assert slurm24.is_usable(place)
    (place.root / place.state.relative_to("/")).mkdir(parents=True)
    assert not slurm24.is_usable(place)


# -- making it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        ("Docker|Docker CE|stable|https://docker/debian/\nDebian|Debian|main|http://m/debian/\n", "http://m/debian/"),
        ("Debian|Debian-Security|main|http://m/security/\nDebian|Debian|contrib|http://c/\n", None),
        ("Debian|Debian|main|cdrom://disc/\nDebian|Debian|main|file:/srv/debian/\n", "file:/srv/debian/"),
        ("Ubuntu|Ubuntu|main|http://u/ubuntu/\n", None),
        ("", None),
        ("\n|\nnonsense\n", None),
    ],
)
def test_the_mirror_is_the_one_whose_index_calls_itself_debian(targets: str, mirror: str | None) -> None:
    assert slurm24.debian_mirror(targets) == mirror


def test_debootstrap_always_checks_signatures_and_gets_a_list_of_words() -> None:
    command = slurm24.debootstrap_command(Path("/x/root"), "http://m/debian")
    assert "--force-check-gpg" in command
    assert command[-3:] == ["trixie", "/x/root", "http://m/debian"]


def test_debootstrap_uses_apts_proxy_unless_the_environment_names_one() -> None:
    found = slurm24.debootstrap_environment({"HOME": "/root"}, DUMP)
    assert found["http_proxy"] == "http://me:secret@proxy:3128"
    assert "https_proxy" not in found
    assert slurm24.debootstrap_environment({"http_proxy": "http://mine"}, DUMP)["http_proxy"] == "http://mine"


def test_only_the_way_to_the_mirrors_is_taken_from_apts_settings() -> None:
    lines = slurm24.apt_settings(DUMP).splitlines()[1:]
    assert lines == [
        'Acquire::http::Proxy "http://me:secret@proxy:3128";',
        'Acquire::https::Proxy "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    ]


def test_a_mirrors_password_is_not_shown() -> None:
    assert slurm24.without_password("https://me:secret@mirror/debian") == "https://mirror/debian"
    assert slurm24.without_password("http://mirror/debian@13") == "http://mirror/debian@13"


def test_nothing_is_removed_below_a_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(slurm24, "mounted_below", lambda folder, mountinfo: (f"{folder}/dev",))
    with pytest.raises(DeployError, match="umount"):
        slurm24.remove(tmp_path / "root")
    assert (tmp_path / "root").exists()


def test_mounts_below_a_folder_are_found_and_those_beside_it_are_not() -> None:
    listing = (
        "36 35 98:0 / /x/root/dev rw - ext3 a rw\n37 35 98:0 / /x/rooter rw - ext3 a rw\n38 35 0:1 / /x/root rw\nodd\n"
    )
    assert slurm24.mounted_below(Path("/x/root"), listing) == ("/x/root/dev", "/x/root")


def test_the_version_is_that_of_an_installed_package() -> None:
    listing = (
        "Package: slurmctld\nStatus: install ok installed\nVersion: 24.11.5-4\nDescription: x\n Version: 1\n\n"
        "Package: slurmdbd\nStatus: deinstall ok config-files\nVersion: 22.05\n"
    )
    assert slurm24.package_version(listing, "slurmctld") == "24.11.5-4"
    assert slurm24.package_version(listing, "slurmdbd") == ""
    assert slurm24.package_version(listing, "slurmrestd") == ""


# -- entering it --------------------------------------------------------------------------------------


def test_the_inside_knows_the_way_to_the_registries_and_little_else() -> None:
    outside = {
        "https_proxy": "http://proxy",
        "PIP_INDEX_URL": "https://index",
        "SSL_CERT_DIR": "/host/only",
        "CI": "true",
        "KEEP": "1",
        "STUDIOLO_STATE": "/var/lib/studiolo",
        "HOME": "/home/me",
        "PYTHONPATH": "/evil",
        "PATH": "/home/me/bin",
    }
    inside = slurm24.inner_environment(outside, Path("/var/lib/s"))
    assert inside["https_proxy"] == "http://proxy"
    assert inside["PIP_INDEX_URL"] == "https://index"
    assert inside["CI"] == "true"
    assert inside["HOME"] == "/root"
    assert inside["PATH"].startswith("/usr/local/sbin")
    assert not {"SSL_CERT_DIR", "KEEP", "STUDIOLO_STATE", "PYTHONPATH"} & set(inside)
    settings = for_tests(inside)
    assert settings.state == Path("/var/lib/s")
    assert "postgresql" in settings.test_packages
    assert "chromium" not in settings.test_packages
    assert "chromium" in for_tests({}).test_packages


def test_certificates_that_variables_name_are_found() -> None:
    named = slurm24.certificates({"PIP_CERT": "/etc/corp.pem", "SSL_CERT_FILE": "/etc/corp.pem", "CURL_CA_BUNDLE": "x"})
    assert named == (Path("/etc/corp.pem"),)


def test_settings_of_registries_are_lent_from_the_callers_home_to_roots(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine index password secret\n")
    assert (tmp_path / ".netrc", Path("/root/.netrc")) in slurm24.lent_files(tmp_path)


def test_tests_of_cluster_and_hub_run_unless_others_are_named() -> None:
    assert slurm24.test_command([])[-3:] == ["--", "tests/slurm", "tests/hub"]
    assert slurm24.test_command(["tests/slurm", "-k", "gpu or cpu"])[-3:] == ["tests/slurm", "-k", "gpu or cpu"]


def test_the_enclosure_gets_its_command_as_words_after_two_dashes() -> None:
    lent = [(Path("/home/me/.netrc"), Path("/root/.netrc"))]
    words = enclosure.command(Path("/usr/bin/python3"), Path("/x/root"), Path("/src"), lent, ["sh", "-c", "--root; x"])
    assert words[0] == "unshare"
    assert {"--mount", "--pid", "--fork", "--kill-child"} <= set(words)
    assert words[-4:] == ["--", "sh", "-c", "--root; x"]


def test_checkout_and_lent_files_are_mounted_read_only() -> None:
    calls = enclosure.mounts(Path("/r"), Path("/src"), [(Path("/home/me/.netrc"), Path("/root/.netrc"))])
    for source, place in (("/src", "/r/studiolo"), ("/home/me/.netrc", "/r/root/.netrc")):
        bound = calls.index(("mount", "--bind", source, place))
        assert calls[bound + 1] == ("mount", "--options", "remount,bind,ro", place)
    assert all(call[-1].startswith("/r/") for call in calls)


def test_a_link_is_no_mount_point(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    root = tmp_path / "root"
    (root / "root").mkdir(parents=True)
    (root / "root/.netrc").symlink_to(outside)
    enclosure.make_mount_points(root, [(Path("/home/me/.netrc"), Path("/root/.netrc"))])
    assert not (root / "root/.netrc").is_symlink()
    assert (root / "root/.netrc").read_bytes() == b""
    assert outside.read_text() == "precious"


def first_process(script: str, stdin: int) -> subprocess.Popen[bytes]:
    """A process that does what the first one of a namespace does for a shell script."""
    program = (
        "import sys, ctypes\n"
        "ctypes.CDLL(None).prctl(36, 1)\n"  # PR_SET_CHILD_SUBREAPER: orphans come to it, as to a namespace's first
        "from deploy.enclosure import serve\n"
        "sys.exit(serve(['/bin/sh', '-c', sys.argv[1]], 0))\n"
    )
    checkout = Path(enclosure.__file__).resolve().parents[1]
    return subprocess.Popen([sys.executable, "-c", program, script], stdin=stdin, stdout=subprocess.PIPE, cwd=checkout)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_status_of_the_inside_is_passed_on_whatever_orphans_end_before(script: str, status: int) -> None:
    orphan = "(sh -c 'exit 3' & ) ; "
    with first_process(orphan + script, subprocess.PIPE) as process:
        assert process.wait(20) == status


def test_the_inside_is_asked_to_end_once_the_lifeline_is_closed() -> None:
    with first_process(
        "trap 'echo tidied; exit 5' TERM; echo ready; while :; do sleep 0.05; done", subprocess.PIPE
    ) as p:
        assert p.stdout is not None
        assert p.stdin is not None
        assert p.stdout.readline() == b"ready\n"
        p.stdin.close()
        assert p.stdout.readline() == b"tidied\n"
        assert p.wait(20) == 5


def test_the_inside_can_not_read_the_lifeline() -> None:
    with first_process("cat; echo end", subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"end\n"
        assert process.wait(20) == 0


def test_the_enclosure_refuses_to_mount_outside_of_a_namespace(capfd: pytest.CaptureFixture[str]) -> None:
    assert os.getpid() != 1
    assert enclosure.main(["--root", "/nowhere", "--checkout", "/nowhere", "--", "true"]) == 1
    assert "unshare" in capfd.readouterr().err
