"""Hub and proxy as supervised programs: two processes, so that a new hub does not cut anybody's session."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from deploy import node, python_env, stamps
from deploy.errors import CommandFailed
from deploy.hub_api import Hub, HubError
from deploy.settings import Settings
from slurmbox import programs as cluster_programs
from slurmbox.files import ensure_folder, last_lines
from slurmbox.instance import Instance
from slurmbox.supervise import Program, Supervisor

GROUP_FILE = "hub"
HUB, PROXY = "hub", "proxy"
PATIENCE_S = 90.0
# After the cluster's programs, whose priorities end at 400: so hub and proxy stop first.
PROXY_PRIORITY, HUB_PRIORITY = 800, 900
STAMPS = "services"


def proxy_program(instance: Instance, settings: Settings, node_path: Path) -> Program:
    """The proxy on its public port and, for the hub alone, on a second one."""
    ports = instance.ports
    hub = f"http://127.0.0.1:{ports['hub']}"
    command = (
        str(settings.python), "-I", "-m", "deploy.proxy_main", str(settings.secrets / "proxy_token"),
        str(node_path), str(settings.prefix / "proxy" / node.PROGRAM),
        "--ip", "127.0.0.1", "--port", str(ports["public"]),
        "--api-ip", "127.0.0.1", "--api-port", str(ports["proxy_api"]),
        "--log-level", "warn", "--default-target", hub, "--error-target", f"{hub}/hub/error",
    )  # fmt: skip
    environment = {
        **cluster_programs.environment(instance),
        "PATH": "/usr/bin:/bin",
        "HOME": str(instance.state / "hub"),
        "NODE_ENV": "production",
    }
    return Program(PROXY, command, instance.hub_user, environment, priority=PROXY_PRIORITY)


def hub_program(instance: Instance, settings: Settings) -> Program:
    """JupyterHub. Its configuration finds everything else through the site file."""
    site_packages = Path(__file__).resolve().parent.parent
    configuration = site_packages / "hub_config" / "jupyterhub_config.py"
    command = (
        str(settings.python), "-I", str(settings.venv / "bin" / "jupyterhub"),
        "--config", str(configuration),
    )  # fmt: skip
    environment = {
        **cluster_programs.environment(instance),
        "PATH": f"{settings.venv / 'bin'}:/usr/bin:/bin",
        "HOME": str(instance.state / "hub"),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "STUDIOLO_SITE": str(settings.site_file),
    }
    return Program(
        HUB,
        command,
        instance.hub_user,
        environment,
        directory=instance.state / "hub",
        stopwaitsecs=20,
        priority=HUB_PRIORITY,
    )


def up(instance: Instance, settings: Settings, boss: Supervisor, node_path: Path, note: Callable[[str], None]) -> None:
    """Start what does not run, restart what has changed, and return when the hub answers to its token."""
    proxy = proxy_program(instance, settings, node_path)
    hub = hub_program(instance, settings)
    boss.write(GROUP_FILE, [proxy, hub])
    boss.reload()  # stops those whose program has changed
    secret_files = sorted(settings.secrets.iterdir())
    proxy_now = stamps.digest([stamps.read(settings.prefix, node.STAMP)], secret_files)
    hub_now = stamps.digest([stamps.read(settings.prefix, python_env.STAMP)], [settings.site_file, *secret_files])
    proxy_started = _ensure(instance, boss, PROXY, proxy_now)
    hub_started = _ensure(instance, boss, HUB, hub_now)
    api = Hub(public_url(instance), (settings.secrets / "api_token").read_text().strip())
    _wait(boss, HUB, lambda: bool(api.info()))
    if proxy_started and not hub_started:
        api.sync_proxy()  # a new proxy knows no session until the hub tells it
    restarted = [name for name, new in ((PROXY, proxy_started), (HUB, hub_started)) if new]
    note(f"{' and '.join(restarted)} started" if restarted else "running already")
    stamps.write(_stamp_folder(instance), PROXY, proxy_now)
    stamps.write(_stamp_folder(instance), HUB, hub_now)


def public_url(instance: Instance) -> str:
    """Where browsers find the platform on this machine."""
    return f"http://127.0.0.1:{instance.ports['public']}/"


def _ensure(instance: Instance, boss: Supervisor, name: str, stamp: str) -> bool:
    """Have a program run from today's files; returns whether it was started now."""
    folder = _stamp_folder(instance)
    state = boss.state(name).state
    if state in ("RUNNING", "STARTING") and stamps.matches(folder, name, stamp):
        return False
    stamps.drop(folder, name)
    boss.restart(name)
    return True


def _stamp_folder(instance: Instance) -> Path:
    return ensure_folder(instance.state / STAMPS)


def _wait(boss: Supervisor, name: str, ask: Callable[[], bool]) -> None:
    """Ask until there is an answer. Raises with the end of the program's log once it has given up."""
    deadline = time.monotonic() + PATIENCE_S
    pause = 0.05
    while True:
        try:
            if ask():
                return
        except HubError as error:
            answer = str(error)
        state = boss.state(name)
        log = boss.log(name)
        if state.state in ("FATAL", "EXITED"):
            raise CommandFailed(f"The {name} does not start; its log: {log}", last_lines(log).splitlines())
        if time.monotonic() > deadline:
            raise CommandFailed(
                f"The {name} did not answer within {PATIENCE_S:.0f} s ({answer}); its log: {log}",
                last_lines(log).splitlines(),
            )
        time.sleep(pause)
        pause = min(0.3, pause * 1.3)
