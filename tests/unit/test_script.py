"""The batch script: exactly the lines that a request gives, read by bash as they are meant, whatever anybody asked for."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from studiolo.errors import RequestError
from studiolo.request import FIELDS, Request, check
from studiolo.script import Batch, Job, render
from studiolo.session_job import session_job
from studiolo.site import Environment, Site, parse
from studiolo.units import parse_memory, parse_minutes

SESSION = "0123456789abcdef"
LOG = "fedcba98765432100123456789abcdef"
ALWAYS = {"job-name", "comment", "partition", "nodes", "ntasks", "cpus-per-task", "mem", "time", "output", "export"}
JOB = Job(name="studiolo", comment="studiolo:0:session:1", log="1.log", command=["/bin/true"])


def session_script(request: Request, site: Site) -> str:
    return session_batch(request, site).text


def session_batch(request: Request, site: Site) -> Batch:
    return render(request, site, session_job(site, request, SESSION, LOG))


def directives(script: str) -> dict[str, str]:
    """Read the script back the way sbatch does: ``#SBATCH`` lines up to the first command, each key once."""
    found: dict[str, str] = {}
    for line in script.split("\n")[1:]:
        if not line.startswith("#"):
            break
        option = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(.*))?", line)
        assert option, line
        assert option[1] not in found, f"--{option[1]} twice"
        found[option[1]] = option[2] if option[2] is not None else ""
    return found


def bash_accepts(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@st.composite
def requests(draw: st.DrawFn, site: Site) -> Request:
    """Any request that the gate grants."""
    raw = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "profile": st.sampled_from([*site.profiles]),
                "partition": st.sampled_from([*site.partitions]),
                "gpus": st.integers(0, 4),
                "shards": st.integers(0, 4),
                "cpus": st.integers(1, 32),
                "memory": st.integers(1, 240 * 1024),
                "minutes": st.integers(1, 24 * 60),
                "account": st.sampled_from([*site.accounts]),
                "qos": st.sampled_from(["short", "long"]),
                "reservation": st.sampled_from(["course-2026", "_.-", "r" * 64]),
                "features": st.lists(st.sampled_from(["nvme", "ib"]), unique=True),
                "environment": st.sampled_from([*site.environments]),
                "workdir": st.text(st.characters(), min_size=1, max_size=10),
            },
        )
    )
    try:
        return check(raw, site)
    except RequestError as error:
        for fault in error.faults:
            raw.pop(fault.where, None)
    try:
        return check(raw, site)
    except RequestError:
        assume(False)
        raise AssertionError from None


@given(data=st.data())
def test_a_script_has_exactly_the_directives_of_its_request_each_once(site: Site, data: st.DataObject) -> None:
    request = data.draw(requests(site))
    given_keys = {
        "account": request.account,
        "qos": request.qos,
        "reservation": request.reservation,
        "constraint": request.features,
        "gres": request.gpus or request.shards,
    }
    found = directives(session_script(request, site))
    assert set(found) == ALWAYS | {"no-requeue"} | {key for key, value in given_keys.items() if value}


@given(data=st.data())
def test_reading_the_directives_back_gives_the_request_again(site: Site, data: st.DataObject) -> None:
    request = data.draw(requests(site))
    found = directives(session_script(request, site))
    kind, _, number = found.get("gres", ":0").rpartition(":")
    assert found["partition"] == request.partition
    assert int(found["cpus-per-task"]) == request.cpus
    assert found["mem"].endswith("M")
    assert parse_memory(found["mem"]) == request.memory
    assert parse_minutes(found["time"]) == request.minutes
    assert (found["nodes"], found["ntasks"]) == ("1", "1")
    assert found.get("account") == request.account
    assert found.get("qos") == request.qos
    assert found.get("reservation") == request.reservation
    assert tuple(filter(None, found.get("constraint", "").split("&"))) == request.features
    assert {"gpu:a100": (int(number), 0), "shard": (0, int(number)), "": (0, 0)}[kind] == (request.gpus, request.shards)


@given(data=st.data())
def test_the_commands_of_a_script_come_from_the_site_alone(site: Site, data: st.DataObject) -> None:
    request = data.draw(requests(site))
    plain = check(
        {"environment": request.environment, "profile": "one" if request.gpus or request.shards else "learn"}, site
    )
    assert commands(session_script(request, site)) == commands(session_script(plain, site))


def commands(script: str) -> str:
    """All but the ``#SBATCH`` lines."""
    return "\n".join(line for line in script.split("\n") if not line.startswith("#SBATCH"))


@given(data=st.data(), workdir=st.text(st.characters(), min_size=1))
def test_the_folder_asked_for_changes_no_letter_of_the_script(site: Site, data: st.DataObject, workdir: str) -> None:
    request = data.draw(requests(site))
    script = session_script(request, site)
    assert script == session_script(dataclasses.replace(request, workdir=workdir), site)
    assert script == session_script(dataclasses.replace(request, workdir=None), site)


@given(data=st.data())
def test_bash_accepts_every_script(site: Site, data: st.DataObject) -> None:
    bash_accepts(session_script(data.draw(requests(site)), site))


@given(data=st.data())
def test_a_script_knows_no_secret_and_no_address_of_the_hub(site: Site, data: st.DataObject) -> None:
    script = session_script(data.draw(requests(site)), site).lower()
    for word in ("token", "secret", "bootstrap", "password", "jupyterhub", "http", ":8081"):
        assert word not in script


# --- Past the gate: the script's own check ---------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.text(st.characters(), min_size=1, max_size=30),
    st.sampled_from(
        [
            "p1\n#SBATCH --uid=0",
            "p1\r#SBATCH --uid=0",
            "p1 --uid=0",
            "p1\t--uid=0",
            'p1"',
            "p1'",
            "p1;id",
            "$(id)",
            "`id`",
            "p1\\",
            "p1#",
            "p1\x00",
            "p1\x85#SBATCH",
            "p1\u2028#SBATCH",
            "ｐ１",
            "٣",
            "p1\ud800",
            "*",
            "!",
            "(x)",
            "<x>",
            "a" * 5000,
        ]
    ),
)


@pytest.mark.parametrize("field", ["account", "qos", "reservation", "features"])
@given(hostile=HOSTILE)
def test_a_hostile_value_past_the_gate_is_refused_or_stays_one_directive(site: Site, field: str, hostile: str) -> None:
    request = check({"profile": "one", "environment": "base"}, site)
    spoilt = dataclasses.replace(request, **{field: (hostile,) if field == "features" else hostile})
    assert_one_directive(spoilt, site, JOB)


@pytest.mark.parametrize("field", ["name", "comment", "log"])
@given(hostile=HOSTILE)
def test_a_hostile_job_is_refused_or_stays_one_directive(site: Site, field: str, hostile: str) -> None:
    assert_one_directive(check({}, site), site, dataclasses.replace(JOB, **{field: hostile}))


def assert_one_directive(request: Request, site: Site, job: Job) -> None:
    try:
        script = render(request, site, job).text
    except ValueError:
        return
    lines = [line for line in script.split("\n") if line.startswith("#SBATCH")]
    assert len(lines) == len(directives(script))
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=[!-~]+)?", line) for line in lines)
    assert not re.search(r"[\s\"'`$;\\<>()#!*?{}\[\]]", "".join(directives(script).values()))
    assert len(script.split("\n")) == len(lines) + (9 if job.log.startswith("/") else 7)


@pytest.mark.parametrize("value", ["", "a b", "a\n", "a;b", "a$b", "ä", "a'b"])
def test_a_value_outside_the_alphabet_of_directives_is_a_value_error_that_names_it(site: Site, value: str) -> None:
    request = dataclasses.replace(check({}, site), reservation=value or "\n")
    with pytest.raises(ValueError, match="--reservation=.*does not belong"):
        render(request, site, JOB)


# --- What bash makes of it -------------------------------------------------------------------------------------------

WORDS = st.lists(st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=15), min_size=1, max_size=4)


@given(command=WORDS)
def test_the_command_is_quoted_word_by_word(site: Site, command: list[str]) -> None:
    script = render(check({}, site), site, dataclasses.replace(JOB, command=command)).text
    assert shlex.split(script.partition("\nexec ")[2]) == command


@given(
    values=st.dictionaries(
        st.from_regex(r"X_[A-Z0-9_]{1,8}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20).map(str.strip),
        max_size=4,
    )
)
def test_variables_of_an_environment_arrive_as_they_are_written(site: Site, values: dict[str, str]) -> None:
    values |= {"X_QUOTES": 'it\'s "$HOME" `id` $(id) \\ ! * ~ #'}
    changed = site.model_copy(update={"environments": {"base": Environment(variables=values)}})
    script = render(check({}, changed), changed, dataclasses.replace(JOB, command=["/usr/bin/env", "-0"])).text
    done = subprocess.run(["bash"], input=script.encode(), capture_output=True, env={}, check=True)
    arrived = dict(pair.partition("=")[::2] for pair in done.stdout.decode().split("\0"))
    assert {key: arrived[key] for key in values} == values


def test_a_script_ends_where_a_module_can_not_be_loaded(site: Site, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = render(
        check({"environment": "torch"}, site), site, dataclasses.replace(JOB, command=["touch", str(ran)])
    ).text
    script = script.replace("set -e", "module() { return 1; }\nset -e")
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert not ran.exists()


def test_the_job_becomes_the_program_so_that_slurms_signals_reach_it(site: Site) -> None:
    script = render(check({}, site), site, JOB).text
    assert script.endswith("\nexec /bin/true\n")


@pytest.mark.parametrize(
    ("environment", "profile", "command"),
    [
        ("base", "learn", "exec /opt/studiolo/venv/bin/python -I -m spawners.singleuser"),
        ("torch", "one", "exec /apps/torch/bin/python -I -m spawners.singleuser"),
        ("box", "learn", "exec apptainer exec /apps/box.sif /usr/bin/python3 -I -m spawners.singleuser"),
        ("box", "one", "exec apptainer exec --nv /apps/box.sif /usr/bin/python3 -I -m spawners.singleuser"),
        ("box", "quarter", "exec apptainer exec --nv /apps/box.sif /usr/bin/python3 -I -m spawners.singleuser"),
        (
            "full",
            "one",
            "exec apptainer exec --nv '/apps/full image.sif' /opt/full/bin/python -I -m spawners.singleuser",
        ),
    ],
)
def test_the_environment_decides_which_python_runs_and_where(
    site: Site, environment: str, profile: str, command: str
) -> None:
    script = session_script(check({"environment": environment, "profile": profile}, site), site)
    assert script.splitlines()[-1] == command


def test_a_login_shell_is_used_only_where_modules_are_loaded(site: Site) -> None:
    assert session_script(check({"environment": "torch"}, site), site).startswith("#!/bin/bash -l\n")
    assert session_script(check({"environment": "box"}, site), site).startswith("#!/bin/bash\n")


def test_where_nodes_reach_the_internet_models_may_be_fetched(site: Site) -> None:
    online = site.model_copy(update={"catalogue": site.catalogue.model_copy(update={"offline": False})})
    assert "HF_HUB_OFFLINE" not in session_script(check({}, online), online)
    assert "HF_HUB_CACHE" in session_script(check({}, online), online)


def test_modules_are_loaded_in_the_order_of_the_site_before_variables_are_set(site: Site) -> None:
    lines = session_script(check({"environment": "torch"}, site), site).splitlines()
    assert lines[lines.index("set -e") + 1 :][:5] == [
        'export HF_HUB_CACHE="$HOME/.cache/studiolo/models"',
        "export HF_HUB_OFFLINE=1",
        "module load env/2025.1",
        "module load PyTorch/2.9",
        "export OMP_NUM_THREADS=4",
    ]


def test_a_job_can_be_found_again_by_its_comment(site: Site) -> None:
    found = directives(session_script(check({}, site), site))
    assert found["comment"] == f"studiolo:{site.mark}:session:{SESSION}"
    assert re.fullmatch(r"[0-9a-f]{8}", site.mark)


@pytest.mark.parametrize(
    "hub", ['node_address = "10.0.0.1"', "node_port = 8082", 'base_url = "/other/"'], ids=["address", "port", "path"]
)
def test_two_hubs_on_one_cluster_mark_their_jobs_differently(edited: Callable[..., str], site: Site, hub: str) -> None:
    other = parse(edited(("[authentication]", f"[hub]\n{hub}\n\n[authentication]")))
    assert other.mark != site.mark


# --- The log ---------------------------------------------------------------------------------------------------------


def test_an_array_that_may_be_requeued_says_so_in_directives(site: Site) -> None:
    job = dataclasses.replace(JOB, array="0-19%4", requeue=True, signal="B:USR1@120")
    text = render(check({}, site), site, job).text
    for line in ("--array=0-19%4", "--requeue", "--open-mode=append", "--signal=B:USR1@120"):
        assert f"#SBATCH {line}\n" in text
    assert "--no-requeue" not in text


def test_the_name_of_the_log_is_nothing_that_the_queue_shows(site: Site) -> None:
    found = directives(session_script(check({}, site), site))
    assert found["output"] == "/dev/null"
    assert not any(LOG in value for value in found.values())


def test_the_log_lies_in_the_home_where_the_site_names_no_folder(edited: Callable[..., str]) -> None:
    site = parse(edited(('logs = "/var/lib/studiolo/logs/sessions"', "")))
    batch = session_batch(check({}, site), site)
    assert directives(batch.text)["output"] == f".studiolo-{SESSION}.log"
    assert "exec >" not in batch.text


@pytest.fixture
def logged(edited: Callable[..., str], tmp_path: Path) -> tuple[Path, Callable[[], int]]:
    """The place of a log in a folder of logs, and what runs a script that logs there."""
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o1733)
    log = folder / "s.log"
    site = parse(edited())
    script = render(
        check({}, site), site, dataclasses.replace(JOB, log=str(log), command=["sh", "-c", "echo o; echo e >&2"])
    )

    def run() -> int:
        return subprocess.run(["bash"], input=script.text, text=True, stdout=subprocess.DEVNULL, check=False).returncode

    return log, run


def test_a_job_makes_its_own_log_closed_to_others_and_says_everything_there(
    logged: tuple[Path, Callable[[], int]],
) -> None:
    log, run = logged
    assert run() == 0
    assert log.read_text(encoding="utf-8") == "o\ne\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o640


@pytest.mark.parametrize("in_its_place", ["file", "link", "dangling link", "folder", "pipe"])
def test_a_job_neither_follows_nor_writes_what_stands_in_its_logs_place(
    logged: tuple[Path, Callable[[], int]], in_its_place: str, tmp_path: Path
) -> None:
    log, run = logged
    target = tmp_path / "target"
    if in_its_place == "link":
        target.touch()
    put: dict[str, Callable[[], object]] = {
        "file": log.touch,
        "link": lambda: log.symlink_to(target),
        "dangling link": lambda: log.symlink_to(target),
        "folder": log.mkdir,
        "pipe": lambda: os.mkfifo(log),
    }
    put[in_its_place]()
    before = log.lstat()
    assert run() == 73
    assert (log.lstat().st_ino, log.lstat().st_size) == (before.st_ino, before.st_size)
    assert target.exists() == (in_its_place == "link")
    assert not target.exists() or not target.read_bytes()


def test_a_job_without_a_folder_for_its_log_does_not_run(logged: tuple[Path, Callable[[], int]]) -> None:
    log, run = logged
    log.parent.rmdir()
    assert run() == 73


def test_a_gpu_of_no_named_type_is_asked_for_by_number_alone(edited: Callable[..., str]) -> None:
    site = parse(edited(('gpu_type = "a100"\n', "")))
    assert directives(session_script(check({"profile": "one"}, site), site))["gres"] == "gpu:1"


def test_every_field_of_a_request_is_either_in_the_script_or_known_to_be_left_out() -> None:
    left_out = {"profile", "cluster", "workdir"}
    in_script = {
        "partition",
        "gpus",
        "shards",
        "cpus",
        "memory",
        "minutes",
        "account",
        "qos",
        "reservation",
        "features",
        "environment",
    }
    assert {field.name for field in dataclasses.fields(Request)} == left_out | in_script
    assert set(FIELDS) == (left_out | in_script | {"hours"}) - {"cluster"}
