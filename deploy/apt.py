"""System packages through apt-get: only the missing ones, and none of their services started or enabled."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import CommandFailed
from deploy.runner import Log, ask, run

LISTS_AGE_S = 7 * 24 * 3600  # older package lists name versions that the mirrors no longer have
ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # after `su`, the sbin folders may lack
APT_GET = ("apt-get", "--yes", "--quiet", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0")
POLICY_MARK = "# Written by studiolo's `make up` while it installs packages; safe to remove."
POLICY = f"""#!/bin/sh
{POLICY_MARK}
exit 101
"""


@dataclass(frozen=True)
class SystemPaths:
    """Where the system keeps what this module reads and writes; other places in tests."""

    policy: Path = Path("/usr/sbin/policy-rc.d")
    lists: Path = Path("/var/lib/apt/lists")
    boot_links: Path = Path("/etc/systemd/system")
    init_scripts: Path = Path("/etc/init.d")
    units: tuple[Path, ...] = (Path("/lib/systemd/system"), Path("/usr/lib/systemd/system"))


SYSTEM = SystemPaths()


def missing_packages(wanted: Sequence[str]) -> tuple[str, ...]:
    """Those packages that dpkg does not know as properly installed."""
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n", "*"]
    return not_installed(wanted, ask(query) or "")


def not_installed(wanted: Sequence[str], listing: str) -> tuple[str, ...]:
    """``wanted`` without those that a listing of ``package status`` lines says are installed."""
    lines = (line.split() for line in listing.splitlines())
    there = {words[0] for words in lines if words[1:] == ["installed"]}
    return tuple(package for package in wanted if package not in there)


def lists_are_stale(lists: Path, now: float) -> bool:
    """Whether apt's package lists are missing or too old to install from."""
    ages = [now - file.stat().st_mtime for file in lists.glob("*_Packages*")]
    return not ages or min(ages) > LISTS_AGE_S


def install(
    log: Log,
    missing: Sequence[str],
    wanted: Sequence[str],
    journal: Path,
    system: SystemPaths = SYSTEM,
) -> None:
    """Install the missing packages without letting the services of the wanted ones run, now or at the next boot.

    ``journal`` remembers which units existed before, so that a run which goes on after an
    interrupted one still tells new services from those of the machine's owner.
    """
    units_before = remember_units(journal, system)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "PATH": ROOT_PATH}
    if missing:
        with services_held_back(system.policy):
            _get(log, missing, env, stale=lists_are_stale(system.lists, time.time()))
    for unit in new_units(wanted, units_before):
        _disable(log, unit, env, system)
    journal.unlink(missing_ok=True)


def _disable(log: Log, unit: str, env: Mapping[str, str], system: SystemPaths) -> None:
    """Keep a new service from starting at the next boot, whatever this machine boots with."""
    sorry = f"The service {unit} could not be disabled."
    script = unit.removesuffix(".service")
    if (system.init_scripts / script).exists():
        run(log, ["update-rc.d", script, "disable"], sorry, env=env)
    if shutil.which("systemctl", path=ROOT_PATH):
        run(log, ["systemctl", "disable", "--quiet", unit], sorry, env=env)
    else:  # an image that may get systemd later; the links are there already
        for link in system.boot_links.glob(f"*.wants/{unit}"):
            log.line(f"removing {link}")
            link.unlink()


def refresh(log: Log, env: Mapping[str, str] | None = None) -> None:
    """Fetch new package lists."""
    no_lists = "apt-get could not fetch the package lists: check the machine's network and mirrors."
    run(log, [*APT_GET, "update"], no_lists, env=env)


def _get(log: Log, packages: Sequence[str], env: Mapping[str, str], *, stale: bool) -> None:
    """apt-get, with new package lists where the old are stale or turn out to be."""
    install = [*APT_GET, "install", "--no-install-recommends", *packages]
    sorry = f"apt-get could not install {', '.join(packages)}."
    if stale:
        refresh(log, env)
    try:
        run(log, install, sorry, env=env)
    except CommandFailed:
        # Either dpkg was interrupted in an earlier run, or the lists name versions long gone.
        run(log, ["dpkg", "--configure", "-a"], "dpkg could not go on where it was cut off.", env=env)
        if not stale:
            refresh(log, env)
        run(log, install, sorry, env=env)


@contextlib.contextmanager
def services_held_back(policy: Path) -> Iterator[None]:
    """Keep packages from starting their services, by Debian's own switch for that.

    A machine that has a policy of its own keeps it. A file that an interrupted run left is ours
    by its mark, is used again and goes at the end.
    """
    try:
        descriptor = os.open(policy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        ours = is_our_policy(policy)
    else:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(POLICY)
            os.fchmod(stream.fileno(), 0o755)
        ours = True
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def is_our_policy(policy: Path) -> bool:
    """Whether the policy file was written by us; one cut off while it was written counts as ours."""
    try:
        text = policy.read_text(errors="replace")
    except FileNotFoundError:
        return False
    return POLICY_MARK in text or POLICY.startswith(text)


def drop_left_policy(policy: Path = SYSTEM.policy) -> None:
    """Remove the policy file of a run that was killed."""
    if is_our_policy(policy):
        policy.unlink(missing_ok=True)


def remember_units(journal: Path, system: SystemPaths) -> frozenset[str]:
    """The service units that existed before our packages came; written down on the first attempt."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return frozenset(json.loads(journal.read_text()))
    there = sorted({unit.name for folder in system.units for unit in folder.glob("*.service")})
    temporary = journal.with_name(f"{journal.name}.new")
    temporary.write_text(json.dumps(there))
    os.replace(temporary, journal)
    return frozenset(there)


def new_units(packages: Sequence[str], before: frozenset[str]) -> tuple[str, ...]:
    """The services that these packages have brought to this machine just now."""
    files = [Path(line) for p in packages for line in (ask(["dpkg-query", "-L", p]) or "").splitlines()]
    names = {f.name for f in files if f.suffix == ".service" and f.parent.name == "system"}
    return tuple(sorted(name for name in names - before if "@." not in name))
