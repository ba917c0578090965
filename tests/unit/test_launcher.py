"""The privileged piece, run as it is installed: a copy that anybody may run, under an account that owns nothing."""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import shutil
import stat
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
        self, action: str, request: object, *, environment: dict[str, str] | None = None, real_home: bool = False
    ) -> Run:
        text = request if isinstance(request, (str, bytes)) else json.dumps(request)
        start = (
            [str(self.path)] if real_home else ["/usr/bin/python3", "-I", "-c", DRIVER, str(self.home), str(self.path)]
        )
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*become, *start, action, "/etc/slurm/slurm.conf", str(self.programs.folder)],
            input=text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"),
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

    def __init__(self) -> None:
        self.stdin = io.StringIO()
        self.started: list[list[str]] = []

    def start(self, argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.started.append(argv)
        return subprocess.CompletedProcess(argv, 0)

    def run(self, action: str, request: object) -> int:
        self.started.clear()
        self.stdin.seek(0)
        self.stdin.truncate()
        self.stdin.write(request if isinstance(request, str) else json.dumps(request))
        self.stdin.seek(0)
        return launcher.main([action, "/etc/slurm/slurm.conf", "/bin"])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    here = Here()
    person = pwd.struct_passwd(("ada", "x", NOBODY, NOBODY, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(launcher.os, "getuid", lambda: NOBODY)
    monkeypatch.setattr(launcher.os, "chdir", lambda folder: None)
    monkeypatch.setattr(launcher.os, "umask", lambda mask: 0)
    monkeypatch.setattr(launcher.pwd, "getpwuid", lambda uid: person)
    monkeypatch.setattr(launcher.subprocess, "run", here.start)
    monkeypatch.setattr(launcher.sys, "stdin", here.stdin)
    return here


@pytest.fixture
def refused(here: Here, capsys: pytest.CaptureFixture[str]) -> Callable[[str, object, str], None]:
    """``refused(action, request, why)``: the request is refused in these words and nothing is started."""

    def check(action: str, request: object, why: str) -> None:
        assert here.run(action, request) == 64
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", f"studiolo-launch: {why}\n")
        assert here.started == []

    return check


# --- Submit ----------------------------------------------------------------------------------------------------------


def test_sbatch_gets_the_script_on_standard_input_and_a_fixed_command_line(installed: Installed) -> None:
    run = installed.run("submit", {"script": SCRIPT, "environment": {"STUDIOLO_BOOTSTRAP": SECRET}})
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
    run = installed.run("submit", {"script": SCRIPT, "environment": {"STUDIOLO_HUB": "http://h"}}, environment=hostile)
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
    installed.run("submit", {"script": SCRIPT, "environment": {}})
    (call,) = installed.programs.called("sbatch")
    assert call.folder == str(installed.home)
    assert call.umask == 0o027


def test_a_secret_is_on_no_command_line(installed: Installed) -> None:
    seen = installed.home / "seen"
    installed.programs.add_script(
        "sbatch", f"cat /proc/$$/cmdline /proc/$PPID/cmdline | tr '\\0' '\\n' >{seen}\nwc -c <{seen}\n"
    )
    run = installed.run("submit", {"script": SCRIPT, "environment": {"STUDIOLO_BOOTSTRAP": SECRET}})
    text = seen.read_text(encoding="utf-8")
    assert run.status == 0
    assert "studiolo-launch" in text
    assert "sbatch" in text
    assert SECRET not in text


def test_slurms_refusal_and_status_are_passed_on_unchanged(installed: Installed) -> None:
    installed.programs.add("sbatch", err="sbatch: error: Invalid account or account/partition combination\n", status=1)
    run = installed.run("submit", {"script": SCRIPT, "environment": {}})
    assert run == Run(1, "", "sbatch: error: Invalid account or account/partition combination\n")


def test_letters_of_the_world_arrive_in_script_and_environment(installed: Installed) -> None:
    script = SCRIPT + "# données プロジェクト 😀\n"
    installed.run(
        "submit", {"script": script, "environment": {"STUDIOLO_X": "données 😀"}}, environment={"PATH": "/usr/bin:/bin"}
    )
    (call,) = installed.programs.called("sbatch")
    assert call.stdin == script
    assert call.environment["STUDIOLO_X"] == "données 😀"


@as_root
def test_an_account_without_a_home_is_told_so_and_nothing_is_submitted(installed: Installed) -> None:
    home = pwd.getpwuid(NOBODY).pw_dir
    if Path(home).exists():
        pytest.skip(f"the home of {pwd.getpwuid(NOBODY).pw_name}, {home}, exists on this host")
    run = installed.run("submit", {"script": SCRIPT, "environment": {}}, real_home=True)
    assert run.status == 73
    assert run.err.startswith(f"studiolo-launch: your home folder {home} can not be entered: ")
    nothing_ran(installed)


@pytest.mark.parametrize(
    "environment",
    [
        {"LD_PRELOAD": "/evil.so"},
        {"PATH": "/evil"},
        {"HOME": "/"},
        {"SLURM_CONF": "/evil"},
        {"SBATCH_UID": "0"},
        {"PYTHONPATH": "/evil"},
        {"BASH_ENV": "/evil"},
        {"": "x"},
        {"STUDIOLO_": "x"},
        {"studiolo_x": "x"},
        {"STUDIOLO_x": "x"},
        {"STUDIOLO_1": "x"},
        {"STUDIOLO_X=Y": "x"},
        {"STUDIOLO_X\n": "x"},
        {"STUDIOLO_X\0": "x"},
        {"XSTUDIOLO_X": "x"},
        {"STUDIOLO_Ä": "x"},
        {"STUDIOLO_" + "X" * 41: "x"},
        {"STUDIOLO_X": "a\0b"},
        {"STUDIOLO_X": 1},
        {"STUDIOLO_X": None},
        {"STUDIOLO_X": ["x"]},
        {"STUDIOLO_X": "good", "LD_LIBRARY_PATH": "/evil"},
        [],
        "STUDIOLO_X=1",
        None,
        5,
    ],
)
def test_only_texts_named_for_studiolo_reach_the_environment(refused: Callable[..., None], environment: Any) -> None:
    request = {"script": SCRIPT, "environment": environment}
    refused("submit", request, "the environment may only hold texts named STUDIOLO_…")


@pytest.mark.parametrize(
    "script", ["", "exec true", "\n#!/bin/bash", "#!/usr/bin/python3", None, 5, ["#!/bin/bash"], {}]
)
def test_what_is_no_bash_script_is_refused(refused: Callable[..., None], script: Any) -> None:
    refused("submit", {"script": script, "environment": {}}, "the script is not one")


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"script": SCRIPT},
        {"environment": {}},
        {"script": SCRIPT, "environment": {}, "uid": 0},
        {"script": SCRIPT, "environment": {}, "arguments": ["--uid=0"]},
        {"Script": SCRIPT, "environment": {}},
        {"jobs": [1]},
        [],
        [SCRIPT, {}],
        SCRIPT.__class__.__name__,
        None,
        1,
        True,
    ],
)
def test_a_submission_with_other_keys_is_refused(refused: Callable[..., None], request_: Any) -> None:
    refused("submit", json.dumps(request_), "submit needs script and environment")


# --- Cancel ----------------------------------------------------------------------------------------------------------


def test_scancel_gets_numbers_and_nothing_else(installed: Installed) -> None:
    run = installed.run("cancel", {"jobs": [1, 4711, 2**31]})
    assert run == Run(0, "", "")
    (call,) = installed.programs.called("scancel")
    assert call.argv == [f"{installed.programs.folder}/scancel", "1", "4711", "2147483648"]
    assert call.stdin == ""
    assert set(call.environment) == {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "SLURM_CONF", "USER"}


@as_root
def test_a_job_can_be_cancelled_though_the_home_does_not_exist(installed: Installed) -> None:
    assert installed.run("cancel", {"jobs": [1]}, real_home=True).status == 0
    assert len(installed.programs.called("scancel")) == 1


def test_root_is_refused_before_the_request_is_read(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher.os, "getuid", lambda: 0)
    assert here.run("cancel", {"jobs": [1]}) == 64
    assert here.stdin.tell() == 0
    assert here.started == []


def test_the_status_of_scancel_is_passed_on(installed: Installed) -> None:
    installed.programs.add(
        "scancel", err="scancel: error: Kill job error on job id 1: Invalid job id specified\n", status=1
    )
    run = installed.run("cancel", {"jobs": [1]})
    assert run.status == 1
    assert "Invalid job id" in run.err


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        [0],
        [-1],
        [True],
        [False],
        ["1"],
        ["--user=root"],
        [1.0],
        [1.5],
        [None],
        [[1]],
        [1, "2"],
        [1, -2],
        "1",
        1,
        None,
        {"1": 1},
    ],
)
def test_what_is_no_number_of_a_job_is_refused(refused: Callable[..., None], jobs: Any) -> None:
    refused("cancel", {"jobs": jobs}, "cancel needs jobs, a list of numbers")


@pytest.mark.parametrize(
    "request_",
    [{}, {"jobs": [1], "user": "root"}, {"job": [1]}, [1], None, "jobs", {"script": SCRIPT, "environment": {}}],
)
def test_a_cancellation_with_other_keys_is_refused(refused: Callable[..., None], request_: Any) -> None:
    refused("cancel", json.dumps(request_), "cancel needs jobs, a list of numbers")


# --- The log ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def logs(open_folder: Path) -> Path:
    """A folder of logs as the site has it: people add files, list none, and its group reads what they write."""
    folder = open_folder / "logs"
    folder.mkdir()
    folder.chmod(0o3733)
    return folder


def submission(log: object) -> dict[str, object]:
    return {"script": SCRIPT, "environment": {}, "log": log}


def test_the_log_is_made_before_the_job_and_closed_to_others(installed: Installed, logs: Path) -> None:
    run = installed.run("submit", submission(f"{logs}/s.log"))
    facts = (logs / "s.log").stat()
    assert (run.status, run.err) == (0, "")
    assert stat.S_IMODE(facts.st_mode) == 0o640
    assert facts.st_size == 0
    assert facts.st_gid == logs.stat().st_gid
    if os.getuid() == 0:
        assert facts.st_uid == NOBODY


@pytest.mark.parametrize("in_its_place", ["file", "link", "dangling link", "folder", "pipe"])
def test_whatever_stands_in_the_logs_place_is_left_alone_and_nothing_is_submitted(
    installed: Installed, logs: Path, in_its_place: str
) -> None:
    # Slurm opens the log as the person and would write through a link that somebody else has put there.
    log, target = logs / "s.log", installed.home / "target"
    if in_its_place == "dangling link":
        log.symlink_to(target)
    elif in_its_place == "link":
        target.touch()
        log.symlink_to(target)
    elif in_its_place == "file":
        log.touch()
    elif in_its_place == "folder":
        log.mkdir()
    else:
        os.mkfifo(log)
    before = target.exists()
    run = installed.run("submit", submission(str(log)))
    assert run.status == 73
    assert re.fullmatch(r"studiolo-launch: the log [^\n]+ can not be made: File exists\n", run.err)
    assert target.exists() == before
    nothing_ran(installed)


def test_a_folder_of_logs_that_is_not_there_is_told_and_nothing_is_submitted(installed: Installed, logs: Path) -> None:
    run = installed.run("submit", submission(f"{logs}/none/s.log"))
    assert run.status == 73
    assert "can not be made: No such file or directory" in run.err
    nothing_ran(installed)


@pytest.mark.parametrize("log", ["", "s.log", "~/s.log", 5, True, ["/s.log"], {}, "/s\0.log", "/s\ud800.log"])
def test_a_log_must_be_an_absolute_path(refused: Callable[..., None], log: object) -> None:
    refused("submit", submission(log), "the log must be an absolute path")


def test_a_submission_that_is_refused_makes_no_log(here: Here, tmp_path: Path) -> None:
    for wrong in ({"script": "echo"}, {"environment": {"PATH": "/evil"}}, {"uid": 0}):
        assert here.run("submit", {**submission(f"{tmp_path}/s.log"), **wrong}) == 64
    assert list(tmp_path.iterdir()) == []


# --- Both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "command"), [("submit", "sbatch"), ("cancel", "scancel")])
def test_a_command_that_does_not_answer_is_ended_here_where_that_is_allowed(
    installed: Installed, action: str, command: str
) -> None:
    # The hub may not end a process of the person's; sudo, which it could kill, would leave it behind.
    source = installed.path.read_text(encoding="utf-8")
    installed.path.write_text(source.replace(f"SECONDS = {launcher.SECONDS}", "SECONDS = 0.02"), encoding="utf-8")
    ran = installed.home / "pid"
    installed.programs.add_script(command, f"echo $$ >{ran}\nexec sleep 600\n")
    run = installed.run(action, {"jobs": [1]} if action == "cancel" else {"script": SCRIPT, "environment": {}})
    assert run == Run(75, "", "studiolo-launch: Slurm did not answer within 0 seconds\n")
    pid = ran.read_text(encoding="utf-8").strip() if ran.exists() else ""
    assert not pid or not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("action", ["submit", "cancel"])
@pytest.mark.parametrize(
    "text", ["", "{", "jobs=1", "{'jobs': [1]}", '{"jobs": [1]} x', "\x00", '{"jobs": [' + "1" * 5000 + "]}"]
)
def test_what_is_no_json_is_refused(refused: Callable[..., None], action: str, text: str) -> None:
    refused(action, text, "the request is not JSON")


@pytest.mark.parametrize(
    ("action", "text"),
    [
        pytest.param("submit", b"\xff\xfe{", id="not UTF-8"),
        pytest.param("submit", "[" * 100_000, id="lists in one another"),
        pytest.param(
            "submit", json.dumps({"script": SCRIPT + "\ud800", "environment": {}}), id="half a letter in the script"
        ),
        pytest.param(
            "submit",
            json.dumps({"script": SCRIPT, "environment": {"STUDIOLO_X": "\ud800"}}),
            id="half a letter in the environment",
        ),
        pytest.param(
            "submit",
            json.dumps({"script": SCRIPT, "environment": {"STUDIOLO_X": "x" * 900_000}}),
            id="more than an environment holds",
        ),
        pytest.param("cancel", json.dumps({"jobs": [10**4000]}), id="a job of 4000 digits"),
    ],
)
def test_input_that_python_stumbles_over_is_refused_in_a_sentence(
    installed: Installed, action: str, text: str | bytes
) -> None:
    # A traceback would reach the person as "Slurm refused"; the operator could not tell what was wrong.
    run = installed.run(action, text, environment={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
    assert run.status == 64
    assert re.fullmatch(r"studiolo-launch: [^\n]+\n", run.err)
    nothing_ran(installed)


@pytest.mark.parametrize(
    ("action", "command", "request_"),
    [("submit", "sbatch", {"script": SCRIPT, "environment": {}}), ("cancel", "scancel", {"jobs": [1]})],
)
def test_a_command_that_is_not_there_is_told_in_a_sentence(
    installed: Installed, action: str, command: str, request_: object
) -> None:
    (installed.programs.folder / command).unlink()
    run = installed.run(action, request_)
    assert run.status != 0
    assert re.fullmatch(rf"studiolo-launch: [^\n]*{command}[^\n]*\n", run.err)


@pytest.mark.parametrize("action", ["submit", "cancel"])
def test_a_request_that_is_too_long_is_refused_before_it_is_read(refused: Callable[..., None], action: str) -> None:
    refused(action, " " * (launcher.MAX_INPUT + 1), "the request is too long")


def test_a_request_of_just_bearable_length_is_taken(installed: Installed) -> None:
    request = json.dumps({"script": SCRIPT, "environment": {}})
    padded = request + " " * (launcher.MAX_INPUT - len(request))
    assert installed.run("submit", padded).status == 0


@as_root
@pytest.mark.parametrize("action", ["submit", "cancel"])
def test_it_never_acts_for_root(installed: Installed, action: str) -> None:
    text = json.dumps({"script": SCRIPT, "environment": {}} if action == "submit" else {"jobs": [1]})
    done = subprocess.run(
        [str(installed.path), action, "/etc/slurm/slurm.conf", str(installed.programs.folder)],
        input=text,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (64, "", "studiolo-launch: never for root\n")
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
def test_any_other_command_line_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert launcher.main(arguments) == 64
    assert capsys.readouterr().err == "studiolo-launch: usage: studiolo-launch submit|cancel SLURM_CONF COMMANDS\n"


@given(
    request=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["jobs", "script", "environment", "STUDIOLO_X", "PATH"]) | st.text(), inner, max_size=3
            )
        ),
        max_leaves=6,
    )
)
def test_any_request_at_all_is_refused_or_runs_the_one_command(here: Here, request: Any) -> None:
    for action, command in (("submit", ["/bin/sbatch", "--parsable"]), ("cancel", ["/bin/scancel"])):
        assert here.run(action, request) == (0 if here.started else 64)
        for argv in here.started:
            assert argv[: len(command)] == command
            assert all(re.fullmatch(r"[1-9][0-9]*", word) for word in argv[len(command) :])


# --- What it is ------------------------------------------------------------------------------------------------------


def test_it_is_small_and_needs_nothing_but_the_standard_library() -> None:
    source = Path(launcher.__file__).read_text(encoding="utf-8")
    assert source.startswith("#!/usr/bin/python3 -I\n")
    assert len(source.splitlines()) < 130
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert imported <= {"json", "os", "pwd", "re", "resource", "signal", "subprocess", "sys"}


def test_it_starts_no_shell() -> None:
    source = Path(launcher.__file__).read_text(encoding="utf-8")
    assert "shell=" not in source
    assert "os.system" not in source
    assert "popen" not in source.lower()
