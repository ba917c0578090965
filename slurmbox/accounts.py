"""Unix accounts of an instance: made once, marked as ours, and removed only if they bear the mark."""

from __future__ import annotations

import grp
import pwd
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from slurmbox.errors import BoxError, CommandFailed
from slurmbox.files import copy_tree_contents, ensure_folder
from slurmbox.instance import Instance
from slurmbox.packages import program
from slurmbox.people import Person

LOCK_PATIENCE_S = 15.0


@dataclass(frozen=True)
class Account:
    """One unix account to be. System accounts get no shell and a number below 1000."""

    name: str
    comment: str
    home: Path
    system: bool
    groups: tuple[str, ...] = ()  # beside its own


def wanted(instance: Instance) -> tuple[Account, ...]:
    """All accounts of the instance. The comment (GECOS) ends with the mark that says whose they are."""
    mark = f"studiolo {instance.ident}"
    daemons = (instance.slurm_user, instance.db_user, instance.rest_user, instance.hub_user)
    homes = {instance.hub_user: instance.state / "hub"}
    return tuple(
        Account(name, f"Studiolo daemon,{mark}", homes.get(name, Path("/nonexistent")), True) for name in daemons
    ) + tuple(
        Account(p.name, f"{p.full_name},{mark}", instance.homes / p.name, False, groups_of(instance, p))
        for p in instance.people
    )


def is_ours(instance: Instance, name: str) -> bool:
    """Whether the account exists and was made by this instance. A foreign one raises BoxError."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return False
    if entry.pw_gecos.split(",")[-1] != f"studiolo {instance.ident}":
        raise BoxError(
            f"The account {name} exists and was not made by this instance; it is left alone. "
            f"Rename it, or start over with another STUDIOLO_STATE."
        )
    return True


def ensure_daemons(instance: Instance) -> None:
    """Create the groups and the daemons' accounts that are missing."""
    for group in (instance.people_group, *instance.groups):
        _ensure_group(group)
    for account in wanted(instance):
        if account.system and not is_ours(instance, account.name):
            _useradd(instance, account)


def ensure_people(instance: Instance) -> None:
    """Create the people and their private homes that are missing; finishes what was interrupted."""
    for account in wanted(instance):
        if not account.system:
            if not is_ours(instance, account.name):
                _useradd(instance, account)
            _ensure_home(account)
    members = {name: grp.getgrnam(name).gr_mem for name in (instance.people_group, *instance.groups)}
    for person in instance.people:
        if lacking := [name for name in groups_of(instance, person) if person.name not in members[name]]:
            _run("usermod", "--append", "--groups", ",".join(lacking), person.name)


def groups_of(instance: Instance, person: Person) -> tuple[str, ...]:
    """The groups that a person belongs to beside their own: that of all people, and their company's."""
    return (instance.people_group, instance.group_of(person))


def _ensure_group(name: str) -> None:
    try:
        grp.getgrnam(name)
    except KeyError:
        _run("groupadd", "--system", name)


def _useradd(instance: Instance, account: Account) -> None:
    """One ``useradd``: the password stays locked. Homes are made by ``_ensure_home``."""
    options = ["--no-create-home", "--user-group", "--no-log-init", "--comment", account.comment]
    options += ["--home-dir", str(account.home)]
    if account.system:
        options += ["--system", "--shell", "/usr/sbin/nologin"]
    else:
        options += ["--shell", "/bin/bash", "--groups", ",".join(account.groups)]
    _run("useradd", *options, account.name)


def _ensure_home(account: Account) -> None:
    entry = pwd.getpwnam(account.name)
    if account.home.is_dir() and not account.home.is_symlink() and account.home.stat().st_uid == entry.pw_uid:
        return
    ensure_folder(account.home, mode=0o700)
    copy_tree_contents(Path("/etc/skel"), account.home, uid=entry.pw_uid, gid=entry.pw_gid)
    # Handed over last: a home that belongs to its owner is a finished one.
    ensure_folder(account.home, mode=0o700, uid=entry.pw_uid, gid=entry.pw_gid)


def remove(instance: Instance) -> None:
    """Remove the accounts and groups that this instance made, and nothing else."""
    for account in reversed(wanted(instance)):
        try:
            ours = is_ours(instance, account.name)
        except BoxError:
            continue  # someone else's by now: not ours to remove
        if ours:
            _run("userdel", account.name)
            _remove_spool(account.name)
    for group in (instance.people_group, *instance.groups):
        _remove_group(group)


def _remove_group(name: str) -> None:
    try:
        left = grp.getgrnam(name).gr_mem
    except KeyError:
        return
    if not left:
        _run("groupdel", name)


def _remove_spool(name: str) -> None:
    for folder in ("/var/mail", "/var/spool/mail"):
        mail = Path(folder) / name
        if mail.is_file() and not mail.is_symlink():
            mail.unlink()


def ids(name: str) -> tuple[int, int]:
    """(uid, gid) of an account."""
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def _run(name: str, *arguments: str) -> None:
    """Run one of the shadow suite's programs; waits while someone else holds the lock of /etc/passwd."""
    path = program(name)
    if path is None:
        raise CommandFailed(f"{name} is not installed (package passwd).")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        done = subprocess.run(
            [path, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
            start_new_session=True,  # a ^C must not catch it between passwd and group
        )
        if done.returncode == 0:
            return
        if "cannot lock" not in done.stderr or time.monotonic() > deadline:
            said = done.stderr.strip() or f"exit status {done.returncode}"
            raise CommandFailed(f"{name} {' '.join(arguments)}: {said}")
        time.sleep(0.1)
