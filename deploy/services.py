"""Hub and proxy as supervised programs: two processes, so that a new hub does not cut anybody's session."""

from __future__ import annotations

import pwd
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from deploy import node, python_env, stamps
from deploy.errors import CommandFailed
from deploy.hub_api import Hub, HubError
from deploy.settings import Settings
from hub_config import certificates
from hub_config.proxy import command as proxy_command
from slurmbox import programs as cluster_programs
from slurmbox.files import ensure_folder, last_lines
from slurmbox.instance import Instance
from slurmbox.supervise import Program, Supervisor
from studiolo.site import load

GROUP_FILE = "hub"
HUB, PROXY = "hub", "proxy"
PATIENCE_S = 90.0
# After the cluster's programs, whose priorities end at 400: so hub and proxy stop first.
PROXY_PRIORITY, HUB_PRIORITY = 800, 900
STAMPS = "services"


def proxy_program(instance: Instance, settings: Settings, node_path: Path) -> Program:
    """The proxy. Its command line comes from the site file, as does the hub's configuration."""
    command = (
        str(settings.python), "-I", "-m", "hub_config.proxy", "--site", str(settings.site_file),
        str(node_path), proxy_path(settings),
    )  # fmt: skip
    environment = {
        **cluster_programs.environment(instance),
        "PATH": "/usr/bin:/bin",
        "HOME": str(instance.state / "hub"),
        "NODE_ENV": "production",
    }
    return Program(PROXY, command, instance.hub_user, environment, priority=PROXY_PRIORITY)


def proxy_path(settings: Settings) -> str:
    """The proxy's own program, which Node.js runs."""
    return str(settings.prefix / "proxy" / node.PROGRAM)


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
    site = load(settings.site_file)
    secret_files = sorted(settings.secrets.iterdir())
    own = [settings.site_file, *secret_files, *(certificates.files(site) if site.hub.internal_tls else [])]
    line = proxy_command(site, str(node_path), proxy_path(settings))
    given = [Path(word) for word in line if word.startswith(site.certificates)]
    proxy_now = stamps.digest([stamps.read(settings.prefix, node.STAMP), *line], [*secret_files, *given])
    hub_now = stamps.digest([stamps.read(settings.prefix, python_env.STAMP)], own)
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


def ensure_certificates(instance: Instance, settings: Settings) -> None:
    """Have the hub's account make the certificates between hub, proxy and sessions, before anything starts with them."""
    account = pwd.getpwnam(instance.hub_user)
    answer = subprocess.run(
        [settings.python, "-I", "-m", "hub_config.certificates", "--renew", "--site", settings.site_file],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        check=False,
    )
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).splitlines()
        raise CommandFailed("The certificates between hub and sessions can not be made.", said)


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
