"""The Python environment from the lock file, by a pinned uv, in a folder that every user can read."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy import stamps
from deploy.errors import DeployError
from deploy.runner import Log, ask, run

PACKAGES = ("studiolo", "spawners", "hub_config", "slurmbox", "deploy")
UV_REQUIREMENTS = Path(__file__).parent / "uv-requirements.txt"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LAUNCHER_FIRST_LINE = b"#!/usr/bin/python3 -IS\n"
STAMP = "python"
UNFINISHED = "python-unfinished"


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without what would steer Python, pip or uv elsewhere; trusts the system's certificates.

    A company's own certificate authority is known to the system, but not to the lists that pip
    and Node bring along.
    """
    steering = ("PYTHON", "VIRTUAL_ENV", "CONDA", "UV_", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
    env = {name: value for name, value in environ.items() if not name.startswith(steering)}
    if SYSTEM_CERTIFICATES.exists():
        env.setdefault("PIP_CERT", str(SYSTEM_CERTIFICATES))
        env.setdefault("NODE_EXTRA_CA_CERTS", str(SYSTEM_CERTIFICATES))
    env["UV_SYSTEM_CERTS"] = "1"
    env["UV_PYTHON_DOWNLOADS"] = "never"
    env["UV_HTTP_TIMEOUT"] = "120"
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return env


def ensure_uv(log: Log, folder: Path, python: Path) -> Path:
    """The pinned uv in a small environment of its own; returns its path."""
    uv = folder / "bin" / "uv"
    stamp = stamps.digest([str(python)], [UV_REQUIREMENTS])
    if uv.exists() and stamps.matches(folder, "uv", stamp):
        return uv
    env = clean_environment(os.environ)
    run(
        log,
        [python, "-I", "-m", "venv", "--clear", folder],
        "The environment for uv could not be made: `apt-get install python3-venv` may help.",
        env=env,
    )
    install = ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    run(
        log,
        [folder / "bin" / "python", "-I", "-m", "pip", *install, "-r", UV_REQUIREMENTS],
        "pip could not install uv: check that the machine reaches PyPI.",
        env=env,
    )
    os.chmod(folder, 0o700)  # uv's cache holds lock files that everybody may lock; sessions need nothing of it
    stamps.write(folder, "uv", stamp)
    return uv


def sync_command(uv: Path, checkout: Path, python: Path, extras: Sequence[str], groups: Sequence[str]) -> list[str]:
    """uv's arguments for an environment exactly as the lock file says."""
    return [
        str(uv), "sync", "--project", str(checkout), "--frozen", "--python", str(python),
        *(word for extra in extras for word in ("--extra", extra)),
        *(word for group in groups for word in ("--group", group)),
    ]  # fmt: skip


def source_digest(checkout: Path, python: Path, extras: Sequence[str], groups: Sequence[str]) -> str:
    """A hash of all that goes into the environment: lock file, our own code, interpreter, choices."""
    project = [checkout / name for name in ("uv.lock", "pyproject.toml", "README.md", "LICENSE")]
    real = python.resolve()
    return stamps.digest(
        [str(real), str(real.stat().st_mtime_ns), *extras, "--", *groups,
         stamps.tree_digest(checkout / package for package in PACKAGES)],
        [UV_REQUIREMENTS, *(file for file in project if file.exists())],
    )  # fmt: skip


def ensure(
    log: Log,
    *,
    checkout: Path,
    prefix: Path,
    python: Path,
    extras: Sequence[str],
    groups: Sequence[str],
) -> bool:
    """Make ``PREFIX/venv`` what the checkout says; returns whether anything had to be done."""
    value = source_digest(checkout, python, extras, groups)
    venv = prefix / "venv"
    if stamps.matches(prefix, STAMP, value) and (venv / "bin" / "python").exists():
        return False
    stamps.drop(prefix, STAMP)
    unfinished = bool(stamps.read(prefix, UNFINISHED))
    uv = ensure_uv(log, prefix / ".uv", python)
    env = clean_environment(os.environ)
    env["UV_PROJECT_ENVIRONMENT"] = str(venv)
    env["UV_CACHE_DIR"] = str(prefix / ".uv" / "cache")
    command = sync_command(uv, checkout, python, extras, groups)
    # Copied and not linked or editable: the checkout may lie in a folder that is closed to others.
    command += ["--no-editable", "--link-mode", "copy", "--compile-bytecode", "--no-progress"]
    command += ["--reinstall-package", "studiolo"]
    if unfinished:
        # Killed while it copied, uv may have left half a package that it takes for a whole one.
        command += ["--reinstall"]
    stamps.write(prefix, UNFINISHED, "yes")
    run(log, command, "uv could not install the Python environment.", env=env)
    open_to_all(venv)
    stamps.write(prefix, STAMP, value)
    stamps.drop(prefix, UNFINISHED)
    return True


def is_usable(python: Path) -> bool:
    """Whether the installed environment starts and holds our code."""
    return ask([python, "-I", "-c", "import deploy.platform"]) is not None


def open_to_all(folder: Path) -> None:
    """Let every user read all files and enter all folders, whatever mode the checkout's had."""
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = os.path.join(path, name)
            mode = os.lstat(entry).st_mode
            if stat.S_ISLNK(mode):
                continue
            wanted = mode | 0o444 | (0o111 if mode & 0o100 or stat.S_ISDIR(mode) else 0)
            wanted &= ~0o022
            if wanted != mode:
                os.chmod(entry, stat.S_IMODE(wanted))


def install_launcher(checkout: Path, prefix: Path) -> Path:
    """Copy the program that the hub may run as others to ``PREFIX/libexec``, owned by who installs."""
    source = checkout / "studiolo" / "slurm" / "launcher.py"
    content = source.read_bytes()
    if not content.startswith(LAUNCHER_FIRST_LINE):
        raise DeployError(f"{source} must start with {LAUNCHER_FIRST_LINE.decode().strip()}.")
    folder = prefix / "libexec"
    folder.mkdir(mode=0o755, exist_ok=True)
    target = folder / "studiolo-launch"
    temporary = folder / ".studiolo-launch.new"
    temporary.unlink(missing_ok=True)
    shutil.copyfile(source, temporary)
    os.chmod(temporary, 0o755)  # noqa: S103 - everybody may run it; sudo's rule says who may as whom
    os.replace(temporary, target)
    return target
