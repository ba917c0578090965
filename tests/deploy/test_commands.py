"""The Makefile's commands on a real platform."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmbox.box import supervisor
from slurmbox.instance import Instance

if TYPE_CHECKING:
    from conftest import Platform


def pids(box: Instance) -> dict[str, int]:
    return {program.name: program.pid for program in supervisor(box).states()}


def test_access_json_is_roots_alone_and_opens_the_hub(platform: Platform, access: dict[str, Any]) -> None:
    file = platform.state / "access.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_uid == 0
    assert set(access) == {"url", "hub_api_token", "users"}
    assert {user["role"] for user in access["users"]} == {"company", "researcher", "trainer", "learner", "operator"}
    for user in access["users"]:
        pwd.getpwnam(user["name"])
    request = urllib.request.Request(f"{access['url']}hub/api/info")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    refused.value.close()
    assert refused.value.code in (401, 403)
    request.add_header("Authorization", f"token {access['hub_api_token']}")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def test_no_secret_is_readable_to_others_or_stands_on_a_command_line(platform: Platform, box: Instance) -> None:
    secrets = {f.read_bytes().strip() for f in (platform.state / "secrets").iterdir()}
    assert len(secrets) >= 5
    for path in platform.state.rglob("*"):
        if path.is_file() and path.stat().st_mode & stat.S_IROTH and "mariadb" not in path.parts:
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path
    for pid in pids(box).values():
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not any(secret in line for secret in secrets)


def test_hub_and_proxy_run_as_the_hubs_account(box: Instance) -> None:
    hub = pwd.getpwnam(box.hub_user).pw_uid
    for name in ("hub", "proxy"):
        assert Path(f"/proc/{pids(box)[name]}").stat().st_uid == hub


def test_a_second_up_disturbs_nothing(platform: Platform, box: Instance) -> None:
    before = pids(box)
    secrets = json.loads((platform.state / "access.json").read_text())
    done = platform.up()
    assert done.returncode == 0, done.stdout + done.stderr
    assert pids(box) == before
    assert json.loads((platform.state / "access.json").read_text()) == secrets
    assert "running already" in done.stdout


def test_the_checkout_stays_as_it_was(platform: Platform) -> None:
    del platform
    checkout = Path(__file__).resolve().parents[2]
    assert not list(checkout.glob("*.egg-info"))
    assert not (checkout / "build").exists()
    assert not list((checkout / "deploy").rglob("__pycache__")) or os.access(checkout / ".venv", os.F_OK)


def test_status_shows_what_runs(platform: Platform, box: Instance) -> None:
    done = platform.make("status")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("slurmctld", "hub", "proxy", *(node.name for node in box.nodes)):
        assert word in done.stdout


def test_status_of_nothing_is_3_and_says_what_starts_it(platform: Platform, tmp_path: Path) -> None:
    nothing = type(platform)(tmp_path / "state", tmp_path / "prefix")
    done = nothing.make("status")
    assert done.returncode == 3
    assert f"STUDIOLO_STATE={nothing.state}" in done.stdout
    assert "make up` starts it" in done.stdout


def test_clean_refuses_folders_that_are_not_ours_and_does_nothing_twice(platform: Platform, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letters.txt").write_text("dear")
    done = type(platform)(foreign, tmp_path / "prefix").make("clean")
    assert done.returncode == 2
    assert "was not made by `make up`" in done.stderr
    assert (foreign / "letters.txt").exists()
    assert type(platform)(tmp_path / "state", tmp_path / "prefix").make("clean").returncode == 0


def test_up_refuses_a_folder_with_someone_elses_files(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    done = type(platform)(tmp_path, platform.prefix).make("up", "--group", "test")
    assert done.returncode == 2
    assert "not ours" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_software_is_readable_by_every_user(platform: Platform, access: dict[str, Any]) -> None:
    person = access["users"][0]["name"]
    python = str(platform.prefix / "venv" / "bin" / "python")
    command = [python, "-I", "-c", "import studiolo, jupyterlab; print(studiolo.__file__)"]
    done = subprocess.run(
        command, user=person, group=person, extra_groups=[], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(platform.prefix))
    for path in (platform.prefix / "venv").rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & stat.S_IROTH, path


def test_down_ends_every_process_and_up_goes_on_where_it_was(platform: Platform, access: dict[str, Any]) -> None:
    done = platform.make("down")
    assert done.returncode == 0, done.stdout + done.stderr
    mark = f"STUDIOLO_BOX={platform.state}".encode()
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                left.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    assert left == []
    assert platform.make("status").returncode == 3
    assert platform.make("down").returncode == 0
    done = platform.up()
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((platform.state / "access.json").read_text()) == access
