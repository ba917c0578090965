"""Sessions on the real hub and the real Slurm: what they get, what they leave, how they fail."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from hubclient import Hub, until

PROFILES = {
    "learn": {"SLURM_JOB_PARTITION": "cpu", "SLURM_CPUS_ON_NODE": "2"},
    "quarter-gpu": {"SLURM_JOB_PARTITION": "gpu", "SLURM_SHARDS_ON_NODE": "1"},
    "one-gpu": {"SLURM_JOB_PARTITION": "gpu", "SLURM_GPUS_ON_NODE": "1", "CUDA_VISIBLE_DEVICES": "0"},
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_session_has_what_its_profile_says_and_leaves_nothing(hub: Hub, ada: str, profile: str) -> None:
    assert hub.start(ada, {"profile": profile}).status_code == 202
    job = hub.job(ada)
    hub.ready(ada)
    environment = hub.environment(ada, "spawners.singleuser")
    assert {key: environment.get(key) for key in PROFILES[profile]} == PROFILES[profile]

    hub.stop(ada)

    assert hub.jobs(ada) == []
    assert hub.processes(ada) == []
    assert list(Path("/tmp").glob(f"studiolo-{job}-*")) == []
    assert [log for log in (hub.state / "logs" / "sessions").iterdir() if str(job) in log.read_text()] == []
    charged = until(
        "the charge", lambda: hub.slurm("sacct", "-XnP", "-j", str(job), "-o", "Account,State,AllocTRES").strip()
    )
    account, state, tres = charged.split("|")
    assert account == "playground"
    assert state.startswith("CANCELLED")
    if profile == "one-gpu":
        assert "gres/gpu=1" in tres
    if profile == "quarter-gpu":
        assert "gres/shard=1" in tres


def test_the_job_number_is_in_the_database_while_the_job_still_waits(hub: Hub, ada: str) -> None:
    hub.start(ada, {"profile": "learn", "reservation": ""})
    job = hub.job(ada)
    address = f"file:{hub.state}/hub/jupyterhub.sqlite?mode=ro"
    query = "select spawners.state from spawners join users on users.id = spawners.user_id where users.name = ?"
    with closing(sqlite3.connect(address, uri=True)) as database:

        def saved() -> bool:
            rows = database.execute(query, (ada,)).fetchall()
            return any(state and json.loads(state).get("job_id") == str(job) for (state,) in rows)

        until("the job's number in the database", saved, seconds=5)


def test_the_token_is_nowhere_that_slurm_or_a_log_keeps(hub: Hub, running: str) -> None:
    job = hub.job(running)
    created = hub.call("POST", f"users/{running}/tokens", json={"note": "test", "expires_in": 300}).json()["token"]
    kernels = f"{hub.url}user/{running}/api/kernels"
    answer = httpx.post(kernels, headers={"Authorization": f"token {created}"}, json={}, timeout=30)
    assert answer.status_code == 201, answer.text
    environment = until("a kernel", lambda: hub.environment(running, "ipykernel"))
    token = environment["JUPYTERHUB_API_TOKEN"]
    assert len(token) > 20

    assert token not in hub.slurm("scontrol", "show", "job", "-dd", str(job))
    assert token not in hub.slurm("scontrol", "write", "batch_script", str(job), "-")
    assert token not in hub.slurm("sacct", "-j", str(job), "-P", "-o", "ALL")
    assert "STUDIOLO_BOOTSTRAP" not in environment
    holders = [
        str(path)
        for path in hub.state.rglob("*")
        if path.is_file() and not path.is_symlink() and token.encode() in _bytes(path)
    ]
    assert holders == []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a socket, or gone meanwhile
        return b""


def test_a_job_that_dies_before_its_server_answers_ends_the_start_at_once_with_its_log(hub: Hub, ada: str) -> None:
    assert hub.start(ada, {"profile": "learn", "workdir": "no/such/<b>folder"}).status_code == 202
    last = hub.events(ada)[-1]
    assert last["failed"]
    assert "FAILED" in last["message"]
    assert "no/such/<b>folder can not be opened" in last["message"]
    assert "&lt;b&gt;folder" in last["html_message"]
    assert "<b>" not in last["html_message"]
    assert until("the end", lambda: hub.jobs(ada) == [])


def test_a_job_cancelled_by_somebody_else_ends_the_start_and_says_so(hub: Hub, ada: str) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(ada, {"profile": "learn"})
        job = hub.job(ada)
        hub.slurm("scancel", str(job))
        last = hub.events(ada)[-1]
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert last["failed"]
    assert "CANCELLED" in last["message"]


def test_a_waiting_session_says_why_and_can_be_stopped_without_a_trace(hub: Hub, ada: str) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(ada, {"profile": "learn"})
        hub.job(ada)
        headers = {"Authorization": f"token {hub.token}"}
        with httpx.stream(
            "GET", f"{hub.url}hub/api/users/{ada}/server/progress", headers=headers, timeout=30
        ) as answer:
            words = next(line for line in answer.iter_lines() if "PartitionDown" in line)
        assert "closed at the moment" in words
        hub.stop(ada)
        assert hub.jobs(ada) == []
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_what_slurm_refuses_is_told_in_slurms_words(hub: Hub, person: Callable[..., str]) -> None:
    learner = person("learner")
    assert hub.start(learner, {"profile": "four-gpus"}).status_code == 202
    last = hub.events(learner)[-1]
    assert last["failed"]
    assert "Slurm refused this session" in last["message"]
    assert "account" in last["message"].lower()
    assert hub.jobs(learner) == []


def test_the_log_folder_shows_nobody_elses_log(hub: Hub, running: str, person: Callable[..., str]) -> None:
    folder = hub.state / "logs" / "sessions"
    log = hub.log(running)
    facts = log.stat()
    assert facts.st_uid == pwd.getpwnam(running).pw_uid
    assert facts.st_mode & 0o777 == 0o640
    assert folder.stat().st_mode & 0o7777 == 0o3733
    other = pwd.getpwnam(person("company", 1))
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(other.pw_gid)
        os.setuid(other.pw_uid)
        os._exit(0 if os.access(log, os.R_OK) or os.access(folder, os.R_OK) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_nobody_can_learn_the_place_of_a_sessions_log_or_change_it(
    hub: Hub, ada: str, person: Callable[..., str]
) -> None:
    """Whoever knew the name before the job opens its log could put a link there, and whoever could change it, forge it."""
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    neighbour = person("company", 1)

    def tried(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["setpriv", f"--reuid={neighbour}", f"--regid={neighbour}", "--init-groups", *argv],
            env={"SLURM_CONF": str(hub.slurm_conf), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    try:
        hub.start(ada, {"profile": "learn"})
        job = hub.job(ada)
        log = hub.log(ada)
        assert not log.exists()
        for argv in (
            ["scontrol", "show", "job", "-dd", str(job)],
            ["squeue", "-h", "-j", str(job), "-O", "STDOUT:200,STDERR:200,Comment:200,Command:200,Name:200"],
            ["sacct", "-j", str(job), "-P", "-o", "ALL"],
            ["scontrol", "write", "batch_script", str(job), "-"],
        ):
            told = tried(*argv)
            assert log.stem not in told.stdout + told.stderr, argv
        assert tried("ls", str(log.parent)).returncode != 0
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    hub.ready(ada)
    assert log.stat().st_uid == pwd.getpwnam(ada).pw_uid
    for argv in (
        ["rm", "-f", str(log)],
        ["ln", "-sf", "/etc/hostname", str(log)],
        ["tee", str(log)],
        ["cat", str(log)],
    ):
        assert tried(*argv).returncode != 0, argv
    assert log.stat().st_uid == pwd.getpwnam(ada).pw_uid


def test_what_stands_in_the_place_of_a_log_is_not_followed(
    hub: Hub, ada: str, person: Callable[..., str], tmp_path: Path
) -> None:
    """Should somebody have guessed the name all the same: the job ends rather than write where a link points to."""
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    target = tmp_path / "target"
    try:
        hub.start(ada, {"profile": "learn"})
        hub.job(ada)
        log = hub.log(ada)
        log.symlink_to(target)
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    try:
        last = hub.events(ada)[-1]
        assert last["failed"]
        assert "FAILED" in last["message"]
        assert log.is_symlink()
        assert not target.exists()
    finally:
        log.unlink(missing_ok=True)


def test_a_folder_in_the_place_of_a_log_locks_nobody_out(hub: Hub, ada: str) -> None:
    hub.start(ada, {"profile": "learn"})
    hub.ready(ada)
    log = hub.log(ada)
    log.unlink()
    log.mkdir()
    try:
        hub.stop(ada)
        assert hub.start(ada, {"profile": "learn"}).status_code == 202
        hub.ready(ada)
    finally:
        log.rmdir()
