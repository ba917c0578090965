"""An owner moves their waiting session to where no extension is offered, and asks for one by the terms it began with."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator

import pytest
from hubclient import Hub, until


def as_owner(hub: Hub, user: str, *argv: str) -> None:
    """Run a Slurm command as a person, as from a terminal of theirs."""
    account = pwd.getpwnam(user)
    done = subprocess.run(
        argv,
        env={"SLURM_CONF": str(hub.slurm_conf), "PATH": "/usr/bin:/bin"},
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=os.getgrouplist(user, account.pw_gid),
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def moved(hub: Hub, ada: str) -> Iterator[str]:
    """A person whose session was asked for on ``cpu`` and runs on ``gpu``."""
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        assert hub.start(ada, {"profile": "learn"}).status_code == 202
        job = hub.job(ada)
        until("the line", lambda: hub.slurm("squeue", "-h", "-j", str(job), "-o", "%T").strip() == "PENDING")
        as_owner(hub, ada, "scontrol", "update", f"JobId={job}", "Partition=gpu")
        hub.ready(ada)
        yield ada
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_who_moved_a_session_elsewhere_gets_no_extension_by_its_first_terms(hub: Hub, moved: str) -> None:
    body = {"note": "test", "expires_in": 300}
    token = hub.call("POST", f"users/{moved}/tokens", json=body).json()["token"]
    limit = hub.slurm("squeue", "-h", "-j", str(hub.job(moved)), "-o", "%l")
    answer = hub.call("POST", "studiolo/extend", token=token, json={"name": "", "minutes": 30})
    words = answer.json()["message"]
    assert answer.status_code == 409, answer.text
    assert all(part in words for part in ("partition = 'gpu'", "started with 'cpu'", "support")), words
    assert hub.slurm("squeue", "-h", "-j", str(hub.job(moved)), "-o", "%l") == limit
