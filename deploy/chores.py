"""The developer's chores: tests, lint, docs, benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
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
PUTTING_BACK_S = 120  # for benchmarks that are interrupted
LAST_FIXTURES_S = 45  # for tests that are: pytest-xdist gives its workers ten seconds, and a test alone puts back more
MOST_WORKERS = 4  # more instances than that beside each other nobody has tried
FEW_TESTS = ("--lf", "--last-failed", "--co", "--collect-only")  # pytest's options, beside -k
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
    """Run the benchmarks."""
    environment = {**clean_environment(os.environ), "STUDIOLO_STATE": str(platform.state)}
    return run_to_its_end(command, environment, signal.SIGTERM, PUTTING_BACK_S)


def run_to_its_end(
    command: Sequence[str | Path], environment: Mapping[str, str], request: signal.Signals, patience_s: float
) -> int:
    """Run a program in the checkout, and when interrupted wait for it to put back what it changed; its exit status.

    ``request`` is the signal by which it is asked to end, and has ``patience_s`` seconds to.
    """
    words = [str(word) for word in command]
    process = subprocess.Popen(words, cwd=CHECKOUT, env=dict(environment), stdin=subprocess.DEVNULL)
    try:
        return process.wait()
    except (KeyboardInterrupt, Interrupted) as interruption:
        if isinstance(interruption, Interrupted):
            process.send_signal(request)  # a terminal's ^C has reached it too
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
        raise
    finally:
        process.kill()  # nothing where it has ended
        process.wait()


def on_own_instance(settings: Settings, keep: bool, act: Callable[[], int]) -> int:
    """Act on an instance of its own that is removed afterwards, whatever happens, with those that tests put beside it."""
    if settings.state == DEFAULT_STATE or settings.prefix == DEFAULT_PREFIX:
        raise Refused(["Tests and benchmarks never use the platform's own folders: choose others."])
    before = instances(settings)
    try:
        return act()
    finally:
        made = [one for one in instances(settings) if one not in before]
        if kept := before + (made if keep else []):
            print(f"Kept: {', '.join(str(one.state) for one in kept)} (STUDIOLO_TEST_STATE={settings.state} goes on)")
        if not keep:
            remove_instances(made)


def instances(settings: Settings) -> list[Settings]:
    """The test's instance and those of its other workers (``own_state`` in tests/conftest.py), as far as they are there."""
    beside = sorted(settings.state.parent.glob(f"{settings.state.name}-gw*"))
    return [replace(settings, state=state) for state in (settings.state, *beside) if state.exists()]


def run_pytest(settings: Settings, arguments: Sequence[str]) -> int:
    """pytest from the checkout against what is installed; nothing is written into the checkout."""
    environment = {
        **python_env.clean_environment(os.environ),
        "STUDIOLO_STATE": str(settings.state),
        "STUDIOLO_PREFIX": str(settings.prefix),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(settings.prefix / ".hypothesis"),
    }
    wanted = list(arguments or ["tests"])
    number = workers(wanted, len(os.sched_getaffinity(0)))
    pytest = [
        str(settings.venv / "bin" / "pytest"),
        "--import-mode=importlib",
        "-o", f"cache_dir={settings.prefix / '.pytest_cache'}",
        # A file's tests share fixtures, and tests/conftest.py puts the files into their order.
        "--dist", "loadfile", "--no-loadscope-reorder",
        "--numprocesses", str(number if number > 1 else 0),
        *wanted,
    ]  # fmt: skip
    return run_to_its_end(pytest, environment, signal.SIGINT, LAST_FIXTURES_S)


def workers(arguments: Sequence[str], cpus: int, checkout: Path = CHECKOUT) -> int:
    """How many pytest workers, each with an instance of its own, these tests are worth on so many CPUs.

    A test waits for half of its time, so there may be more than CPUs would have work for: half of them and one. No more
    than files are named, and one for a choice of tests by name.
    """
    if any(word.startswith("-k") or word in FEW_TESTS for word in arguments):
        return 1
    named = [path for word in arguments if (path := checkout / word.partition("::")[0]).exists()]
    files = sum(len(list(path.rglob("test_*.py"))) if path.is_dir() else 1 for path in named or [checkout / "tests"])
    return min(cpus // 2 + 1, files, MOST_WORKERS) if cpus > 1 else 1


def remove_instances(made: Sequence[Settings]) -> None:
    """Take the test's instances down and away, each whatever becomes of the others; their software stays for the next run."""
    failed = []
    for number, settings in enumerate(made):
        try:
            remove_instance(settings)
        except DeployError as error:
            failed.append(str(error))
        except (KeyboardInterrupt, Interrupted):
            failed += [still_there(one) for one in made[number:]]
            break
    if failed:
        raise DeployError("\n".join(failed))


def remove_instance(settings: Settings) -> None:
    """Take one instance down and away. A DeployError says how to remove what is left of it."""
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
    raise DeployError(still_there(settings))


def still_there(settings: Settings) -> str:
    """What to tell of an instance that was not removed."""
    return f"The test's instance is still there; to remove it: {settings.command('clean')}"


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
