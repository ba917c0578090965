"""All ways to a real Slurm, held to the same words: what one can, the other can, and both fail alike."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hubclient import until

from slurmbox import box as boxes
from slurmbox import ready
from studiolo.errors import LauncherFailed, SlurmError, SlurmRefused, SlurmUnavailable
from studiolo.script import Batch, Directives
from studiolo.site import Site, load
from studiolo.slurm.both import BothSlurm
from studiolo.slurm.client import Slurm, connect
from studiolo.slurm.commands import CommandSlurm
from studiolo.slurm.estimate import trial
from studiolo.slurm.rest import RestSlurm
from studiolo.slurm.states import JobState, Tagged

Value = TypeVar("Value")
WAYS = ("commands", "slurmrestd", "both")


def run(coroutine: Coroutine[Any, Any, Value]) -> Value:
    return asyncio.run(coroutine)


@pytest.fixture(scope="module")
def site(site_file: Path) -> Site:
    return load(site_file)


def by(way: str, site: Site) -> Slurm:
    """A client of the site's one cluster."""
    ((name, cluster),) = site.clusters.items()
    return connect(site.model_copy(update={"clusters": {name: cluster.model_copy(update={"via": way})}}), name)


@pytest.fixture(params=WAYS)
def slurm(request: pytest.FixtureRequest, site: Site) -> Slurm:
    return by(request.param, site)


@pytest.fixture(scope="module")
def people(access: Mapping[str, Any]) -> list[str]:
    return [user["name"] for user in access["users"] if user["role"] == "learner"]


@pytest.fixture(scope="module")
def root(box: Any) -> Callable[..., str]:
    """Run a Slurm command as root."""

    def command(*argv: str) -> str:
        environment = {"SLURM_CONF": str(box.slurm_conf), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command


@pytest.fixture(autouse=True)
def no_jobs_left(root: Callable[..., str], people: list[str]) -> Iterator[None]:
    yield
    mine = ",".join(people)
    root("scancel", "--user", people[0])
    for person in people[1:3]:
        root("scancel", "--user", person)
    until("an empty queue", lambda: not root("squeue", "-h", "-u", mine), 30)


@pytest.fixture
def closed(root: Callable[..., str]) -> Iterator[None]:
    """Nothing starts on the CPU nodes."""
    root("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    yield
    root("scontrol", "update", "PartitionName=cpu", "State=UP")


def batch(commands: str = "sleep 300\n", **changes: Any) -> Batch:
    directives = Directives(
        name="ways",
        comment="",
        partition="cpu",
        account="",
        qos="",
        reservation="",
        constraint="",
        cpus=1,
        memory=100,
        minutes=5,
        gres="",
        output="/dev/null",
    )
    return Batch(replace(directives, **changes), "#!/bin/bash", commands)


def state_of(slurm: Slurm, job: int, *states: str) -> JobState:
    def look() -> JobState | None:
        found = run(slurm.queue([job])).get(job)
        return found if found and found.state in states else None

    found: JobState = until(f"job {job} {states}", look, 30)
    return found


# --- A job's life ----------------------------------------------------------------------------------------------------


def test_a_job_is_submitted_seen_cancelled_and_found_in_accounting(slurm: Slurm, people: list[str]) -> None:
    job = run(slurm.submit(people[0], batch(), {"STUDIOLO_X": "y"}))
    running = state_of(slurm, job, "RUNNING")
    assert re.fullmatch(r"cpu\d", running.node)
    assert running.start
    assert running.end
    assert running.end - running.start == 300
    assert (running.exit_code, running.signal) == (None, None)
    run(slurm.cancel(people[0], [job]))
    assert state_of(slurm, job, "CANCELLED").is_over

    found: JobState = until(
        "the job in accounting", lambda: (s := run(slurm.finished([job])).get(job)) and s.state == "CANCELLED" and s, 30
    )
    assert (found.node, found.start) == (running.node, running.start)


def test_a_job_gets_the_same_whichever_way_it_came(site: Site, people: list[str], root: Callable[..., str]) -> None:
    asked = batch(
        "umask; pwd; exec env -0\n",
        comment="studiolo:x:session:1",
        cpus=2,
        memory=200,
        minutes=7,
        output="ways-%j.out",
        gres="gpu:1",
        partition="gpu",
    )
    home = Path(pwd.getpwnam(people[0]).pw_dir)
    seen, told = {}, {}
    for way in WAYS:
        slurm = by(way, site)
        job = run(slurm.submit(people[0], asked, {"STUDIOLO_TEXT": "a=b \"c\" 'd' $HOME é\n2"}))
        state_of(slurm, job, "COMPLETED")
        words = root("scontrol", "show", "job", "-o", str(job)).split()
        told[way] = dict(word.partition("=")[::2] for word in words)
        out = home / f"ways-{job}.out"
        umask, folder, rest = out.read_text(encoding="utf-8").split("\n", 2)
        seen[way] = dict(pair.partition("=")[::2] for pair in rest.split("\0") if pair)
        seen[way] |= {"umask": umask, "folder": folder, "mode": oct(out.stat().st_mode)}
        out.unlink()
    differ = {"SLURM_JOB_ID", "SLURM_JOBID", "SLURM_TASK_PID", "SLURM_WORKING_CLUSTER", "SLURM_TOPOLOGY_ADDR", "SLURMD_NODENAME", "HOSTNAME", "SLURM_NODELIST", "SLURM_JOB_NODELIST"}  # fmt: skip
    differ |= {
        key for key in {*seen["commands"], *seen["slurmrestd"]} if key.startswith("SLURM_JOB_") and "TIME" in key
    }
    same = {way: {key: value for key, value in seen[way].items() if key not in differ} for way in WAYS}
    # sbatch tells where and with which priority it was run, and newer ones prepare launchers of steps; nothing of ours looks.
    alone = re.compile(
        r"SLURM_SUBMIT_HOST|SLURM_PRIO_PROCESS|SLURM_GTIDS|SLURM_OOM_KILL_STEP|SLURM_TRES_PER_TASK|OLDPWD|HYDRA_|I_MPI_|OMPI_|PRTE_"
    )
    same = {way: {key: value for key, value in same[way].items() if not alone.match(key)} for way in WAYS}
    assert same["slurmrestd"] == same["commands"]
    for key in ("Partition", "TRES", "TimeLimit", "NumCPUs", "CPUs/Task", "NumNodes", "MinMemoryNode", "Requeue", "StdOut", "WorkDir", "Comment", "JobName", "Account", "QOS", "TresPerNode", "UserId"):  # fmt: skip
        values = {way: told[way].get(key, "").replace(told[way]["JobId"], "N") for way in WAYS}
        assert values["slurmrestd"] == values["commands"], key


def test_a_job_whose_nodes_are_all_down_is_submitted_and_waits(
    slurm: Slurm, people: list[str], root: Callable[..., str]
) -> None:
    nodes = sorted(set(root("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N").split()))
    root("scontrol", "update", f"NodeName={','.join(nodes)}", "State=DOWN", "Reason=test")
    try:
        job = run(slurm.submit(people[0], batch(), {}))
        assert run(slurm.queue([job]))[job].is_pending
    finally:
        for node in nodes:
            if "down" in root(
                "sinfo", "-h", "-n", node, "-o", "%t"
            ):  # one that has registered meanwhile may be up again
                root("scontrol", "update", f"NodeName={node}", "State=RESUME")


def test_many_jobs_are_asked_for_in_one_question_and_others_left_out(slurm: Slurm, people: list[str]) -> None:
    async def submit(count: int) -> list[int]:
        return [await slurm.submit(people[n], batch(), {}) for n in range(count)]

    first, second, third = run(submit(3))
    before = sum(slurm.calls.values())
    found = run(slurm.queue([first, second, 999_999_999]))
    assert sum(slurm.calls.values()) - before == 1
    assert set(found) == {first, second}
    assert third not in found


def test_a_pending_job_says_why_and_can_be_cancelled(slurm: Slurm, people: list[str], closed: None) -> None:
    job = run(slurm.submit(people[0], batch(), {}))
    state = state_of(slurm, job, "PENDING")
    assert until("the reason", lambda: (s := run(slurm.queue([job]))[job]).reason == "PartitionDown" and s, 30)
    assert (state.node, state.is_pending) == ("", True)
    run(slurm.cancel(people[0], [job]))
    assert state_of(slurm, job, "CANCELLED").is_over


def test_a_failed_job_is_told_with_its_status(slurm: Slurm, people: list[str]) -> None:
    job = run(slurm.submit(people[0], batch("exit 73\n"), {}))
    assert state_of(slurm, job, "FAILED").is_over
    found = until("accounting", lambda: (s := run(slurm.finished([job])).get(job)) and s.state == "FAILED" and s, 30)
    # slurmrestd tells accounting's statuses from v0.0.39 on.
    assert found.exit_code in ({73} if isinstance(slurm, CommandSlurm) else {73, None})
    assert found.signal is None


def test_a_job_that_nobody_knows_is_missing_in_the_answer(slurm: Slurm) -> None:
    assert run(slurm.queue([999_999_999])) == {}
    assert run(slurm.queue([999_999_998, 999_999_999])) == {}
    assert run(slurm.finished([999_999_998, 999_999_999])) == {}


def test_cancelling_a_job_that_is_over_or_unknown_is_no_error(slurm: Slurm, people: list[str]) -> None:
    job = run(slurm.submit(people[0], batch("true\n"), {}))
    state_of(slurm, job, "COMPLETED")
    run(slurm.cancel(people[0], [job]))
    run(slurm.cancel(people[0], [999_999_999]))


def test_when_a_job_would_start_is_said_and_nothing_submitted(
    site: Site, people: list[str], root: Callable[..., str]
) -> None:
    asked = trial(batch().directives).directives
    start = run(by("commands", site).estimate(people[0], asked))
    assert start is not None
    # In seconds since 1970, whatever this host's zone: now, give or take the length of this test.
    assert abs(start - time.time()) < 120
    assert run(by("slurmrestd", site).estimate(people[0], asked)) is None
    assert not root("squeue", "-h", "-u", people[0])


def test_accounts_people_and_limits_are_told(slurm: Slurm, people: list[str]) -> None:
    found = run(slurm.budgets())
    assert found.of(people[0]) == {"playground"}
    assert found.defaults[people[0]] == "playground"
    assert {"playground", "fast-lane", "large-scale"} <= set(found.accounts)
    assert found.gpu_hours(people[0], "playground").limit == 1000.0


def test_the_address_of_a_node_is_slurms_own(slurm: Slurm) -> None:
    async def ask() -> list[str]:
        return [await slurm.node_address(node) for node in ("cpu1", "gpu1", "cpu1")]

    assert run(ask()) == ["127.0.0.1"] * 3


# --- What must not be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"account": "large-scale"}, "Invalid account"),
        ({"qos": "large-scale"}, "Invalid qos"),
        ({"partition": "none"}, "Invalid partition"),
        ({"memory": 10**9}, "not available"),
        ({"minutes": 100_000}, "time limit"),
        ({"reservation": "none"}, "reservation"),
        ({"gres": "gpu:9", "partition": "gpu"}, "not available|QOSMax|violates"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words(
    slurm: Slurm, people: list[str], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SlurmRefused, match=words):
        run(slurm.submit(people[0], batch(**changes), {}))
    assert run(slurm.tagged()) == ()


def test_nobody_cancels_somebody_elses_job(slurm: Slurm, people: list[str]) -> None:
    job = run(slurm.submit(people[0], batch(), {}))
    with pytest.raises(SlurmRefused, match="permission denied"):
        run(slurm.cancel(people[1], [job]))
    assert not run(slurm.queue([job]))[job].is_over


@pytest.mark.parametrize("person", ["root", "daemon", "nosuchperson", "#0", "-x", ""])
def test_the_hub_acts_for_members_of_its_group_only(site: Site, person: str) -> None:
    """Where no sudoers rule says so, the hub itself does."""
    slurm = by("slurmrestd", site)
    with pytest.raises(LauncherFailed):
        run(slurm.submit(person, batch("true\n"), {}))
    with pytest.raises(LauncherFailed):
        run(slurm.cancel(person, [1]))


def test_root_runs_no_job_whoever_holds_the_key(box: Any, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = by("slurmrestd", site)
    monkeypatch.setattr("studiolo.slurm.rest.member", lambda cluster, person, action: pwd.getpwnam(person))
    with pytest.raises(SlurmRefused):
        run(slurm.submit("root", batch("true\n"), {}))


def test_a_comment_with_line_breaks_speaks_for_nobody_elses_job(
    slurm: Slurm, site: Site, people: list[str], closed: None, box: Any
) -> None:
    true = run(slurm.submit(people[0], batch(comment=site.tag("session", "0a1b")), {}))
    other = run(slurm.submit(people[1], batch(comment="studiolo:ffffffff:session:2"), {}))
    forged = site.tag("session", "666")
    lines = f"x\n{other}|{people[1]}|PENDING|{forged}\n{forged}\n|{other}|{people[1]}|PENDING|{forged}|"
    mallory = pwd.getpwnam(people[2])
    done = subprocess.run(
        ["sbatch", "-p", "cpu", "--mem=100", "--output=/dev/null", "--comment", lines, "--wrap", "true"],
        env={"SLURM_CONF": str(box.slurm_conf), "PATH": "/usr/bin:/bin", "HOME": mallory.pw_dir},
        cwd="/",
        user=mallory.pw_uid,
        group=mallory.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert run(slurm.tagged()) == (Tagged(true, people[0], "session", "0a1b"),)


# --- slurmrestd alone ------------------------------------------------------------------------------------------------


def test_slurmrestd_down_is_said_and_nothing_is_concluded(box: Any, site: Site, people: list[str]) -> None:
    slurm = by("slurmrestd", site)
    job = run(slurm.submit(people[0], batch(), {}))
    boss = boxes.supervisor(box)
    boss.stop("slurmrestd")
    try:
        for ask in (slurm.queue([job]), slurm.finished([job]), slurm.submit(people[0], batch(), {}), slurm.tagged()):
            with pytest.raises(SlurmUnavailable, match=r"slurmrestd at http://127\.0\.0\.1:\d+: Cannot connect"):
                run(ask)
    finally:
        boss.start("slurmrestd")
    until("slurmrestd back", lambda: answers(slurm, job), 30)


def test_people_are_served_by_the_launcher_while_slurmrestd_is_down(box: Any, site: Site, people: list[str]) -> None:
    slurm = by("both", site)
    boss = boxes.supervisor(box)
    boss.stop("slurmrestd")
    try:
        job = run(slurm.submit(people[0], batch(), {}))
        run(slurm.cancel(people[0], [job]))
    finally:
        boss.start("slurmrestd")
        until("slurmrestd", lambda: ready.slurmrestd(box) is None)
    assert slurm.calls["submit"] == slurm.calls["cancel"] == 1
    state_of(slurm, job, "CANCELLED")


def test_what_slurmrestd_may_have_been_told_is_not_submitted_again(box: Any, site: Site, people: list[str]) -> None:
    """slurmctld keeps silent: the submission may be with it, so the launcher must not make a second one."""
    slurm = by("both", site)
    assert isinstance(slurm, BothSlurm)
    run(slurm.rest.version())
    slurm.rest.timeout = 3.0
    controller = boxes.supervisor(box).state("slurmctld").pid
    os.kill(controller, signal.SIGSTOP)
    try:
        with pytest.raises(SlurmUnavailable):
            run(slurm.submit(people[0], batch(), {}))
    finally:
        os.kill(controller, signal.SIGCONT)
    assert slurm.calls["submit"] == 1


def answers(slurm: Slurm, job: int) -> bool:
    try:
        return job in run(slurm.queue([job]))
    except SlurmUnavailable:
        return False


def test_slurmctld_down_is_no_answer_either_way(box: Any, site: Site, people: list[str]) -> None:
    boss = boxes.supervisor(box)
    job = run(by("commands", site).submit(people[0], batch(), {}))
    boss.stop("slurmctld")

    async def ask() -> list[object]:
        """All at once: Slurm's commands try for half a minute."""
        clients = [by(way, site) for way in WAYS]
        questions = [ask for slurm in clients for ask in (slurm.queue([job]), slurm.cancel(people[0], [job]))]
        return await asyncio.gather(*questions, return_exceptions=True)

    try:
        assert [type(answer) for answer in run(ask())] == [SlurmUnavailable] * 2 * len(WAYS)
    finally:
        boss.start("slurmctld")
    for way in WAYS:
        until("slurmctld back", lambda way=way: answers(by(way, site), job), 60)
    until("its nodes", lambda: ready.nodes(box) is None)


@pytest.mark.parametrize(("off", "works"), [(-1000, False), (-200, True), (0, True), (1000, True)])
def test_a_clock_that_is_wrong_is_named_with_its_seconds_where_it_matters(site: Site, off: int, works: bool) -> None:
    ((name, cluster),) = site.clusters.items()
    slurm = RestSlurm(cluster, site.mark, site.hub.account, Path(site.jwt_key(name)), clock=lambda: time.time() + off)
    if works:
        assert run(slurm.queue([1])) == {}
    else:
        with pytest.raises(SlurmUnavailable, match=r"slurmctld's clock is (999|1000|1001) s ahead of the hub's"):
            run(slurm.queue([1]))
    assert abs(run(slurm.skew(patient=True)) + off) < 30


@pytest.mark.parametrize("wrong", [b"", b"0" * 32])
def test_a_wrong_key_is_named_and_its_token_is_not_told(
    site: Site, tmp_path: Path, people: list[str], wrong: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    ((name, _),) = site.clusters.items()
    key = tmp_path / f"slurm_jwt_key_{name}"
    key.write_bytes(wrong)
    slurm = by(
        "slurmrestd", site.model_copy(update={"paths": site.paths.model_copy(update={"secrets": str(tmp_path)})})
    )
    for ask in (slurm.queue([1]), slurm.submit(people[0], batch(), {})):
        with pytest.raises(SlurmError, match=re.escape(str(key))) as caught:
            run(ask)
        told = f"{caught.value} {caught.value!r} {vars(slurm)} {caplog.text}"
        assert not re.search(r"eyJ[A-Za-z0-9_-]{10,}", told)


def test_the_hubs_key_is_closed_to_people(box: Any, site: Site) -> None:
    ((name, _),) = site.clusters.items()
    key = Path(site.jwt_key(name))
    assert key.read_bytes() == box.jwt_key.read_bytes()
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o007) == (0o640, 0)
