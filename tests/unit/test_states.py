"""States: which are waiting and which are over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.slurm.states import (
    OVER_STATES,
    PENDING_STATES,
    RUNNING_STATES,
    JobState,
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


def test_facts_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        JobState(1, "RUNNING").state = "FAILED"  # type: ignore[misc]
