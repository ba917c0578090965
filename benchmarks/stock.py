"""Stock JupyterHub with batchspawner's Slurm spawner, as documented, on the same cluster, environment and people.

Its defaults stay as they are (``startup_poll_interval`` 0.5 s, ``poll_interval`` 30 s, ``sudo -E``, ``srun``). It is the
flavour of the spawner for several slurmd on one host: node names of the embedded cluster are no host names.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ground import Ground, daemon, until
from hubs import Hub

from deploy import node, sudoers
from slurmbox import accounts
from slurmbox.files import ensure_folder, write_atomic

SCOPES = ["admin:users", "admin:servers", "access:servers", "proxy", "read:hub", "tokens", "list:users"]


@dataclass(frozen=True)
class Resources:
    """What one session asks of Slurm: batchspawner's ``req_…`` settings."""

    partition: str
    cpus: int
    memory: str
    time: str

    def settings(self) -> dict[str, object]:
        """Settings of the spawner."""
        return {
            "req_partition": self.partition,
            "req_nprocs": str(self.cpus),
            "req_memory": self.memory,
            "req_runtime": self.time,
        }


@contextmanager
def running(
    ground: Ground,
    settings: Mapping[str, object],
    *,
    rule: bool = True,
    database: Path | None = None,
    fixed: Mapping[str, str] | None = None,
) -> Iterator[Hub]:
    """A stock hub with its own proxy, as the hub's account; ``settings`` are of its spawner.

    ``rule``: with a sudoers rule for it, removed at the end, whatever happens. ``database``: one that holds something.
    ``fixed``: attributes of the spawner that are no settings.
    """
    folder = _folder(ground)
    token = secrets.token_hex(24)
    public, api, hub_api = free_ports(3)
    configuration = folder / "jupyterhub_config.py"
    text = config(ground, settings, token=token, ports=(public, api, hub_api), database=database, fixed=fixed or {})
    write_atomic(configuration, text, mode=0o640, gid=accounts.ids(ground.box.hub_user)[1])
    log = folder / "hub.log"
    argv = [str(ground.python), "-I", str(ground.python.parent / "jupyterhub"), "--config", str(configuration)]
    with ExitStack() as stack:
        if rule:
            stack.enter_context(sudo_rule(ground))
        process = stack.enter_context(daemon(ground, ground.box.hub_user, argv, log))
        hub = Hub("stock", f"http://127.0.0.1:{public}/", token, log, process.pid)
        until("the stock hub's first word", lambda: log.stat().st_size or process.poll() is not None)
        hub.await_answer()
        yield hub


def add_people(hub: Hub, people: list[str]) -> None:
    """Make accounts known to a hub; those it knows already are left alone."""
    known = {user["name"] for user in hub.call("GET", "users?limit=2000").json()}
    if new := sorted(set(people) - known):
        hub.call("POST", "users", {"usernames": new}).raise_for_status()


def config(
    ground: Ground,
    settings: Mapping[str, object],
    *,
    token: str,
    ports: tuple[int, int, int],
    database: Path | None,
    fixed: Mapping[str, str],
) -> str:
    """The hub's configuration as Python."""
    public, api, hub_api = ports
    box = ground.box
    programs = ground.python.parent
    everything = {
        "daemon_resolver": {known.name: "127.0.0.1" for known in box.nodes},
        "environment": box.environment(),
        "default_url": "/lab",
        # Jobs get no PATH: JupyterHub hands none on, and batchspawner's --export keeps what JupyterHub hands on.
        "batchspawner_singleuser_cmd": str(programs / "batchspawner-singleuser"),
        "cmd": [str(programs / "jupyterhub-singleuser")],
        **settings,
    }
    lines = [
        "import batchspawner, traitlets",
        "class Stock(batchspawner.MultiSlurmSpawner):",
        "    pass",
        *(f"    {name} = traitlets.Unicode({value!r})" for name, value in fixed.items()),
        "c.JupyterHub.spawner_class = Stock",
        *(f"c.MultiSlurmSpawner.{key} = {value!r}" for key, value in everything.items()),
        f"c.JupyterHub.bind_url = 'http://127.0.0.1:{public}/'",
        f"c.JupyterHub.hub_bind_url = 'http://127.0.0.1:{hub_api}'",
        f"c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{api}'",
        f"c.ConfigurableHTTPProxy.command = {proxy_command(ground)!r}",
        "c.JupyterHub.authenticator_class = 'null'",
        "c.Authenticator.allow_all = True",
        f"c.JupyterHub.services = [{{'name': 'bench', 'api_token': {token!r}}}]",
        f"c.JupyterHub.load_roles = [{{'name': 'bench', 'scopes': {SCOPES!r}, 'services': ['bench']}}]",
        "c.JupyterHub.cleanup_servers = False",
    ]
    if database is not None:
        lines.append(f"c.JupyterHub.db_url = 'sqlite:///{database}'")
    return "\n".join([*lines, ""])


@contextmanager
def sudo_rule(ground: Ground) -> Iterator[None]:
    """The rule that batchspawner's documentation asks for."""
    box = ground.box
    commands = ", ".join(f"/usr/bin/{name}" for name in ("sbatch", "squeue", "scancel"))
    rules = (
        f"Defaults:{box.hub_user} !requiretty\n{box.hub_user} ALL=(%{box.people_group}) NOPASSWD:SETENV: {commands}\n"
    )
    tag = sudoers.of_benchmarks(box.tag)
    sudoers.install(rules, tag, box.state)
    try:
        yield
    finally:
        sudoers.remove(tag, box.state)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


def _folder(ground: Ground) -> Path:
    """A fresh folder of the hub's account: an empty database for every hub."""
    uid, gid = accounts.ids(ground.box.hub_user)
    parent = ground.folder
    return ensure_folder(parent / f"stock-{secrets.token_hex(3)}", mode=0o700, uid=uid, gid=gid)


def proxy_command(ground: Ground) -> list[str]:
    """Node.js and the proxy's program, the ones of `make up`."""
    prefix = ground.box.prefix
    found = node.system_node() or node.environments_node(prefix / "venv")
    return [str(found), str(prefix / "proxy" / node.PROGRAM)]
