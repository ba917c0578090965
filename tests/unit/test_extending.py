"""More time for a job and what it used, by both ways to Slurm, with fake answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import pytest

from studiolo.errors import SlurmError, SlurmRefused, SlurmUnavailable
from studiolo.site import Cluster
from studiolo.slurm.commands import CommandSlurm
from studiolo.slurm.rest_parse import accounting_query, extension
from studiolo.slurm.states import Owned
from studiolo.slurm.usage import USAGE_FORMAT, JobUsage

if TYPE_CHECKING:
    from conftest import FakePrograms

MARK = "0a1b2c3d"


@pytest.fixture
def slurm(programs: FakePrograms) -> CommandSlurm:
    folder = str(programs.folder)
    return CommandSlurm(Cluster(conf="/etc/slurm/slurm.conf", commands=folder, sudo=f"{folder}/sudo"), MARK)


def ask(awaitable: Awaitable[Any]) -> Any:
    async def run() -> Any:
        return await awaitable

    return asyncio.run(run())


def test_an_extension_sets_the_whole_walltime_as_the_hub(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("scontrol")
    ask(slurm.extend(7, 90))
    (call,) = programs.called("scontrol")
    assert call.argv[1:] == ["update", "JobId=7", "TimeLimit=90"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("slurm_update error: Access/permission denied", SlurmRefused),
        ("slurm_update error: Invalid job id specified", SlurmRefused),
        ("slurm_update error: Unable to contact slurm controller (connect failure)", SlurmUnavailable),
    ],
)
def test_a_refused_extension_and_a_silent_slurm_are_told_apart(
    slurm: CommandSlurm, programs: FakePrograms, said: str, kind: type[SlurmError]
) -> None:
    programs.add("scontrol", err=said, status=1)
    with pytest.raises(kind):
        ask(slurm.extend(7, 90))


def squeue_says(programs: FakePrograms, *lines: str) -> None:
    body = "\n".join(lines)
    programs.add_script(
        "squeue",
        "for argument; do case $argument in --format=*) nonce=${argument#--format=}; nonce=${nonce%%|*};; esac; done\n"
        f'echo "$@" >>{programs.calls}/asked\nsed "s/NONCE/$nonce/g" <<\'END\'\n{body}\nEND\n',
    )


def test_whose_a_job_is_is_asked_for_that_job_alone(slurm: CommandSlurm, programs: FakePrograms) -> None:
    squeue_says(programs, f"NONCE|7|ada|RUNNING|gpu|physics|normal|1|(null)|studiolo:{MARK}:session:abc|NONCE")
    assert ask(slurm.owner(7)) == Owned(7, "ada", "session", "abc", "gpu", "physics", "normal", "", 1)
    assert "--jobs=7" in (programs.calls / "asked").read_text()


@pytest.mark.parametrize(
    "line",
    [
        "NONCE|8|ada|RUNNING|gpu|physics|normal|1|(null)|studiolo:0a1b2c3d:session:abc|NONCE",
        "NONCE|7|ada|RUNNING|gpu|physics|normal|1|(null)|studiolo:ffffffff:session:abc|NONCE",
        "NONCE|7|ada|COMPLETED|gpu|physics|normal|1|(null)|studiolo:0a1b2c3d:session:abc|NONCE",
        "forged|7|ada|RUNNING|gpu|physics|normal|1|(null)|studiolo:0a1b2c3d:session:abc|forged",
        # A comment's own bars do not move its reservation.
        "NONCE|7|ada|RUNNING|gpu|physics|normal|1|(null)|course|studiolo:0a1b2c3d:session:abc|NONCE",
        "NONCE|7|ada|RUNNING|gpu|physics|normal|1|(null)|studiolo:0a1b2c3d:session:abc|x|NONCE",
        "NONCE|7|ada|RUNNING|gpu|physics|normal|1|a|b|studiolo:0a1b2c3d:session:abc|NONCE",
    ],
)
def test_any_other_line_names_no_owner(slurm: CommandSlurm, programs: FakePrograms, line: str) -> None:
    squeue_says(programs, line)
    assert ask(slurm.owner(7)) is None


def test_half_an_answer_names_no_owner(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("squeue", out="0a|7|ada|RUNN")
    with pytest.raises(SlurmUnavailable):
        ask(slurm.owner(7))


def test_a_job_that_is_gone_has_no_owner_and_a_silent_slurm_no_answer(
    slurm: CommandSlurm, programs: FakePrograms
) -> None:
    programs.add("squeue", err="slurm_load_jobs error: Invalid job id specified", status=1)
    assert ask(slurm.owner(7)) is None
    programs.add("squeue", err="Socket timed out on send/recv operation", status=1)
    with pytest.raises(SlurmUnavailable):
        ask(slurm.owner(7))


def test_one_question_asks_what_all_used(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sacct", out="7|COMPLETED|60|00:30||\n7.batch|COMPLETED|60|00:30|2097152|\n")
    assert ask(slurm.used([9, 7])) == {7: JobUsage(7, 60, 30.0, 2)}
    (call,) = programs.called("sacct")
    assert {"--jobs=7,9", f"--format={USAGE_FORMAT}", "--noconvert"} <= set(call.argv)


def test_half_an_answer_of_accounting_is_none(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sacct", out="7|COMPLETED|60\n")
    with pytest.raises(SlurmUnavailable):
        ask(slurm.used([7]))


def test_slurmrestd_takes_the_walltime_in_two_shapes_and_steps_where_they_are_wanted() -> None:
    assert extension(90, "v0.0.38") == {"time_limit": 90}
    assert extension(90, "v0.0.40") == {"time_limit": {"set": True, "infinite": False, "number": 90}}
    assert accounting_query([1, 2], "v0.0.38", steps=True) == "step=1%2C2"
    assert accounting_query([1, 2], "v0.0.41", steps=True) == "step=1&step=2"
