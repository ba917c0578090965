"""Dask clusters from a real notebook: workers that come, are refused, wait, are lost, and never outlive what they work for."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chaos import Chaos
from hubclient import HTTP, Hub, until
from kernels import Kernel, awaited, kernel, kernel_in, printed

START = "import studiolo, time, os; from dask.distributed import Client\n"
BUSY = "import time; work = client.submit(lambda: [time.sleep(0.1) for _ in range(6000)]); print(work.key)\n"


@pytest.fixture
def chaos(hub: Hub, box: Any) -> Iterator[Chaos]:
    """What breaks parts of the platform; whole again afterwards."""
    breaking = Chaos(hub, box)
    yield breaking
    breaking.repair()


@pytest.fixture
def clustered(notebook: Kernel) -> Iterator[Kernel]:
    """A fresh kernel; whatever cluster a test leaves in it is closed, and its jobs are gone."""
    notebook.run(START)
    yield notebook
    notebook.run("if 'c' in globals(): c.close()")
    _gone(notebook)


@contextmanager
def partition(hub: Hub, state: str) -> Iterator[None]:
    """The partition of small sessions in another state."""
    hub.slurm("scontrol", "update", "PartitionName=cpu", f"State={state}")
    try:
        yield
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def _workers(kernel: Kernel, states: str = "PENDING,RUNNING") -> list[int]:
    """Numbers of the person's jobs that are workers."""
    rows = kernel.hub.slurm("squeue", "-h", "-t", states, "-o", "%A %k", "-u", kernel.person).splitlines()
    return [int(number) for number, _, comment in (row.partition(" ") for row in rows) if ":dask:" in comment]


def _gone(kernel: Kernel, seconds: float = 30) -> None:
    until("an end of the workers' jobs", lambda: not _workers(kernel), seconds)


def _busy(kernel: Kernel, seconds: float = 30) -> None:
    """Wait until a worker is in the middle of a task."""
    awaited(kernel, "a busy worker", "any(client.processing().values())", seconds)


def test_workers_come_compute_and_leave_nothing(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(workers=2); c.wait_for_workers(2, timeout=60); client = Client(c)")
    assert printed(clustered, "client.gather(client.map(lambda x: x**2, range(5)))") == [0, 1, 4, 9, 16]
    assert printed(clustered, "[w.phase for w in c.workers_now()]") == ["running", "running"]
    assert printed(clustered, "c.scheduler_address").startswith("tls://127.0.0.1:")
    assert printed(clustered, "[c.view().state, c.view().done, c.view().of]") == ["running", 2, 2]
    assert sorted(printed(clustered, "c.view().jobs")) == sorted(_workers(clustered))
    folder = Path(printed(clustered, "c.folder"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("identity.pem", "worker.json")} == {0o600}
    told = clustered.run("print(*c.history(), sep='\\n')").text
    assert told.count("s after it was asked for") == 2

    clustered.run("client.close(); c.close()")

    _gone(clustered)
    assert not folder.exists()
    assert printed(clustered, "[c.view().state, len(c.workers_now())]") == ["done", 0]


def test_a_worker_has_nothing_of_the_session_but_its_modules_and_folder(clustered: Kernel) -> None:
    clustered.run("os.makedirs('elsewhere', exist_ok=True); os.chdir('elsewhere')")
    clustered.run("open('mine.py', 'w').write('def seven():\\n    return 7\\n')")
    clustered.run("c = studiolo.cluster(workers=1); client = Client(c); c.wait_for_workers(1, timeout=60); import mine")
    assert printed(clustered, "client.submit(mine.seven).result()") == 7
    environment = printed(clustered, "client.submit(lambda: dict(__import__('os').environ)).result()")
    assert [name for name in environment if name.startswith("JUPYTER")] == []
    assert int(environment["SLURM_JOB_ID"]) in _workers(clustered)
    assert str(printed(clustered, "studiolo.session().job")) not in environment.values()
    [job] = _workers(clustered)
    shown = clustered.hub.slurm("scontrol", "show", "job", "-dd", str(job))
    assert "BEGIN" not in shown + clustered.hub.slurm("scontrol", "write", "batch_script", str(job), "-")


def test_what_can_not_be_had_is_said_in_the_cell_that_asks(clustered: Kernel) -> None:
    assert "one of learn" in clustered.fails("studiolo.cluster(profile='enormous')")
    assert "at most 16" in clustered.fails("studiolo.cluster(workers=1, cpus=1000)")
    assert "unknown" in clustered.fails("studiolo.cluster(workers=1, cores=2)")
    for asked in ("workers=10**6", "gpus=10**6", "workers=''", "silence='x'", "silence=0", "silence=float('nan')"):
        told = clustered.fails(f"studiolo.cluster({asked})")
        assert told.startswith("RequestError"), told
        assert f"  {asked.partition('=')[0]} = " in told, told
    assert "leave `workers` out" in clustered.fails("studiolo.cluster(workers=1, gpus=1)")
    clustered.run("c = studiolo.cluster()")
    for asked in (
        *(
            "scale('three')",
            "scale(-3)",
            "scale(10**6)",
            "scale(cores='x')",
            "scale(memory='x')",
            "scale(memory='9999PB')",
        ),
        *("adapt('a', 'b')", "adapt(3, 1)", "adapt(0, 10**6)", "adapt(0, 2, idle='x')"),
    ):
        told = clustered.fails(f"c.{asked}")
        assert told.startswith("RequestError"), told
    with partition(clustered.hub, "INACTIVE"):  # Slurm's own words, both for a new cluster and for a larger one
        assert "SlurmRefused" in clustered.fails("studiolo.cluster(workers=2)")
        assert "SlurmRefused" in clustered.fails("c.scale(2)")
    assert printed(clustered, "[len(c.worker_spec), len(c.workers), len(c.workers_now())]") == [0, 0, 0]
    assert _workers(clustered) == []
    clustered.run("c.scale(1); c.wait_for_workers(1, timeout=60)")


def test_a_worker_that_waits_says_why_and_one_waited_for_too_long_ends_the_waiting(clustered: Kernel) -> None:
    with partition(clustered.hub, "DOWN"):
        clustered.run("c = studiolo.cluster(workers=1); c.wait = 2.0; client = Client(c)")
        awaited(clustered, "the reason", "'closed at the moment' in c.view().words")
        assert printed(clustered, "c.view().state") == "waiting"
        told = clustered.fails("client.submit(sum, [1, 2]).result()")
        assert "NoWorkers: No worker has started" in told
        assert "closed at the moment" in told
        assert "No worker has started" in clustered.fails("c.wait_for_workers(1)")
        told = clustered.fails("c.wait_for_workers(1, timeout=0.5)")
        assert "Only 0/1 workers arrived" in told
        assert "closed at the moment" in told
        [job] = _workers(clustered)
        clustered.hub.slurm("scontrol", "hold", str(job))
        awaited(clustered, "the hold", "'on hold' in c.view().words", 120)
    # Its place in the queue is kept, and who tries again gets the answer.
    clustered.hub.slurm("scontrol", "release", str(job))
    assert printed(clustered, "(setattr(c, 'wait', 60.0), client.submit(sum, [1, 2], pure=False).result())[1]") == 3
    assert _workers(clustered) == [job]


def test_a_budget_that_is_used_up_is_told_in_the_cell_and_ends_the_waiting(clustered: Kernel) -> None:
    modify = ("sacctmgr", "-i", "modify", "user", "where", f"name={clustered.person}", "set")
    spent = "The project's CPU budget is used up: ask whoever runs the project."
    try:
        with partition(clustered.hub, "DOWN"):
            clustered.run("c = studiolo.cluster(workers=1); client = Client(c)")
            clustered.hub.slurm(*modify, "GrpTRESMins=cpu=0")
            assert f"Slurm refused to start a worker: {spent}" in clustered.fails("c.scale(2)")
        # The one that was taken before would wait for ever.
        told = clustered.fails("client.submit(sum, [1, 2]).result()")
        assert f"NoWorkers: {spent}" in told
        _gone(clustered)
    finally:
        clustered.hub.slurm(*modify, "GrpTRESMins=cpu=-1")


def test_a_limit_on_jobs_is_told_in_the_cell_and_what_was_taken_stays(clustered: Kernel) -> None:
    hub = clustered.hub
    modify = ("sacctmgr", "-i", "modify", "user", "where", f"name={clustered.person}", "set")
    mine = "You have as many sessions and jobs as you may: stop one to start this."
    ours = "The project has as many jobs as it may at once: wait until others of the project end."
    service_class = hub.slurm("squeue", "-h", "-o", "%q", "-u", clustered.person).strip()
    most = int(hub.slurm("sacctmgr", "-nP", "show", "qos", "where", f"name={service_class}", "format=MaxSubmitPU"))
    with partition(hub, "DOWN"):
        _refused(clustered, mine, most - 1)  # the session is a job too
        try:
            hub.slurm(*modify, "GrpSubmitJobs=3")
            _refused(clustered, ours, 2)
        finally:
            hub.slurm(*modify, "GrpSubmitJobs=-1")


def _refused(kernel: Kernel, words: str, taken: int) -> None:
    """Of so many workers, Slurm takes some: a cluster that begins so is none, one that grows so has those."""
    many = taken + 5
    assert f"SlurmRefused: Slurm refused to start a worker: {words}" in kernel.fails(
        f"studiolo.cluster(workers={many})"
    )
    _gone(kernel)
    kernel.run("c = studiolo.cluster()")
    assert words in kernel.fails(f"c.scale({many})")
    assert sorted(printed(kernel, "c.view().jobs")) == sorted(_workers(kernel))
    assert printed(kernel, "[len(c.workers_now()), len(c.worker_spec), c.view().state]") == [taken, taken, "waiting"]
    kernel.run("c.close()")
    _gone(kernel)


def test_a_node_that_goes_dark_loses_its_workers_and_keeps_none_when_it_returns(
    clustered: Kernel, chaos: Chaos
) -> None:
    home = chaos.node_of(printed(clustered, "studiolo.session().job"))
    clustered.hub.slurm("scontrol", "update", f"NodeName={home}", "State=DRAIN", "Reason=test")
    clustered.run("c = studiolo.cluster(workers=1); client = Client(c); c.wait_for_workers(1, timeout=60)")
    clustered.hub.slurm("scontrol", "update", f"NodeName={home}", "State=RESUME")
    [job] = _workers(clustered)
    node = chaos.node_of(job)
    assert node != home
    clustered.run("work = client.map(lambda x: time.sleep(0.2) or x, range(20))")
    _busy(clustered)

    os.kill(chaos.pid(f"slurmd-{node}"), signal.SIGKILL)
    chaos.boss.stop(f"slurmd-{node}")
    dark = _processes_of(chaos, clustered.person, job)
    chaos.freeze(*dark)
    clustered.hub.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    assert printed(clustered, "sum(client.gather(work))") == sum(range(20))
    told = clustered.run("print(*c.history(), sep='\\n')").text
    assert f"lost: its node {node} failed" in told
    assert "replaced by worker-1" in told
    [other] = _workers(clustered)
    assert chaos.node_of(other) == home

    chaos.repair()
    until("an end of what ran there", lambda: not set(dark) & set(chaos.processes(clustered.person)))
    assert _workers(clustered) == [other]
    assert printed(clustered, "[w.job for w in c.workers_now()]") == [other]


def test_a_worker_that_can_not_be_reached_any_more_is_replaced_and_does_not_stay(
    clustered: Kernel, chaos: Chaos
) -> None:
    patience = "{'distributed.scheduler.worker-ttl': '5s', 'distributed.deploy.lost-worker-timeout': '1s'}"
    clustered.run(f"import dask; dask.config.set({patience})")
    clustered.run("c = studiolo.cluster(workers=1); client = Client(c); c.wait_for_workers(1, timeout=60)")
    clustered.run("work = client.map(lambda x: time.sleep(0.2) or x, range(20))")
    _busy(clustered)
    [job] = _workers(clustered)
    chaos.freeze(*_processes_of(chaos, clustered.person, job))
    assert printed(clustered, "sum(client.gather(work))") == sum(range(20))
    told = clustered.run("print(*c.history(), sep='\\n')").text
    assert "lost: it lost its connection to the notebook" in told
    assert "replaced by worker-1" in told
    until("its end", lambda: job not in _workers(clustered))
    until("the end of its processes", lambda: not _processes_of(chaos, clustered.person, job), 90)


def test_a_lost_worker_is_replaced_and_the_work_goes_on(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(workers=2); client = Client(c); c.wait_for_workers(2, timeout=60)")
    clustered.run("work = client.map(lambda x: time.sleep(0.5) or x, range(60))")
    _busy(clustered)
    job = _workers(clustered)[0]
    clustered.hub.slurm("scancel", str(job))
    assert printed(clustered, "sum(client.gather(work))") == sum(range(60))
    assert job not in _workers(clustered)
    told = clustered.run("print(*c.history(), sep='\\n')").text
    assert "lost: its job was cancelled, not by this notebook" in told
    assert "replaced by worker-2" in told


def test_several_workers_cancelled_at_once_are_not_replaced_until_more_are_asked_for(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(workers=2); client = Client(c); c.wait_for_workers(2, timeout=60)")
    clustered.hub.slurm("scancel", *map(str, _workers(clustered)))
    awaited(clustered, "their end", "not c.scheduler.workers")  # until then they still work
    told = clustered.fails("client.submit(time.sleep, 0.1).result()")
    assert "NoWorkers: 2 workers were cancelled at once, not by this notebook. No more workers are asked for" in told
    assert _workers(clustered) == []
    clustered.run("c.scale(1); c.wait_for_workers(1, timeout=60)")
    assert printed(clustered, "client.submit(sum, [1, 2]).result()") == 3


def test_the_only_worker_once_cancelled_is_not_asked_for_again(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(workers=1); client = Client(c); c.wait_for_workers(1, timeout=60)")
    clustered.hub.slurm("scancel", *map(str, _workers(clustered)))
    awaited(clustered, "its end", "not c.scheduler.workers")
    told = clustered.fails("client.submit(time.sleep, 0.1).result()")
    assert "NoWorkers: The only worker was cancelled, not by this notebook. No more workers are asked for" in told
    assert _workers(clustered) == []


def test_another_notebook_that_stops_everything_ends_this_cluster_too(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(); c.adapt(1, 2); client = Client(c); c.wait_for_workers(1, timeout=60)")
    with kernel_in(clustered.hub, clustered.person, clustered.server) as other:
        assert "1 Dask worker" in other.run("import studiolo; print(studiolo.stop_everything())").text
    awaited(clustered, "the cluster's end", "c.status.name == 'closed'")
    told = clustered.run("print(*c.history(), sep='\\n')").text
    assert "told to end, not by this notebook" in told
    assert "replaced" not in told
    _gone(clustered)
    assert printed(clustered, "c.view().state") == "done"


def test_workers_that_never_come_are_asked_for_three_times_and_their_log_is_quoted(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(); client = Client(c); open(f'{c.folder}/worker.json', 'w').write('{half')")
    clustered.run("c.scale(1)")
    told = clustered.fails("client.submit(sum, [1, 2]).result()")
    assert "3 workers in a row ended before they could begin" in told
    assert "JSONDecodeError" in told
    assert "JSONDecodeError" in clustered.fails("c.wait_for_workers(1)")
    assert printed(clustered, "c.view().state") == "failed"
    folder = Path(printed(clustered, "c.folder"))
    clustered.run("c.close()")
    assert len(list(folder.glob("worker-*.log"))) == 3, "logs are kept where something failed"
    assert not (folder / "identity.pem").exists()


def test_a_worker_that_takes_too_much_memory_says_how_much(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(workers=1, memory='1G'); client = Client(c); c.wait_for_workers(1, timeout=60)")
    clustered.run("work = client.submit(lambda: len(bytearray(3_000_000_000)) and __import__('time').sleep(600))")
    awaited(clustered, "the loss", "any('out of memory' in str(e) for e in c.history())", 120)
    told = clustered.run("print(*c.history(), sep='\\n')").text
    assert re.search(r"out of memory \((\d+\.\d of 1\.0 GB|it had 1 GB)\): ask for more memory", told), told
    clustered.run("work.cancel()")


def test_a_busy_worker_is_gone_seconds_after_its_kernel_was_killed(notebook: Kernel) -> None:
    notebook.run(START + "c = studiolo.cluster(workers=1); client = Client(c); c.wait_for_workers(1, timeout=60)")
    notebook.run(BUSY)
    _busy(notebook)
    notebook.kill(signal.SIGKILL)
    until("the end of the worker", lambda: not _workers(notebook, "RUNNING"), 5)
    until("the end of its processes", lambda: not _processes(notebook), 10)
    notebook.revived()


def test_a_worker_leaves_a_kernel_that_hangs(notebook: Kernel) -> None:
    cell = "c = studiolo.cluster(workers=1, silence=3); client = Client(c); c.wait_for_workers(1, timeout=60)"
    notebook.run(START + cell)
    notebook.run(BUSY)
    _busy(notebook)
    log = Path(printed(notebook, "c.folder")) / "worker-0.log"
    notebook.kill(signal.SIGSTOP)
    try:
        _gone(notebook)
        assert "its notebook has not answered for 3 s" in log.read_text()
    finally:
        notebook.kill(signal.SIGCONT)
    notebook.run("c.close()")


def test_a_restarted_kernel_leaves_no_worker(notebook: Kernel) -> None:
    notebook.run(START + "c = studiolo.cluster(workers=1); c.wait_for_workers(1, timeout=60)")
    with partition(notebook.hub, "DOWN"):
        notebook.run("c.scale(2)")
        notebook.restart()
        _gone(notebook, 10)


def test_waiting_workers_of_a_killed_kernel_are_cancelled_and_others_stay(notebook: Kernel) -> None:
    with partition(notebook.hub, "DOWN"), kernel_in(notebook.hub, notebook.person, notebook.server) as other:
        other.run(START + "c = studiolo.cluster(workers=1)")
        [kept] = _workers(notebook)
        notebook.run(START + "c = studiolo.cluster(workers=2)")
        folder = Path(printed(notebook, "c.folder"))
        notebook.kill(signal.SIGKILL)
        until("their end", lambda: _workers(notebook) == [kept])
        until("the end of their key", lambda: not (folder / "identity.pem").exists())
        assert printed(other, "[w.phase for w in c.workers_now()]") == ["pending"]
        other.run("c.close()")
        notebook.revived()


def test_a_worker_that_starts_after_its_cluster_ends_at_once(notebook: Kernel) -> None:
    with partition(notebook.hub, "DOWN"):
        notebook.run(START + "c = studiolo.cluster(workers=1)")
        [job] = _workers(notebook)
        folder = Path(printed(notebook, "c.folder"))
        notebook.kill(signal.SIGSTOP)  # so that it can not cancel what waits
        for name in ("worker.json", "identity.pem"):
            (folder / name).unlink()  # what ends a cluster from elsewhere
    try:
        _gone(notebook)
        assert "its cluster has ended" in (folder / "worker-0.log").read_text()
        books = ("sacct", "-XnP", "-j", str(job), "-o", "State,ElapsedRaw")
        ended = until(
            "its end in the books", lambda: (row := notebook.hub.slurm(*books).strip()).startswith("FAILED") and row
        )
        assert int(ended.partition("|")[2]) <= 1, "longer than a blink"
    finally:
        notebook.kill(signal.SIGCONT)
    notebook.run("c.close()")


def test_workers_near_the_end_of_their_time_hand_over_what_they_hold(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(workers=1, minutes=1); client = Client(c); c.wait_for_workers(1, timeout=60)")
    clustered.run("kept = client.submit(lambda: (os.getpid(), os.urandom(8).hex())); first = kept.result()")
    awaited(clustered, "the successor", "[w.name for w in c.workers_now() if w.phase == 'running'] == ['worker-1']")
    assert printed(clustered, "list(kept.result()) == list(first)"), "computed anew instead of handed over"
    told = clustered.run("print(*c.history(), sep='\\n')").text
    assert "worker-1 takes over" in told
    assert "lost" not in told


def test_scaling_by_work_brings_workers_and_lets_them_go(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(); c.adapt(0, 2, idle='3s'); client = Client(c)")
    assert printed(clustered, "client.gather(client.map(lambda x: time.sleep(0.2) or x, range(8)))") == list(range(8))
    awaited(clustered, "idle workers' end", "not c.workers_now()")
    assert "lost" not in clustered.run("print(*c.history(), sep='\\n')").text
    assert printed(clustered, "client.submit(sum, [4, 5]).result()") == 9


def test_scaling_by_work_tells_a_refusal_to_the_work_that_waits(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(); client = Client(c)")
    with partition(clustered.hub, "INACTIVE"):
        clustered.run("c.adapt(0, 2)")
        told = clustered.fails("client.submit(sum, [1, 2]).result()")
    assert "NoWorkers: Slurm refused" in told
    clustered.run("c.adapt(0, 2)")
    assert printed(clustered, "client.submit(sum, [1, 2], pure=False).result()") == 3


def test_a_fork_of_the_notebook_leaves_its_cluster_alone(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(workers=1); client = Client(c); c.wait_for_workers(1, timeout=60)")
    jobs = _workers(clustered)
    clustered.run("child = os.fork()\nif child == 0:\n    try:\n        c.close()\n    finally:\n        os._exit(0)")
    assert printed(clustered, "os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])") == 0
    assert printed(clustered, "client.submit(sum, [1, 2]).result()") == 3
    assert _workers(clustered) == jobs


def test_each_gpu_worker_has_a_gpu_of_its_own(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster(gpus=2, account='fast-lane', qos='fast-lane'); client = Client(c)")
    clustered.run("c.wait_for_workers(2, timeout=60)")
    seen = "sorted(client.run(lambda: __import__('os').environ['CUDA_VISIBLE_DEVICES']).values())"
    assert len(set(printed(clustered, seen))) == 2
    assert printed(clustered, "c.request.gpus") == 1
    assert printed(clustered, "client.submit(lambda: 7, resources={'GPU': 1}).result()") == 7


def test_while_slurm_is_silent_nothing_is_lost_and_who_asks_is_told(clustered: Kernel, chaos: Chaos) -> None:
    clustered.run("c = studiolo.cluster(workers=1); client = Client(c); c.wait_for_workers(1, timeout=60)")
    with chaos.stopped("slurmctld"):
        assert "SlurmUnavailable" in clustered.fails("c.scale(2)")
        assert printed(clustered, "client.submit(sum, [1, 2]).result()") == 3
        assert printed(clustered, "[w.phase for w in c.workers_now()]") == ["running"]
    chaos.await_slurm()
    clustered.run("c.scale(2); c.wait_for_workers(2, timeout=90)")


def test_a_cluster_closes_while_slurm_is_silent_and_its_jobs_end_once_it_speaks(
    clustered: Kernel, chaos: Chaos
) -> None:
    with partition(clustered.hub, "DOWN"):
        clustered.run("c = studiolo.cluster(workers=2)")
        with chaos.mute("slurmctld"):
            clustered.run("c.close()")
            assert "Slurm does not answer" in clustered.run("print(*c.history(), sep='\\n')").text
            assert printed(clustered, "c.view().state") == "done"
        _gone(clustered)


def test_a_home_that_takes_nothing_is_said_before_anything_is_asked_for(clustered: Kernel) -> None:
    clustered.run(
        "root = os.path.expanduser('~/.studiolo/dask'); os.makedirs(root, exist_ok=True); os.chmod(root, 0o500)"
    )
    try:
        told = clustered.fails("studiolo.cluster(workers=1)")
    finally:
        clustered.run("os.chmod(root, 0o700)")
    assert "NoWorkers" in told
    assert "Permission denied" in told
    assert _workers(clustered) == []


def test_the_dashboard_is_there_through_the_hub_and_nowhere_else(clustered: Kernel) -> None:
    clustered.run("c = studiolo.cluster()")
    link = printed(clustered, "c.dashboard_link")
    headers = {"Authorization": f"token {clustered.token}"}
    address = clustered.hub.url.rstrip("/") + link
    assert HTTP.get(address, headers=headers).status_code == 200
    plots = HTTP.get(
        address.removesuffix("status") + "individual-plots.json", headers=headers
    )  # as dask-labextension does
    assert plots.status_code == 200
    assert "Individual Task Stream" in plots.json()
    # Its panel has to ask from the browser, which is logged in; JupyterLab's server is not.
    settings = f"{clustered.hub.url}user/{clustered.person}/lab/api/settings/dask-labextension:plugin"
    known = HTTP.get(settings, headers=headers).json()["schema"]["properties"]
    assert known["browserDashboardCheck"]["default"] is True
    assert known["hideClusterManager"]["default"] is True
    clustered.run(
        "from dask.distributed import default_client; client = Client(c)"
    )  # how it finds the notebook's cluster
    assert printed(clustered, "default_client().dashboard_link") == link
    port = link.partition("/proxy/")[2].partition("/")[0]
    for path in ("", "status", "sitemap.json"):  # everybody on the node can ask
        answer = HTTP.get(f"http://127.0.0.1:{port}/{path}")
        assert (answer.status_code, answer.text, answer.headers.get("Location")) == (404, "", None)


def test_a_cluster_works_with_await_and_context_managers(clustered: Kernel) -> None:
    clustered.run(
        "async with studiolo.cluster(workers=1, asynchronous=True) as d:\n"
        "    async with Client(d, asynchronous=True) as client:\n"
        "        print(await client.submit(sum, [1, 2]))"
    )
    _gone(clustered)
    clustered.run(
        "with studiolo.cluster(workers=1) as d, Client(d) as client:\n    print(client.submit(sum, [1, 2]).result())"
    )
    _gone(clustered)


def test_waiting_workers_end_with_their_session(hub: Hub, person: Callable[..., str]) -> None:
    with kernel(hub, person("learner", 5), {"profile": "learn"}) as running, partition(hub, "DOWN"):
        running.run(START + "c = studiolo.cluster(workers=2)")
        assert len(_workers(running)) == 2
        running.kill(signal.SIGSTOP)  # its own end tells nobody
        hub.stop(running.person)
        _gone(running)


def _processes_of(chaos: Chaos, person: str, job: int) -> list[int]:
    """The processes of one job of somebody's."""
    mark = f"\0SLURM_JOB_ID={job}\0".encode()
    return [process for process in chaos.processes(person) if mark in b"\0" + _environment(process)]


def _environment(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/environ").read_bytes()
    except OSError:  # it has ended
        return b""


def _processes(kernel: Kernel) -> list[str]:
    return [line for line in kernel.hub.processes(kernel.person) if "dask_worker" in line]
