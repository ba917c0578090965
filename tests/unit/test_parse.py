"""Readers of Slurm's answers, held against any answer at all; recorded ones are in tests/recorded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.slurm.parse import (
    ACCOUNTING_FORMAT,
    NODE_FORMAT,
    QUEUE_FORMAT,
    parse_accounting,
    parse_job_id,
    parse_node_addresses,
    parse_queue,
)
from studiolo.slurm.states import OVER_STATES, PENDING_STATES, RUNNING_STATES

WORD = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
FIELD = st.one_of(
    WORD,
    st.integers(0, 2**40).map(str),
    st.sampled_from(
        [
            "",
            " ",
            "None",
            "n/a",
            "N/A",
            "(null)",
            "Unknown",
            "None assigned",
            "²",
            "٣",
            "-1",
            "\x00",
            "\ud800",
            "0:0",
            ":",
            "0:9:1",
        ]
    ),
)
LINES = st.lists(st.lists(FIELD, max_size=8).map("|".join), max_size=5).map("\n".join)


@pytest.mark.parametrize("read", [parse_queue, parse_accounting])
@given(answer=st.one_of(LINES, st.text(st.characters())))
def test_any_answer_is_read_or_a_value_error(read: object, answer: str) -> None:
    try:
        jobs = read(answer)  # type: ignore[operator]
    except ValueError:
        return
    for number, state in jobs.items():
        assert number == state.job
        assert state.start is None or type(state.start) is int


@given(answer=st.text(st.characters()))
def test_any_answer_of_sbatch_or_sinfo_is_read_or_a_value_error(answer: str) -> None:
    for read in (parse_job_id, parse_node_addresses):
        try:
            read(answer)  # type: ignore[operator]
        except ValueError:
            continue


@given(
    jobs=st.dictionaries(
        st.integers(1, 2**32 - 1),
        st.tuples(
            st.sampled_from(sorted(PENDING_STATES | RUNNING_STATES | OVER_STATES)),
            WORD,
            WORD,
            st.none() | st.integers(1, 2**32),
            st.none() | st.integers(1, 2**32),
        ),
        max_size=6,
    )
)
def test_what_squeue_prints_comes_back(jobs: dict[int, tuple[str, str, str, int | None, int | None]]) -> None:
    lines = [
        f"{job}|{state}|{reason}|{node}|{'N/A' if start is None else start}|{'NONE' if end is None else end}"
        for job, (state, reason, node, start, end) in jobs.items()
    ]
    read = parse_queue("\n".join(lines))
    assert {job: (s.state, s.reason, s.node, s.start, s.end) for job, s in read.items()} == jobs


def test_each_field_that_is_asked_for_is_one_that_is_read() -> None:
    assert len(QUEUE_FORMAT.split("|")) == 6
    assert len(ACCOUNTING_FORMAT.split(",")) == 6
    assert len(NODE_FORMAT.split()) == 2


def test_no_field_of_a_persons_choosing_is_asked_for() -> None:
    # Job name (%j), comment (%k), working directory (%Z), command (%o): they may hold the separator or a line break.
    assert not re.search("%[jkZoxcu]", QUEUE_FORMAT)
    assert not re.search("JobName|Comment|WorkDir|SubmitLine|User|Account", ACCOUNTING_FORMAT, re.IGNORECASE)


@pytest.mark.parametrize(
    "answer", ["", "\n", "0x10", "-5", "5.5", "٣", "²", "123;", ";main", "123;a b", "123;$(id)", "123\x00", "123,124"]
)
def test_what_is_no_number_of_a_job_is_a_value_error(answer: str) -> None:
    with pytest.raises(ValueError, match="no job number"):
        parse_job_id(answer)


def test_a_long_answer_without_a_number_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match="no job number") as caught:
        parse_job_id("x" * 100_000)
    assert len(str(caught.value)) < 300


def test_a_step_is_not_taken_for_its_job() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_accounting("12.batch|COMPLETED|0:0|n1|1|2\n")
