"""The developer's chores: tests, lint, docs, benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from deploy import folders, phase1, python_env
from deploy.errors import DeployError, Interrupted, Refused
from deploy.python_env import PACKAGES, clean_environment
from deploy.runner import Log
from deploy.settings import CHECKOUT, DEFAULT_PREFIX, DEFAULT_STATE, Settings

QUICK_TESTS = ("unit", "golden", "recorded", "docs")
DEVELOPER_EXTRAS = ("hub", "lab", "slurmbox")
DEVELOPER_GROUPS = ("test", "lint", "docs")
BENCH_CLASS = 60  # people who start at once
PUTTING_BACK_S = 120
NO_PICTURES = "--no-pictures"


def test(settings: Settings, keep: bool, pytest_arguments: Sequence[str]) -> int:
    """All tests; those that need a platform bring it up themselves."""

    def act() -> int:
        with phase1.installed(settings, phase1.INSTALL_STEPS) as (steps, _):
            steps.say("")
        return run_pytest(settings, pytest_arguments)

    return on_own_instance(settings, keep, act)


def bench(settings: Settings, keep: bool, arguments: Sequence[str]) -> int:
    """All benchmarks, or those named, on a platform with a large class that nobody else uses."""
    platform = replace(settings, class_size=BENCH_CLASS)

    def act() -> int:
        status = phase1.up(platform)
        command: list[str | Path] = [platform.python, "-B", "benchmarks", *arguments]
        return status or measure(command, platform)

    return on_own_instance(platform, keep, act)


def measure(command: Sequence[str | Path], platform: Settings) -> int:
    """Run the benchmarks, and when interrupted wait until they have put back what they changed."""
    environment = {**clean_environment(os.environ), "STUDIOLO_STATE": str(platform.state)}
    process = subprocess.Popen([str(word) for word in command], cwd=CHECKOUT, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:  # a terminal's ^C has reached them too
        process.wait(PUTTING_BACK_S)
        raise
    except Interrupted:
        process.terminate()
        process.wait(PUTTING_BACK_S)
        raise


def on_own_instance(settings: Settings, keep: bool, act: Callable[[], int]) -> int:
    """Act on an instance of its own that is removed afterwards, whatever happens."""
    if settings.state == DEFAULT_STATE or settings.prefix == DEFAULT_PREFIX:
        raise Refused(["Tests and benchmarks never use the platform's own folders: choose others."])
    mine = not settings.state.exists()
    try:
        return act()
    finally:
        if keep or not mine:
            print(f"Kept: {settings.state} (STUDIOLO_TEST_STATE={settings.state} goes on with it)")
        else:
            remove_instance(settings)


def run_pytest(settings: Settings, arguments: Sequence[str]) -> int:
    """pytest from the checkout against what is installed; nothing is written into the checkout."""
    environment = {
        **python_env.clean_environment(os.environ),
        "STUDIOLO_STATE": str(settings.state),
        "STUDIOLO_PREFIX": str(settings.prefix),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(settings.prefix / ".hypothesis"),
    }
    pytest = [
        str(settings.venv / "bin" / "pytest"),
        "--import-mode=importlib",
        "-o", f"cache_dir={settings.prefix / '.pytest_cache'}",
        *(arguments or ["tests"]),
    ]  # fmt: skip
    return subprocess.run(pytest, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode


def remove_instance(settings: Settings) -> None:
    """Take the test's instance down and away; its software stays for the next run."""
    if not settings.state.exists():
        return
    if folders.never_started(settings.state):
        folders.remove(settings.state, folders.STATE_MARK)
        return
    if python_env.is_usable(settings.python):
        quiet = subprocess.DEVNULL
        command = [str(settings.python), "-I", "-m", "deploy.platform", "clean", "--total", "1"]
        where = ["--state", str(settings.state), "--prefix", str(settings.prefix)]
        done = subprocess.run([*command, *where], stdin=quiet, stdout=quiet, check=False)
        if done.returncode == 0:
            return
    raise DeployError(f"The test's instance is still there; to remove it: {settings.command('clean')}")


def test_fast(arguments: Sequence[str]) -> int:
    """The tests that need no process, from an environment in the checkout; no root."""
    python = developer_environment()
    folders = [f"tests/{name}" for name in QUICK_TESTS if (CHECKOUT / "tests" / name).is_dir()]
    return show([python, "-m", "pytest", "--import-mode=importlib", *(arguments or folders)])


def lint() -> int:
    """ruff, mypy and the import layers; all of them, even when the first complains."""
    bin_ = developer_environment().parent
    packages = [name for name in PACKAGES if (CHECKOUT / name).is_dir()]
    commands: list[list[str | Path]] = [
        [bin_ / "ruff", "check", "."],
        [bin_ / "ruff", "format", "--check", "."],
        [bin_ / "mypy", "--strict", *packages],
        [bin_ / "mypy", "--strict", "benchmarks"],
        [bin_ / "lint-imports"],
    ]
    return max(show(command) for command in commands)


def docs(settings: Settings, keep: bool, arguments: Sequence[str]) -> int:
    """The documentation as HTML, its pictures taken anew from the running product; a warning is an error."""
    if unknown := set(arguments) - {NO_PICTURES}:
        raise Refused([f"make docs knows {NO_PICTURES}, not {' '.join(sorted(unknown))}."])
    status = 0 if NO_PICTURES in arguments else pictures(settings, keep)
    python = developer_environment()
    target = CHECKOUT / "docs" / "_build" / "html"
    status = max(status, show([python, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", target]))
    if status == 0:
        print(f"See {target / 'index.html'}")
    return status


def pictures(settings: Settings, keep: bool) -> int:
    """Take docs/images anew on a platform of their own; where none is possible, say what it needs and keep them."""
    kept = f"The pictures stay as they are (make docs ARGS={NO_PICTURES} does not ask)."
    if os.geteuid() != 0 or not settings.browser:
        print(f"Taking pictures needs root, for a platform of its own, and a browser. {kept}")
        return 0

    def act() -> int:
        environment = {
            **clean_environment(os.environ),
            "STUDIOLO_STATE": str(settings.state),
            "PYTHONPATH": str(CHECKOUT / "tests" / "support"),
        }
        status = phase1.up(settings)
        command = [str(settings.python), "-B", "docs/pictures.py"]
        return status or subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode

    try:
        return on_own_instance(settings, keep, act)
    except Refused as refused:
        print(
            "\n".join(["Taking pictures needs a platform, which can not be brought up here:", *refused.problems, kept])
        )
        return 0


def developer_environment() -> Path:
    """The checkout's own ``.venv``, for whoever works on it; returns its Python."""
    folder = CHECKOUT / ".venv"
    python = folder / "bin" / "python"
    log = Log(None)
    if not python.exists():
        made = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=False)
        if made.returncode != 0:
            raise DeployError("Python's venv module is missing: `apt-get install python3-venv` first.")
    uv = python_env.ensure_uv(log, folder / ".uv", Path(sys.executable))
    command = python_env.sync_command(uv, CHECKOUT, Path(sys.executable), DEVELOPER_EXTRAS, DEVELOPER_GROUPS)
    environment = {**clean_environment(os.environ), "UV_PROJECT_ENVIRONMENT": str(folder)}
    done = subprocess.run([*command, "--quiet"], env=environment, check=False)
    if done.returncode != 0:
        raise DeployError("uv could not bring .venv up to date with uv.lock (see above).")
    return python


def show(command: Sequence[str | Path], **variables: str) -> int:
    """Run a tool in the checkout, its words straight to the terminal; ``variables`` join its environment."""
    words = [str(word) for word in command]
    print(f"$ {' '.join(words)}", flush=True)
    environment = {**clean_environment(os.environ), **variables}
    return subprocess.run(words, cwd=CHECKOUT, env=environment, check=False).returncode
