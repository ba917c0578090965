"""Phase two, from the installed environment: the cluster, then the hub and the proxy on top of it.

Started by phase one as ``PREFIX/venv/bin/python -I -m deploy.platform``.
"""

from __future__ import annotations

import argparse
import pwd
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy import access, catalogue, node, secrets_store, services, status, sudoers, time_zones
from deploy.errors import EXIT_NOT_RUNNING, CommandFailed, DeployError
from deploy.hub_api import Hub, HubError
from deploy.runner import Log
from deploy.settings import Settings
from deploy.signals import exit_status_of, polite
from deploy.steps import Steps
from deploy.summary import summary
from slurmbox import box
from slurmbox.errors import BoxError
from slurmbox.instance import Instance, load, load_or_choose

UP_STEPS = 4
DOWN_STEPS = 1
CLEAN_STEPS = 1


def up(settings: Settings, steps: Steps, node_path: Path) -> None:
    """Bring the platform up, or complete it; everything that runs already is left running."""
    instance = load_or_choose(settings.state, settings.prefix)
    with steps.step("Slurm cluster"):
        box.up(instance, steps.part)
        instance = load(settings.state)  # what was found out about this machine may have been added
    with steps.step("Passwords, permissions, certificates"):
        values = secrets_store.ensure(settings.secrets, pwd.getpwnam(instance.hub_user).pw_gid)
        sudoers.install(sudoers_rules(settings), instance.tag, settings.state)
        services.ensure_certificates(instance, settings)
    with steps.step("Data for everybody"):
        written = catalogue.ensure(settings.prefix, [time_zones.offer()])
        steps.note(", ".join(written) or "unchanged")
    with steps.step("Hub and proxy"):
        services.up(instance, settings, box.supervisor(instance), node_path, steps.note)
        logins = access.build(services.public_url(instance), instance.people, values)
        access.write(settings.access_file, logins)
    down_command = settings.command("down")
    steps.say(summary(logins, settings.access_file, socket.gethostname(), down_command))


def sudoers_rules(settings: Settings) -> str:
    """The rules as the site file wants them, written by the operator's own command."""
    command = [str(settings.venv / "bin" / "studiolo"), "sudoers", "--site", str(settings.site_file)]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).splitlines()
        raise CommandFailed(f"The site file {settings.site_file} was refused.", said)
    return answer.stdout


def down(settings: Settings, steps: Steps) -> None:
    """Stop everything of this instance and nothing else."""
    instance = load(settings.state)
    with steps.step("Stopping"):
        stop_services(instance, steps)
        box.down(instance, steps.part)


def clean(settings: Settings, steps: Steps) -> None:
    """Stop everything, then remove the sudo rule, the accounts and the state folder."""
    instance = load(settings.state)
    with steps.step("Removing instance and accounts"):
        stop_services(instance, steps)
        for tag in (instance.tag, sudoers.of_benchmarks(instance.tag)):
            sudoers.remove(tag, settings.state)
        box.clean(instance, steps.part)


def stop_services(instance: Instance, steps: Steps) -> None:
    """End hub and proxy first: nobody is to start a session on a cluster that is going."""
    boss = box.supervisor(instance)
    if not boss.is_running():
        return
    known = {program.name for program in boss.states()}
    for name in (services.HUB, services.PROXY):
        if name in known:
            with steps.part(f"Stopping the {name}"):
                boss.stop(name)


def show_status(settings: Settings) -> int:
    """Print the state of things; 0 where all is well, 3 where nothing runs, 1 where something is amiss."""
    instance = load(settings.state)
    now = box.status(instance)
    if not now.running:
        print(not_running(settings))
        return EXIT_NOT_RUNNING
    hub = Hub(services.public_url(instance), secrets_store.read(settings.secrets, "api_token"))
    try:
        sessions: list[tuple[str, ...]] | str = status.session_rows(hub.active_users())
    except HubError as error:
        sessions = f"  the hub does not answer ({error})"
    print(status.report(services.public_url(instance), now, sessions))
    return 0 if status.is_healthy(now) and not isinstance(sessions, str) else 1


def not_running(settings: Settings) -> str:
    return f"Studiolo is not running; `{settings.command('up')}` starts it."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.platform", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "clean", "status"))
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--node", type=Path, help="the Node.js for the proxy")
    parser.add_argument("--first", type=int, default=1, help="number of the first step shown")
    parser.add_argument("--total", type=int, default=UP_STEPS, help="number of steps in all")
    options = parser.parse_args(arguments)
    settings = Settings(options.state, options.prefix)
    if options.command == "status":
        with polite():
            return exit_status_of(lambda: show_status(settings), also=(BoxError,))
    log = Log(None if options.command == "clean" else settings.log)
    steps = Steps(log, options.total, first=options.first)

    def act() -> int:
        if options.command == "up":
            up(settings, steps, options.node or node.environments_node(settings.venv))
        elif options.command == "down":
            down(settings, steps)
        else:
            clean(settings, steps)
        return 0

    with polite():
        return exit_status_of(act, log, also=(BoxError, DeployError))


if __name__ == "__main__":
    sys.exit(main())
