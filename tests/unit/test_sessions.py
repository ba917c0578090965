"""What a person is told of their sessions, and how much longer one may run: plain decisions."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners.extend import Room, changed, not_as_started, refusal, room_for
from spawners.home import steps
from spawners.named import free_name, name_refusal
from spawners.rightsize import Used, record
from spawners.sessions import Seen, described, last_use, resources_words
from spawners.usage import Usage
from studiolo.request import Request, check
from studiolo.site import Partition, Site
from studiolo.slurm.facts import Admission, ReservationFacts
from studiolo.slurm.states import JobState, Owned

NOW = 1_000_000
HOUR, MINUTE = 3600, 60
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def request_(site: Site) -> Request:
    return check({}, site)


def running(start: int = NOW - HOUR, end: int = NOW + HOUR) -> JobState:
    return JobState(7, "RUNNING", node="gpu1", start=start, end=end)


def seen(**rest: Any) -> Seen:
    return Seen("", "My session", "/user/a/", "/hub/spawn-pending/a", **rest)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"pending": "spawn"}, "submitting"),
        ({"pending": "spawn", "job": 7}, "pending"),
        ({"pending": "spawn", "job": 7, "state": JobState(7, "PENDING", "Priority")}, "pending"),
        ({"pending": "spawn", "job": 7, "state": running()}, "starting"),
        ({"ready": True, "job": 7, "state": running()}, "ready"),
        ({"ready": True, "job": 7}, "ready"),  # a hub that has just begun has not asked yet
        ({"ready": True, "job": 7, "pending": "stop", "state": running()}, "stopping"),
    ],
)
def test_a_session_is_in_one_of_five_states(site: Site, facts: dict[str, Any], state: str) -> None:
    told = described(seen(**facts), site, NOW)
    assert told["state"] == state
    assert told["words"]


def test_cost_counts_from_the_job_s_start_and_parts_of_a_gpu_as_parts(site: Site, request_: Request) -> None:
    partition = next(name for name, entry in site.partitions.items() if entry.shards_per_gpu)
    each = site.partitions[partition].shards_per_gpu
    asked = replace(request_, partition=partition, gpus=0, shards=1, cpus=4)
    told = described(seen(ready=True, job=7, state=running(), request=asked), site, NOW)
    assert told["cost"] == {"gpu_hours": round(1 / each, 4), "cpu_hours": 4.0}
    whole = replace(asked, gpus=2, shards=0)
    assert described(seen(ready=True, job=7, state=running(), request=whole), site, NOW)["cost"]["gpu_hours"] == 2.0
    waiting = described(
        seen(pending="spawn", job=7, state=JobState(7, "PENDING", start=NOW + 60), request=whole), site, NOW
    )
    assert waiting["cost"] == {"gpu_hours": 0.0, "cpu_hours": 0.0}
    assert (waiting["started"], waiting["ends"]) == (None, None), "what Slurm expects is no start"


def test_what_is_not_known_is_null_and_never_a_guess(site: Site) -> None:
    told = described(seen(ready=True, job=7, may_extend_minutes=60), site, NOW)
    assert {key: told[key] for key in ("node", "started", "ends", "usage", "resources", "profile")} == dict.fromkeys(
        ("node", "started", "ends", "usage", "resources", "profile")
    )


def test_gauges_are_told_only_while_it_runs(site: Site, request_: Request) -> None:
    usage = Usage(NOW - 5.5, 0.5, 100, None)
    told = described(seen(ready=True, job=7, state=running(), request=request_, usage=usage), site, NOW)
    assert told["usage"] == {"cpu": 0.5, "memory_mb": 100, "gpu": None, "taken": NOW - 6}
    assert described(seen(pending="spawn", job=7, usage=usage), site, NOW)["usage"] is None


def test_resources_are_told_in_one_line(site: Site, request_: Request) -> None:
    assert resources_words(site, replace(request_, gpus=0, shards=0, cpus=1, memory=2048)) == "1 CPU · 2 GB"


# --- How much longer -------------------------------------------------------------------------------------------------


def offering(site: Site, max_time: int = 480, extension: int = 240) -> Partition:
    partition = next(iter(site.partitions.values()))
    return partition.model_copy(update={"max_time": max_time, "max_extension": extension})


def reservation(start: int, end: int, node: str = "gpu1", name: str = "course") -> ReservationFacts:
    return ReservationFacts(name, start, end, (node,), users=Admission.listed(["root"]))


def test_a_session_may_run_to_the_partition_s_time_and_its_extension(site: Site) -> None:
    assert room_for(offering(site), running(), [], None) == Room(720 - 120)
    assert room_for(offering(site, 60, 60), running(), [], None) == Room(0)
    assert room_for(offering(site, 60, 30), running(), [], None) == Room(0), "an operator has given it more already"


def test_where_the_site_offers_none_there_is_none(site: Site) -> None:
    assert room_for(offering(site, extension=0), running(), [], None) == Room()


@pytest.mark.parametrize(
    "state",
    [None, JobState(7, "PENDING", start=1, end=2), JobState(7, "COMPLETED", node="gpu1", start=1, end=2), JobState(7, "RUNNING", node="gpu1")],
)  # fmt: skip
def test_what_does_not_run_or_never_ends_is_not_extended(site: Site, state: JobState | None) -> None:
    assert room_for(offering(site), state, [], None) == Room()


@pytest.mark.parametrize(
    ("reservations", "own", "room"),
    [
        ([reservation(NOW + 2 * HOUR, NOW + 9 * HOUR)], None, Room(60, NOW + 2 * HOUR)),
        ([reservation(NOW + 2 * HOUR, NOW + 9 * HOUR, "gpu2")], None, Room(600)),
        ([reservation(NOW - HOUR, NOW + HOUR // 2)], None, Room(600)),
        ([reservation(NOW - 2 * HOUR, NOW + 9 * HOUR)], None, Room(0, NOW - 2 * HOUR)),
        ([reservation(NOW + HOUR + 30, NOW + 9 * HOUR)], None, Room(0, NOW + HOUR + 30)),
        ([reservation(NOW - 2 * HOUR, NOW + 3 * HOUR)], "course", Room(120, NOW + 3 * HOUR)),
        ([reservation(NOW - 2 * HOUR, NOW + HOUR)], "course", Room(0, NOW + HOUR)),
        ([reservation(NOW + 4 * HOUR, NOW + 5 * HOUR), reservation(NOW + 2 * HOUR, NOW + 3 * HOUR)], None, Room(60, NOW + 2 * HOUR)),
    ],
    ids=["ahead", "elsewhere", "over by then", "already", "at once", "own", "own is over", "the first counts"],
)  # fmt: skip
def test_no_reservation_is_run_into(
    site: Site, reservations: list[ReservationFacts], own: str | None, room: Room
) -> None:
    assert room_for(offering(site), running(), reservations, own) == room


@given(
    st.integers(0, 10**5),
    st.integers(1, 10**5),
    st.lists(st.tuples(st.integers(-(10**5), 10**6), st.integers(1, 10**6))),
)
def test_nothing_ever_gives_more_than_the_site(
    site: Site, before: int, after: int, windows: list[tuple[int, int]]
) -> None:
    ahead = [reservation(NOW + start, NOW + start + length) for start, length in windows]
    state = running(NOW - before, NOW + after)
    room = room_for(offering(site), state, ahead, None)
    end = state.end + room.minutes * MINUTE  # type: ignore[operator]
    assert room.minutes >= 0
    if room.minutes:
        assert end <= NOW - before + 720 * MINUTE
        assert not any(one.start < end and one.end > state.end for one in ahead if state.end)  # type: ignore[operator]


@pytest.mark.parametrize("room", [Room(), Room(90), Room(0, NOW), Room(5, NOW)])
def test_a_refusal_says_what_would_do(room: Room) -> None:
    words = refusal(room)
    assert words.endswith((".", "on."))
    assert ("At most" in words) == bool(room.minutes)
    assert ("reserved" in words) == bool(room.until)


@pytest.mark.parametrize(("zone", "offset"), [("CET-1", "+01:00"), ("EST5", "-05:00"), ("UTC0", "+00:00")])
def test_a_refusal_tells_the_zone_of_its_time(monkeypatch: pytest.MonkeyPatch, zone: str, offset: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert f"(UTC{offset})" in refusal(Room(5, NOW))
    finally:
        monkeypatch.undo()
        time.tzset()


def owned(request: Request, **rest: Any) -> Owned:
    """The job of a session as Slurm holds it."""
    terms = {
        "partition": request.partition, "account": request.account or "usual", "qos": request.qos or "normal",
        "reservation": request.reservation or "", "nodes": 1, **rest,
    }  # fmt: skip
    return Owned(7, "ada", "session", "abc", **terms)


@pytest.mark.parametrize("left_to_slurm", [True, False])
def test_a_job_as_it_was_asked_for_may_be_extended(request_: Request, left_to_slurm: bool) -> None:
    named = (
        {"account": None, "qos": None}
        if left_to_slurm
        else {"account": "Physics", "qos": "Fast", "reservation": "course"}
    )
    asked = replace(request_, **named)  # type: ignore[arg-type]
    assert changed(asked, owned(asked)) == ()
    assert changed(asked, owned(asked, account=(asked.account or "usual").lower())) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [("partition", "other"), ("reservation", "maintenance"), ("account", "others"), ("qos", "urgent"), ("nodes", 4)],
)
def test_a_job_that_was_moved_is_told_by_field_and_value(request_: Request, field: str, value: Any) -> None:
    asked = replace(request_, account="physics", qos="fast", reservation=None)
    (fault,) = changed(asked, owned(asked, **{field: value}))
    words = not_as_started([fault])
    assert (fault.where, str(value) in fault.value) == (field, True)
    assert all(part in words for part in (field, str(value), "start a new session", "support"))


def test_leaving_the_reservation_is_a_change_too(request_: Request) -> None:
    asked = replace(request_, reservation="course")
    (fault,) = changed(asked, owned(asked, reservation=""))
    assert "course" in str(fault)


# --- The page --------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=60), st.sets(st.sampled_from(["x", "x-2", "training-run", "training-run-2"])))
def test_any_title_finds_a_name_of_its_own(title: str, taken: set[str]) -> None:
    name = free_name(title, taken)
    assert name_refusal(name) == ""
    assert name not in taken


def test_a_second_session_of_a_long_title_finds_a_name_too() -> None:
    first = free_name("a" * 60, ())
    second = free_name("a" * 60, {first})
    assert first != second
    assert name_refusal(second) == ""


@pytest.mark.parametrize(
    ("most", "offered"), [(0, []), (20, [20]), (30, [30]), (690, [30, 60, 120, 240, 690]), (61, [30, 60, 61])]
)
def test_extensions_are_offered_in_steps_up_to_what_is_allowed(most: int, offered: list[int]) -> None:
    assert [minutes for minutes, _words in steps(most)] == offered


def kept(site: Site, ended: float, used: Used, **options: object) -> dict[str, Any]:
    return record("", options, check({}, site), used, ended)


def test_the_session_that_ended_last_is_told_with_the_request_that_would_have_done(site: Site) -> None:
    used = Used(8 * HOUR, cpus=0.1, memory_mb=100)
    request = check({}, site)
    last = last_use(iter([kept(site, NOW - 50, used, hours="2"), kept(site, NOW - 90, Used(1))]), site, NOW)
    assert last
    assert last["ended"] == NOW - 50
    if request.memory >= 2048:
        assert last["options"]["memory"] == "1G"
        assert last["advice"]
    assert check(last["options"], site), "what is offered is allowed"


def test_nothing_is_told_of_what_is_long_past_or_gone_from_the_site(site: Site) -> None:
    assert last_use(iter([]), site, NOW) is None
    assert last_use(iter([kept(site, NOW - 8 * 24 * HOUR, Used(1))]), site, NOW) is None
    assert last_use(iter([{**kept(site, NOW, Used(1)), "profile": HOSTILE}]), site, NOW) is None
