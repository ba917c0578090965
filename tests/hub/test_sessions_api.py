"""A person's own sessions over the REST API: what they tell, how they are extended, and what nobody may do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from hubclient import HTTP, Hub, until
from reconfigured import restart

MINUTE = 60


class Person:
    """Somebody with a token of their own, as a script of theirs would have."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub, self.name = hub, name
        body = {"note": "test", "expires_in": 900}
        self.token = hub.call("POST", f"users/{name}/tokens", json=body).json()["token"]

    def call(self, method: str, path: str, **rest: Any) -> httpx.Response:
        return self.hub.call(method, f"studiolo/{path}", token=self.token, **rest)

    def overview(self) -> dict[str, Any]:
        answer = self.call("GET", "sessions")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def session(self, name: str = "") -> dict[str, Any]:
        return next((dict(one) for one in self.overview()["sessions"] if one["name"] == name), {})


@pytest.fixture(scope="module")
def owner(hub: Hub, running: str) -> Person:
    """Whose session runs for the tests of this file."""
    return Person(hub, running)


@pytest.fixture(scope="module")
def stranger(hub: Hub, person: Callable[..., str]) -> Iterator[Person]:
    name = person("company", 3)
    yield Person(hub, name)
    if hub.server(name):
        hub.stop(name)


@pytest.fixture(scope="module")
def session_token(hub: Hub, running: str) -> str:
    """The token of the session's own server, which every program in it can read."""
    headers = {"Authorization": f"token {Person(hub, running).token}"}
    HTTP.post(f"{hub.url}user/{running}/api/kernels", headers=headers, json={}).raise_for_status()
    return str(until("a kernel", lambda: hub.environment(running, "ipykernel"))["JUPYTERHUB_API_TOKEN"])


def seconds_left(hub: Hub, job: int) -> int:
    """A job's time left by Slurm's word."""
    days, _, clock = hub.slurm("squeue", "-h", "-j", str(job), "-o", "%L").strip().rpartition("-")
    left = 0
    for part in clock.split(":"):
        left = left * 60 + int(part)
    return left + 86400 * int(days or 0)


def test_a_session_tells_what_it_has_and_how_long(hub: Hub, owner: Person) -> None:
    told = until("the end", lambda: (one := owner.session())["ends"] and one)
    assert (told["state"], told["title"], told["profile"]) == ("ready", "My session", "learn")
    assert told["resources"] == {"cpus": 2, "memory_mb": 4096, "gpus": 0, "shards": 0}
    assert told["job"] == hub.job(owner.name)
    assert told["node"].startswith("cpu")
    assert told["ends"] - told["started"] == 120 * MINUTE
    assert told["url"].endswith(f"/user/{owner.name}/")
    assert told["cost"]["gpu_hours"] == 0
    assert told["cost"]["cpu_hours"] >= 0


def test_what_a_session_uses_is_told_by_its_own_server(owner: Person) -> None:
    usage = until("a report", lambda: owner.session()["usage"])
    assert 0 < usage["memory_mb"] < 4096
    assert usage["cpu"] is None or 0 <= usage["cpu"] <= 1
    assert usage["gpu"] is None


def test_an_open_page_hears_of_a_change(hub: Hub, owner: Person) -> None:
    headers = {"Authorization": f"token {owner.token}"}
    with httpx.stream("GET", f"{hub.url}hub/api/studiolo/sessions/events", headers=headers, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = (json.loads(line.removeprefix("data:")) for line in answer.iter_lines() if line.startswith("data:"))
        first = next(events)
        assert first["sessions"][0]["name"] == ""
        ends = first["sessions"][0]["ends"]
        assert owner.call("POST", "extend", json={"name": "", "minutes": 10}).status_code == 200
        for event in events:
            if event["sessions"][0]["ends"] == ends + 10 * MINUTE:
                break


def extend(person: Person, minutes: object, name: object = "") -> httpx.Response:
    """Ask once, and again where that was too soon after the last time."""
    answers: list[httpx.Response] = []

    def ask() -> bool:
        answers.append(person.call("POST", "extend", json={"name": name, "minutes": minutes}))
        return answers[-1].status_code != 429

    until("an answer", ask)
    return answers[-1]


def test_an_extension_is_slurms_and_the_session_hears_of_it(hub: Hub, owner: Person) -> None:
    before = owner.session()
    answer = extend(owner, 60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["ends"] == before["ends"] + 60 * MINUTE
    assert seconds_left(hub, before["job"]) > before["ends"] - owner.overview()["now"]
    after = until("the new end", lambda: (one := owner.session())["ends"] == answer.json()["ends"] and one)
    assert after["may_extend_minutes"] == before["may_extend_minutes"] - 60

    def heard() -> bool:
        page = HTTP.get(
            f"{hub.url}user/{owner.name}/studiolo/session", headers={"Authorization": f"token {owner.token}"}
        )
        return bool(page.json()["ends"] == answer.json()["ends"])

    until("the session's own countdown", heard)


def test_an_extension_ends_where_the_site_says(owner: Person) -> None:
    most = owner.session()["may_extend_minutes"]
    answer = extend(owner, most + 1)
    assert answer.status_code == 409
    assert answer.json()["message"].startswith("At most ")
    assert owner.session()["may_extend_minutes"] == most


def test_an_extension_ends_where_a_reservation_begins(hub: Hub, owner: Person) -> None:
    session = owner.session()
    begins = session["ends"] + 30 * MINUTE
    reserve = ["ReservationName=studiolo-test", f"Nodes={session['node']}", "Users=root", "Duration=600", "Flags=MAINT"]
    hub.slurm("scontrol", "create", "reservation", *reserve, f"StartTime={clock(begins)}")
    try:
        until("the news", lambda: owner.session()["may_extend_minutes"] in (29, 30))
        answer = extend(owner, 31)
        assert (answer.status_code, "reserved for others from " in answer.json()["message"]) == (409, True)
    finally:
        hub.slurm("scontrol", "delete", "ReservationName=studiolo-test")


def clock(at: int) -> str:
    """A time as Slurm's commands take it."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%dT%H:%M:%S")


@pytest.mark.parametrize("minutes", [0, -5, "60", 1.5, True, None, [], 10**12])
def test_minutes_are_minutes(owner: Person, minutes: object) -> None:
    assert owner.call("POST", "extend", json={"name": "", "minutes": minutes}).status_code == 400


@pytest.mark.parametrize("name", ["nope", "../x", "x" * 3000, None, 7, ["", ""], {"a": 1}])
def test_what_does_not_run_is_not_extended(owner: Person, name: object) -> None:
    assert owner.call("POST", "extend", json={"name": name, "minutes": 5}).status_code == 404


def test_a_body_is_small_and_has_known_keys(owner: Person, session_token: str) -> None:
    assert owner.call("POST", "extend", json={"name": "", "minutes": 5, "user": "root"}).status_code == 400
    assert owner.call("POST", "extend", content=b"x" * 5000).status_code == 413
    assert owner.call("POST", "extend", content=b"[").status_code == 400
    assert owner.hub.call("POST", "studiolo/usage", token=session_token, content=b"{" * 5000).status_code == 413


def test_nobody_sees_or_extends_the_sessions_of_somebody_else(hub: Hub, owner: Person, stranger: Person) -> None:
    assert stranger.overview()["sessions"] == []
    assert owner.name not in json.dumps(stranger.overview())
    assert extend(stranger, 5).status_code == 404
    for method, path, rest in (
        ("GET", "sessions", {}),
        ("GET", "sessions/events", {}),
        ("POST", "extend", {"json": {"name": "", "minutes": 5}}),
        ("POST", "usage", {"json": {"cpu": None, "memory_mb": None, "gpu": None}}),
    ):
        assert HTTP.request(method, f"{hub.url}hub/api/studiolo/{path}", **rest).status_code == 403, path
        # The operator's scripts have no sessions.
        assert hub.call(method, f"studiolo/{path}", **rest).status_code in (403, 404), path


def test_the_token_in_a_session_neither_reads_nor_extends(hub: Hub, session_token: str) -> None:
    assert hub.call("GET", "studiolo/sessions", token=session_token).status_code == 403
    assert hub.call("GET", "studiolo/sessions/events", token=session_token).status_code == 403
    body = {"name": "", "minutes": 5}
    assert hub.call("POST", "studiolo/extend", token=session_token, json=body).status_code == 403


def test_a_report_that_can_not_be_is_refused_and_changes_nothing(hub: Hub, owner: Person, session_token: str) -> None:
    good = {"cpu": 0.5, "memory_mb": 100, "gpu": None}
    for field, value in (
        ("cpu", 1.5), ("cpu", -1), ("cpu", "1"), ("cpu", True), ("cpu", [1]),
        ("memory_mb", -1), ("memory_mb", 1.5), ("memory_mb", 1 << 40), ("memory_mb", "<b>"),
        ("gpu", 2), ("gpu", {}),
    ):  # fmt: skip
        answer = hub.call("POST", "studiolo/usage", token=session_token, json={**good, field: value})
        assert (answer.status_code, field in answer.json()["message"]) == (400, True), (field, value)
    nan = b'{"cpu": NaN, "memory_mb": 1, "gpu": null}'
    assert hub.call("POST", "studiolo/usage", token=session_token, content=nan).status_code == 400
    assert hub.call("POST", "studiolo/usage", token=session_token, json=good).status_code == 200
    assert owner.session()["usage"]["memory_mb"] <= 4096


def test_a_token_of_a_person_reports_for_no_session(hub: Hub, stranger: Person) -> None:
    answer = stranger.call("POST", "usage", json={"cpu": 1, "memory_mb": 1, "gpu": None})
    assert answer.status_code == 404


def test_a_job_that_slurm_calls_somebody_elses_is_not_extended(hub: Hub, owner: Person) -> None:
    job = str(owner.session()["job"])
    comment = hub.slurm("squeue", "-h", "-j", job, "-o", "%k").strip()
    hub.slurm("scontrol", "update", f"JobId={job}", "Comment=studiolo:00000000:session:other")
    try:
        answer = extend(owner, 5)
        assert (answer.status_code, "as yours" in answer.json()["message"]) == (409, True)
    finally:
        hub.slurm("scontrol", "update", f"JobId={job}", f"Comment={comment}")


def test_a_restarted_hub_knows_the_session_and_who_reports(
    hub: Hub, box: Any, owner: Person, session_token: str
) -> None:
    before = owner.session()
    restart(hub, box)
    told = until("the end", lambda: (one := owner.session())["ends"] and one)
    for key in ("resources", "profile", "job", "node", "ends", "started"):
        assert told[key] == before[key], key
    report = {"cpu": 0.25, "memory_mb": 123, "gpu": None}
    answer = hub.call("POST", "studiolo/usage", token=session_token, json=report)
    assert (answer.status_code, answer.json()["ends"]) == (200, told["ends"])
    assert owner.session()["usage"]["cpu"] is not None


def test_after_its_end_a_session_is_told_by_what_it_used(hub: Hub, stranger: Person) -> None:
    name = stranger.name
    assert hub.start(name, {"profile": "learn", "minutes": 30}).status_code == 202
    hub.ready(name)
    assert stranger.overview()["last"] is None
    hub.stop(name)
    last = until("what it used", lambda: stranger.overview()["last"])
    assert last["asked"] == {"cpus": 2, "memory_mb": 4096, "gpus": 0, "shards": 0, "minutes": 30}
    assert last["used"]["seconds"] > 0
    assert last["used"]["memory_mb"] > 0
    assert last["advice"] == "", "a session of seconds shows nothing"
