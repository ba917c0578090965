"""Phase one, from the checkout with the system's Python: look, install, hand over to phase two."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy import apt, checks, facts, folders, lock, node, python_env, sudo
from deploy.errors import EXIT_NOT_RUNNING, DeployError, Interrupted, Refused, Shown
from deploy.runner import Log
from deploy.settings import BASE_PACKAGES, CHECKOUT, EXTRAS, Settings
from deploy.steps import Steps
from slurmbox.errors import BoxError
from slurmbox.instance import load_or_choose
from slurmbox.packages import system_packages

INSTALL_STEPS = 4
PLATFORM_STEPS = 4  # as phase two has them; it can't be imported before there is an environment
EXIT_UNKNOWN = 4  # as the Linux Standard Base has it for `status`


def need_root(arguments: Sequence[str], *, checks_follow: bool) -> None:
    """Go on as root: at once, or as the same command through sudo.

    Where neither is possible, the command is refused, or its checks are to say so with all else.
    """
    if os.geteuid() == 0:
        return
    if sudo.sudo_works(has_terminal=sys.stdin.isatty()):
        sudo.become_root(facts.SYSTEM_PYTHON, arguments, CHECKOUT)
    if not checks_follow:
        raise Refused(checks.check_root(is_root=False).problems)


def up(settings: Settings) -> int:
    """`make up`: checks, installation, platform."""
    with installed(settings, INSTALL_STEPS + PLATFORM_STEPS) as (steps, node_path):
        del steps  # phase two has its own and goes on counting
        first = ["--first", str(INSTALL_STEPS + 1), "--total", str(INSTALL_STEPS + PLATFORM_STEPS)]
        return phase2(settings, "up", "--node", str(node_path), *first)


@contextlib.contextmanager
def installed(settings: Settings, total: int) -> Iterator[tuple[Steps, Path]]:
    """Check the machine and install what is missing; yields while the folders are held for us."""
    steps = Steps(Log(None), total)
    with steps.step("Checks"):
        warnings = look(settings)
    for warning in warnings:
        steps.say(f"      note: {warning}")
    for folder in (settings.prefix, settings.state):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with lock.held(settings.prefix, settings.state):
        claim(settings)
        steps.log = Log(settings.log)
        node_path = install(settings, steps)
        yield steps, node_path


def look(settings: Settings) -> tuple[str, ...]:
    """Everything that stands in the way, at once (Refused); else what is worth a note."""
    busy = lock.holder(settings.state) or lock.holder(settings.prefix)
    found = checks.check(facts.gather(settings, busy))
    if found.problems:
        raise Refused(found.problems)
    return found.warnings


def claim(settings: Settings) -> None:
    """Make both folders ours, the state folder by choosing the instance's names and ports."""
    folders.claim_prefix(settings.prefix, settings.state)
    try:
        load_or_choose(settings.state, settings.prefix, settings.class_size)
    except BoxError as error:
        raise DeployError(str(error)) from error


def install(settings: Settings, steps: Steps) -> Path:
    """System packages, Python environment, proxy, launcher; returns the Node.js to use."""
    with steps.step("System packages"):
        wanted = (*BASE_PACKAGES, *system_packages(facts.read_os_release()), *settings.test_packages)
        apt.drop_left_policy()
        missing = apt.missing_packages(wanted)
        journal = settings.prefix / ".services-before.json"
        if missing or journal.exists():
            steps.note(f"{len(missing)} new")
            apt.install(steps.log, missing, wanted, journal)
        else:
            steps.note("all there")
    system_node = node.system_node()
    with steps.step("Python environment"):
        changed = python_env.ensure(
            steps.log,
            checkout=CHECKOUT,
            prefix=settings.prefix,
            python=facts.SYSTEM_PYTHON,
            extras=EXTRAS if system_node else (*EXTRAS, "node"),
            groups=settings.groups,
        )
        python_env.install_launcher(CHECKOUT, settings.prefix)
        if not changed:
            steps.note("unchanged")
    with steps.step("Proxy software"):
        node_path = system_node or node.environments_node(settings.venv)
        npm = node.npm_command(node_path, settings.venv)
        if not node.ensure_proxy(steps.log, prefix=settings.prefix, node=node_path, npm=npm):
            steps.note("unchanged")
    return node_path


def down(settings: Settings) -> int:
    """`make down`: stop everything of this instance."""
    state = settings.state
    if not folders.is_ours(state, folders.STATE_MARK) or folders.never_started(state):
        print(f"Nothing runs from {state}.")
        return 0
    with lock.held(settings.state):
        ensure_usable(settings)
        status = phase2(settings, "down", "--total", "1")
    if status == 0:
        print(f"Stopped. `{settings.command('up')}` starts it again, with everything kept.")
    return status


def status(settings: Settings) -> int:
    """`make status`: what runs. Exit status 3 where nothing does, as other services have it."""
    if not folders.is_ours(settings.state, folders.STATE_MARK):
        print(f"Studiolo is not running; `{settings.command('up')}` starts it.")
        return EXIT_NOT_RUNNING
    if not python_env.is_usable(settings.python):
        print(
            f"The software in {settings.prefix} is missing or broken, so nothing can be asked; "
            f"`{settings.command('up')}` repairs it."
        )
        return EXIT_UNKNOWN
    return phase2(settings, "status")


def clean(settings: Settings) -> int:
    """`make clean`: down, then remove state, accounts and software. Doing it twice is fine."""
    folders.refuse_foreign(settings.state, folders.STATE_MARK)
    folders.refuse_foreign(settings.prefix, folders.PREFIX_MARK)
    apt.drop_left_policy()
    if folders.is_ours(settings.state, folders.STATE_MARK):
        with lock.held(settings.state):
            if folders.never_started(settings.state):
                folders.remove(settings.state, folders.STATE_MARK)
            else:
                ensure_usable(settings)
                phase2(settings, "clean", "--total", "1")
    elif settings.state.exists():
        settings.state.rmdir()
    print(remove_software(settings))
    return 0


def remove_software(settings: Settings) -> str:
    """Remove the prefix unless other instances run from it; returns what to tell."""
    others = folders.other_users(settings.prefix, settings.state)
    if others:
        folders.forget_user(settings.prefix, settings.state)
        return f"Removed, but for {settings.prefix}: {', '.join(others)} runs from it."
    if settings.prefix.exists():
        with lock.held(settings.prefix):
            folders.remove(settings.prefix, folders.PREFIX_MARK)
    return f"Removed: {settings.state}, {settings.prefix}, their accounts and their sudo rule."


def ensure_usable(settings: Settings) -> None:
    """Repair a broken environment first: only the installed code knows how to stop what it started."""
    if python_env.is_usable(settings.python):
        return
    print(f"The software in {settings.prefix} is missing or broken; repairing it first.")
    folders.claim_prefix(settings.prefix, settings.state)
    with lock.held(settings.prefix):
        install(settings, Steps(Log(settings.log), INSTALL_STEPS - 1))


def phase2(settings: Settings, *arguments: str) -> int:
    """Run phase two to its end; an interruption reaches it before us. Raises Shown if it has failed."""
    folders_ = ["--state", str(settings.state), "--prefix", str(settings.prefix)]
    command = [str(settings.python), "-I", "-m", "deploy.platform", *arguments, *folders_]
    sys.stdout.flush()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/")
    try:
        returncode = process.wait()
    except (KeyboardInterrupt, Interrupted) as interruption:
        if isinstance(interruption, Interrupted):
            process.terminate()  # Ctrl-C reaches both, a signal to us does not
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        raise
    if returncode not in (0, EXIT_NOT_RUNNING):
        raise Shown(returncode if returncode > 0 else 1)
    return returncode
