"""Inside a job: what this allocation has, read from the environment that Slurm gives."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import studiolo
from studiolo.session import Session, session

# As Slurm 22.05 sets them in a batch job of one whole GPU.
ENVIRON = {
    "SLURM_JOB_ID": "4711",
    "SLURMD_NODENAME": "gpu1",
    "SLURM_JOB_PARTITION": "gpu",
    "SLURM_JOB_ACCOUNT": "p1",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_CPUS_ON_NODE": "8",
    "SLURM_MEM_PER_NODE": "65536",
    "SLURM_GPUS_ON_NODE": "1",
}
VARIABLES = [*ENVIRON, "SLURM_SHARDS_ON_NODE", "SLURM_JOB_END_TIME", "STUDIOLO_ENDS"]


def test_an_allocation_is_described_as_slurm_says() -> None:
    assert session(ENVIRON) == Session(4711, "gpu1", "gpu", "p1", 8, 65536, 1, 0, None)


def test_a_part_of_a_gpu_is_told_by_its_shards() -> None:
    found = session({**ENVIRON, "SLURM_SHARDS_ON_NODE": "1"})
    assert found
    assert (found.gpus, found.shards) == (1, 1)


def test_the_end_is_slurms_own_where_it_says_so_and_else_the_jobs() -> None:
    both = {**ENVIRON, "SLURM_JOB_END_TIME": "1795320000", "STUDIOLO_ENDS": "1"}
    for environ in (both, {**ENVIRON, "STUDIOLO_ENDS": "1795320000"}):
        found = session(environ)
        assert found
        assert found.ends == 1795320000


def test_the_cpus_of_the_node_count_where_none_were_asked_for_by_task() -> None:
    environ = {key: value for key, value in ENVIRON.items() if key != "SLURM_CPUS_PER_TASK"}
    found = session({**environ, "SLURM_CPUS_ON_NODE": "3"})
    assert found
    assert found.cpus == 3


@pytest.mark.parametrize("number", [None, "", " ", "x", "-1", "1.5"])
def test_outside_of_a_job_there_is_no_session(number: str | None) -> None:
    assert session({} if number is None else {"SLURM_JOB_ID": number}) is None


def test_the_time_left_is_never_negative_and_unknown_where_slurm_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert Session(1, "", "", "", 1, 1, 0, 0, 1060).seconds_left == 60
    assert Session(1, "", "", "", 1, 1, 0, 0, 900).seconds_left == 0
    assert Session(1, "", "", "", 1, 1, 0, 0, None).seconds_left is None


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text(st.characters()) | st.sampled_from(["²", "٣", "①"])))
def test_any_environment_at_all_is_a_session_or_none(environ: dict[str, str]) -> None:
    found = session(environ)
    assert found is None or all(type(number) is int for number in (found.job, found.cpus, found.memory, found.gpus))


def test_the_names_that_a_notebook_types_are_the_packages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in VARIABLES:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setitem(os.environ, "SLURM_JOB_ID", "12")
    found = studiolo.session()
    assert isinstance(found, studiolo.Session)
    assert found.job == 12
