"""Slurm through its commands, with fake ones: what stands on their command lines, and what their failures mean."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.errors import LauncherFailed, SlurmError, SlurmRefused, SlurmUnavailable
from studiolo.script import Batch, Directives
from studiolo.site import Cluster
from studiolo.slurm import commands, launcher, people
from studiolo.slurm.commands import CommandSlurm, launcher_argv
from studiolo.slurm.estimate import trial
from studiolo.slurm.parse import ACCOUNTING_FORMAT, QUEUE_FORMAT
from studiolo.slurm.states import JobState, Tagged

if TYPE_CHECKING:
    from conftest import FakePrograms

LAUNCHER = "/opt/studiolo/libexec/studiolo-launch"
CONF = "/etc/slurm/slurm.conf"
MARK = "0a1b2c3d"
BATCH = Batch(
    Directives(
        name="studiolo",
        comment=f"studiolo:{MARK}:session:1",
        partition="cpu",
        account="",
        qos="",
        reservation="",
        constraint="",
        cpus=1,
        memory=1024,
        minutes=60,
        gres="",
        output="/dev/null",
    ),
    "#!/bin/bash",
    "exec true\n",
)
ENVIRONMENT = {"STUDIOLO_HUB": "http://10.0.0.1:8081/hub/api", "STUDIOLO_BOOTSTRAP": "one-time-secret"}


@pytest.fixture
def cluster(programs: FakePrograms) -> Cluster:
    folder = str(programs.folder)
    return Cluster(conf=CONF, commands=folder, sudo=f"{folder}/sudo", launcher=LAUNCHER)


@pytest.fixture
def slurm(cluster: Cluster) -> CommandSlurm:
    return CommandSlurm(cluster, MARK)


def failure(kind: type[SlurmError], awaitable: Awaitable[Any]) -> SlurmError:
    """The error of exactly this kind that an answer ends with."""

    async def run() -> None:
        await awaitable

    with pytest.raises(SlurmError) as caught:
        asyncio.run(run())
    assert type(caught.value) is kind, caught.value
    return caught.value


# --- As a person -----------------------------------------------------------------------------------------------------


def test_a_submission_goes_through_sudo_and_the_launcher_with_the_request_on_standard_input(
    slurm: CommandSlurm, programs: FakePrograms
) -> None:
    programs.add("sudo", out="4711\n")
    assert asyncio.run(slurm.submit("ada", BATCH, ENVIRONMENT)) == 4711
    (call,) = programs.called("sudo")
    folder = str(programs.folder)
    assert call.argv == [f"{folder}/sudo", "-n", "-u", "ada", "--", LAUNCHER, "submit", CONF, folder]
    assert call.stdin.split("\0") == [BATCH.text, *(f"{key}={value}" for key, value in ENVIRONMENT.items())]


def test_an_estimate_is_asked_for_as_the_person_and_read_on_standard_error(
    slurm: CommandSlurm, programs: FakePrograms
) -> None:
    programs.add(
        "sudo",
        err="sudo: unable to resolve host hub\nsbatch: Job 7 to start at 1795331000 using 2 processors on nodes cpu1\n",
    )
    directives = dataclasses.replace(BATCH.directives, comment="")
    assert asyncio.run(slurm.estimate("ada", directives)) == 1795331000
    (call,) = programs.called("sudo")
    assert call.argv[-6:] == ["ada", "--", LAUNCHER, "estimate", CONF, str(programs.folder)]
    assert call.stdin == trial(directives).text


@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ("allocation failure: Requested node configuration is not available\n", 1, SlurmRefused),
        ("sbatch: error: Unable to contact slurm controller (connect failure)\n", 1, SlurmUnavailable),
        ("studiolo-launch: usage: studiolo-launch submit|cancel SLURM_CONF COMMANDS\n", 64, LauncherFailed),
        ("", 0, SlurmUnavailable),
    ],
)
def test_an_estimate_that_fails_says_who_can_mend_it(
    slurm: CommandSlurm, programs: FakePrograms, said: str, status: int, kind: type[SlurmError]
) -> None:
    programs.add("sudo", err=said, status=status)
    failure(kind, slurm.estimate("ada", BATCH.directives))


def test_nothing_of_a_request_stands_on_a_command_line_or_in_an_environment(
    slurm: CommandSlurm, programs: FakePrograms
) -> None:
    programs.add("sudo", out="4711\n")
    asyncio.run(slurm.submit("ada", BATCH, ENVIRONMENT))
    (call,) = programs.called("sudo")
    for word in [*call.argv, *call.environment.values()]:
        for part in ("one-time-secret", "SBATCH", "10.0.0.1"):
            assert part not in word


def test_commands_run_with_a_small_known_environment(
    slurm: CommandSlurm, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/evil")
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "secret")
    programs.add("sudo", out="4711\n")
    programs.add("squeue")
    asyncio.run(slurm.submit("ada", BATCH, ENVIRONMENT))
    asyncio.run(slurm.queue([1]))
    for name in ("sudo", "squeue"):
        (call,) = programs.called(name)
        assert call.environment == {
            "LANG": "C.UTF-8",
            "PATH": "/usr/bin:/bin",
            "SLURM_CONF": CONF,
            "SLURM_TIME_FORMAT": "%s",
        }


def test_the_command_line_is_the_one_that_the_sudoers_rule_allows(cluster: Cluster) -> None:
    assert launcher_argv(cluster, "cancel") == (LAUNCHER, "cancel", CONF, cluster.commands)


def test_a_cancellation_names_its_jobs_on_standard_input(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sudo")
    asyncio.run(slurm.cancel("ada", [1, 2]))
    (call,) = programs.called("sudo")
    assert call.argv[-4:] == [LAUNCHER, "cancel", CONF, str(programs.folder)]
    assert call.stdin == "1\0002"


BAD_NAMES = [
    "",
    "#0",
    "#-1",
    "%wheel",
    "-x",
    "--user=root",
    "root;id",
    "root id",
    "root\n",
    "\nroot",
    "ada\x00",
    "$(id)",
    "../root",
    "ada/..",
    "Ada",
    "0",
    "1000",
    "é",
    "ada:root",
    "ada,root",
    "+root",
    "@ada",
    "a" * 33,
    ".",
]


@pytest.mark.parametrize("person", BAD_NAMES)
def test_a_name_that_sudo_would_read_in_its_own_way_is_refused_before_anything_runs(
    slurm: CommandSlurm, programs: FakePrograms, person: str, assert_harmless: Callable[[str], None]
) -> None:
    programs.add("sudo", out="4711\n")
    for ask in (lambda: slurm.submit(person, BATCH, ENVIRONMENT), lambda: slurm.cancel(person, [1])):
        assert_harmless(str(failure(LauncherFailed, ask())))
    assert programs.called("sudo") == []
    assert slurm.calls == {}


@given(person=st.text(st.characters()))
def test_any_name_that_passes_is_a_plain_one(person: str) -> None:
    if people.PERSON.fullmatch(person):
        assert person.isascii()
        assert person[0].isalpha() or person[0] == "_"
        assert person == person.lower()
        assert not set(person) & set(" \t\n\0#%+@,;:=\\/'\"!*?$()[]{}<>|&~`")


@pytest.mark.parametrize("person", ["ada", "_ada", "ada.b-c_9", "a" * 32, "learner01"])
def test_a_plain_name_is_taken(slurm: CommandSlurm, programs: FakePrograms, person: str) -> None:
    programs.add("sudo", out="4711\n")
    assert asyncio.run(slurm.submit(person, BATCH, {})) == 4711


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (LauncherFailed, "sudo: a password is required"),
        (LauncherFailed, "sudo: unknown user ada"),
        (LauncherFailed, "sudo: /opt/studiolo/libexec/studiolo-launch: command not found"),
        (LauncherFailed, "Sorry, user studiolo-hub is not allowed to execute '/opt/…' as ada on hub."),
        (LauncherFailed, "studiolo-launch: your home folder /home/ada can not be entered: No such file or directory"),
        (LauncherFailed, ""),
        (LauncherFailed, "   \n"),
        (
            SlurmRefused,
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        ),
        (
            SlurmRefused,
            "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        ),
        (SlurmRefused, "sbatch: error: Batch job submission failed: Requested node configuration is not available"),
        (SlurmRefused, "sbatch: error: Memory specification can not be satisfied"),
        (SlurmRefused, "sbatch: error: Your project p1 has no budget left: ask for more at https://…"),
        (SlurmRefused, "scancel: error: Kill job error on job id 1: Access/permission denied"),
        (
            SlurmUnavailable,
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        ),
        (SlurmUnavailable, "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
        (SlurmUnavailable, "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received"),
        (SlurmUnavailable, "sbatch: error: Batch job submission failed: Resource temporarily unavailable"),
        (SlurmUnavailable, "sbatch: error: Batch job submission failed: Protocol authentication error"),
        (
            SlurmUnavailable,
            'sbatch: error: If munged is up, restart with --num-threads=10\nsbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory',
        ),
        (SlurmUnavailable, "sbatch: error: Batch job submission failed: Transport endpoint is not connected"),
        (SlurmUnavailable, "sbatch: error: slurm_receive_msg: Zero Bytes were transmitted or received"),
        (SlurmUnavailable, "sbatch: error: Slurm controller not responding, sleeping and retrying"),
    ],
)
def test_a_failure_is_the_launchers_slurms_refusal_or_no_answer_by_its_words(
    slurm: CommandSlurm, programs: FakePrograms, kind: type[SlurmError], words: str
) -> None:
    programs.add("sudo", err=f"{words}\n", status=1)
    for ask in (lambda: slurm.submit("ada", BATCH, ENVIRONMENT), lambda: slurm.cancel("ada", [1])):
        error = failure(kind, ask())
        assert error.words == (words.strip() or "exit status 1")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (SlurmRefused, "sbatch: error: Batch job submission failed: Invalid qos specification"),
        (SlurmUnavailable, "scancel: error: Unable to contact slurm controller (connect failure)"),
    ],
)
def test_a_warning_of_sudo_before_slurms_words_does_not_hide_them(
    slurm: CommandSlurm, programs: FakePrograms, kind: type[SlurmError], words: str
) -> None:
    # In containers sudo often can not resolve the host's name, says so, and goes on. Taken for the launcher's failure,
    # a cancellation that Slurm did not answer would not be tried again.
    programs.add("sudo", err=f"sudo: unable to resolve host hub: Name or service not known\n{words}\n", status=1)
    assert words in failure(kind, slurm.cancel("ada", [1])).words


@pytest.mark.parametrize("end", ["kill -ALRM $$", "exit 142"])
def test_a_launcher_that_was_ended_by_its_alarm_is_no_answer(
    slurm: CommandSlurm, programs: FakePrograms, end: str
) -> None:
    programs.add("sudo", then=end)
    for ask in (lambda: slurm.submit("ada", BATCH, ENVIRONMENT), lambda: slurm.cancel("ada", [1])):
        assert "in time" in failure(SlurmUnavailable, ask()).words


def test_scancels_own_number_for_an_error_is_not_taken_for_an_alarm(
    slurm: CommandSlurm, programs: FakePrograms
) -> None:
    # It ends with the last byte of Slurm's number for the error, which may be any.
    programs.add("sudo", err="scancel: error: Kill job error on job id 1: Access/permission denied\n", status=142)
    failure(SlurmRefused, slurm.cancel("ada", [1]))


@pytest.mark.parametrize(
    ("batch", "environment"),
    [
        (dataclasses.replace(BATCH, commands="a\0b"), {}),
        (BATCH, {"STUDIOLO_X": "a\0PATH=/evil"}),
        (BATCH, {"A\0B": ""}),
    ],
)
def test_a_nul_would_end_a_part_of_the_request_and_is_refused_before_anything_runs(
    slurm: CommandSlurm, programs: FakePrograms, batch: Batch, environment: dict[str, str]
) -> None:
    programs.add("sudo", out="4711\n")
    with pytest.raises(ValueError, match="NUL"):
        asyncio.run(slurm.submit("ada", batch, environment))
    assert programs.called("sudo") == []


def test_the_launcher_gives_up_before_the_hub_does(cluster: Cluster) -> None:
    assert CommandSlurm(cluster, MARK).timeout > launcher.SECONDS


@pytest.mark.parametrize("words", ["Invalid job id specified", "Job/step already completing or completed"])
def test_cancelling_a_job_that_is_over_already_is_no_error(
    slurm: CommandSlurm, programs: FakePrograms, words: str
) -> None:
    programs.add("sudo", err=f"scancel: error: Kill job error on job id 1: {words}\n", status=1)
    asyncio.run(slurm.cancel("ada", [1]))


@pytest.mark.parametrize("answer", ["", "queued\n", "Submitted\n", "12a\n"])
def test_a_submission_without_a_number_is_no_answer_since_the_job_may_exist(
    slurm: CommandSlurm, programs: FakePrograms, answer: str
) -> None:
    programs.add("sudo", out=answer)
    failure(SlurmUnavailable, slurm.submit("ada", BATCH, ENVIRONMENT))


def test_a_missing_sudo_is_the_operators_to_mend(slurm: CommandSlurm) -> None:
    error = failure(LauncherFailed, slurm.submit("ada", BATCH, ENVIRONMENT))
    assert "No such file or directory" in error.words


def test_a_command_that_does_not_read_its_input_is_judged_by_what_it_says(
    slurm: CommandSlurm, programs: FakePrograms
) -> None:
    programs.add_script("sudo", "exec <&-\necho 'sudo: a password is required' >&2\nexit 1\n")
    failure(LauncherFailed, slurm.submit("ada", dataclasses.replace(BATCH, commands="#" * 500_000), ENVIRONMENT))


# --- As the hub ------------------------------------------------------------------------------------------------------


def test_one_question_asks_for_all_jobs_of_the_queue(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("squeue", out="2|RUNNING|None|gpu1|1795314688|1795321888\n1|PENDING|Priority|n/a|N/A|N/A\n")
    answer = asyncio.run(slurm.queue([3, 1, 2]))
    assert answer == {
        1: JobState(1, "PENDING", "Priority"),
        2: JobState(2, "RUNNING", "None", "gpu1", 1795314688, 1795321888),
    }
    (call,) = programs.called("squeue")
    assert call.argv[1:] == ["--noheader", "--states=all", "--jobs=1,2,3", f"--format={QUEUE_FORMAT}"]
    assert slurm.calls == {"squeue": 1}


def test_a_queue_that_holds_none_of_the_jobs_is_an_answer(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("squeue", err="slurm_load_jobs error: Invalid job id specified\n", status=1)
    assert asyncio.run(slurm.queue([1])) == {}


def test_one_question_asks_accounting_for_all_jobs(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sacct", out="1|CANCELLED by 20001|0:15|gpu1|1795313218|1795313300\n")
    answer = asyncio.run(slurm.finished([2, 1]))
    assert answer == {1: JobState(1, "CANCELLED", "by 20001", "gpu1", 1795313218, 1795313300, 0, 15)}
    (call,) = programs.called("sacct")
    assert call.argv[1:] == [
        "--allocations",
        "--parsable2",
        "--noheader",
        "--jobs=1,2",
        f"--format={ACCOUNTING_FORMAT}",
    ]


def squeue_says(programs: FakePrograms, *lines: str) -> None:
    """A squeue that answers these lines, ``NONCE`` in them being the word that the question framed its format with."""
    programs.add_script(
        "squeue",
        f"""for argument; do case $argument in --format=*) nonce=${{argument#--format=}}; nonce=${{nonce%%|*}};; esac; done
echo "$@" >>{programs.calls}/asked
sed "s/NONCE/$nonce/g" <<'END'
{chr(10).join(lines)}
END
""",
    )


def line(job: int, person: str, comment: str, state: str = "RUNNING") -> str:
    told = "Priority|n/a|N/A|N/A" if state == "PENDING" else "None|gpu1|1795348800|1795352400"
    return f"NONCE|{job}|{person}|{state}|{told}|1795345200|{comment}|NONCE"


def test_this_hubs_jobs_are_found_by_their_comment_in_one_question(slurm: CommandSlurm, programs: FakePrograms) -> None:
    squeue_says(
        programs,
        line(1, "ada", f"studiolo:{MARK}:session:0a1b"),
        line(2, "ben", f"studiolo:{MARK}:dask:w-1", "PENDING"),
        line(3, "ben", "studiolo:ffffffff:session:2"),
        line(4, "ben", "(null)"),
        line(5, "ben", f"studiolo:{MARK}:session:3", "COMPLETING"),
        line(6, "ben", f"xstudiolo:{MARK}:session:4"),
        line(7, "ben", f"studiolo:{MARK}:session:5:6"),
        line(8, "ben", f"studiolo:{MARK}:session:4", "SUSPENDED"),
        line(9, "ben", f"studiolo:{MARK}:session:5", "CONFIGURING"),
    )
    assert asyncio.run(slurm.tagged()) == (
        Tagged(1, "ada", "session", "0a1b"),
        Tagged(2, "ben", "dask", "w-1"),
        Tagged(8, "ben", "session", "4"),
        Tagged(9, "ben", "session", "5"),
    )
    assert slurm.calls == {"squeue": 1}


def test_with_this_hubs_jobs_comes_how_they_are(slurm: CommandSlurm, programs: FakePrograms) -> None:
    comment = f"studiolo:{MARK}:run:r1"
    squeue_says(programs, line(1, "ada", comment), line(2, "ada", comment, "PENDING"))
    runs, waits = asyncio.run(slurm.tagged())
    assert runs.state == JobState(1, "RUNNING", node="gpu1", start=1795348800, end=1795352400)
    assert waits.state == JobState(2, "PENDING", "Priority")
    assert runs.asked == waits.asked == 1795345200


FORGED = f"studiolo:{MARK}:session:666"


@pytest.mark.parametrize(
    "comment",
    [
        f"x\n4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}|x",
        f"x\n|4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}|",
        f"{FORGED}|x\nx|4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}",
        f"x|4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}",
        f"x\r|4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}",
        f"{'0' * 32}|4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}|{'0' * 32}",
        f"x\n{'0' * 32}|4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}|{'0' * 32}\nx",
        f"x\nstudiolo\n4712|ada|RUNNING|None|gpu1|1|2|1|{FORGED}",
    ],
)
def test_a_comment_that_looks_like_lines_about_somebody_elses_job_names_nobody_elses_job(
    slurm: CommandSlurm, programs: FakePrograms, comment: str
) -> None:
    # People may write anything into their own jobs' comments, line breaks too.
    squeue_says(programs, line(13, "mallory", comment), line(1, "ben", f"studiolo:{MARK}:session:1"))
    assert asyncio.run(slurm.tagged()) == (Tagged(1, "ben", "session", "1"),)


def test_every_question_for_tagged_jobs_has_a_word_of_its_own(slurm: CommandSlurm, programs: FakePrograms) -> None:
    squeue_says(programs)
    for _ in range(3):
        asyncio.run(slurm.tagged())
    asked = (programs.calls / "asked").read_text(encoding="utf-8").splitlines()
    assert len(set(asked)) == 3
    assert all(
        re.fullmatch(r"--noheader --format=([0-9a-f]{32})\|%A\|%u\|%T\|%r\|%B\|%S\|%e\|%V\|%k\|\1", question)
        for question in asked
    )


def test_half_a_list_of_tagged_jobs_is_no_answer(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("squeue", out="0a|1|ada|RUNN")
    failure(SlurmUnavailable, slurm.tagged())


def test_what_is_not_utf8_is_read_all_the_same(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("squeue", out=b"1|PENDING|f\xe4llt aus|n/a|N/A|N/A\n")
    assert asyncio.run(slurm.queue([1]))[1].reason == "f\N{REPLACEMENT CHARACTER}llt aus"


ASKED: list[tuple[str, Callable[[CommandSlurm], Awaitable[Any]]]] = [
    ("squeue", lambda slurm: slurm.queue([1])),
    ("squeue", lambda slurm: slurm.tagged()),
    ("sacct", lambda slurm: slurm.finished([1])),
    ("sinfo", lambda slurm: slurm.node_address("gpu1")),
]


@pytest.mark.parametrize(("name", "ask"), ASKED)
@pytest.mark.parametrize(
    "answer",
    [
        {"err": "squeue: error: Unable to contact slurm controller (connect failure)\n", "status": 1},
        {"err": "sacct: error: Problem talking to the database: Connection refused\n", "status": 1},
        {"err": "something nobody has seen before\n", "status": 1},
        {"status": 1},
        {"out": "1|RUNNING|None|gpu1|1|2\n", "status": 1},
        {"then": "kill -9 $$"},
    ],
)
def test_a_question_that_fails_is_no_answer_and_never_an_empty_one(
    slurm: CommandSlurm, programs: FakePrograms, name: str, ask: Any, answer: dict[str, Any]
) -> None:
    programs.add(name, **answer)
    failure(SlurmUnavailable, ask(slurm))


@pytest.mark.parametrize(("name", "ask"), ASKED)
@pytest.mark.parametrize("half", ["1", "1|RUNN", "slurm_load_jobs error: Unexpected message received", "1 2 3"])
def test_half_a_line_is_no_answer(slurm: CommandSlurm, programs: FakePrograms, name: str, ask: Any, half: str) -> None:
    programs.add(name, out=half)
    failure(SlurmUnavailable, ask(slurm))


def test_an_accounting_line_without_a_state_is_no_answer(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sacct", out="1||0:0|gpu1|1795313218|1795313300\n")
    failure(SlurmUnavailable, slurm.finished([1]))


@pytest.mark.parametrize(("name", "ask"), ASKED)
def test_a_command_that_is_not_installed_is_the_operators_to_mend(slurm: CommandSlurm, name: str, ask: Any) -> None:
    assert name in failure(LauncherFailed, ask(slurm)).words


# --- Time and processes ----------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.subprocess.Process]:
    """Every process that is started."""
    processes: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def note(*argv: Any, **keywords: Any) -> asyncio.subprocess.Process:
        processes.append(await start(*argv, **keywords))
        return processes[-1]

    monkeypatch.setattr(commands.asyncio, "create_subprocess_exec", note)
    return processes


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        *ASKED,
        ("sudo", lambda slurm: slurm.submit("ada", BATCH, ENVIRONMENT)),
        ("sudo", lambda slurm: slurm.cancel("ada", [1])),
    ],
)
def test_a_command_that_takes_too_long_is_killed_and_counts_as_no_answer(
    cluster: Cluster, programs: FakePrograms, started: list[asyncio.subprocess.Process], name: str, ask: Any
) -> None:
    programs.add_script(name, "exec sleep 600\n")
    error = failure(SlurmUnavailable, ask(CommandSlurm(cluster, MARK, timeout=0.02)))
    assert error.words == "no answer within 0.02 s"
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_a_command_is_killed_where_whoever_waits_for_it_gives_up(
    cluster: Cluster, programs: FakePrograms, started: list[asyncio.subprocess.Process]
) -> None:
    programs.add_script("squeue", "echo\nexec sleep 600\n")

    async def give_up() -> None:
        asked = asyncio.ensure_future(CommandSlurm(cluster, MARK).queue([1]))
        while not started:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(give_up())
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_a_child_of_sudo_that_goes_on_keeps_nobody_waiting(
    cluster: Cluster, programs: FakePrograms, started: list[asyncio.subprocess.Process]
) -> None:
    # Killing sudo does not end what it has started, which holds standard output open.
    child = programs.calls / "child"
    programs.add_script("sudo", f"sleep 600 &\necho $! >{child}\nwait\n")

    async def submit() -> None:
        asked = asyncio.ensure_future(CommandSlurm(cluster, MARK, timeout=0.2).submit("ada", BATCH, ENVIRONMENT))
        await asyncio.wait({asked}, timeout=5)  # gives up here, so that a failure of this test does not last 600 s
        was_done = asked.done()
        os.kill(int(child.read_text(encoding="utf-8")), signal.SIGKILL)
        for pipe in (started[0].stdout, started[0].stderr):
            assert pipe
            await pipe.read()
        assert was_done, "waits for a child of the command that it has killed"
        await asked

    failure(SlurmUnavailable, submit())
    assert [process.returncode for process in started] == [-signal.SIGKILL]


# --- Addresses of nodes ----------------------------------------------------------------------------------------------


def test_a_nodes_address_is_slurms_own_and_asked_for_once(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sinfo", out="gpu1 10.0.0.1\ngpu2 10.0.0.2\n")

    async def ask() -> list[str]:
        return [await slurm.node_address(node) for node in ("gpu1", "gpu2", "gpu1")]

    assert asyncio.run(ask()) == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert slurm.calls == {"sinfo": 1}


def test_a_node_that_slurm_has_learnt_of_since_is_asked_for_anew(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sinfo", out="gpu1 10.0.0.1\n")
    assert asyncio.run(slurm.node_address("gpu1")) == "10.0.0.1"
    programs.add("sinfo", out="gpu1 10.0.0.1\nnew 10.0.0.9\n")
    assert asyncio.run(slurm.node_address("new")) == "10.0.0.9"


def test_a_node_that_slurm_does_not_list_is_reached_by_its_name(slurm: CommandSlurm, programs: FakePrograms) -> None:
    programs.add("sinfo", out="gpu1 10.0.0.1\n")
    assert asyncio.run(slurm.node_address("cloud7")) == "cloud7"


def test_a_sites_pattern_of_addresses_comes_before_slurms(cluster: Cluster) -> None:
    slurm = CommandSlurm(cluster.model_copy(update={"node_address": "{node}-ib0.example.org"}), MARK)
    assert asyncio.run(slurm.node_address("gpu1")) == "gpu1-ib0.example.org"
    assert slurm.calls == {}
