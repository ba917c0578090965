"""What Dask workers ask for and what is said of them; the guard that ends one with its notebook; calm scaling."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studiolo import dask_folder, dask_losses, dask_worker
from studiolo.dask_adaptive import CalmAdaptive, surplus
from studiolo.dask_crew import Event, Worker, handover_seconds, how_lost, last_line, learn, sentence
from studiolo.dask_folder import ClusterFolder, tell_to_end
from studiolo.dask_losses import Losses
from studiolo.dask_pulse import Pulse
from studiolo.dask_roster import Roster
from studiolo.dask_shape import capped, worker_options
from studiolo.dask_worker import HANDOVER, IDENTITY, LATE_STATUS, Handover, read_handover
from studiolo.request import check
from studiolo.session import Session
from studiolo.site import Prices, Site
from studiolo.slurm.states import JobState
from studiolo.views import Amount, Resources

WORKER = Worker("worker-0", "running", "runs", asked=100.0, job=7, node="cpu1", started=110.0, came=112.0, ends=3710.0)


def session_of(site: Site, **options: Any) -> Session:
    """A session of these options, as it knows them."""
    request = check(options, site)
    asked = {name: getattr(request, name) for name in request.__dataclass_fields__}
    return Session(
        1, "n1", request.partition, "", request.cpus, request.memory, request.gpus, request.shards, None, asked=asked
    )


# --- What a worker asks for ------------------------------------------------------------------------------------------


def test_a_worker_is_like_its_session_but_for_the_gpu(site: Site) -> None:
    plain = next(name for name, profile in site.profiles.items() if not (profile.gpus or profile.shards))
    own = session_of(site, profile=plain, cpus=1)
    like = check(worker_options(site, own, {}), site)
    assert (like.profile, like.cpus, like.memory) == (plain, 1, own.memory)
    with_gpu = next(name for name, profile in site.profiles.items() if profile.gpus)
    from_gpu = check(worker_options(site, session_of(site, profile=with_gpu), {}), site)
    assert (from_gpu.gpus, from_gpu.shards) == (0, 0)


def test_a_gpu_worker_has_one_gpu_and_its_share_of_the_node(site: Site) -> None:
    name, profile = next((name, profile) for name, profile in site.profiles.items() if profile.gpus)
    for own in (None, session_of(site, profile=name, cpus=8, gpus=min(2, site.partitions[profile.partition].max_gpus))):
        request = check(worker_options(site, own, {"gpus": 1}), site)
        assert request.gpus == 1
    assert own is not None
    assert request.cpus == 8 // own.gpus
    assert request.memory == own.memory // own.gpus


def test_what_is_given_goes_before_everything(site: Site) -> None:
    name = next(iter(site.profiles))
    options = worker_options(site, session_of(site, profile=name), {"profile": name, "cpus": 1, "memory": None})
    assert options["profile"] == name
    assert options["cpus"] == 1
    assert "memory" not in options
    assert check(worker_options(site, session_of(site, profile=name, minutes=30), {"hours": 1}), site).minutes == 60


def test_no_worker_asks_for_more_time_than_its_notebook_has(site: Site) -> None:
    request = replace(check({}, site), minutes=60)
    assert capped(request, None).minutes == 60
    assert capped(request, 10 * 60.0 - 1).minutes == 10
    assert capped(request, 0.0).minutes == 1
    assert capped(request, 1e6).minutes == 60


# --- What is said of it ----------------------------------------------------------------------------------------------


def test_slurms_answers_move_a_worker_forward_and_never_back() -> None:
    asked = Worker("w", "asked", "asked for", 0.0)
    waiting = learn(asked, JobState(1, "PENDING", "Priority", start=500))
    assert (waiting.phase, waiting.expected) == ("pending", 500)
    assert waiting.words.startswith("Others are ahead")
    starting = learn(waiting, JobState(1, "RUNNING", node="n1", start=400, end=900))
    assert (starting.phase, starting.node, starting.started, starting.ends) == ("starting", "n1", 400, 900)
    assert learn(WORKER, JobState(7, "PENDING", "Resources")).phase == "running", "an answer from before it came"
    assert learn(replace(WORKER, phase="leaving"), JobState(7, "RUNNING", node="cpu1")).phase == "leaving"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (JobState(7, "OUT_OF_MEMORY"), "out of memory (15.9 of 16.0 GB)"),
        (JobState(7, "NODE_FAIL"), "its node cpu1 failed"),
        (JobState(7, "TIMEOUT"), "the end of its time"),
        (JobState(7, "PREEMPTED"), "higher priority"),
        (JobState(7, "CANCELLED"), "not by this notebook"),
        (JobState(7, "VANISHED"), "does not know"),
        (JobState(7, "COMPLETED"), "handed over"),
        (JobState(7, "FAILED", exit_code=1), "it ended with status 1 on cpu1: ImportError: no such thing"),
    ],
)
def test_a_loss_is_told_in_words(state: JobState, words: str) -> None:
    assert words in how_lost(WORKER, state, 16384, 15.9 * 1024, "ImportError: no such thing")


def test_a_loss_of_which_little_is_known_is_told_as_such() -> None:
    assert "it had 16 GB" in how_lost(WORKER, JobState(7, "OUT_OF_MEMORY"), 16384, None, "")
    assert "it had 16 GB" in how_lost(WORKER, JobState(7, "OUT_OF_MEMORY"), 16384, 200.0, "")
    assert "lost its connection" in how_lost(WORKER, JobState(7, "CANCELLED"), 1, None, "", ours=True)
    assert "without a word (FAILED)" in how_lost(WORKER, JobState(7, "FAILED"), 1, None, "")
    never_came = replace(WORKER, came=None)
    assert "without a word (COMPLETED)" in how_lost(never_came, JobState(7, "COMPLETED"), 1, None, "")


def test_the_last_line_of_a_log_is_safe_and_short() -> None:
    assert last_line("one\ntwo\n \n") == "two"
    assert last_line("") == ""
    assert last_line("\x1b[31mred").startswith("'\\x1b")
    assert len(last_line("x" * 10_000)) <= 300


def test_the_sentence_of_a_cluster_counts_and_says_why() -> None:
    waiting = Worker("b", "pending", "Others are ahead.", 1.0, expected=9.0)
    assert sentence([WORKER, waiting, replace(waiting, phase="starting")], 3) == (
        "1 of 3 workers run, 1 is starting, 1 waits: Others are ahead."
    )
    assert sentence([], 0) == "0 of 0 workers run"
    assert "worker-0 (job 7): runs" in str(Event(0.0, "worker-0", 7, "running", "runs"))


def test_a_handover_takes_neither_seconds_nor_hours() -> None:
    for walltime in (60.0, 3600.0, 7 * 86400.0):
        lead, hand_over = handover_seconds(walltime)
        assert 20 <= hand_over <= 300
        assert hand_over < lead <= 1800
        assert lead < walltime


# --- The handover ----------------------------------------------------------------------------------------------------


def handover(port: int = 1, **more: Any) -> Handover:
    """What a notebook on this host hands over."""
    usual: dict[str, Any] = {
        "scheduler": "tls://127.0.0.1:1",
        "pulse": ("127.0.0.1", port),
        "silence": 60.0,
        "interface": "",
        "scratch": "/tmp",
        "folder": "/",
        "python": sys.executable,
        "path": tuple(sys.path),
        "threads": 1,
        "memory": 1 << 30,
        "gpus": 0,
        "ends": 0.0,
    }
    return Handover(**(usual | more))


def test_what_is_handed_over_reads_back_and_is_its_owners_alone(tmp_path: Path) -> None:
    told = handover(5, path=("/a", "/b"))
    told.write(str(tmp_path), "KEY")
    assert read_handover(str(tmp_path)) == told
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([HANDOVER, IDENTITY])
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_what_old_clusters_left_goes_and_that_of_living_ones_stays(tmp_path: Path) -> None:
    for age in range(dask_folder.KEPT + 3):
        folder = tmp_path / f"{age:02}"
        folder.mkdir()
        if age == dask_folder.KEPT:  # a session that runs for another hour
            handover(ends=time.time() + 3600).write(str(folder), "KEY")
        if age == dask_folder.KEPT + 1:  # one whose kernel was killed, and that is over
            handover(ends=time.time() - dask_folder.EXTENDED_SECONDS - 3600).write(str(folder), "KEY")
        os.utime(folder, (1e9 - age, 1e9 - age))
    cluster = ClusterFolder(str(tmp_path), "new")
    cluster.open(handover(), "KEY")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    cluster.remove()
    left = sorted(int(path.name) for path in tmp_path.iterdir())
    assert left == list(range(dask_folder.KEPT + 1))


def test_a_shut_folder_tells_no_job_anything_and_keeps_the_logs(tmp_path: Path) -> None:
    cluster = ClusterFolder(str(tmp_path), "one")
    cluster.open(handover(), "KEY")
    Path(cluster.log("worker-0")).write_text("began\nImportError: no such thing\n")
    cluster.shut()
    cluster.shut()
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["worker-0.log"]
    assert cluster.last_words("worker-0") == "ImportError: no such thing"
    assert cluster.last_words("worker-1") == ""


def test_whoever_cancels_a_clusters_jobs_tells_it_to_end_first(tmp_path: Path) -> None:
    cluster = ClusterFolder(str(tmp_path / "dask"), "0a1b2c3d")
    cluster.open(handover(), "KEY")
    assert not cluster.is_shut()
    outside = tmp_path / HANDOVER
    outside.write_text("")
    for name in ("s1.ffffffff", "s1...", "s1.", "", "s1.0a1b2c3d/", "s1.0A1B2C3D"):  # people write their jobs' comments
        tell_to_end(str(tmp_path / "dask"), name)
    assert not cluster.is_shut()
    assert outside.exists()
    tell_to_end(str(tmp_path / "dask"), "s1.0a1b2c3d")
    assert cluster.is_shut()


def test_a_home_that_can_not_be_asked_tells_nobody_to_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not ClusterFolder(str(tmp_path / "file"), "0a1b2c3d").is_shut()


# --- The roster ------------------------------------------------------------------------------------------------------


def test_a_roster_tells_the_whole_life_of_a_worker_and_what_it_cost() -> None:
    roster = Roster(Resources(cpus=4, memory=1024), Prices(cpu_hour=2.0))
    roster.ask("a")
    roster.accept("a", 7)
    roster.hear("a", JobState(7, "PENDING", "Priority"))
    roster.hear("a", JobState(7, "PENDING", "Priority"))
    assert roster.spent().money == 0, "who waits costs nothing"
    roster.hear("a", JobState(7, "RUNNING", node="n1", start=1000))
    roster.come("a")
    roster.succeed("a", "b")
    roster.leave("a", "not needed any more")
    roster.leave("a", "its connection ended")
    roster.end("a", "released", "released", when=1000 + 3600)
    assert [event.phase for event in roster.events] == [
        "asked",
        "pending",
        "starting",
        "running",
        "running",
        "leaving",
        "released",
    ]
    assert roster.spent() == Amount(0.0, 4.0, 8.0, "EUR")
    assert list(roster) == []
    roster.ask("c")
    roster.end("c", "lost", "its node failed")
    assert roster.events[-1].words == "lost: its node failed"
    roster.say("", "something")
    assert roster.events[-1].phase == "cluster"


# --- Losses ----------------------------------------------------------------------------------------------------------


def test_three_in_a_row_that_never_began_are_too_many() -> None:
    losses, never_came = Losses(), replace(WORKER, came=None)
    for worker in (never_came, never_came, WORKER, never_came, never_came):
        losses.count(worker)
        assert not losses.too_many
    losses.count(never_came)
    assert losses.too_many
    losses.begin()
    assert not losses.too_many


def test_those_cancelled_within_seconds_of_each_other_were_cancelled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_losses, "TOGETHER_SECONDS", 0.3)
    losses = Losses()

    async def cancel(times: int) -> list[int]:
        return await asyncio.gather(*(losses.cancelled_together() for _ in range(times)))

    assert asyncio.run(cancel(1)) == [1]
    assert asyncio.run(cancel(3)) == [3, 3, 3]


# --- The guard -------------------------------------------------------------------------------------------------------

SLEEPER = "import os, sys, time; open(sys.argv[1] + '/pid', 'w').write(str(os.getpid())); time.sleep(600)"


@contextmanager
def beating(tmp_path: Path, every: float = 0.1) -> Iterator[tuple[Any, Pulse, int]]:
    """A pulse on a loop of its own, with the cluster's certificate in the folder."""
    from distributed.security import Security

    security = Security.temporary()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    pulse = Pulse(security.get_listen_args("scheduler")["ssl_context"], every)

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    port = do(pulse.start("127.0.0.1"))
    handover(port, silence=1.0, scratch=str(tmp_path / "scratch")).write(
        str(tmp_path), f"{security.tls_worker_key}{security.tls_worker_cert}"
    )
    (tmp_path / "scratch").mkdir()
    try:
        yield do, pulse, port
    finally:
        do(pulse.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def guarded(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A guard whose worker is a program that does nothing for ten minutes; yields the guard and the worker's number."""
    fake = (
        "import sys; from studiolo import dask_worker; import subprocess; real = subprocess.Popen\n"
        f"dask_worker.subprocess.Popen = lambda argv, **more: real([sys.executable, '-c', {SLEEPER!r}, argv[4]], **more)\n"
        "sys.exit(dask_worker.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", fake, str(tmp_path), "worker-0", "600"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(dask_worker.__file__).parent.parent)},
    )
    try:
        yield process, int(_await(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    finally:
        process.kill()
        process.communicate()


def _await(look: Any, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    pytest.fail("it did not come")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _ended(process: subprocess.Popen[str], pid: int, tmp_path: Path) -> tuple[int, str]:
    said = process.communicate(timeout=20)[1]
    assert not _lives(pid)
    assert list((tmp_path / "scratch").iterdir()) == []
    return process.returncode, said


def test_a_worker_lives_as_long_as_its_notebooks_pulse(tmp_path: Path) -> None:
    with beating(tmp_path) as (do, pulse, _port), guarded(tmp_path) as (process, pid):
        _await(lambda: pulse._listeners)
        assert _lives(pid)
        do(pulse.close())
        status, said = _ended(process, pid, tmp_path)
    assert status == LATE_STATUS
    assert "its notebook is gone" in said


def test_a_worker_leaves_a_notebook_that_says_nothing(tmp_path: Path) -> None:
    with beating(tmp_path, every=600) as (_do, _pulse, _port), guarded(tmp_path) as (process, pid):
        status, said = _ended(process, pid, tmp_path)
    assert status == LATE_STATUS
    assert "has not answered for 1 s" in said


def test_a_line_that_breaks_is_made_again(tmp_path: Path) -> None:
    with beating(tmp_path) as (do, pulse, _port), guarded(tmp_path) as (process, pid):
        [before] = _await(lambda: tuple(pulse._listeners))

        async def cut() -> None:
            before.cancel()

        do(cut())
        _await(lambda: before.done() and pulse._listeners and before not in pulse._listeners)
        assert _lives(pid)
        process.send_signal(signal.SIGTERM)
        status, _said = _ended(process, pid, tmp_path)
    assert status == 128 + signal.SIGTERM


def test_the_status_of_a_worker_that_ends_by_itself_is_the_jobs(tmp_path: Path) -> None:
    with beating(tmp_path), guarded(tmp_path) as (process, pid):
        os.kill(pid, signal.SIGKILL)
        status, _said = _ended(process, pid, tmp_path)
    assert status == 128 + signal.SIGKILL


def test_what_a_killed_guard_has_left_goes_with_the_next_and_what_is_held_stays(tmp_path: Path) -> None:
    with beating(tmp_path), guarded(tmp_path) as (process, pid):
        _await(lambda: list((tmp_path / "scratch").glob("studiolo-dask-*")))
        process.kill()
        os.kill(pid, signal.SIGKILL)  # what the kernel does with a real one
        process.wait(20)
        [left] = (tmp_path / "scratch").iterdir()
        (tmp_path / "pid").unlink()
        (left / "spilled").write_text("data")
        for name in ("studiolo-7-run", "studiolo-dask-fresh", "studiolo-dask-held"):
            (tmp_path / "scratch" / name).mkdir()
        (tmp_path / "scratch" / "studiolo-dask-link").symlink_to(tmp_path)
        held = os.open(tmp_path / "scratch" / "studiolo-dask-held", os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        for name in (left.name, "studiolo-7-run", "studiolo-dask-held"):
            os.utime(tmp_path / "scratch" / name, (1e9, 1e9))
        with guarded(tmp_path) as (second, _pid):
            names = sorted(path.name for path in (tmp_path / "scratch").iterdir())
            second.send_signal(signal.SIGTERM)
            second.wait(20)
        os.close(held)
    assert [name for name in names if not re.fullmatch(r"studiolo-dask--\w+", name)] == [
        *("studiolo-7-run", "studiolo-dask-fresh", "studiolo-dask-held", "studiolo-dask-link")
    ]


def test_a_job_that_starts_too_late_ends_before_it_begins(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert dask_worker.main([str(tmp_path), "worker-0", "60"]) == LATE_STATUS
    assert "its cluster has ended" in capfd.readouterr().err
    with beating(tmp_path) as (do, pulse, _port):
        do(pulse.close())
        assert dask_worker.main([str(tmp_path), "worker-0", "60"]) == LATE_STATUS
    assert "can not be reached" in capfd.readouterr().err
    assert dask_worker.main([]) == 64


def test_only_who_shows_the_clusters_certificate_hears_the_pulse(tmp_path: Path) -> None:
    import socket
    import ssl

    with beating(tmp_path) as (_do, pulse, port):
        context = ssl.create_default_context(cafile=str(tmp_path / IDENTITY))
        context.check_hostname = False
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            assert _heard(context, line) == b""
        assert not pulse._listeners


def _heard(context: Any, line: Any) -> bytes:
    """What is heard on a line with these credentials; nothing where the other side closes it."""
    try:
        with context.wrap_socket(line) as secured:
            return bytes(secured.recv(1))
    except OSError:
        return b""


# --- Scaling by the work there is ------------------------------------------------------------------------------------


def adaptive(planned: list[str], come: set[str], **patience: float) -> CalmAdaptive:
    """One that looks at a cluster that is not there, whenever it is told to."""
    cluster: Any = SimpleNamespace(
        worker_spec=dict.fromkeys(planned), plan=set(planned), requested=set(planned), observed=come, loop=None
    )
    calm = CalmAdaptive(cluster, interval=0, **({"idle": 0.0, "keep": 600.0} | patience))

    async def to_close(target: int) -> list[str]:
        return sorted(come)[target:]

    calm.workers_to_close = to_close
    return calm


def test_jobs_in_the_queue_keep_their_place_while_idle_workers_go() -> None:
    calm = adaptive(["a", "b", "c"], {"a", "b"})
    assert asyncio.run(calm.recommendations(0)) == {"status": "down", "workers": ["a", "b"]}
    patient = adaptive(["a", "b", "c"], {"a"}, idle=600.0)
    assert asyncio.run(patient.recommendations(0)) == {"status": "same"}
    hasty = adaptive(["a", "b", "c"], {"a"}, keep=0.0, idle=600.0)
    assert asyncio.run(hasty.recommendations(2)) == {"status": "down", "workers": ["c"]}, "the one asked for last"


def test_work_that_comes_again_makes_a_worker_wanted_again() -> None:
    calm = adaptive(["a"], {"a"}, idle=600.0)
    asyncio.run(calm.recommendations(0))
    assert calm._since
    assert asyncio.run(calm.recommendations(1)) == {"status": "same"}
    assert not calm._since
    assert asyncio.run(calm.recommendations(3)) == {"status": "up", "n": 3}


def test_those_asked_for_last_are_taken_back_first() -> None:
    assert surplus(["a", "b", "c"], 2) == ["b", "c"]
    assert surplus(["a"], 3) == ["a"]
    assert surplus(["a"], 0) == []


# --- What is not a cluster -------------------------------------------------------------------------------------------


def test_json_of_a_handover_holds_no_key(tmp_path: Path) -> None:
    handover().write(str(tmp_path), "-----BEGIN PRIVATE KEY-----")
    assert "BEGIN" not in json.dumps(json.loads((tmp_path / HANDOVER).read_text()))
