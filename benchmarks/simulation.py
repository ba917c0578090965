"""Hubs without a cluster, of either kind: a thousand running sessions, or a machine of two thousand nodes.

A database with a thousand people whose servers run; Slurm's commands replaced by programs that answer RUNNING for every
job and count themselves; one program that answers for all servers, and everybody's activity reported as often as real
servers do. Hub and proxy are real. Nobody of these people has an account on this machine, so ``sudo`` is replaced too.
"""

from __future__ import annotations

import itertools
import json
import secrets
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import stock
from ground import Ground, daemon, person_argv, until
from hubs import Hub, HubFailed

from slurmbox import accounts
from slurmbox.files import ensure_folder, write_atomic

HERE = Path(__file__).parent
NODE = "sim1"
FIRST_JOB = 1001
USER_PASSWORD = "user_password"
ACTIVITY_SECONDS = 300  # how often a single-user server reports, as JupyterHub ships it

# Ours asks once for all jobs in a format of its own; stock asks for one job at a time.
SQUEUE = """case "$*" in
  *--states=PENDING*) ;;
  *--jobs=*) exec cat {folder}/queue ;;
  *--noheader*) ;;
  *) echo "RUNNING {node}" ;;
esac"""
# `sudo [options] -u PERSON [--] COMMAND`: becomes the command.
SUDO = """while [ "$1" != "-u" ]; do shift; done
shift 2
[ "$1" = "--" ] && shift
case "$1" in */*) exec "$@" ;; *) exec {folder}/commands/"$@" ;; esac"""


@dataclass(frozen=True)
class Simulation:
    """A folder of the hub's account with all that is pretended, and the port on which the servers answer."""

    ground: Ground
    folder: Path
    port: int
    people: tuple[str, ...]

    @property
    def commands(self) -> Path:
        """Where Slurm's commands stand."""
        return self.folder / "commands"

    @property
    def password(self) -> str:
        """Which our hub takes of everybody."""
        return (self.folder / "secrets" / USER_PASSWORD).read_text(encoding="utf-8")

    def calls(self) -> int:
        """How many of Slurm's commands were run so far; sudo is none of them."""
        return sum(file.stat().st_size for file in (self.folder / "counts").iterdir())

    def jobs(self) -> dict[str, int]:
        """The number of everybody's job."""
        return {name: FIRST_JOB + number for number, name in enumerate(self.people)}


@contextmanager
def simulated(
    ground: Ground, count: int, told: Mapping[str, str] | None = None, acts: Mapping[str, str] | None = None
) -> Iterator[Simulation]:
    """Commands and a crowd's servers, until the end. ``told`` are further files, ``acts`` what commands do instead, where
    ``{folder}`` stands for those files' own."""
    uid, gid = accounts.ids(ground.box.hub_user)
    folder = ensure_folder(ground.folder / f"crowd-{secrets.token_hex(3)}", mode=0o700, uid=uid, gid=gid)
    port = stock.free_ports(1)[0]
    simulation = Simulation(ground, folder, port, tuple(f"sim{number:04}" for number in range(count)))
    for name in ("commands", "counts"):
        ensure_folder(folder / name, mode=0o700, uid=uid, gid=gid)
    # As squeue prints ours: number, state, reason, batch host, start, end.
    lines = [f"{job}|RUNNING|None|{NODE}|1700000000|4000000000" for job in simulation.jobs().values()]
    write_atomic(folder / "queue", "\n".join([*lines, ""]), mode=0o644)
    for name, text in (told or {}).items():
        write_atomic(folder / name, text, mode=0o644)
    silent = dict.fromkeys(("sacct", "scontrol", "scancel"), ":")
    usual = {**silent, "squeue": SQUEUE, "sinfo": f'echo "{NODE} 127.0.0.1"'}
    for name, act in (usual | dict(acts or {})).items():
        count_itself = f"printf . >> {folder}/counts/{name}"
        text = f"#!/bin/sh\n{count_itself}\n{act.format(folder=folder, node=NODE)}\n"
        write_atomic(simulation.commands / name, text, mode=0o755)
    write_atomic(folder / "sudo", f"#!/bin/sh\n{SUDO.format(folder=folder)}\n", mode=0o755)
    crowd = folder / "crowd.py"
    write_atomic(crowd, (HERE / "crowd.py").read_text(encoding="utf-8"), mode=0o644)
    argv = [str(ground.python), "-I", str(crowd), str(port)]
    with daemon(ground, ground.box.hub_user, argv, folder / "crowd.log"):
        yield simulation


def prefill(simulation: Simulation, database: Path, states: Mapping[str, object]) -> None:
    """Make the database of a hub in which all servers run."""
    ground, folder = simulation.ground, simulation.folder
    facts = {"url": f"sqlite:///{database}", "port": simulation.port, "states": states}
    for name, text in (("facts.json", json.dumps(facts)), ("prefill.py", (HERE / "prefill.py").read_text())):
        write_atomic(folder / name, text, mode=0o644)
    argv = [str(ground.python), "-I", str(folder / "prefill.py"), str(folder / "facts.json")]
    subprocess.run(
        person_argv(ground.box.hub_user, argv), env=ground.daemon_environment(), cwd=folder, check=True,
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def stock_hub(simulation: Simulation) -> Iterator[Hub]:
    """Stock, its jobs known by number."""
    states = {name: {"job_id": str(job), "job_status": f"RUNNING {NODE}"} for name, job in simulation.jobs().items()}
    database = simulation.folder / "stock.sqlite"
    prefill(simulation, database, states)
    settings = {
        "exec_prefix": f"{simulation.folder}/sudo -E -u {{username}}",
        "daemon_resolver": {NODE: "127.0.0.1"},
    }
    # It would look them up among the accounts of this machine.
    fixed = {"req_homedir": str(simulation.folder), "req_keepvars": "HOME"}
    with stock.running(simulation.ground, settings, rule=False, database=database, fixed=fixed) as hub:
        yield hub


@contextmanager
def our_hub(simulation: Simulation, places: str = "") -> Iterator[Hub]:
    """Ours, with a proxy and a site file of its own, which may name other ``places``: partitions, environments, profiles."""
    ground, folder = simulation.ground, simulation.folder
    public, api, hub_api = stock.free_ports(3)
    uid, gid = accounts.ids(ground.box.hub_user)
    state = ensure_folder(folder / "ours", mode=0o700, uid=uid, gid=gid)
    store = ensure_folder(folder / "secrets", mode=0o750, gid=gid)
    tokens = {name: secrets.token_hex(32) for name in SECRETS}
    for name, text in tokens.items():
        write_atomic(store / name, text, mode=0o640, gid=gid)
    site = folder / "site.toml"
    text = site_file(simulation, public=public, api=api, hub_api=hub_api) + (places or PLACES)
    write_atomic(site, text, mode=0o640, gid=gid)
    prefill(simulation, state / "jupyterhub.sqlite", our_states(simulation))
    environment = {"STUDIOLO_SITE": str(site)}
    python, packages = str(ground.python), next((ground.box.prefix / "venv" / "lib").glob("python3*/site-packages"))
    proxy = [python, "-I", "-m", "hub_config.proxy", "--site", str(site), *stock.proxy_command(ground)]
    configuration = packages / "hub_config" / "jupyterhub_config.py"
    hub = [python, "-I", str(ground.python.with_name("jupyterhub")), "--config", str(configuration)]
    with ExitStack() as stack:
        stack.enter_context(daemon(ground, ground.box.hub_user, proxy, folder / "proxy.log"))
        process = stack.enter_context(daemon(ground, ground.box.hub_user, hub, folder / "hub.log", environment))
        running = Hub("ours", f"http://127.0.0.1:{public}/", tokens["api_token"], folder / "hub.log", process.pid)
        running.await_answer()
        yield running


SECRETS = ("cookie_secret", "proxy_token", "api_token", USER_PASSWORD, "admin_password")


def our_states(simulation: Simulation) -> dict[str, object]:
    """What our spawner has left in the database of each session that listens."""
    return {
        name: {
            "job_id": str(job),
            "cluster": "simulated",
            "session_id": f"{job:016x}",
            "log_id": f"{job:032x}",
            "secret_digest": "",
            "node": NODE,
            "address": "127.0.0.1",
            "served_port": simulation.port,
        }
        for name, job in simulation.jobs().items()
    }


def site_file(simulation: Simulation, *, public: int, api: int, hub_api: int) -> str:
    """A site whose commands are the simulation's. Plain http inside: the crowd's program speaks nothing else."""
    folder = simulation.folder
    return f"""
title = "Simulation"
[paths]
prefix = "{simulation.ground.box.prefix}"
state = "{folder}/ours"
secrets = "{folder}/secrets"
[hub]
account = "{simulation.ground.box.hub_user}"
port = {public}
node_port = {hub_api}
proxy_port = {api}
internal_tls = false
[authentication]
method = "shared-password"
allow_all = true
[clusters.simulated]
conf = "{folder}/slurm.conf"
commands = "{simulation.commands}"
launcher = "{folder}/launcher"
sudo = "{folder}/sudo"
people = "nobody"
"""


PLACES = """
[partitions.cpu]
title = "CPU"
max_cpus = 2
max_memory = "4G"
max_time = "8h"
[environments.lab]
title = "JupyterLab"
[profiles.learn]
title = "Learn"
description = "Simulated."
partition = "cpu"
cpus = 1
memory = "1G"
time = "1h"
"""


@contextmanager
def active(hub: Hub, people: tuple[str, ...]) -> Iterator[None]:
    """Everybody's server reports activity, spread evenly over the interval in which each does so once."""
    tokens = [(name, hub.token_of(name)) for name in people]
    ended = threading.Event()
    failed: list[Exception] = []

    def report() -> None:
        for name, token in itertools.cycle(tokens):
            if ended.wait(ACTIVITY_SECONDS / len(tokens)):
                return
            now = datetime.now(timezone.utc).isoformat()
            body = {"servers": {"": {"last_activity": now}}, "last_activity": now}
            try:
                hub.call("POST", f"users/{name}/activity", body, token=token).raise_for_status()
            except Exception as error:  # noqa: BLE001 - told where the measurement ends, whatever it is
                failed.append(error)
                return

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise HubFailed(f"{hub.name}: activity was refused: {failed[0]}")


def await_all(hub: Hub, count: int, seconds: float = 240.0) -> None:
    """Wait until the hub has found all servers alive and ready."""

    def ready() -> bool:
        # Asked over REST, a thousand people would take the hub seconds each time.
        return hub.log.read_text(encoding="utf-8", errors="replace").count(" still running\n") >= count

    until(f"{count} servers that the hub of {hub.name} finds ready", ready, seconds, pause=3)
