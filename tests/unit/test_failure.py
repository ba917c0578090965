"""A failed start, told to its owner: every word escaped, every line there."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.spawner import SpawnException
from tornado.web import HTTPError

from spawners.failure import RequestRefused, SessionFailed, ended, not_saved, not_submitted, silent, slurms_word
from studiolo.errors import (
    Fault,
    HomeUnusable,
    LauncherFailed,
    RequestError,
    SlurmError,
    SlurmRefused,
    SlurmUnavailable,
)
from studiolo.slurm.states import OVER_STATES, JobState, ended_words

HOSTILE = "<script>alert('x')</script><img src=x onerror=\"y\">&lt;b&gt;</pre></p>{{ 7*7 }}"
TEXT = st.text() | st.just(HOSTILE)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def failed(**changes: object) -> SessionFailed:
    facts: dict[str, object] = {"what": "It failed.", "advice": "Start again.", "reason": "failed", **changes}
    return SessionFailed(facts.pop("what"), facts.pop("advice"), **facts)  # type: ignore[arg-type]


def test_a_failure_is_a_refusal_and_never_counts_as_the_hubs_own() -> None:
    # JupyterHub exits after so many failures of its own; a SpawnException is none.
    assert isinstance(failed(), SpawnException)
    assert isinstance(RequestRefused(RequestError([Fault("a", "1", "2")])), SpawnException)


def test_a_failure_tells_what_advice_log_and_support() -> None:
    error = failed(log=["first line", "second line"], support="Ask support@example.org.")
    page = Page(error.jupyterhub_html_message)
    for part in ("It failed.", "Start again.", "first line\nsecond line", "Ask support@example.org."):
        assert part in page.text
    assert error.jupyterhub_message == "It failed. Start again.\nfirst line\nsecond line"
    assert [tag for tag, _ in page.tags] == ["p", "p", "p", "pre", "p"]


def test_without_log_and_support_there_are_no_empty_parts() -> None:
    assert [tag for tag, _ in Page(failed().jupyterhub_html_message).tags] == ["p", "p"]


def test_the_reason_and_status_are_jupyterhubs() -> None:
    error = failed(reason="out_of_memory", status=503)
    assert isinstance(error, HTTPError)
    assert error.reason == "out_of_memory"
    assert error.status_code == 503
    assert failed().status_code == 500


@given(what=TEXT, advice=TEXT, log=st.lists(TEXT), support=TEXT)
def test_no_word_of_log_slurm_or_site_becomes_a_tag(what: str, advice: str, log: list[str], support: str) -> None:
    html = failed(what=what, advice=advice, log=log, support=support).jupyterhub_html_message
    expected = ["p", "p", *(["p", "pre"] if log else []), *(["p"] if support else [])]
    page = Page(html)
    assert [tag for tag, _ in page.tags] == expected
    assert all(set(attributes) <= {"class", "tabindex"} for _, attributes in page.tags)
    assert "<script" not in html


def test_a_hostile_log_is_shown_as_it_is() -> None:
    html = failed(log=[HOSTILE]).jupyterhub_html_message
    assert HOSTILE in unescape(html)
    assert HOSTILE not in html


def test_the_log_can_be_reached_by_keyboard() -> None:
    page = Page(failed(log=["x"]).jupyterhub_html_message)
    assert dict(page.tags)["pre"].get("tabindex") == "0"


def test_a_refused_request_lists_every_fault_and_is_status_400() -> None:
    error = RequestRefused(RequestError([Fault("cpus", "99", "at most 16"), Fault("gpus", "9", "at most 4")]))
    page = Page(error.jupyterhub_html_message)
    assert error.status_code == 400
    assert [tag for tag, _ in page.tags] == ["p", "ul", "li", "li"]
    assert "cpus = 99: at most 16" in page.text
    assert "gpus = 9: at most 4" in error.jupyterhub_message


@given(st.lists(st.builds(Fault, where=TEXT, value=TEXT, allowed=TEXT), min_size=1))
def test_no_word_of_a_refused_request_becomes_a_tag(faults: list[Fault]) -> None:
    page = Page(RequestRefused(RequestError(faults)).jupyterhub_html_message)
    assert [tag for tag, _ in page.tags] == ["p", "ul", *["li"] * len(faults)]
    assert not any(attributes for _, attributes in page.tags)


@pytest.mark.parametrize("text", ["100 %", "%s %d %(x)s", "{0} {x}", "100%\n"])
def test_a_percent_sign_or_brace_in_slurms_words_breaks_no_message(text: str) -> None:
    # tornado formats an HTTPError's log_message with its arguments when it is printed.
    error = failed(what=text)
    assert text.strip() in str(error.jupyterhub_message)
    assert str(error)
    assert str(RequestRefused(RequestError([Fault("a", text, text)])))


# --- What went wrong, in words ---------------------------------------------------------------------------------------

ACTION = "submit your session"
SUPPORT = "Ask support@example.org."


@pytest.mark.parametrize(
    ("error", "reason", "status", "what"),
    [
        (SlurmRefused(ACTION, "Invalid qos"), "refused", 400, "Slurm refused this session: Invalid qos"),
        (
            LauncherFailed(ACTION, "sudo: a password is required"),
            "launcher",
            500,
            "Studiolo may not start sessions for your account on this machine.",
        ),
        (HomeUnusable(ACTION, "/home/ada: Permission denied"), "home", 500, "/home/ada: Permission denied."),
        (HomeUnusable(ACTION, "the home folder hangs"), "home", 500, "The home folder hangs."),
        (
            SlurmUnavailable(ACTION, "Connection refused"),
            "scheduler",
            503,
            "The machine's scheduler does not answer at the moment.",
        ),
        (SlurmError(ACTION, "?"), "scheduler", 503, "The machine's scheduler does not answer at the moment."),
    ],
)
def test_why_a_job_was_not_submitted_is_told_with_whose_move_it_is(
    error: SlurmError, reason: str, status: int, what: str
) -> None:
    failure = not_submitted(error, SUPPORT)
    page = Page(failure.jupyterhub_html_message)
    assert (failure.reason, failure.status_code) == (reason, status)
    assert failure.jupyterhub_message == f"{what} {failure.advice}"
    assert page.text == f"{what}{failure.advice}{SUPPORT}"


def test_the_operators_own_words_are_not_for_people() -> None:
    failure = not_submitted(LauncherFailed(ACTION, "sudo: ada is not in the sudoers file"), SUPPORT)
    assert "sudo" not in failure.jupyterhub_html_message
    assert "support" in failure.advice


def test_nothing_is_said_to_be_lost_where_slurm_did_not_answer() -> None:
    assert "Try again" in not_submitted(SlurmUnavailable(ACTION, "x"), SUPPORT).advice


def test_a_database_that_can_not_be_written_is_the_supports_move() -> None:
    failure = not_saved(SUPPORT)
    assert (failure.reason, failure.status_code) == ("database", 503)
    assert "support" in failure.advice
    assert SUPPORT in Page(failure.jupyterhub_html_message).text


@pytest.mark.parametrize("state", sorted(OVER_STATES))
def test_every_end_is_told_in_words_with_slurms_own_and_the_log(state: str) -> None:
    job = JobState(7, state, node="gpu1")
    failure = ended(job, ["last line"], SUPPORT)
    words = ended_words(job)
    assert failure.jupyterhub_message == (
        f"{words.what} Slurm's word for it is {state} (job 7 on gpu1). {words.advice}\nlast line"
    )
    assert failure.reason == state.lower()
    assert failure.status_code == 500
    assert SUPPORT in Page(failure.jupyterhub_html_message).text


@pytest.mark.parametrize(
    ("node", "minutes", "what"),
    [
        ("gpu1", 5, "Job 7 runs on gpu1, but its notebook server did not answer within 5 min."),
        ("", 90, "Job 7 runs, but its notebook server did not answer within 1 h 30 min."),
    ],
)
def test_a_server_that_stays_silent_is_told_with_its_node_and_its_time(node: str, minutes: int, what: str) -> None:
    failure = silent(7, node, minutes, ["last line"], SUPPORT)
    assert failure.jupyterhub_message == f"{what} {failure.advice}\nlast line"
    assert failure.reason == "silent"
    assert SUPPORT in Page(failure.jupyterhub_html_message).text


def test_slurms_word_names_job_and_node_where_there_is_one() -> None:
    assert slurms_word(JobState(7, "CANCELLED")) == "Slurm's word for it is CANCELLED (job 7)."
    assert slurms_word(JobState(7, "NODE_FAIL", node="gpu1")) == "Slurm's word for it is NODE_FAIL (job 7 on gpu1)."


@pytest.mark.parametrize("kind", [SlurmRefused, LauncherFailed, HomeUnusable, SlurmUnavailable])
@given(words=TEXT)
def test_no_word_of_slurm_or_a_node_becomes_a_tag(kind: type[SlurmError], words: str) -> None:
    job = JobState(7, words, words, node=words)
    for failure, tags in (
        (not_submitted(kind(ACTION, words), words), ["p", "p"]),
        (ended(job, [words], words), ["p", "p", "p", "pre"]),
        (silent(7, words, 5, [words], words), ["p", "p", "p", "pre"]),
    ):
        page = Page(failure.jupyterhub_html_message)
        assert [tag for tag, _ in page.tags] == [*tags, *(["p"] if words else [])]
        assert str(failure)
