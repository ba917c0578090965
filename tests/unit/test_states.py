"""States: which are waiting, which are over, and what people are told about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.slurm.states import (
    OVER_STATES,
    PENDING_STATES,
    RUNNING_STATES,
    JobState,
    Words,
    ended_words,
    pending_words,
)

# Slurm's manual (squeue, "JOB STATE CODES"), and our own VANISHED.
WAITING = ["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"]
ALIVE = ["RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT", "COMPLETING"]
OVER = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
    "VANISHED",
]


@pytest.mark.parametrize("state", WAITING)
def test_a_job_that_may_still_start_is_waiting(state: str) -> None:
    assert JobState(1, state).is_pending
    assert not JobState(1, state).is_over


@pytest.mark.parametrize("state", ALIVE)
def test_a_job_on_a_node_is_neither_waiting_nor_over(state: str) -> None:
    assert not JobState(1, state).is_pending
    assert not JobState(1, state).is_over


@pytest.mark.parametrize("state", OVER)
def test_a_job_that_will_not_run_again_is_over(state: str) -> None:
    assert JobState(1, state).is_over
    assert not JobState(1, state).is_pending


def test_no_state_is_of_two_kinds() -> None:
    assert not PENDING_STATES & RUNNING_STATES
    assert not PENDING_STATES & OVER_STATES
    assert not RUNNING_STATES & OVER_STATES


@given(st.text())
def test_a_state_that_nobody_has_heard_of_is_never_taken_for_over(state: str) -> None:
    # A server must not be forgotten for a word of a later Slurm.
    if state not in OVER_STATES:
        assert not JobState(1, state).is_over


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("None", "Slurm is looking for a place."),
        ("", "Slurm is looking for a place."),
        ("(None)", "Slurm is looking for a place."),
        ("Priority", "Others are ahead of you in the queue. (Slurm says: Priority)"),
        ("(Resources)", "You are next: waiting for enough free resources. (Slurm says: Resources)"),
        (
            "ReqNodeNotAvail, UnavailableNodes:gpu2",
            "The nodes it needs are down or reserved, perhaps for maintenance. (Slurm says: ReqNodeNotAvail)",
        ),
        ("SomethingNew", "Waiting in the queue. (Slurm says: SomethingNew)"),
    ],
)
def test_a_waiting_person_is_told_why_with_slurms_word_beside_it(reason: str, words: str) -> None:
    assert pending_words(reason) == words


@pytest.mark.parametrize("state", OVER)
def test_every_end_is_told_with_what_to_do_next(state: str) -> None:
    words = ended_words(JobState(1, state))
    assert words.what.endswith((".", ")."))
    assert words.advice.endswith(".")
    assert str(words) == f"{words.what} {words.advice}"


@pytest.mark.parametrize("state", OVER)
def test_who_has_worked_in_a_session_is_not_sent_to_a_log_that_is_gone(state: str) -> None:
    words = ended_words(JobState(1, state), served=True)
    assert "log below" not in str(words)
    assert "before its notebook server answered" not in str(words)


def test_an_end_that_nobody_has_heard_of_is_told_in_slurms_word() -> None:
    assert "RECONFIG_FAIL" in ended_words(JobState(1, "RECONFIG_FAIL")).what


def test_the_likeliest_ends_have_words_of_their_own() -> None:
    told = {
        state: ended_words(JobState(1, state))
        for state in ("TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "NODE_FAIL", "FAILED", "VANISHED")
    }
    assert len(set(told.values())) == len(told)
    assert "memory" in told["OUT_OF_MEMORY"].advice
    assert "time" in told["TIMEOUT"].advice


def test_facts_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        JobState(1, "RUNNING").state = "FAILED"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Words("a", "b").what = "c"  # type: ignore[misc]
