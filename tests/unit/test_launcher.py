"""The privileged piece, run as it is installed: a copy that anybody may run, under an account that owns nothing."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.slurm import launcher

if TYPE_CHECKING:
    from conftest import FakePrograms

SECRET = "one-time-secret-QmFzZTY0"
SCRIPT = "#!/bin/bash\n#SBATCH --job-name=studiolo\nexec true\n"
SUBMISSION = SCRIPT.encode()
NOBODY = 65534

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another account")

# Gives the account of the process a home that exists, then runs the launcher as it stands. Everything else is real:
# another account, its standard input, its environment, its umask.
DRIVER = """
import pwd, runpy, sys
home, sys.argv = sys.argv[1], sys.argv[2:]
pwd.getpwuid = lambda uid: pwd.struct_passwd(("ada", "x", uid, uid, "", home, "/bin/zsh"))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def submission(script: str = SCRIPT, **environment: str) -> bytes:
    """A request as the hub writes it."""
    return "\0".join([script, *(f"{key}={value}" for key, value in environment.items())]).encode()


@dataclass(frozen=True)
class Run:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Installed:
    """The installed launcher, fake commands of Slurm, and a home."""

    path: Path
    programs: FakePrograms
    home: Path

    def run(
        self, action: str, request: bytes, *, environment: dict[str, str] | None = None, real_home: bool = False
    ) -> Run:
        start = (
            [str(self.path)] if real_home else ["/usr/bin/python3", "-I", "-c", DRIVER, str(self.home), str(self.path)]
        )
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*become, *start, action, "/etc/slurm/slurm.conf", str(self.programs.folder)],
            input=request,
            capture_output=True,
            env=environment if environment is not None else {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            cwd="/",
            check=False,
        )
        return Run(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@pytest.fixture
def installed(open_folder: Path, programs: FakePrograms) -> Installed:
    path = open_folder / "studiolo-launch"
    shutil.copy(launcher.__file__, path)
    path.chmod(0o755)
    home = open_folder / "home"
    home.mkdir()
    home.chmod(0o777)
    programs.add("sbatch", out="4711;main\n")
    programs.add("scancel")
    return Installed(path, programs, home)


def nothing_ran(installed: Installed) -> None:
    assert installed.programs.called("sbatch") == []
    assert installed.programs.called("scancel") == []


class Here:
    """The same program within this process, for tables of many requests: starts nothing, notes what it would start."""

    def __init__(self, request: Path) -> None:
        self.request = request
        self.started: list[list[str]] = []
        self.environment: dict[bytes, bytes] = {}

    def become(self, argv: list[str], stdin: int, commands: str, environment: dict[bytes, bytes]) -> int:
        os.close(stdin)
        self.started.append(argv)
        self.environment = environment
        return 0

    def run(self, action: str, request: bytes) -> int:
        self.started.clear()
        self.request.write_bytes(request)
        return launcher.main([action, "/etc/slurm/slurm.conf", "/bin"])

    def open(self, file: int, *arguments: Any, **keywords: Any) -> Any:
        return self.request.open("rb") if file == 0 else open(file, *arguments, **keywords)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    here = Here(tmp_path / "request")
    person = pwd.struct_passwd(("ada", "x", NOBODY, NOBODY, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(launcher, "open", here.open, raising=False)
    monkeypatch.setattr(launcher, "alarm", lambda seconds: 0)
    monkeypatch.setattr(launcher, "become", here.become)
    monkeypatch.setattr(launcher.os, "getuid", lambda: NOBODY)
    monkeypatch.setattr(launcher.os, "chdir", lambda folder: None)
    monkeypatch.setattr(launcher.os, "umask", lambda mask: 0)
    monkeypatch.setattr(launcher.pwd, "getpwuid", lambda uid: person)
    return here


@pytest.fixture
def refused(here: Here, capfd: pytest.CaptureFixture[str]) -> Callable[[str, bytes, str], None]:
    """``refused(action, request, why)``: the request is refused in these words and nothing is started."""

    def check(action: str, request: bytes, why: str) -> None:
        assert here.run(action, request) == 64
        said = capfd.readouterr()
        assert (said.out, said.err) == ("", f"studiolo-launch: {why}\n")
        assert here.started == []

    return check


# --- Submit ----------------------------------------------------------------------------------------------------------


def test_sbatch_gets_the_script_on_standard_input_and_a_fixed_command_line(installed: Installed) -> None:
    run = installed.run("submit", submission(STUDIOLO_BOOTSTRAP=SECRET))
    assert (run.status, run.out, run.err) == (0, "4711;main\n", "")
    (call,) = installed.programs.called("sbatch")
    assert call.argv == [f"{installed.programs.folder}/sbatch", "--parsable"]
    assert call.stdin == SCRIPT


def test_sbatch_gets_a_small_known_environment_and_nothing_of_the_callers(installed: Installed) -> None:
    hostile = {
        "LD_PRELOAD": "/evil.so",
        "SBATCH_ACCOUNT": "theirs",
        "SLURM_CONF": "/evil.conf",
        "PYTHONPATH": "/evil",
        "PYTHONSTARTUP": "/evil.py",
        "BASH_ENV": "/evil.sh",
        "PATH": "/evil:/usr/bin:/bin",
        "HOME": "/evil",
        "STUDIOLO_OWN": "of the caller",
    }
    hostile.pop("LD_PRELOAD")  # the loader would warn about it before anything of ours runs
    run = installed.run("submit", submission(STUDIOLO_HUB="http://h"), environment=hostile)
    assert run.status == 0
    (call,) = installed.programs.called("sbatch")
    assert call.environment == {
        "HOME": str(installed.home),
        "LANG": "C.UTF-8",
        "LOGNAME": "ada",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SHELL": "/bin/zsh",
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "USER": "ada",
        "STUDIOLO_HUB": "http://h",
    }


def test_the_job_is_submitted_from_the_persons_home_and_its_log_is_closed_to_others(installed: Installed) -> None:
    installed.run("submit", SUBMISSION)
    (call,) = installed.programs.called("sbatch")
    assert call.folder == str(installed.home)
    assert call.umask == 0o027


def test_a_secret_is_on_no_command_line_and_the_process_is_slurms_own(installed: Installed) -> None:
    seen = installed.home / "seen"
    installed.programs.add_script("sbatch", f"tr '\\0' '\\n' </proc/$$/cmdline >{seen}\necho $PPID >>{seen}\n")
    run = installed.run("submit", submission(STUDIOLO_BOOTSTRAP=SECRET))
    assert run.status == 0
    assert seen.read_text(encoding="utf-8").splitlines() == [
        "/bin/sh",
        f"{installed.programs.folder}/sbatch",
        "--parsable",
        str(os.getpid()),
    ]


def test_slurms_refusal_and_status_are_passed_on_unchanged(installed: Installed) -> None:
    installed.programs.add("sbatch", err="sbatch: error: Invalid account or account/partition combination\n", status=1)
    run = installed.run("submit", SUBMISSION)
    assert run == Run(1, "", "sbatch: error: Invalid account or account/partition combination\n")


def test_letters_of_the_world_arrive_in_script_and_environment(installed: Installed) -> None:
    script = SCRIPT + "# données プロジェクト 😀\n"
    installed.run("submit", submission(script, STUDIOLO_X="données 😀"), environment={"PATH": "/usr/bin:/bin"})
    (call,) = installed.programs.called("sbatch")
    assert call.stdin == script
    assert call.environment["STUDIOLO_X"] == "données 😀"


@as_root
def test_an_account_without_a_home_is_told_so_and_nothing_is_submitted(installed: Installed) -> None:
    home = pwd.getpwuid(NOBODY).pw_dir
    if Path(home).exists():
        pytest.skip(f"the home of {pwd.getpwuid(NOBODY).pw_name}, {home}, exists on this host")
    run = installed.run("submit", SUBMISSION, real_home=True)
    assert run.status == 73
    assert run.err.startswith(f"studiolo-launch: your home folder {home} can not be entered: ")
    nothing_ran(installed)


@pytest.mark.parametrize(
    "variable",
    [
        b"LD_PRELOAD=/evil.so",
        b"PATH=/evil",
        b"HOME=/",
        b"SLURM_CONF=/evil",
        b"SBATCH_UID=0",
        b"PYTHONPATH=/evil",
        b"BASH_ENV=/evil",
        b"=x",
        b"",
        b"STUDIOLO_=x",
        b"STUDIOLO=x",
        b"studiolo_x=x",
        b"STUDIOLO_x=x",
        b"STUDIOLO_1=x",
        b"STUDIOLO_X\n=x",
        b"STUDIOLO_X",
        b"XSTUDIOLO_X=x",
        b" STUDIOLO_X=x",
        "STUDIOLO_Ä=x".encode(),
        b"STUDIOLO_\xff=x",
        b"STUDIOLO_" + b"X" * 41 + b"=x",
        b"STUDIOLO_X=" + b"x" * (launcher.MAX_VALUE + 1),
        b"STUDIOLO_X=good\0LD_LIBRARY_PATH=/evil",
        b"LD_LIBRARY_PATH=/evil\0STUDIOLO_X=good",
        b"STUDIOLO_X=good\0",
    ],
)
def test_only_texts_named_for_studiolo_reach_the_environment(refused: Callable[..., None], variable: bytes) -> None:
    refused("submit", SUBMISSION + b"\0" + variable, "the environment may only hold texts named STUDIOLO_…")


def test_the_longest_names_and_values_pass_and_a_value_may_hold_any_other_letter(here: Here) -> None:
    values = {b"STUDIOLO_" + b"X" * 40: b"x" * launcher.MAX_VALUE, b"STUDIOLO_X": b"a=b\n\xff \x01", b"STUDIOLO_E": b""}
    request = b"\0".join([SUBMISSION, *(key + b"=" + value for key, value in values.items())])
    assert here.run("submit", request) == 0
    assert {key: here.environment[key] for key in values} == values


@pytest.mark.parametrize(
    "script", [b"", b"exec true", b"\n#!/bin/bash", b"#!/usr/bin/python3", b" #!/bin/bash", b"\0#!/bin/bash"]
)
def test_what_is_no_bash_script_is_refused(refused: Callable[..., None], script: bytes) -> None:
    refused("submit", script, "the script is not one")


# --- Estimate --------------------------------------------------------------------------------------------------------


def test_an_estimate_starts_nothing_and_tells_seconds_in_no_zone(installed: Installed) -> None:
    foretold = "sbatch: Job 7 to start at 1795331000 using 2 processors on nodes cpu1 in partition cpu\n"
    installed.programs.add("sbatch", err=foretold)
    run = installed.run("estimate", SUBMISSION, environment={"TZ": "Asia/Tokyo", "SLURM_TIME_FORMAT": "relative"})
    assert run == Run(0, "", foretold)
    (call,) = installed.programs.called("sbatch")
    assert call.argv == [f"{installed.programs.folder}/sbatch", "--test-only"]
    assert call.stdin == SCRIPT
    assert (call.environment["TZ"], call.environment["SLURM_TIME_FORMAT"]) == ("UTC0", "%s")


@as_root
def test_an_estimate_needs_no_home(installed: Installed) -> None:
    assert installed.run("estimate", SUBMISSION, real_home=True).status == 0
    (call,) = installed.programs.called("sbatch")
    assert call.folder == "/"


@pytest.mark.parametrize("request_", [b"", b"exec true", SUBMISSION + b"\0", SUBMISSION + b"\0STUDIOLO_X=1"])
def test_an_estimate_takes_a_script_and_no_environment(refused: Callable[..., None], request_: bytes) -> None:
    refused("estimate", request_, "the script is not one")


# --- Cancel ----------------------------------------------------------------------------------------------------------


def test_scancel_gets_numbers_and_nothing_else(installed: Installed) -> None:
    run = installed.run("cancel", b"1\0004711\0002147483648")
    assert run == Run(0, "", "")
    (call,) = installed.programs.called("scancel")
    assert call.argv == [f"{installed.programs.folder}/scancel", "1", "4711", "2147483648"]
    assert call.stdin == ""
    assert set(call.environment) == {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "SLURM_CONF", "USER"}


@as_root
def test_a_job_can_be_cancelled_though_the_home_does_not_exist(installed: Installed) -> None:
    assert installed.run("cancel", b"1", real_home=True).status == 0
    assert len(installed.programs.called("scancel")) == 1


def test_root_is_refused_before_the_request_is_read(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []
    monkeypatch.setattr(launcher, "open", lambda *a, **k: reads.append(a))
    monkeypatch.setattr(launcher.os, "getuid", lambda: 0)
    assert here.run("cancel", b"1") == 64
    assert not reads
    assert here.started == []


def test_the_status_of_scancel_is_passed_on(installed: Installed) -> None:
    installed.programs.add(
        "scancel", err="scancel: error: Kill job error on job id 1: Invalid job id specified\n", status=1
    )
    run = installed.run("cancel", b"1")
    assert run.status == 1
    assert "Invalid job id" in run.err


@pytest.mark.parametrize(
    "jobs",
    [
        b"",
        b"0",
        b"-1",
        b"+1",
        b"1 2",
        b" 1",
        b"1\n",
        b"--user=root",
        b"1.0",
        b"1_",
        b"_2",
        b"1_2_3",
        b"1_-2",
        b"1_" + b"9" * 11,
        b"0x1",
        "١".encode(),
        "¹".encode(),
        b"4294967296",
        b"9" * 11,
        b"9" * 5000,
        b"1\0002\0",
        b"\0001",
        b"1\0-2",
        b"1,2",
        b"[1]",
        b"\xff",
    ],
)
def test_what_is_no_number_of_a_job_is_refused(refused: Callable[..., None], jobs: bytes) -> None:
    refused("cancel", jobs, "cancel needs numbers of jobs")


# --- All ------------------------------------------------------------------------------------------------------------


REQUESTS = [("submit", "sbatch", SUBMISSION), ("estimate", "sbatch", SUBMISSION), ("cancel", "scancel", b"1")]


@pytest.mark.parametrize(("action", "command", "request_"), REQUESTS)
def test_a_command_that_does_not_answer_is_ended_by_an_alarm(
    installed: Installed, action: str, command: str, request_: bytes
) -> None:
    # The hub may not end a process of the person's; sudo, which it could kill, would leave it behind.
    source = installed.path.read_text(encoding="utf-8")
    assert "alarm(SECONDS)" in source
    early = "from _signal import ITIMER_REAL, setitimer\nsetitimer(ITIMER_REAL, 0.2)"
    installed.path.write_text(
        source.replace("LETTERS =", f"{early}\nalarm = lambda seconds: 0\nLETTERS ="), encoding="utf-8"
    )
    installed.programs.add_script(command, f"echo $$ >{installed.home}/pid\nexec sleep 600\n")
    run = installed.run(action, request_)
    assert run == Run(-signal.SIGALRM, "", "")
    ran = installed.home / "pid"
    assert not ran.exists() or not Path(f"/proc/{ran.read_text(encoding='utf-8').strip()}").exists()


@pytest.mark.parametrize(("action", "command", "request_"), REQUESTS)
def test_the_alarm_goes_on_when_the_process_has_become_a_command_of_slurms(
    installed: Installed, action: str, command: str, request_: bytes
) -> None:
    left = f"import signal; open('{installed.home}/left', 'w').write(str(signal.getitimer(signal.ITIMER_REAL)[0]))"
    installed.programs.add_script(command, f'exec /usr/bin/python3 -c "{left}"\n')
    installed.run(action, request_)
    assert 0 < float((installed.home / "left").read_text(encoding="utf-8")) <= launcher.SECONDS


@pytest.mark.parametrize(("action", "command", "request_"), REQUESTS)
def test_a_command_that_is_not_there_is_told_in_a_sentence(
    installed: Installed, action: str, command: str, request_: bytes
) -> None:
    (installed.programs.folder / command).unlink()
    run = installed.run(action, request_)
    assert (run.status, run.out) == (64, "")
    assert re.fullmatch(rf"studiolo-launch: [^\n]*{command} can not be run: No such file or directory\n", run.err)


@pytest.mark.parametrize("action", ["submit", "estimate", "cancel"])
def test_a_request_that_is_too_long_is_refused(refused: Callable[..., None], action: str) -> None:
    refused(action, SUBMISSION + b"#" * (launcher.MAX_INPUT + 1), "the request is too long")


def test_a_request_of_just_bearable_length_is_taken(installed: Installed) -> None:
    padded = SCRIPT + "#" * (launcher.MAX_INPUT - len(SCRIPT))
    assert installed.run("submit", padded.encode()).status == 0
    (call,) = installed.programs.called("sbatch")
    assert call.stdin == padded


@as_root
@pytest.mark.parametrize("action", ["submit", "estimate", "cancel"])
def test_it_never_acts_for_root(installed: Installed, action: str) -> None:
    done = subprocess.run(
        [str(installed.path), action, "/etc/slurm/slurm.conf", str(installed.programs.folder)],
        input=b"1" if action == "cancel" else SUBMISSION,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (64, b"", b"studiolo-launch: never for root\n")
    nothing_ran(installed)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["submit"],
        ["submit", "/etc/slurm/slurm.conf"],
        ["submit", "/etc/slurm/slurm.conf", "/usr/bin", "--uid=0"],
        ["hold", "/etc/slurm/slurm.conf", "/usr/bin"],
        ["Submit", "/etc/slurm/slurm.conf", "/usr/bin"],
        ["--help", "/etc/slurm/slurm.conf", "/usr/bin"],
    ],
)
def test_any_other_command_line_is_refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert launcher.main(arguments) == 64
    assert (
        capfd.readouterr().err == "studiolo-launch: usage: studiolo-launch submit|estimate|cancel SLURM_CONF COMMANDS\n"
    )


@given(
    request=st.binary(max_size=60)
    | st.lists(
        st.sampled_from([SUBMISSION, b"STUDIOLO_X=1", b"PATH=/evil", b"1", b"4711", b"-1", b""])
        | st.binary(max_size=8),
        max_size=4,
    ).map(b"\0".join)
)
def test_any_request_at_all_is_refused_or_runs_the_one_command(here: Here, request: bytes) -> None:
    fixed = {b"HOME", b"LANG", b"LOGNAME", b"PATH", b"SHELL", b"SLURM_CONF", b"USER"}
    commands = {"submit": ["sbatch", "--parsable"], "estimate": ["sbatch", "--test-only"], "cancel": ["scancel"]}
    for action, command in commands.items():
        assert here.run(action, request) == (0 if here.started else 64)
        for argv in here.started:
            assert argv[: len(command)] == command
            assert all(word.isascii() and word.isdigit() for word in argv[len(command) :])
            assert here.environment[b"PATH"] == b"/usr/local/bin:/usr/bin:/bin"
            own = {b"SLURM_TIME_FORMAT", b"TZ"} if action == "estimate" else set()
            assert all(key.startswith(b"STUDIOLO_") for key in set(here.environment) - fixed - own)
