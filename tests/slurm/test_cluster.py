"""The embedded cluster is a real one: jobs run, limits bind, what dies comes back, nothing is left behind."""

from __future__ import annotations

import os
import pwd
import signal
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmbox import box as boxes
from slurmbox.tokens import token

PATIENCE_S = 40.0


class Cluster:
    """Commands on the cluster, as one of its people or as root."""

    def __init__(self, instance: Any, folder: Path) -> None:
        self.instance = instance
        self.folder = folder  # writable for everyone
        self.submitted: list[str] = []

    def name(self, person: str) -> str:
        return f"{person}-{self.instance.tag}" if self.instance.tag else person

    def run(self, *command: str, person: str | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin", "LC_ALL": "C", "SLURM_CONF": str(self.instance.slurm_conf)}
        account = {}
        if person:
            entry = pwd.getpwnam(self.name(person))
            account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
            environment |= {"HOME": entry.pw_dir, "USER": entry.pw_name}
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            cwd="/",
            check=False,
            **account,
        )

    def submit(self, person: str, script: str, *options: str) -> str:
        done = self.run(
            "sbatch",
            "--parsable",
            f"--output={self.folder}/%j.out",
            *options,
            person=person,
            stdin=f"#!/bin/sh\n{script}\n",
        )
        assert done.returncode == 0, done.stderr
        self.submitted.append(done.stdout.strip())
        return self.submitted[-1]

    def save(self) -> str:
        """Let the controller write down all that it knows, as it does every few seconds; returns a waiting job.

        One that is killed before that forgets its last seconds: it runs their jobs once more, takes ended ones for
        running, and gives their numbers to others.
        """
        mark = f"mark-{time.time_ns()}"
        job = self.submit("tess", "true", "-p", "cpu", "--mem=100", "--hold", f"--job-name={mark}")
        saved = self.instance.state / "slurm" / "ctld" / "job_state"
        until(lambda: saved.exists() and mark.encode() in saved.read_bytes(), "the controller's state on disk")
        return job

    def left(self) -> set[str]:
        """Those of the jobs submitted here that the queue still holds."""
        return set(self.submitted) & set(self.run("squeue", "-h", "-o", "%i").stdout.split())

    def state(self, job: str) -> str:
        done = self.run("scontrol", "show", "job", "-o", job)
        return dict(word.partition("=")[::2] for word in done.stdout.split()).get("JobState", "")

    def wait_for(self, job: str, *states: str) -> str:
        until(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}, is {self.state(job)}")
        return self.state(job)

    def output(self, job: str) -> str:
        assert self.wait_for(job, "COMPLETED", "FAILED") == "COMPLETED"
        return (self.folder / f"{job}.out").read_text()

    def field(self, job: str, field: str) -> str:
        """A field of the finished job in accounting."""

        def ask() -> str:
            done = self.run("sacct", "-n", "-P", "-X", "-j", job, "-o", f"End,{field}")
            end, _, value = done.stdout.strip().partition("|")
            # A record grows: its end and its QoS reach the database one after the other.
            return value if end not in {"", "Unknown"} and "Unknown" not in value else ""

        until(lambda: bool(ask()), f"job {job} in accounting")
        return ask()


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    pause = 0.02
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s in vain for: {what}"
        time.sleep(pause)
        pause = min(0.3, pause * 1.3)


@pytest.fixture(scope="module")
def cluster(box: Any) -> Any:
    folder = Path(box.state) / "logs" / "test-cluster"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)
    cluster = Cluster(box, folder)
    yield cluster
    # What a failed test left would be in the way of other files' tests.
    if left := cluster.left():
        cluster.run("scancel", *left)
        until(lambda: not cluster.left(), "the queue without the jobs of these tests")
    for link in Path("/tmp").glob("studiolo-*-link"):
        if link.is_symlink() and os.readlink(link) == str(folder):
            link.unlink()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.fixture(scope="module")
def overdue(cluster: Cluster) -> str:
    """A job whose time is nearly over. Slurm looks at times every half minute, so it is started before all others."""
    job = cluster.submit("clara", "trap '' TERM; while :; do sleep 1; done", "-p", "cpu", "-t", "60", "--mem=100")
    cluster.wait_for(job, "RUNNING")
    assert cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+2").returncode == 0
    return job


@pytest.mark.usefixtures("overdue")
@pytest.mark.parametrize("partition", ["cpu", "gpu"])
def test_a_job_runs_on_each_partition(cluster: Cluster, partition: str) -> None:
    job = cluster.submit("ada", "echo $SLURM_JOB_PARTITION $SLURMD_NODENAME; id -un", "-p", partition, "--mem=100")
    first, second = cluster.output(job).splitlines()
    assert first.split()[0] == partition
    assert first.split()[1].startswith(partition)
    assert second == cluster.name("ada")


def test_a_job_on_one_gpu_sees_that_gpu_and_is_charged_for_it(cluster: Cluster) -> None:
    job = cluster.submit(
        "ben", "echo $SLURM_GPUS_ON_NODE:$CUDA_VISIBLE_DEVICES", "-p", "gpu", "--gres=gpu:1", "--mem=100"
    )
    assert cluster.output(job).strip() == "1:0"
    charged = cluster.field(job, "AllocTRES,Account,QOS")
    assert "gres/gpu=1" in charged
    assert "billing=4" in charged
    assert charged.endswith("|playground|playground")


def test_two_gpu_jobs_on_one_node_get_different_gpus(cluster: Cluster) -> None:
    options = ("-p", "gpu", "-w", "gpu1", "--gres=gpu:a100:1", "--mem=100")
    jobs = [cluster.submit(p, "echo $CUDA_VISIBLE_DEVICES; sleep 2", *options) for p in ("ada", "ben")]
    assert {cluster.output(job).strip() for job in jobs} == {"0", "1"}


def test_a_quarter_of_a_gpu_is_a_shard_and_charged_as_a_quarter(cluster: Cluster) -> None:
    if not cluster.instance.features.shards:
        pytest.skip("this Slurm has no shards")
    script = "echo $SLURM_SHARDS_ON_NODE $CUDA_VISIBLE_DEVICES"
    job = cluster.submit("learner01", script, "-p", "gpu", "--gres=shard:1", "--mem=100")
    assert cluster.output(job).split()[0] == "1"
    charged = cluster.field(job, "AllocTRES")
    assert "gres/shard=1" in charged
    assert "billing=1" in charged


def test_thirty_learners_run_on_a_shard_each_at_once(cluster: Cluster) -> None:
    gres = "--gres=shard:1" if cluster.instance.features.shards else "--mem=100"
    options = ("-p", "gpu", gres, "--mem=50", "-t", "5")
    jobs = [cluster.submit(f"learner{n:02}", "sleep 60", *options) for n in range(1, 31)]

    def running() -> bool:
        listing = cluster.run("squeue", "-h", "-t", "RUNNING", "-o", "%i").stdout.split()
        return set(jobs) <= set(listing)

    until(running, "thirty jobs running")
    cluster.run("scancel", *jobs)
    until(lambda: not set(jobs) & set(cluster.run("squeue", "-h", "-o", "%i").stdout.split()), "thirty jobs gone")


def test_a_job_beyond_its_memory_is_killed(cluster: Cluster) -> None:
    greedy = "exec python3 -c 'import time; x = bytearray(400 << 20); time.sleep(30)'"
    job = cluster.submit("dan", greedy, "-p", "cpu", "--mem=100")
    state = cluster.wait_for(job, "OUT_OF_MEMORY", "FAILED", "CANCELLED", "COMPLETED")
    assert state in (
        {"OUT_OF_MEMORY"} if cluster.instance.confinement.kind != "none" else {"OUT_OF_MEMORY", "FAILED", "CANCELLED"}
    )


def test_an_account_that_is_not_ones_own_is_refused(cluster: Cluster) -> None:
    done = cluster.run("sbatch", "-A", "large-scale", "--wrap", "true", person="ada")
    assert done.returncode != 0
    assert "Invalid account" in done.stderr


def test_more_than_the_qos_allows_is_refused_at_once(cluster: Cluster) -> None:
    two_gpus = cluster.run("sbatch", "-p", "gpu", "--gres=gpu:2", "--mem=100", "--wrap", "true", person="learner02")
    too_long = cluster.run("sbatch", "-p", "cpu", "-t", "5:00:00", "--mem=100", "--wrap", "true", person="learner02")
    assert two_gpus.returncode != 0
    assert "QOSMax" in two_gpus.stderr
    assert too_long.returncode != 0
    assert "violates accounting/QOS policy" in too_long.stderr


def test_more_time_than_the_partition_allows_is_refused(cluster: Cluster) -> None:
    done = cluster.run("sbatch", "-A", "large-scale", "-p", "cpu", "-t", "9:00:00", "--wrap", "true", person="tess")
    assert done.returncode != 0
    assert "time limit" in done.stderr


def test_a_process_that_left_its_job_and_the_scratch_folder_go_with_the_job(cluster: Cluster) -> None:
    script = """
scratch=$(mktemp -d "/tmp/studiolo-$SLURM_JOB_ID-XXXXXX")
mkdir "$scratch/closed" && echo x > "$scratch/closed/f" && chmod 0 "$scratch/closed"
setsid nohup sleep 4321 </dev/null >/dev/null 2>&1 &
echo $! ; sleep 0.2"""
    job = cluster.submit("emil", script, "-p", "cpu", "--mem=100")
    pid = int(cluster.output(job))
    until(lambda: not Path(f"/proc/{pid}").exists(), "the detached process gone", 10)
    until(lambda: not list(Path("/tmp").glob(f"studiolo-{job}-*")), "the scratch folder gone", 10)


def test_the_epilog_follows_no_link_to_other_peoples_files(cluster: Cluster, tmp_path: Path) -> None:
    victim = cluster.folder / "victim"
    victim.write_text("precious")
    job = cluster.submit(
        "emil", f'ln -s "{cluster.folder}" "/tmp/studiolo-$SLURM_JOB_ID-link"', "-p", "cpu", "--mem=100"
    )
    cluster.wait_for(job, "COMPLETED")
    node_is_free = lambda: "cpu" in cluster.run("sinfo", "-h", "-t", "idle,mixed", "-o", "%P").stdout  # noqa: E731
    until(node_is_free, "the epilog done", 10)
    assert victim.read_text() == "precious"
    Path(f"/tmp/studiolo-{job}-link").unlink()


def test_homes_are_private(cluster: Cluster) -> None:
    home = pwd.getpwnam(cluster.name("ada")).pw_dir
    assert cluster.run("ls", home, person="ada").returncode == 0
    assert cluster.run("ls", home, person="ben").returncode != 0


def test_secrets_are_for_the_daemons_alone(cluster: Cluster) -> None:
    instance = cluster.instance
    secret = (instance.munge_key, instance.jwt_key, instance.slurm_conf.parent / "slurmdbd.conf")
    for file in (
        *secret,
        instance.supervisor_folder / "supervisord.conf",
        instance.supervisor_folder / "conf.d" / "slurm.conf",
    ):
        assert os.stat(file).st_mode & 0o077 == 0, file
        assert cluster.run("cat", str(file), person="ada").returncode != 0, file


def test_the_database_lets_only_slurmdbd_and_root_in(cluster: Cluster) -> None:
    socket = f"--socket={cluster.instance.db_socket}"
    for user in (cluster.instance.slurm_user, "root"):
        assert (
            cluster.run("mariadb", "--no-defaults", socket, "-u", user, "-e", "SELECT 1", person="ada").returncode != 0
        )


def test_slurmrestd_answers_a_token_and_refuses_without(cluster: Cluster) -> None:
    instance = cluster.instance
    url = f"http://127.0.0.1:{instance.ports['slurmrestd']}/slurm/{instance.features.rest_api}/ping"
    headers = {"X-SLURM-USER-NAME": cluster.name("ada"), "X-SLURM-USER-TOKEN": token(instance, cluster.name("ada"))}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        assert answer.status == 200
        assert b"pings" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match=r"401|500") as refused:
        urllib.request.urlopen(url, timeout=10)
    refused.value.close()


@pytest.mark.parametrize("daemon", ["munged", "slurmctld", "slurmd-cpu2", "slurmrestd"])
def test_a_daemon_that_is_killed_comes_back(cluster: Cluster, daemon: str) -> None:
    boss = boxes.supervisor(cluster.instance)
    before = boss.state(daemon)
    assert before.state == "RUNNING"
    waiting = cluster.save()
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: (now := boss.state(daemon)).state == "RUNNING" and now.pid != before.pid, f"{daemon} back", 20)
    until(lambda: "UP" in cluster.run("scontrol", "ping").stdout, "the controller answering", 20)
    assert cluster.state(waiting) == "PENDING"
    cluster.run("scancel", waiting)


def test_a_job_survives_a_restart_of_its_node_daemon(cluster: Cluster) -> None:
    job = cluster.submit("emil", "sleep 3; echo survived", "-p", "cpu", "-w", "cpu1", "--mem=100")
    cluster.wait_for(job, "RUNNING")
    boxes.supervisor(cluster.instance).restart("slurmd-cpu1")
    assert cluster.output(job).strip() == "survived"


def test_status_counts_what_is_free(cluster: Cluster) -> None:
    job = cluster.submit("ada", "sleep 30", "-p", "gpu", "-w", "gpu2", "--gres=gpu:1", "--mem=100")
    cluster.wait_for(job, "RUNNING")

    def gpus_of_gpu2() -> tuple[int, int]:
        gpu2 = next(n for n in boxes.status(cluster.instance).nodes if n.name == "gpu2")
        return gpu2.gpus, gpu2.gpus_free

    # slurmctld tells of the job first, and of what is free on the node a moment later.
    until(lambda: gpus_of_gpu2() == (4, 3), "the GPU to count as taken")
    status = boxes.status(cluster.instance)
    cluster.run("scancel", job)
    assert status.controller
    assert status.jobs_running >= 1
    # One that was killed or restarted above counts as starting until it has stayed up for a while.
    until(lambda: {d.state for d in boxes.status(cluster.instance).daemons} == {"RUNNING"}, "every daemon running")


def test_up_on_a_running_cluster_changes_nothing(cluster: Cluster) -> None:
    before = {d.name: d.pid for d in boxes.supervisor(cluster.instance).states()}
    boxes.up(cluster.instance)
    assert {d.name: d.pid for d in boxes.supervisor(cluster.instance).states()} == before


def test_how_long_a_job_waits_on_an_idle_node(cluster: Cluster, record_property: Callable[[str, object], None]) -> None:
    """Information, no verdict: seconds from sbatch to the script's first line."""
    waits = []
    for n in range(4):
        started = time.time()
        job = cluster.submit("tess", "date +%s.%N", "-p", "cpu", "--mem=100")
        waits.append(float(cluster.output(job)) - started)
        time.sleep(0.17 * n)  # not in step with the scheduler
    record_property("submit_to_run_s", [round(w, 3) for w in waits])
    print(f"submit to run: median {statistics.median(waits):.2f} s, longest {max(waits):.2f} s")
    assert min(waits) > 0


def test_a_job_beyond_its_time_is_killed(cluster: Cluster, overdue: str) -> None:
    until(lambda: cluster.state(overdue) == "TIMEOUT", "TIMEOUT", 60)
    assert cluster.field(overdue, "State").startswith("TIMEOUT")
