"""Sessions with slurmrestd as the hub's way to Slurm: one word of the site file changed, everything else the same."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hubclient import Hub, until

from slurmbox import box as boxes
from slurmbox import ready


@pytest.fixture(scope="module", autouse=True)
def by_slurmrestd(box: Any, hub: Hub, site_file: Path) -> Iterator[None]:
    """The hub, restarted with ``via = "slurmrestd"``; afterwards as it was."""
    text = site_file.read_text(encoding="utf-8")
    assert text.count('via = "both"') == 1
    try:
        _restart(box, hub, site_file, text.replace('via = "both"', 'via = "slurmrestd"'))
        yield
    finally:
        _restart(box, hub, site_file, text)


def _restart(box: Any, hub: Hub, site_file: Path, text: str) -> None:
    site_file.write_text(text, encoding="utf-8")  # in place: its owner and mode stay
    boxes.supervisor(box).restart("hub")
    until("the hub", lambda: _answers(hub))


def _answers(hub: Hub) -> bool:
    try:
        return hub.call("GET", "users").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("profile", "has"),
    [
        ("learn", {"SLURM_JOB_PARTITION": "cpu", "SLURM_CPUS_ON_NODE": "2", "SLURM_MEM_PER_NODE": "4096"}),
        ("quarter-gpu", {"SLURM_JOB_PARTITION": "gpu", "SLURM_SHARDS_ON_NODE": "1"}),
        ("one-gpu", {"SLURM_JOB_PARTITION": "gpu", "SLURM_GPUS_ON_NODE": "1", "CUDA_VISIBLE_DEVICES": "0"}),
    ],
)
def test_a_session_has_what_its_profile_says_and_leaves_nothing(
    hub: Hub, ada: str, profile: str, has: dict[str, str]
) -> None:
    assert hub.start(ada, {"profile": profile}).status_code == 202
    job = hub.job(ada)
    log = hub.log(ada)
    hub.ready(ada)
    environment = hub.environment(ada, "spawners.singleuser")
    assert {key: environment.get(key) for key in has} == has
    assert (environment["HOME"], environment["USER"]) == (pwd.getpwnam(ada).pw_dir, ada)
    assert log.stat().st_mode & 0o777 == 0o640

    hub.stop(ada)

    assert hub.jobs(ada) == []
    assert hub.processes(ada) == []
    assert not log.exists()
    charged = until("the charge", lambda: hub.slurm("sacct", "-XnP", "-j", str(job), "-o", "Account,State").strip())
    assert charged.startswith("playground|CANCELLED")


def test_what_slurm_refuses_is_told_in_slurms_words(hub: Hub, person: Callable[..., str]) -> None:
    learner = person("learner")
    assert hub.start(learner, {"profile": "four-gpus"}).status_code == 202
    last = hub.events(learner)[-1]
    assert last["failed"]
    assert "Slurm refused this session" in last["message"]
    assert "account" in last["message"].lower()
    assert hub.jobs(learner) == []


def test_a_waiting_session_can_be_stopped_without_a_trace(hub: Hub, ada: str) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(ada, {"profile": "learn"})
        hub.job(ada)
        hub.stop(ada)
        assert hub.jobs(ada) == []
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def begin(box: Any) -> None:
    """Start slurmrestd, and wait until it listens."""
    boxes.supervisor(box).start("slurmrestd")
    until("slurmrestd", lambda: ready.slurmrestd(box) is None)


def test_a_start_while_slurmrestd_is_down_fails_in_words(hub: Hub, box: Any, ada: str) -> None:
    boss = boxes.supervisor(box)
    boss.stop("slurmrestd")
    try:
        hub.start(ada, {"profile": "learn"})
        last = hub.events(ada)[-1]
    finally:
        begin(box)
    assert last["failed"]
    assert "slurmrestd" in last["message"] or "does not answer" in last["message"]
    assert hub.jobs(ada) == []


def test_a_running_session_outlives_slurmrestd(hub: Hub, box: Any, ada: str) -> None:
    hub.start(ada, {"profile": "learn"})
    hub.ready(ada)
    job = hub.job(ada)
    boss = boxes.supervisor(box)
    boss.stop("slurmrestd")
    try:
        assert hub.server(ada)["ready"]
        assert hub.job(ada) == job
    finally:
        begin(box)
    hub.stop(ada)
    # slurmrestd may not listen yet: then the hub lets the server go, and cancels its job as soon as it can.
    until("the end of the job", lambda: hub.jobs(ada) == [])


def test_what_starts_now_is_told_and_what_nobody_says_is_not(hub: Hub, ada: str) -> None:
    asked = {"note": "test", "expires_in": 600}
    token = hub.call("POST", f"users/{ada}/tokens", json=asked).json()["token"]

    def look() -> dict[str, Any]:
        return dict(hub.call("GET", "studiolo/offers", token=token).json())

    found = until("an idle cluster", lambda: (o := look())["profiles"]["one-gpu"]["starts"] == "now" and o)
    account = found["accounts"]["playground"]
    assert (account["default"], account["gpu_hours"]["limit"]) == (True, 1000.0)
    # A new slurmrestd tells what has been used, an old one does not: then nothing is said to be left, or used up.
    assert (account["gpu_hours"]["used"] is None) == (account["gpu_hours"]["left"] is None)
    hub.slurm("scontrol", "update", "NodeName=gpu1,gpu2", "State=DRAIN", "Reason=test")
    try:
        full = until("no room", lambda: (o := look())["profiles"]["one-gpu"]["room"] == 0 and o)
        one = full["profiles"]["one-gpu"]
        assert (one["starts"], one["expected"]) == ("later", None)
    finally:
        hub.slurm("scontrol", "update", "NodeName=gpu1,gpu2", "State=RESUME")
