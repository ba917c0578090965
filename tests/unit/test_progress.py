"""What a waiting person is told at each kind of moment: plain decisions, and no text of Slurm's becomes anything but text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners.progress import MOVED_SECONDS, SILENT, STEPS, Forecast, Moment, asked_words, news, ordinal
from studiolo.request import check
from studiolo.site import Site
from studiolo.slurm.reasons import pending_words
from studiolo.slurm.states import OVER_STATES, PENDING_STATES, RUNNING_STATES, JobState

NOW = 1_700_000_000.0
HOSTILE = "<script>alert('x')</script>\n\ndata: {\"ready\": true}\n\x1b[2J"


def waiting(reason: str = "Priority", **facts: Any) -> JobState:
    return JobState(7, "PENDING", reason, **facts)


def told(**facts: Any) -> dict[str, Any]:
    """What is told of job 7 at :data:`NOW`, but for what every event has."""
    event = whole(**facts)
    return {key: value for key, value in event.items() if key not in ("step", "title", "told", "answers")}


def whole(**facts: Any) -> dict[str, Any]:
    event = news(Moment(**{"submitting": False, "now": NOW, "job": 7, **facts}))
    assert event is not None
    return event


def test_while_it_is_submitted_nobody_ahead_is_not_mentioned() -> None:
    event = news(Moment(True, NOW))
    assert event is not None
    assert event["progress"] == 5
    assert event["message"] == event["told"] == "Handing your request to the machine's scheduler."


def test_while_it_is_submitted_those_before_it_are_counted() -> None:
    event = news(Moment(True, NOW, ahead=12))
    assert event is not None
    assert event["message"] == "Handing your request to the machine's scheduler. 12 before you."


def test_what_is_submitted_anew_is_not_told_by_its_last_job() -> None:
    # A cut-off start is taken up with the old number until there is a new one.
    event = news(Moment(True, NOW, job=7, state=JobState(7, "CANCELLED"), place=(1, 2), answers=False))
    assert event == news(Moment(True, NOW))


def test_before_the_first_answer_it_is_in_the_queue_by_its_number() -> None:
    assert told() == {"progress": 10, "message": "In the queue as job 7.", "job": 7}


def test_a_waiting_job_tells_why_it_waits() -> None:
    assert told(state=waiting("Resources")) == {
        "progress": 20,
        "job": 7,
        "state": "PENDING",
        "reason": "Resources",
        "message": pending_words("Resources"),
    }


def test_a_waiting_job_tells_its_place_in_words_and_as_numbers() -> None:
    event = told(state=waiting(), place=(3, 17))
    assert (event["place"], event["line"]) == (3, 17)
    assert event["message"] == f"{pending_words('Priority')} You are number 3 of 17 in the line."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 min"), (61, "1 min"), (100, "2 min"), (5400, "1 h 30 min"), (2 * 86400, "2 d")],
)
def test_a_waiting_job_tells_when_slurm_expects_it_to_start(seconds: int, words: str) -> None:
    event = told(state=waiting(), forecast=Forecast(int(NOW) + seconds))
    assert event["expected"] == NOW + seconds
    assert event["message"].endswith(f"Slurm expects it to start in about {words}.")


@pytest.mark.parametrize("start", [None, 0, int(NOW) - 1, int(NOW)])
def test_a_start_that_is_unknown_or_over_is_not_expected(start: int | None) -> None:
    event = told(state=waiting(), forecast=Forecast().heard(start, NOW))
    assert "expected" not in event
    assert event["message"] == pending_words("Priority")


def test_place_and_expected_start_come_after_the_reason() -> None:
    message = told(state=waiting("Resources"), place=(1, 4), forecast=Forecast(int(NOW) + 600))["message"]
    assert message == (
        f"{pending_words('Resources')} You are number 1 of 4 in the line. Slurm expects it to start in about 10 min."
    )


def test_a_running_job_tells_on_which_node() -> None:
    assert told(state=JobState(7, "RUNNING", node="gpu1"), place=(1, 2)) == {
        "progress": 60,
        "message": "Running on gpu1: your notebook server is starting.",
        "job": 7,
        "state": "RUNNING",
        "node": "gpu1",
    }


def test_a_running_job_whose_node_is_not_known_yet_names_none() -> None:
    assert told(state=JobState(7, "RUNNING"))["message"] == "Running: your notebook server is starting."


@pytest.mark.parametrize("state", [None, waiting(), JobState(7, "RUNNING", node="gpu1")])
def test_while_slurm_does_not_answer_that_comes_first_and_the_last_news_stays(state: JobState | None) -> None:
    known, silent = told(state=state), told(state=state, answers=False)
    assert silent["message"] == f"{SILENT} {known['message']}"
    assert {**silent, "message": ""} == {**known, "message": ""}


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("state", sorted(OVER_STATES))
def test_there_is_no_news_of_a_job_that_is_over(state: str, answers: bool) -> None:
    assert news(Moment(False, NOW, job=7, state=JobState(7, state), answers=answers)) is None


def test_there_is_no_news_where_nothing_was_submitted() -> None:
    assert news(Moment(False, NOW)) is None


@pytest.mark.parametrize(
    ("facts", "step", "title"),
    [
        ({}, "line", "In line"),
        ({"state": waiting()}, "line", "In line"),
        ({"state": waiting(), "place": (3, 17)}, "line", "3rd in line"),
        ({"state": JobState(7, "CONFIGURING", node="gpu1")}, "node", "Starting"),
        ({"state": JobState(7, "RUNNING", node="gpu1")}, "server", "Starting"),
    ],
)
def test_every_event_says_how_far_it_is_and_the_tab_in_few_words(facts: dict[str, Any], step: str, title: str) -> None:
    event = whole(**facts)
    assert (event["step"], event["title"]) == (step, title)
    assert event["step"] in STEPS
    assert event["answers"]


def test_what_is_told_apart_from_times_holds_no_forecast() -> None:
    event = whole(state=waiting(), place=(3, 17), forecast=Forecast(int(NOW) + 600, int(NOW) + 1200))
    assert event["told"] == f"{pending_words('Priority')} You are number 3 of 17 in the line."
    assert (event["expected"], event["was"]) == (NOW + 600, NOW + 1200)


def test_while_slurm_does_not_answer_what_was_known_is_told_beside_that() -> None:
    event = whole(state=waiting(), answers=False)
    assert not event["answers"]
    assert event["told"] == pending_words("Priority")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (112, "112th"),
    ],
)
def test_a_place_is_counted_in_words(number: int, words: str) -> None:
    assert ordinal(number) == words


def test_what_was_asked_for_is_told_in_few_words(site: Site) -> None:
    request = check({}, site)
    assert asked_words(request, site)[0] == site.profiles[request.profile].title
    assert all(asked_words(request, site))


# --- A forecast that moves -------------------------------------------------------------------------------------------

SOON, LATE = int(NOW) + 600, int(NOW) + 1500


def test_a_first_forecast_has_not_moved() -> None:
    assert Forecast().heard(SOON, NOW) == Forecast(SOON)


def test_a_forecast_that_moves_says_what_it_was() -> None:
    assert Forecast().heard(LATE, NOW).heard(SOON, NOW) == Forecast(SOON, LATE)


def test_a_forecast_that_moves_twice_says_the_last() -> None:
    assert Forecast().heard(LATE, NOW).heard(SOON, NOW).heard(LATE + 900, NOW) == Forecast(LATE + 900, SOON)


@pytest.mark.parametrize("seconds", [0, 1, MOVED_SECONDS - 1, 1 - MOVED_SECONDS])
def test_seconds_to_and_fro_are_no_news(seconds: int) -> None:
    known = Forecast().heard(LATE, NOW).heard(SOON, NOW)
    assert known.heard(SOON + seconds, NOW) is known


@pytest.mark.parametrize("start", [None, 0, int(NOW)])
def test_a_forecast_that_is_gone_for_a_while_is_remembered(start: int | None) -> None:
    gone = Forecast().heard(LATE, NOW).heard(start, NOW)
    assert gone == Forecast(None, LATE)
    assert gone.heard(SOON, NOW) == Forecast(SOON, LATE)
    assert gone.heard(LATE + 1, NOW) == Forecast(LATE + 1)


@pytest.mark.parametrize("state", sorted(PENDING_STATES))
def test_every_waiting_state_is_told_as_waiting(state: str) -> None:
    assert told(state=JobState(7, state))["progress"] == 20


@pytest.mark.parametrize("state", sorted(RUNNING_STATES))
def test_every_running_state_is_told_as_running(state: str) -> None:
    assert told(state=JobState(7, state, node="gpu1"))["progress"] == 60


def test_the_bar_never_goes_back_on_the_usual_way() -> None:
    moments = [
        Moment(True, NOW, ahead=3),
        Moment(True, NOW),
        Moment(False, NOW, job=7),
        Moment(False, NOW, job=7, state=waiting()),
        Moment(False, NOW, job=7, state=JobState(7, "CONFIGURING", node="gpu1")),
        Moment(False, NOW, job=7, state=JobState(7, "RUNNING", node="gpu1")),
    ]
    bar = [event["progress"] for moment in moments if (event := news(moment))]
    assert len(bar) == len(moments)
    assert bar == sorted(bar)
    assert bar[-1] < 100  # JupyterHub's own last event


# --- Hostile text ----------------------------------------------------------------------------------------------------

TEXT = st.text() | st.just(HOSTILE)


@given(
    state=st.sampled_from(sorted(PENDING_STATES | RUNNING_STATES)) | TEXT,
    reason=TEXT,
    node=TEXT,
    start=st.none() | st.integers(-(10**12), 10**12),
    place=st.none() | st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    answers=st.booleans(),
)
def test_whatever_slurm_says_is_told_as_text_on_one_line_of_json(
    state: str,
    reason: str,
    node: str,
    start: int | None,
    place: tuple[int, int] | None,
    answers: bool,
) -> None:
    job = JobState(7, state, reason, node=node, start=start)
    event = news(Moment(False, NOW, job=7, state=job, place=place, answers=answers))
    if event is None:
        assert job.is_over
        return
    # JupyterHub's page takes html_message for HTML and message for text; the only keys that it acts on beside these:
    assert not {"html_message", "ready", "failed", "url"} & set(event)
    assert type(event["progress"]) is int
    line = json.dumps(event)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == event


def test_a_hostile_reason_is_shown_as_it_is_and_adds_nothing() -> None:
    event = told(state=waiting(HOSTILE))
    assert event["reason"] == HOSTILE
    assert "<script>alert('x')</script>" in event["message"]
    assert set(event) == {"progress", "message", "job", "state", "reason"}
