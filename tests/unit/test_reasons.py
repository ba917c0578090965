"""Why a job waits, in words: every reason that Slurm has gets its sentence, with Slurm's own word beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.slurm.reasons import limit_words, never_starts, pending_words, read_reason

OTHER = "Waiting in the queue."
KNOWN = [
    line
    for line in (Path(__file__).parent / "slurm_job_reasons.txt").read_text(encoding="utf-8").split("\n")
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("word", KNOWN)
def test_every_reason_of_every_slurm_has_a_sentence_of_its_own(word: str) -> None:
    reason = read_reason(word)
    assert reason.sentence != OTHER
    assert reason.sentence.endswith(".")
    assert reason.word == ("" if word == "None" else word)


def test_the_list_of_reasons_is_slurms_own_and_whole() -> None:
    assert len(KNOWN) == len(set(KNOWN))
    assert {"Priority", "QOSMaxGRESPerUser", "AssocGrpGRESMinutes", "MaxCpuRunMinsPerUser", "PowerNotAvail"} <= set(
        KNOWN
    )


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
        (
            "launch failed requeued held",
            "The node could not start it, so Slurm holds it: cancel it and start again. "
            "(Slurm says: launch_failed_requeued_held)",
        ),
        ("SomethingNew", "Waiting in the queue. (Slurm says: SomethingNew)"),
    ],
)
def test_a_waiting_person_is_told_why_with_slurms_word_beside_it(reason: str, words: str) -> None:
    assert pending_words(reason) == words


def test_a_whole_sentence_of_slurms_is_understood_by_its_beginning() -> None:
    told = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    assert read_reason(told).sentence == read_reason("ReqNodeNotAvail").sentence


@pytest.mark.parametrize(
    ("word", "whose"),
    [
        ("AssocGrpGRESMinutes", "The project's GPU budget is used up: ask whoever runs the project."),
        ("AssocGrpBillingMinutes", "The project's budget is used up: ask whoever runs the project."),
        ("AssocGrpWallLimit", "The project's budget is used up: ask whoever runs the project."),
        ("QOSGrpGRESMinutes", "The GPU budget of this service class (QoS) is used up:"),
        ("AssocGrpCPURunMinutesLimit", "The project uses as many CPUs as it may at once:"),
        ("QOSGrpGRES", "This service class (QoS) uses as many GPUs as it may at once:"),
        ("MaxMemoryPerAccount", "The project uses as much memory as it may at once:"),
        ("QOSMaxGRESPerUser", "You use as many GPUs as you may: stop a session to start this."),
        ("QOSMaxJobsPerUserLimit", "You have as many sessions and jobs as you may: stop one to start this."),
        ("AssocMaxJobsLimit", "You have as many sessions and jobs as you may: stop one to start this."),
        ("QOSMaxWallDurationPerJobLimit", "It asks for more time than one session may have:"),
        ("AssocMaxCpuMinutesPerJobLimit", "It asks for more CPUs than one session may have:"),
        ("QOSMinGRES", "It asks for fewer GPUs than this service class (QoS) is for:"),
        # A word of a later Slurm that follows the rule
        ("QOSMaxGRESMinutesPerUser", "You use as many GPUs as you may:"),
    ],
)
def test_a_limit_says_of_what_and_whose_move_it_is(word: str, whose: str) -> None:
    assert read_reason(word).sentence.startswith(whose)


def test_a_refusal_that_names_a_limit_is_explained_by_it() -> None:
    text = "sbatch: error: QOSMaxGRESPerUser\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
    assert limit_words(text) == "You use as many GPUs as you may: stop a session to start this."
    assert limit_words("Batch job submission failed: Invalid qos specification") == ""


@given(st.text())
def test_no_text_of_slurms_breaks_the_sentence(text: str) -> None:
    reason = read_reason(text)
    assert reason.sentence
    assert len(reason.word) <= 80
    limit_words(text)


@pytest.mark.parametrize(
    "reason", ["AssocGrpCPUMinutesLimit", "QOSMaxCpuPerJobLimit", "BadConstraints", "PartitionTimeLimit"]
)
def test_what_never_starts_by_waiting_is_known(reason: str) -> None:
    assert never_starts(reason)


@pytest.mark.parametrize(
    "reason", ["Priority", "Resources", "None", "QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "PartitionDown"]
)
def test_what_passes_by_itself_is_waited_for(reason: str) -> None:
    assert not never_starts(reason)
