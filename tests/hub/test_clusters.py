"""What the hub tells of the clusters: to those who are logged in, at no cost to the scheduler, also while that is silent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hubclient import Hub, until

from slurmbox import box as slurmbox
from studiolo.slurm.snapshot import SnapshotPace


def clusters(hub: Hub, token: str | None = None) -> dict[str, Any]:
    answer = hub.call("GET", "studiolo/clusters", token=token)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["clusters"])


def only(hub: Hub, token: str | None = None) -> dict[str, Any]:
    """The one cluster of the embedded site."""
    (found,) = clusters(hub, token).values()
    return dict(found)


def partition(hub: Hub, name: str) -> dict[str, Any]:
    return next(found for found in only(hub)["partitions"] if found["name"] == name)


def token_of(hub: Hub, name: str) -> str:
    return str(hub.call("POST", f"users/{name}/tokens", json={"note": "test", "expires_in": 300}).json()["token"])


def metrics(hub: Hub) -> str:
    answer = httpx.get(f"{hub.url}hub/metrics", headers={"Authorization": f"token {hub.token}"}, timeout=30)
    assert answer.status_code == 200
    return answer.text


def metric(hub: Hub, name: str, **labels: str) -> float:
    """One number of the metrics; 0 where there is none yet."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    for line in metrics(hub).splitlines():
        if line.startswith(f"{name}{{") and all(label in line for label in wanted):
            return float(line.rpartition(" ")[2])
    return 0.0


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}], ids=["none", "wrong"])
def test_nobody_is_told_anything_without_logging_in(hub: Hub, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{hub.url}hub/api/studiolo/clusters", headers=headers, timeout=10)
    assert answer.status_code == 403
    assert "partitions" not in answer.text


def test_a_person_sees_what_is_free_and_what_each_profile_finds(hub: Hub, ada: str) -> None:
    found = only(hub, token_of(hub, ada))
    assert found["answers"]
    assert found["silent_since"] is None
    shown = {p["name"]: p for p in found["partitions"]}
    assert set(shown) == {"cpu", "gpu"}
    assert all(p["open"] and p["cpus"]["total"] >= p["cpus"]["free"] > 0 for p in shown.values())
    assert shown["gpu"]["gpus"]["total"] > 0
    assert found["profiles"]["learn"] > 0


def test_a_session_is_counted_and_its_gpu_is_free_no_more(hub: Hub, ada: str) -> None:
    before = until("an idle cluster", lambda: (p := partition(hub, "gpu"))["gpus"]["free"] == p["gpus"]["total"] and p)
    hub.start(ada, {"profile": "one-gpu"})
    hub.ready(ada)
    until("one GPU less", lambda: partition(hub, "gpu")["gpus"]["free"] == before["gpus"]["free"] - 1)
    assert metric(hub, "studiolo_sessions", state="running") >= 1
    assert metric(hub, "studiolo_queue_wait_seconds_count") >= 1
    assert (
        metric(hub, "studiolo_slurm_calls_total", call="sudo")
        + metric(hub, "studiolo_slurm_calls_total", call="submit")
        >= 1
    )


def test_a_waiting_person_sees_their_own_place_and_nobody_elses(hub: Hub, ada: str, person: Callable[..., str]) -> None:
    other = person("company", 1)
    hub.slurm("scontrol", "update", "NodeName=cpu1,cpu2", "State=DRAIN", "Reason=<b>ask mallory</b>")
    try:
        hub.start(other, {"profile": "learn"})
        first = hub.job(other)
        hub.start(ada, {"profile": "learn"})
        mine = hub.job(ada)
        hub.slurm("scontrol", "update", f"JobId={first}", "Priority=900000")
        token = token_of(hub, ada)
        (place,) = until("ada's place", lambda: (w := only(hub, token)["waiting"]) and w[0]["of"] == 2 and w)
        assert place == {"server": "", "job": mine, "place": 2, "of": 2}
        with httpx.stream(
            "GET",
            f"{hub.url}hub/api/users/{ada}/server/progress",
            headers={"Authorization": f"token {hub.token}"},
            timeout=60,
        ) as progress:
            assert next(line for line in progress.iter_lines() if "You are number 2 of 2 in the line." in line)
        answer = hub.call("GET", "studiolo/clusters", token=token).text
        assert other not in answer
        assert str(first) not in answer
        assert "mallory" not in answer
        assert partition(hub, "cpu")["nodes"] == {"total": 2, "usable": 0}
        assert only(hub)["profiles"]["learn"] == 0
    finally:
        hub.stop(other)
        hub.slurm("scontrol", "update", "NodeName=cpu1,cpu2", "State=RESUME")


def test_reservations_are_told_without_the_names_of_others(hub: Hub, ada: str, person: Callable[..., str]) -> None:
    other = person("company", 1)
    create = ("scontrol", "create", "reservation", "StartTime=now+2hours", "Duration=60", "Nodes=gpu2")
    hub.slurm(*create, "ReservationName=<i>ours</i>", f"Users={ada},{other}", "Flags=IGNORE_JOBS")
    hub.slurm(*create, "ReservationName=theirs", f"Users={other}", "Flags=IGNORE_JOBS,OVERLAP")
    try:
        token = token_of(hub, ada)
        until("the reservation", lambda: only(hub, token)["reservations"])
        answer = hub.call("GET", "studiolo/clusters", token=token)
        (reservation,) = next(iter(answer.json()["clusters"].values()))["reservations"]
        assert (reservation["name"], reservation["for"], reservation["partitions"]) == ("<i>ours</i>", "you", ["gpu"])
        assert "<" not in answer.text
        assert other not in answer.text
    finally:
        hub.slurm("scontrol", "delete", "ReservationName=<i>ours</i>")
        hub.slurm("scontrol", "delete", "ReservationName=theirs")


def test_however_many_look_the_scheduler_is_asked_once(hub: Hub) -> None:
    only(hub)
    before = metric(hub, "studiolo_slurm_calls_total", call="scontrol")
    with ThreadPoolExecutor(20) as pool:
        taken = {next(iter(found.values()))["taken"] for found in pool.map(lambda _: clusters(hub), range(100))}
    asked = metric(hub, "studiolo_slurm_calls_total", call="scontrol") - before
    assert asked <= 3 * len(taken)
    spread = max(taken) - min(taken)
    assert len(taken) <= 1 + spread / SnapshotPace().fresh


def test_a_silent_scheduler_leaves_the_last_facts_and_the_hub_says_since_when(hub: Hub, box: Any) -> None:
    known = only(hub)
    boss = slurmbox.supervisor(box)
    boss.stop("slurmctld")
    try:
        silent = until("the hub to notice", lambda: not (found := only(hub))["answers"] and found)
        assert silent["silent_since"] >= silent["taken"] >= known["taken"]
        assert [p["name"] for p in silent["partitions"]] == [p["name"] for p in known["partitions"]]
        assert metric(hub, "studiolo_slurm_silent_seconds") > 0
    finally:
        boss.start("slurmctld")
    again = until("the scheduler to answer the hub", lambda: (found := only(hub))["answers"] and found)
    assert again["taken"] > silent["silent_since"]
    assert metric(hub, "studiolo_slurm_silent_seconds") == 0


def test_a_browsers_page_may_ask_with_its_own_cookie(hub: Hub, access: Mapping[str, Any]) -> None:
    user = next(u for u in access["users"] if u["role"] == "company")
    with httpx.Client(base_url=hub.url, timeout=30, follow_redirects=True) as browser:
        page = browser.get("hub/login").text
        (xsrf,) = set(re.findall(r'name="_xsrf" value="([^"]+)"', page))
        browser.post("hub/login", data={"username": user["name"], "password": user["password"], "_xsrf": xsrf})
        page = browser.get("hub/home").text
        (mine,) = set(re.findall(r'xsrf_token: "([^"]+)"', page))
        answer = browser.get("hub/api/studiolo/clusters", headers={"X-XSRFToken": mine})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert json.loads(answer.text)["clusters"]
