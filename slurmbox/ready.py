"""Is it there? Each daemon is asked in its own way until it answers or its time is over."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from slurmbox.errors import MissingPackages, NotReady
from slurmbox.files import last_lines
from slurmbox.instance import Instance
from slurmbox.packages import program
from slurmbox.tokens import token

Answer = str | None  # None: it is there; else what is still wrong


def wait(name: str, ask: Callable[[], Answer], *, within_s: float, log: Path) -> None:
    """Ask, at growing intervals, until the answer is None. Raises NotReady with the last answer and the log's end."""
    deadline = time.monotonic() + within_s
    pause = 0.02
    while True:
        answer = ask()
        if answer is None:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(0.25, pause * 1.4)
    end = last_lines(log) or "(it is empty)"
    raise NotReady(f"{name} is not ready after {within_s:.0f} s: {answer}\nThe end of {log}:\n{end}")


def _run(instance: Instance, name: str, *arguments: str, stdin: str | None = None) -> tuple[str, str | None]:
    """(output, None) of a command, or ("", what went wrong)."""
    path = program(name)
    if path is None:
        raise MissingPackages(f"{name} is not installed; `make up` installs it.")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **instance.environment()}
    try:
        done = subprocess.run(
            [path, *arguments], input=stdin if stdin is not None else "", capture_output=True, text=True,
            env=environment, timeout=15, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", f"{name} got no answer in 15 s"
    if done.returncode != 0:
        return "", (done.stderr.strip() or done.stdout.strip() or f"{name} ended with {done.returncode}")[-500:]
    return done.stdout, None


def munge(instance: Instance) -> Answer:
    """Encode and decode a credential through our own socket."""
    socket = f"--socket={instance.munge_socket}"
    if not instance.munge_socket.exists():
        return "its socket is not there yet"
    credential, fault = _run(instance, "munge", "-n", socket)
    return fault or _run(instance, "unmunge", socket, stdin=credential)[1]


def mariadb(instance: Instance) -> Answer:
    """Ask for slurmdbd's account and database, which MariaDB makes while it starts."""
    if not instance.db_socket.exists():
        return "its socket is not there yet"
    query = "SELECT user FROM mysql.user"
    arguments = ("--no-defaults", f"--socket={instance.db_socket}", "-N", "-B", "-e", query)
    out, fault = _run(instance, "mariadb", *arguments)
    return fault or (None if instance.slurm_user in out.split() else "it has no account for slurmdbd")


def slurmdbd(instance: Instance) -> Answer:
    """Ask it for its clusters."""
    return _run(instance, "sacctmgr", "-n", "-P", "show", "cluster", "format=cluster")[1]


def slurmctld(instance: Instance) -> Answer:
    """``scontrol ping``."""
    out, fault = _run(instance, "scontrol", "ping")
    return fault or (None if " is UP" in out else out.strip())


USABLE_NODE_STATES = frozenset({"idle", "mixed", "allocated", "completing"})


def nodes(instance: Instance) -> Answer:
    """Every node is up, with its slurmd answering."""
    out, fault = _run(instance, "sinfo", "-h", "-N", "-o", "%N %T")
    if fault:
        return fault
    states = dict(line.split(maxsplit=1) for line in out.splitlines())
    wrong = {n.name: states.get(n.name, "unknown") for n in instance.nodes}
    wrong = {name: state for name, state in wrong.items() if state.strip() not in USABLE_NODE_STATES}
    return ", ".join(f"{name} is {state}" for name, state in wrong.items()) or None


def slurmrestd(instance: Instance) -> Answer:
    """GET its ping with a token."""
    url = f"http://127.0.0.1:{instance.ports['slurmrestd']}/slurm/{instance.features.rest_api}/ping"
    headers = {"X-SLURM-USER-NAME": "root", "X-SLURM-USER-TOKEN": token(instance, "root")}
    try:
        # The proxies of the environment are for the world, not for the loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return None if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except (urllib.error.URLError, OSError) as error:
        return str(error)


def trial_job(instance: Instance) -> Answer:
    """Run one real job of a person's on the first node. Only needed where it is not certain that jobs can run."""
    node, person = instance.nodes[0].name, instance.people[0].name
    return _run(instance, "srun", f"--uid={person}", "--immediate=10", "-w", node, "-t", "1", "--mem=100", "true")[1]
