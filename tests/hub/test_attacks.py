"""Hostile callers at the hub's borders: each must be refused, and must change nothing."""

from __future__ import annotations

import pwd
import re
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hubclient import Hub, until

from spawners.identity import certificate_request
from studiolo.request import FIELDS

HOSTILE: list[dict[str, Any]] = [
    {"prologue": "id"},
    {"cmd": ["id"]},
    {"srun": "x"},
    {"exec_prefix": "id;"},
    {"profile": "learn", "partition": "cpu\n#SBATCH --uid=0"},
    {"profile": "learn", "reservation": "x\nid"},
    {"profile": "learn", "account": "playground --uid=0"},
    {"profile": "learn", "qos": "$(id)"},
    {"profile": "learn", "features": ["a;id"]},
    {"profile": "learn", "environment": "../../etc"},
    {"profile": "learn", "workdir": "a\0b"},
    {"profile": "learn", "workdir": "a\nb"},
    {"profile": "learn", "memory": "4G\n"},
    {"profile": "learn", "cpus": 10**30},
    {"profile": "learn", "cpus": -1},
    {"profile": "learn", "cpus": True},
    {"profile": "learn", "gpus": 1},
    {"profile": "one-gpu", "gpus": 5},
    {"profile": "one-gpu", "hours": 1000},
    {"profile": "one-gpu", "minutes": "1-0", "hours": 1},
    {"profile": {"$ne": 1}},
    {"profile": ["learn"]},
]


@pytest.mark.parametrize(
    "options", HOSTILE, ids=lambda options: ",".join(f"{k}={v!r}" for k, v in options.items())[:60]
)
def test_hostile_options_are_refused_before_anything_is_stored(hub: Hub, ada: str, options: dict[str, Any]) -> None:
    answer = hub.start(ada, options)
    assert answer.status_code == 400
    unknown = next((key for key in options if key not in FIELDS), None)
    if unknown:
        assert unknown in answer.text
        assert all(field in answer.text for field in FIELDS)
    assert hub.jobs(ada) == []
    assert hub.server(ada) == {}
    named = hub.call("PATCH", f"users/{ada}/server", json={"user_options": options})
    assert named.status_code in (400, 404)


def test_stocks_callback_is_gone(hub: Hub, running: str) -> None:
    token = server_token(hub, running)
    assert hub.call("POST", "batchspawner", token=token, json={"port": 40000}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"port": "8888"},
        {"port": 0},
        {"port": 80},
        {"port": 70000},
        {"port": True},
        {"port": 8888.0},
        {"port": None},
        {"port": [8888]},
        {"port": 8888, "ip": "127.0.0.1"},
        {"port": 8888, "job_id": "1"},
        [8888],
        "8888",
    ],
    ids=str,
)
def test_the_callback_takes_nothing_but_a_port(hub: Hub, running: str, body: Any) -> None:
    token = server_token(hub, running)
    assert hub.call("POST", "studiolo/listening", token=token, json=body).status_code == 400


def test_a_running_server_can_not_move_its_port(hub: Hub, running: str) -> None:
    token = server_token(hub, running)
    before = hub.server(running)
    assert hub.call("POST", "studiolo/listening", token=token, json={"port": 40000}).status_code == 404
    assert hub.server(running)["url"] == before["url"]
    assert httpx.get(f"{hub.url}user/{running}/api", timeout=10).status_code == 200


def test_one_persons_token_can_not_set_anothers_port(hub: Hub, running: str, person: Callable[..., str]) -> None:
    other = person("company", 1)
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(other, {"profile": "learn"})
        hub.job(other)
        token = server_token(hub, running)
        assert hub.call("POST", "studiolo/listening", token=token, json={"port": 40000}).status_code == 404
        mine = hub.call("POST", f"users/{other}/tokens", json={"note": "x", "expires_in": 60}).json()["token"]
        assert hub.call("POST", "studiolo/listening", token=mine, json={"port": 40000}).status_code == 404
        assert hub.server(other)["pending"] == "spawn"
    finally:
        hub.stop(other)
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_the_callback_wants_a_token(hub: Hub) -> None:
    answer = httpx.post(f"{hub.url}hub/api/studiolo/listening", json={"port": 40000}, timeout=10)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "body", [{"secret": "x" * 43}, {"secret": ""}, {"secret": 7}, {}, {"secret": "x", "user": "ada"}]
)
def test_a_wrong_secret_opens_nothing(hub: Hub, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{hub.url}hub/api/studiolo/bootstrap", json=body, timeout=10)
    assert answer.status_code in (400, 403)
    assert "environment" not in answer.json()


def test_a_used_secret_opens_nothing(hub: Hub, running: str) -> None:
    secret = hub.environment(running, "spawners.singleuser")["STUDIOLO_BOOTSTRAP"]
    body = {"secret": secret, "csr": certificate_request()[1]}
    answer = httpx.post(f"{hub.url}hub/api/studiolo/bootstrap", json=body, timeout=10)
    assert answer.status_code == 403


def test_the_hub_runs_unprivileged_and_may_only_submit_cancel_and_estimate(
    hub: Hub, box: Any, person: Callable[..., str]
) -> None:
    account = box.hub_user
    assert pwd.getpwnam(account).pw_uid != 0
    assert any("jupyterhub" in line for line in hub.processes(account))
    listed = subprocess.run(["sudo", "-l", "-U", account], capture_output=True, text=True, check=True).stdout
    allowed = [line.strip() for line in listed.splitlines() if "NOPASSWD" in line]
    actions = [re.search(r"/studiolo-launch (\w+) ", line) for line in allowed]
    assert sorted(found[1] for found in actions if found) == ["cancel", "estimate", "submit"]
    assert len(allowed) == 3
    assert all(f"(%{box.people_group}) NOPASSWD: " in line and "*" not in line for line in allowed)
    someone = person("company")
    for argv in (
        ["-u", "root", "/usr/bin/id"],
        ["-u", someone, "/usr/bin/id"],
        ["-u", someone, "/usr/bin/sbatch", "--version"],
        ["-u", "root", f"{box.prefix}/libexec/studiolo-launch", "cancel", str(box.slurm_conf), "/usr/bin"],
        ["-u", someone, f"{box.prefix}/libexec/studiolo-launch", "cancel", "/tmp/evil.conf", "/usr/bin"],
        ["-u", someone, f"{box.prefix}/libexec/studiolo-launch", "cancel", str(box.slurm_conf), "/tmp"],
    ):
        tried = subprocess.run(
            ["setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups", "sudo", "-n", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert tried.returncode != 0, argv
        assert "sudo:" in tried.stderr


def test_one_person_can_not_cancel_anothers_job_through_the_launcher(
    hub: Hub, box: Any, running: str, person: Callable[..., str]
) -> None:
    job = hub.job(running)
    launcher = [f"{box.prefix}/libexec/studiolo-launch", "cancel", str(box.slurm_conf), "/usr/bin"]
    tried = subprocess.run(
        ["sudo", "-n", "-u", person("company", 1), *launcher],
        input=f'{{"jobs": [{job}]}}',
        capture_output=True,
        text=True,
    )
    assert tried.returncode != 0
    assert hub.jobs(running) == [job]


def server_token(hub: Hub, user: str) -> str:
    """The API token of a user's server, taken from a kernel of it as any notebook could."""
    if not hub.environment(user, "ipykernel"):
        token = hub.call("POST", f"users/{user}/tokens", json={"note": "test", "expires_in": 60}).json()["token"]
        httpx.post(
            f"{hub.url}user/{user}/api/kernels", headers={"Authorization": f"token {token}"}, json={}, timeout=30
        )
    return str(until("a kernel", lambda: hub.environment(user, "ipykernel"))["JUPYTERHUB_API_TOKEN"])
