"""The commands by name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from deploy import chores, phase1, slurm24
from deploy.settings import Settings, for_tests, from_environment
from deploy.signals import exit_status_of, polite

AS_ROOT = ("up", "down", "status", "clean", "test", "test-slurm24", "bench")
NAMED_INSTANCE = ("up", "down", "status", "clean")
OWN_INSTANCE = ("test", "bench", "docs")
COMMANDS = (*AS_ROOT, "test-fast", "lint", "docs")
WITH_ARGUMENTS = ("test", "test-slurm24", "test-fast", "bench", "docs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="make", description="What the Makefile calls.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--group", action="append", default=[], help="dependency group to install too")
    options, rest = parser.parse_known_args(words)
    if rest[:1] == ["--"]:
        del rest[0]
    if rest and options.command not in WITH_ARGUMENTS:
        parser.error(f"{options.command} takes no arguments")
    settings = (
        for_tests(os.environ) if options.command in OWN_INSTANCE else from_environment(os.environ, tuple(options.group))
    )
    again = settings.command(options.command) if options.command in NAMED_INSTANCE else f"make {options.command}"
    interrupted = f"Interrupted. `{again}` takes it up where it was."

    def act() -> int:
        if options.command in AS_ROOT:
            phase1.need_root(words, checks_follow=options.command in ("up", *OWN_INSTANCE))
        return action(options.command, settings, rest)()

    with polite():
        return exit_status_of(act, interrupted=interrupted)


def action(command: str, settings: Settings, rest: Sequence[str]) -> Callable[[], int]:
    """What a command's name stands for."""
    keep = bool(os.environ.get("KEEP"))
    actions: dict[str, Callable[[], int]] = {
        "up": lambda: phase1.up(settings),
        "down": lambda: phase1.down(settings),
        "status": lambda: phase1.status(settings),
        "clean": lambda: phase1.clean(settings),
        "test": lambda: chores.test(settings, keep, rest),
        "test-slurm24": lambda: slurm24.test(os.environ, rest),
        "test-fast": lambda: chores.test_fast(rest),
        "lint": chores.lint,
        "docs": lambda: chores.docs(settings, keep, rest),
        "bench": lambda: chores.bench(settings, keep, rest),
    }
    return actions[command]
