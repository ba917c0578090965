"""What a person gets at the end: logins, access.json, the summary, the status page."""

from __future__ import annotations

import io
import json
import os
import re
import stat
from pathlib import Path

import pytest

from deploy import access, secrets_store, status, sudoers, summary
from deploy.errors import CommandFailed
from deploy.runner import Log
from deploy.signals import exit_status_of
from deploy.steps import Steps
from slurmbox.box import NodeState, Status
from slurmbox.people import demo_people
from slurmbox.supervise import ProgramState

SECRETS = {"user_password": "user-pass", "admin_password": "admin-pass", "api_token": "t0k3n"}
URL = "http://127.0.0.1:8000/"


def test_operators_have_a_password_of_their_own() -> None:
    built = access.build(URL, demo_people(), SECRETS)
    passwords = {user["name"]: user["password"] for user in built["users"]}
    assert passwords["otto"] == "admin-pass"
    assert set(passwords.values()) == {"admin-pass", "user-pass"}
    assert {user["name"] for user in built["users"]} == {person.name for person in demo_people()}


def test_access_json_is_private_and_has_the_promised_shape(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root's files need root")
    file = tmp_path / "access.json"
    access.write(file, access.build(URL, demo_people("x3f2"), SECRETS))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = json.loads(file.read_text())
    assert content["url"] == URL
    assert content["hub_api_token"] == "t0k3n"
    assert all(set(user) == {"name", "password", "role"} for user in content["users"])


def test_secrets_are_made_once_and_only_for_the_hub(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root's files need root")
    folder = tmp_path / "secrets"
    first = secrets_store.ensure(folder, 0)
    assert secrets_store.ensure(folder, 0) == first
    assert len(first["admin_password"]) >= 32
    assert re.fullmatch(r"[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}", first["user_password"])
    assert len(bytes.fromhex(first["cookie_secret"])) == 32
    assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o640}
    assert len(set(first.values())) == len(first)


def test_the_summary_names_url_logins_and_the_way_from_a_laptop() -> None:
    text = summary.summary(access.build(URL, demo_people(), SECRETS), Path("/s/access.json"), "node7", "make down")
    assert URL in text
    assert re.search(r"^  ada +user-pass +company$", text, re.MULTILINE)
    assert re.search(r"^  otto +admin-pass +operator$", text, re.MULTILINE)
    assert "ssh -L 8000:127.0.0.1:8000 node7" in text
    assert "All 37 logins" in text
    assert "t0k3n" not in text


@pytest.mark.parametrize(
    ("url", "port"),
    [(URL, 8000), ("http://localhost/", 80), ("http://[::1]:81/", 81), ("https://hub.example.org/", None)],
)
def test_only_a_loopback_address_needs_a_tunnel(url: str, port: int | None) -> None:
    assert summary.loopback_port(url) == port


def test_status_shows_daemons_nodes_and_sessions() -> None:
    daemon = ProgramState("hub", "RUNNING", 42, 3725, "")
    node = NodeState("gpu1", "idle", 32, 30, 4, 3, 16, 12)
    state = Status(True, True, (daemon,), (node,), 1, 0)
    server = {"ready": True, "started": "2026-11-22T01:02:03.000000Z", "state": {"job_id": 17, "node": "gpu1"}}
    rows = status.session_rows([{"name": "ada", "servers": {"": server}}])
    text = status.report(URL, state, rows)
    assert re.search(r"hub +running +42 +1:02:05", text)
    assert re.search(r"gpu1 +idle +30 of 32 +3 of 4 +12 of 16", text)
    assert re.search(r"ada +default +ready +17 +gpu1 +2026-11-2", text)
    assert status.is_healthy(state)
    assert not status.is_healthy(Status(True, False, (daemon,), (), 0, 0))


def test_a_session_of_which_little_is_known_is_still_shown() -> None:
    assert status.session_rows([{"name": "ben", "servers": {"x": {"pending": "spawn"}}}]) == [
        ("ben", "x", "spawn", "-", "-", "-")
    ]
    assert status.session_rows([{"name": "ben", "servers": None}]) == []


def test_the_sudo_rule_is_read_only_from_a_folder_that_sudo_reads() -> None:
    assert sudoers.includes_folder("root ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n")
    assert sudoers.includes_folder("#includedir /etc/sudoers.d")
    assert not sudoers.includes_folder("# @includedir /etc/sudoers.d\n")
    assert "." not in sudoers.file_for("x3f2").name


def test_a_sudo_rule_of_another_instance_stays(tmp_path: Path) -> None:
    file = sudoers.file_for("x3f2", tmp_path)
    file.write_text(sudoers.mark(Path("/var/lib/other")))
    sudoers.remove("x3f2", Path("/var/lib/mine"), tmp_path)
    assert file.exists()
    sudoers.remove("x3f2", Path("/var/lib/other"), tmp_path)
    assert not file.exists()


def test_steps_are_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    steps = Steps(Log(None), 3, first=2, out=out)
    with steps.step("Proxy software"):
        steps.note("unchanged")
    with pytest.raises(CommandFailed), steps.step("Slurm cluster"):
        raise CommandFailed("no")
    shown = re.sub(r"\d+\.\d s", "T", out.getvalue())
    assert shown == "[2/3] Proxy software … T (unchanged)\n[3/3] Slurm cluster … failed after T\n"


def test_an_expected_failure_is_a_sentence_and_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> int:
        raise CommandFailed("uv could not install.", ["last words"])

    log = Log(tmp_path / "log" / "up.log")
    assert exit_status_of(act, log) == 1
    said = capsys.readouterr().err
    assert said == f"\nuv could not install.\n  last words\nThe whole log: {log.path}\n"


def test_ctrl_c_is_one_sentence_and_130(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> int:
        raise KeyboardInterrupt

    assert exit_status_of(act, interrupted="Interrupted.") == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"
