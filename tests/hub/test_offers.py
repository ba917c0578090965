"""What the hub tells somebody before they choose, on the real cluster: made long, closed, maintained, silent, and asked by all."""

from __future__ import annotations

import json
import pwd
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hubclient import HTTP, Hub, until

from slurmbox import box as slurmbox
from spawners.estimates import EstimatePace
from spawners.offers import MAX_BODY
from spawners.streams import STREAMS_PER_PERSON
from studiolo.slurm.snapshot import SnapshotPace

EIGHT_HOURS = {"profile": "one-gpu", "gpus": 4, "cpus": 32, "memory": "200G", "minutes": 480, "account": "fast-lane"}


def token_of(hub: Hub, name: str, **limits: Any) -> str:
    asked = {"note": "test", "expires_in": 600, **limits}
    return str(hub.call("POST", f"users/{name}/tokens", json=asked).json()["token"])


@pytest.fixture
def token(hub: Hub, ada: str) -> str:
    """One of ada's own."""
    return token_of(hub, ada)


def offers(hub: Hub, token: str | None = None) -> dict[str, Any]:
    answer = hub.call("GET", "studiolo/offers", token=token)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def profile(hub: Hub, token: str, name: str) -> dict[str, Any]:
    return dict(offers(hub, token)["profiles"][name])


def estimate(hub: Hub, token: str, options: Mapping[str, Any]) -> dict[str, Any]:
    answer = hub.call("POST", "studiolo/estimate", token=token, json={"user_options": options})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def metric(hub: Hub, name: str, **labels: str) -> float:
    """One number of the metrics; 0 where there is none yet."""
    answer = httpx.get(f"{hub.url}hub/metrics", headers={"Authorization": f"token {hub.token}"}, timeout=30)
    assert answer.status_code == 200
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    for line in answer.text.splitlines():
        if line.startswith(f"{name}{{") and all(label in line for label in wanted):
            return float(line.rpartition(" ")[2])
    return 0.0


def calls(hub: Hub, call: str) -> float:
    return metric(hub, "studiolo_slurm_calls_total", call=call)


def submit(hub: Hub, person: str, *options: str) -> str:
    """A job of a person's own, beside the hub."""
    entry = pwd.getpwnam(person)
    done = subprocess.run(
        ["sbatch", "--parsable", "--output=/dev/null", "--mem=100", *options, "--wrap=sleep 900"],
        env={"PATH": "/usr/bin:/bin", "SLURM_CONF": str(hub.slurm_conf)},
        cwd="/",
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def full(hub: Hub, person: Callable[..., str]) -> Iterator[float]:
    """Every GPU is in use: half of them for three hours, half for ten. Tells when the first are free."""
    other = person("trainer")
    jobs = [
        submit(hub, other, "-p", "gpu", "-A", "large-scale", "--gres=gpu:a100:4", "-c", "32", f"-t{minutes}")
        for minutes in (180, 600)
    ]
    try:
        running = ("squeue", "-h", "-t", "R", "-o", "%A", "-u", other)
        until("both to run", lambda: set(jobs) <= set(hub.slurm(*running).split()))
        ends = hub.slurm("scontrol", "show", "job", jobs[0])
        (seconds,) = re.findall(r"EndTime=(\S+)", ends)
        yield float(subprocess.run(["date", "-d", seconds, "+%s"], capture_output=True, text=True, check=True).stdout)
    finally:
        hub.slurm("scancel", *jobs)
        until("their end", lambda: not hub.jobs(other))


# --- Free ------------------------------------------------------------------------------------------------------------


def test_a_person_sees_what_starts_what_it_costs_and_what_is_theirs(hub: Hub, ada: str, token: str) -> None:
    until("an idle cluster", lambda: profile(hub, token, "four-gpus")["room"] == 2)

    # A hub that has just begun tells what is free before it knows whose projects are whose, and a partition that was closed
    # a moment ago is so until the next snapshot.
    def whole() -> Any:
        told = offers(hub, token)
        opened = all(place["open"] for place in told["partitions"].values())
        return told if opened and told["accounts"].get("playground", {}).get("default") else None

    found = until("budgets, and partitions that are open", whole)
    assert found["answers"]
    assert found["silent_since"] is None
    assert set(found["partitions"]) == {"cpu", "gpu"}
    one = found["profiles"]["one-gpu"]
    assert (one["starts"], one["room"], one["obstacle"], one["instead"]) == ("now", 8, None, None)
    assert one["free"]["gpus"] == one["total"]["gpus"] == 8
    assert one["cost"] == {"gpu_hours": 2.0, "cpu_hours": 16.0}
    assert found["profiles"]["quarter-gpu"]["cost"]["gpu_hours"] == 0.5
    assert {name: account["default"] for name, account in found["accounts"].items()} == {
        "playground": True,
        "fast-lane": False,
    }
    hours = found["accounts"]["playground"]["gpu_hours"]
    assert (hours["limit"], hours["left"]) == (1000.0, 1000.0 - hours["used"])


def test_a_session_is_counted_and_held_against_what_was_foretold(hub: Hub, ada: str, token: str) -> None:
    until("an idle cluster", lambda: profile(hub, token, "one-gpu")["free"]["gpus"] == 8)
    foretold = metric(hub, "studiolo_estimate_error_seconds_count")
    hub.start(ada, {"profile": "one-gpu"})
    hub.ready(ada)
    until("one GPU less", lambda: profile(hub, token, "one-gpu")["free"]["gpus"] == 7)
    assert metric(hub, "studiolo_sessions", state="running") >= 1
    assert metric(hub, "studiolo_queue_wait_seconds_count") >= 1
    assert metric(hub, "studiolo_estimate_error_seconds_count") == foretold + 1
    assert metric(hub, "studiolo_estimate_error_seconds_bucket", le="60.0") >= 1


# --- Full ------------------------------------------------------------------------------------------------------------


def test_in_a_long_queue_slurm_says_when_and_what_starts_sooner_is_proposed(hub: Hub, token: str, full: float) -> None:
    found = until("Slurm's own word", lambda: (p := profile(hub, token, "four-gpus"))["expected"] and p)
    assert (found["starts"], found["room"], found["free"]["gpus"]) == ("later", 0, 0)
    assert found["expected"] == pytest.approx(full, abs=120)
    # A big job that waits: what ends before it can begin may go first.
    asked = estimate(hub, token, EIGHT_HOURS)
    assert asked["starts"] == "later"
    assert asked["expected"] == pytest.approx(full, abs=120)
    assert (asked["cost"], asked["faults"]) == ({"gpu_hours": 32.0, "cpu_hours": 256.0}, [])
    cpus = estimate(hub, token, {**EIGHT_HOURS, "gpus": 0, "cpus": 4, "memory": "4G"})
    assert cpus["starts"] == "later"  # all CPUs of those nodes are in use as well


def test_a_shorter_session_that_starts_now_is_proposed(hub: Hub, token: str) -> None:
    create = ("scontrol", "create", "reservation", "ReservationName=works", "Users=root")
    hub.slurm(*create, "StartTime=now+3hours", "Duration=120", "Nodes=gpu1,gpu2", "Flags=MAINT,IGNORE_JOBS")
    try:
        found = until("the window", lambda: (p := profile(hub, token, "four-gpus"))["obstacle"] and p)
        assert (found["starts"], found["obstacle"]["kind"]) == ("later", "maintenance")
        (reservation,) = offers(hub, token)["reservations"]
        assert found["obstacle"]["until"] == reservation["end"]
        assert (reservation["for"], reservation["maintenance"]) == ("everybody", True)
        instead = found["instead"]
        assert instead == {
            "options": {"minutes": 120},
            "text": "2 h instead of 4 h starts now.",
            "starts": "now",
            "expected": None,
        }
        eight = {"profile": "four-gpus", "hours": 8}
        # A person is granted so many questions a minute, of which other tests may have used some.
        asked = until("Slurm's own word", lambda: (found := estimate(hub, token, eight))["expected"] and found)
        assert asked["expected"] >= reservation["end"]
        assert asked["instead"]["options"] == {"hours": None, "minutes": 120}
    finally:
        hub.slurm("scontrol", "delete", "ReservationName=works")


@pytest.mark.parametrize("state", ["DOWN", "DRAIN"])
def test_a_closed_partition_is_told_and_slurm_not_asked(hub: Hub, token: str, state: str) -> None:
    hub.slurm("scontrol", "update", "PartitionName=gpu", f"State={state}")
    try:
        found = until("the news", lambda: (p := profile(hub, token, "one-gpu"))["obstacle"] and p)
        assert (found["starts"], found["obstacle"]["kind"]) == ("never", "closed")
        assert not offers(hub, token)["partitions"]["gpu"]["open"]
        before = calls(hub, "estimate")
        # "Slurm itself" would say of a partition that is down that it starts now.
        assert estimate(hub, token, {"profile": "one-gpu", "minutes": 17})["obstacle"]["kind"] == "closed"
        assert calls(hub, "estimate") == before
    finally:
        hub.slurm("scontrol", "update", "PartitionName=gpu", "State=UP")
    until("it to open", lambda: profile(hub, token, "one-gpu")["starts"] == "now")


def test_reservations_are_told_without_the_names_of_others(
    hub: Hub, ada: str, token: str, person: Callable[..., str]
) -> None:
    other = person("company", 1)
    create = ("scontrol", "create", "reservation", "StartTime=now+2hours", "Duration=60", "Nodes=gpu2")
    hub.slurm(*create, "ReservationName=<i>ours</i>", f"Users={ada},{other}", "Flags=IGNORE_JOBS")
    hub.slurm(*create, "ReservationName=theirs", f"Users={other}", "Flags=IGNORE_JOBS,OVERLAP")
    hub.slurm("scontrol", "update", "NodeName=cpu2", "State=DRAIN", "Reason=<b>ask mallory</b>")
    try:
        until("the reservation", lambda: offers(hub, token)["reservations"])
        answer = hub.call("GET", "studiolo/offers", token=token)
        (reservation,) = answer.json()["reservations"]
        assert (reservation["name"], reservation["for"], reservation["partitions"]) == ("<i>ours</i>", "you", ["gpu"])
        assert "<" not in answer.text
        assert other not in answer.text
        assert "mallory" not in answer.text
    finally:
        hub.slurm("scontrol", "delete", "ReservationName=<i>ours</i>")
        hub.slurm("scontrol", "delete", "ReservationName=theirs")
        hub.slurm("scontrol", "update", "NodeName=cpu2", "State=RESUME")


def test_a_budget_that_is_too_small_is_told_before_the_click(hub: Hub, box: Any, ada: str) -> None:
    where = ("sacctmgr", "-i", "modify", "account", "where", "name=fast-lane", f"cluster={box.cluster}", "set")
    listed = hub.slurm("sacctmgr", "-nP", "show", "assoc", "account=fast-lane", "user=", "format=GrpTRESMins").strip()
    hub.slurm(*where, "GrpTRESMins=gres/gpu=120,billing=480,gres/shard=480")
    try:
        # People's budgets are asked for every few minutes; a hub that has just begun asks at once.
        slurmbox.supervisor(box).restart("hub")
        until("the hub", lambda: HTTP.get(f"{hub.url}hub/api/").status_code == 200)
        token = token_of(hub, ada)
        found = offers(hub, token)
        assert found["accounts"]["fast-lane"]["gpu_hours"]["limit"] == 2.0
        four = found["profiles"]["four-gpus"]
        assert (four["starts"], four["obstacle"]["kind"]) == ("never", "budget")
        assert re.search(
            r"Fast Lane has [0-9.]+ GPU-hours left, and this session may need 16", four["obstacle"]["text"]
        )
        assert four["instead"]["starts"] == "now"
        assert found["profiles"]["one-gpu"]["obstacle"] is None  # charged to another project
    finally:
        hub.slurm(*where, f"GrpTRESMins={listed}")
        slurmbox.supervisor(box).restart("hub")
        until("the hub", lambda: HTTP.get(f"{hub.url}hub/api/").status_code == 200)


def test_a_project_that_is_not_ones_own_is_told(hub: Hub, token: str) -> None:
    found = estimate(hub, token, {"profile": "one-gpu", "account": "large-scale"})
    assert (found["starts"], found["obstacle"]["kind"]) == ("never", "not-yours")


# --- Silent ----------------------------------------------------------------------------------------------------------


def test_a_silent_scheduler_leaves_the_last_facts_promises_nothing_and_keeps_nobody_waiting(
    hub: Hub, token: str, box: Any
) -> None:
    known = offers(hub, token)
    boss = slurmbox.supervisor(box)
    boss.stop("slurmctld")
    try:
        silent = until("the hub to notice", lambda: not (found := offers(hub, token))["answers"] and found)
        assert silent["silent_since"] is not None
        assert silent["partitions"] == known["partitions"]
        assert silent["accounts"] == known["accounts"]
        assert {found["starts"] for found in silent["profiles"].values()} == {"unknown"}
        assert metric(hub, "studiolo_slurm_silent_seconds") > 0
        before = calls(hub, "estimate")
        assert estimate(hub, token, {"profile": "one-gpu", "minutes": 33})["starts"] == "unknown"
        assert calls(hub, "estimate") == before
    finally:
        boss.start("slurmctld")
    until("the scheduler to answer the hub", lambda: offers(hub, token)["answers"])
    assert metric(hub, "studiolo_slurm_silent_seconds") == 0


# --- Asked by all ----------------------------------------------------------------------------------------------------


def test_however_many_look_the_scheduler_is_asked_no_more(hub: Hub, token: str, full: float) -> None:
    until("Slurm's own word", lambda: profile(hub, token, "four-gpus")["expected"])
    before = Counter({call: calls(hub, call) for call in ("scontrol", "squeue", "estimate")})
    with ThreadPoolExecutor(10) as pool:
        seen = list(pool.map(lambda _: offers(hub, token), range(50)))
    spent = {call: calls(hub, call) - number for call, number in before.items()}
    minutes = 1 + (max(found["now"] for found in seen) - min(found["now"] for found in seen)) / 60
    assert spent["scontrol"] <= 4 * (1 + minutes * SnapshotPace().per_minute)
    assert spent["estimate"] <= EstimatePace().shared * minutes
    assert {found["profiles"]["four-gpus"]["starts"] for found in seen} == {"later"}


def test_who_tries_every_combination_is_bounded_and_still_answered(hub: Hub, token: str, full: float) -> None:
    until("a full cluster", lambda: profile(hub, token, "four-gpus")["room"] == 0)
    before = calls(hub, "estimate")
    tried = [estimate(hub, token, {**EIGHT_HOURS, "minutes": minutes}) for minutes in range(400, 430)]
    assert all(found["starts"] in ("later", "now") for found in tried)
    assert calls(hub, "estimate") - before <= 2 * (EstimatePace().per_person + EstimatePace().shared)


# --- Events ----------------------------------------------------------------------------------------------------------


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))


def test_pages_are_told_what_changes_by_events(hub: Hub, token: str) -> None:
    url, headers = f"{hub.url}hub/api/studiolo/offers/events", {"Authorization": f"token {token}"}
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer.iter_lines())
        first = next(told)
        assert set(first) == set(offers(hub, token))
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
        try:
            changed = next(found for found in told if not found["partitions"]["cpu"]["open"])
            assert changed["profiles"]["learn"]["obstacle"]["kind"] == "closed"
        finally:
            hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
        assert next(found for found in told if found["partitions"]["cpu"]["open"])


@pytest.mark.parametrize("stream", ["offers", "sessions"])
def test_a_person_may_open_some_pages_of_each_kind_and_no_more(hub: Hub, token: str, stream: str) -> None:
    url, headers = f"{hub.url}hub/api/studiolo/{stream}/events", {"Authorization": f"token {token}"}
    with httpx.Client(timeout=30) as client:
        open_ones = [
            client.send(client.build_request("GET", url, headers=headers), stream=True)
            for _ in range(STREAMS_PER_PERSON)
        ]
        assert {answer.status_code for answer in open_ones} == {200}
        assert client.get(url, headers=headers).status_code == 429
        for answer in open_ones:
            answer.close()

        def again() -> bool:
            with client.stream("GET", url, headers=headers) as answer:
                return answer.status_code == 200

        until("those pages to be forgotten", again)


# --- Who may ask, and what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}], ids=["none", "wrong"])
@pytest.mark.parametrize(("method", "path"), [("GET", "offers"), ("GET", "offers/events"), ("POST", "estimate")])
def test_nobody_is_told_anything_without_logging_in(hub: Hub, headers: dict[str, str], method: str, path: str) -> None:
    body = {"json": {"user_options": {}}} if method == "POST" else {}
    answer = httpx.request(method, f"{hub.url}hub/api/studiolo/{path}", headers=headers, timeout=10, **body)
    assert answer.status_code == 403
    assert "partitions" not in answer.text


def test_a_token_that_may_start_nothing_may_ask_slurm_nothing(hub: Hub, ada: str) -> None:
    narrow = token_of(hub, ada, scopes=["read:users!user"])
    answer = hub.call("POST", "studiolo/estimate", token=narrow, json={"user_options": {}})
    assert answer.status_code == 403
    url, headers = f"{hub.url}hub/api/studiolo/offers/events", {"Authorization": f"token {narrow}"}
    with httpx.stream("GET", url, headers=headers, timeout=60) as stream:
        told = [offers(hub, narrow), next(events(stream.iter_lines()))]
    for found in told:
        assert found["profiles"]
        # Whatever a stranger's program may do with such a token, it is not told of its owner's projects and choices.
        assert set(found["accounts"]) <= {"playground", "fast-lane", "large-scale"}
        assert all(account["gpu_hours"]["used"] is None for account in found["accounts"].values())
        assert found["kept"] is None


def test_a_service_has_no_accounts_and_asks_slurm_nothing(hub: Hub) -> None:
    found = offers(hub)
    assert found["accounts"] == {}
    answer = hub.call("POST", "studiolo/estimate", json={"user_options": {}})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"user_options": []}', 400),
        (b'{"user_options": {}, "user": "ben"}', 400),
        (b'{"user_options": {"workdir": "' + b"x" * MAX_BODY + b'"}}', 413),
        (b"\xff", 400),
        (b"[" * 9000, 400),
    ],
)
def test_any_other_body_is_refused(hub: Hub, token: str, body: bytes, status: int) -> None:
    answer = hub.call("POST", "studiolo/estimate", token=token, content=body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"partition": "gpu\n#SBATCH --uid=0"}, "partition"),
        ({"reservation": "$(id)"}, "reservation"),
        ({"account": "--help"}, "account"),
        ({"gpus": 9}, "gpus"),
        ({"<script>": 1}, "'<script>'"),
        ({"memory": {"a": 1}}, "memory"),
    ],
)
def test_hostile_options_are_faults_and_reach_nobody(hub: Hub, token: str, options: dict[str, Any], field: str) -> None:
    before = calls(hub, "estimate")
    answer = hub.call("POST", "studiolo/estimate", token=token, json={"user_options": options})
    assert answer.status_code == 200
    found = answer.json()
    assert [fault["field"] for fault in found["faults"]] == [field]
    assert (found["starts"], found["cost"]) == ("never", None)
    assert "<script>" not in answer.text
    assert calls(hub, "estimate") == before


def test_a_limit_of_the_qos_is_told_before_slurm_refuses(hub: Hub, token: str) -> None:
    body = {"user_options": {"profile": "learn", "minutes": "6h"}}
    answer = hub.call("POST", "studiolo/estimate", token=token, json=body).json()
    assert (answer["starts"], answer["obstacle"]["kind"]) == ("never", "limit")
    assert "4 h is the most" in answer["obstacle"]["text"]
    assert "MaxWallPJ" in answer["obstacle"]["text"]


def test_a_browsers_page_may_ask_with_its_own_cookie_and_no_other_page(hub: Hub, access: Mapping[str, Any]) -> None:
    user = next(u for u in access["users"] if u["role"] == "company")
    with httpx.Client(base_url=hub.url, timeout=30, follow_redirects=True) as browser:
        page = browser.get("hub/login").text
        (xsrf,) = set(re.findall(r'name="_xsrf" value="([^"]+)"', page))
        browser.post("hub/login", data={"username": user["name"], "password": user["password"], "_xsrf": xsrf})
        page = browser.get("hub/home").text
        (mine,) = set(re.findall(r'xsrf_token: "([^"]+)"', page))
        same = {"X-XSRFToken": mine, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        answer = browser.get("hub/api/studiolo/offers", headers=same)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert json.loads(answer.text)["profiles"]
        asked = browser.post("hub/api/studiolo/estimate", headers=same, json={"user_options": {"profile": "learn"}})
        assert asked.json()["cost"] == {"gpu_hours": 0.0, "cpu_hours": 4.0}
        fetched = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        with browser.stream("GET", f"hub/api/studiolo/offers/events?_xsrf={mine}", headers=fetched) as stream:
            assert next(events(stream.iter_lines()))["profiles"]
        for method, path in (("GET", "offers"), ("GET", "offers/events"), ("POST", "estimate")):
            body = {"json": {"user_options": {}}} if method == "POST" else {}
            assert browser.request(method, f"hub/api/studiolo/{path}", headers=fetched, **body).status_code == 403
