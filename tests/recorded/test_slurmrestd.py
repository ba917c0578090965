"""What slurmrestd has said, by Slurm release and API version, and what Studiolo reads in it.

A file's name is its question, the release, the API version and the status it came with. The questions were the same each
time: a session on a GPU runs, one job fails with 73, one is killed by signal 9, one completes under another comment, one is
cancelled while it runs, and one waits, whose comment holds lines like those about somebody else's job. Of jobs and nodes some
were left out. Those ``built`` were not recorded: they follow the parsers in Slurm's sources.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from studiolo.slurm.rest_parse import (
    INVALID_JOB_ID,
    VERSIONS,
    errors,
    is_submitted,
    parse_accounting_jobs,
    parse_addresses,
    parse_jobs,
    parse_owned_jobs,
    parse_server_time,
    parse_submitted,
    parse_tagged_jobs,
)
from studiolo.slurm.states import JobState, Tagged

HERE = Path(__file__).parent / "slurmrestd"
MARK = "0a1b2c3d"


def recorded(question: str) -> list[Any]:
    """All recordings of a question."""
    found = sorted(path for path in HERE.iterdir() if re.match(rf"{question}_(\d+\.\d+|built)_", path.name))
    assert found, question
    return [pytest.param(path, id=path.name) for path in found]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def version_of(path: Path) -> str:
    return re.findall(r"v0\.0\.\d+", path.name)[0]


def test_every_recording_is_read_by_some_test() -> None:
    questions = {re.split(r"_(?:\d+\.\d+|built)_", path.name)[0] for path in HERE.iterdir()}
    source = Path(__file__).read_text(encoding="utf-8")
    assert [question for question in questions if f'"{question}"' not in source] == []


def test_versions_from_the_oldest_to_the_newest_are_there() -> None:
    versions = {version_of(path) for path in HERE.iterdir()}
    assert {VERSIONS[0], VERSIONS[-1]} <= versions <= set(VERSIONS)


# --- Jobs ------------------------------------------------------------------------------------------------------------


def same(states: dict[int, JobState]) -> list[tuple[str, str, bool, int | None, int | None]]:
    """What must be the same whichever Slurm: state, reason, whether it has a node, exit code and signal."""
    return [
        (state.state, state.reason, bool(state.node), state.exit_code, state.signal)
        for _, state in sorted(states.items())
    ]


@pytest.mark.parametrize("path", recorded("jobs"))
def test_the_queue_is_read(path: Path) -> None:
    states = parse_jobs(read(path))
    told = same(states)
    assert told[:2] == [("RUNNING", "None", True, None, None), ("FAILED", "NonZeroExitCode", True, 73, None)]
    assert told[2][:1] + told[2][2:] in {("FAILED", True, code, 9) for code in (None, 0)}
    assert told[2][1].partition(":")[0] in {"RaisedSignal", "JobLaunchFailure"}
    assert told[3] == ("COMPLETED", "None", True, 0, None)
    assert told[4] in {("CANCELLED", "None", True, code, signal) for code in (None, 0) for signal in (None, 15)}
    assert told[5] == ("PENDING", "PartitionDown", False, None, None)
    running, *_, waiting = (state for _, state in sorted(states.items()))
    assert running.start
    assert running.end == running.start + 600
    assert re.fullmatch(r"gpu\d", running.node)
    assert waiting.is_pending
    assert [state.is_over for _, state in sorted(states.items())] == [False, True, True, True, True, False]


@pytest.mark.parametrize("path", recorded("job"))
def test_one_job_is_read_like_many(path: Path) -> None:
    (state,) = parse_jobs(read(path)).values()
    assert (state.state, state.reason) == ("RUNNING", "None")


@pytest.mark.parametrize("path", recorded("jobs"))
def test_this_hubs_live_jobs_are_found_and_a_forged_comment_is_nobodys(path: Path) -> None:
    (tagged,) = parse_tagged_jobs(read(path), MARK)
    assert (tagged.person, tagged.kind, tagged.name) == ("ada", "session", "0123456789abcdef")
    assert parse_tagged_jobs(read(path), "ffffffff") == ()
    assert isinstance(tagged, Tagged)
    assert any("\n" in job["comment"] for job in read(path)["jobs"])


@pytest.mark.parametrize("path", recorded("job"))
def test_whose_a_job_is_comes_with_its_terms(path: Path) -> None:
    (owned,) = parse_owned_jobs(read(path), MARK)
    assert (owned.person, owned.partition, owned.account, owned.qos, owned.reservation, owned.nodes) == (
        "ada", "gpu", "playground", "playground", "", 1,
    )  # fmt: skip


@pytest.mark.parametrize("terms", [{}, {"partition": ["gpu"], "node_count": 1}, {"partition": "gpu"}])
def test_a_job_without_its_terms_is_half_an_answer(terms: dict[str, object]) -> None:
    job = {"job_id": 7, "user_name": "ada", "job_state": "RUNNING", "comment": f"studiolo:{MARK}:session:abc"}
    with pytest.raises(ValueError, match="terms"):
        parse_owned_jobs({"jobs": [job | terms]}, MARK)


@pytest.mark.parametrize("path", recorded("accounting"))
def test_accounting_is_read(path: Path) -> None:
    states = parse_accounting_jobs(read(path))
    told = [(state.state, bool(state.node), state.exit_code, state.signal) for _, state in sorted(states.items())]
    # v0.0.38 tells every status that a script ends with as 0.
    failed = None if version_of(path) == "v0.0.38" else 73
    assert told[0][:2] == ("RUNNING", True)
    assert told[1] == ("FAILED", True, failed, None)
    assert told[2] in {("FAILED", True, code, 9) for code in (None, 0)}
    assert told[3] == ("COMPLETED", True, 0, None)
    assert told[4] in {("CANCELLED", True, code, signal) for code in (None, 0) for signal in (None, 15)}
    running, *_, completed, _cancelled = (state for _, state in sorted(states.items()))
    assert completed.start
    assert completed.end
    assert 0 <= completed.end - completed.start < 5
    assert (running.end, running.exit_code) == (None, None)


@pytest.mark.parametrize("path", [*recorded("accounting_nothing")])
def test_accounting_that_knows_none_of_the_jobs_is_an_answer(path: Path) -> None:
    assert errors(read(path)) == ()
    assert parse_accounting_jobs(read(path)) == {}


# --- The rest of the answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", recorded("nodes"))
def test_addresses_are_read(path: Path) -> None:
    assert parse_addresses(read(path)) == {"cpu1": "127.0.0.1", "cpu2": "127.0.0.1"}


@pytest.mark.parametrize("path", recorded("diag"))
def test_slurmctlds_clock_is_read(path: Path) -> None:
    assert 1_795_000_000 < parse_server_time(read(path)) < 1_796_000_000


@pytest.mark.parametrize("path", recorded("submitted"))
def test_the_number_of_a_submitted_job_is_read(path: Path) -> None:
    assert errors(read(path)) == ()
    assert parse_submitted(read(path)) > 40_000_000


@pytest.mark.parametrize("path", recorded("cancelled"))
def test_a_cancellation_has_no_errors(path: Path) -> None:
    assert errors(read(path)) == ()


@pytest.mark.parametrize("path", [*recorded("cancel_unknown"), *recorded("cancel_over")])
def test_cancelling_what_is_over_is_told_as_such(path: Path) -> None:
    assert all(error.is_over for error in errors(read(path)))


@pytest.mark.parametrize("path", recorded("cancel_foreign"))
def test_cancelling_somebody_elses_job_is_refused(path: Path) -> None:
    if version_of(path) in ("v0.0.40", "v0.0.41"):
        # Slurm 24.11 leaves the refusal out in these versions; the newest that it offers has it.
        assert errors(read(path)) == ()
        return
    (error,) = errors(read(path))
    assert error.is_refusal
    assert not error.is_over
    assert "permission denied" in error.words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        *(pytest.param(p.values[0], "Invalid account", id=str(p.id)) for p in recorded("refused_account")),
        *(pytest.param(p.values[0], "Invalid partition", id=str(p.id)) for p in recorded("refused_partition")),
    ],
)
def test_a_refusal_has_slurms_words(path: Path, words: str) -> None:
    assert not is_submitted(read(path))
    (error,) = errors(read(path))
    assert error.is_refusal
    assert words in error.words


@pytest.mark.parametrize("path", recorded("job_unknown"))
def test_a_job_that_slurmctld_does_not_hold_has_its_number(path: Path) -> None:
    assert [error.number for error in errors(read(path))] == [INVALID_JOB_ID]


@pytest.mark.parametrize(
    "path",
    [
        *recorded("jobs_down"),
        *recorded("submit_down"),
        *recorded("accounting_down"),
        *recorded("jobs_bad_token"),
        *recorded("submit_bad_token"),
        *recorded("accounting_bad_token"),
    ],
)
def test_silence_is_no_refusal_of_a_submission_and_no_empty_answer(path: Path) -> None:
    found = errors(read(path))
    assert found
    if path.name.startswith("submit"):
        assert not any(error.is_refusal for error in found)


@pytest.mark.parametrize("path", recorded("no_such_version"))
def test_a_version_that_is_not_there_is_told_by_a_status_and_no_json(path: Path) -> None:
    assert path.name.endswith(".404.json")
    with pytest.raises(ValueError, match="Expecting value"):
        read(path)
