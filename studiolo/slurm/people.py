"""For whom the hub may act, where no sudoers rule says so: members of the cluster's group, never root."""

from __future__ import annotations

import grp
import os
import pwd
import re

from studiolo.errors import LauncherFailed
from studiolo.site import Cluster

__all__ = ["PERSON", "member"]

# sudo reads "#0" and "%wheel" in its own way and Slurm knows no such people: only plain names pass.
PERSON = re.compile(r"[a-z_][a-z0-9_.-]{0,31}", re.ASCII)


def member(cluster: Cluster, person: str, action: str) -> pwd.struct_passwd:
    """The account of a person for whom the hub may submit. Raises :class:`LauncherFailed` for anybody else.

    Asks the host's account database, which may take a while: not for an event loop.
    """
    if not PERSON.fullmatch(person):
        raise LauncherFailed(action, f"{person!r} is not the name of an account")
    try:
        account = pwd.getpwnam(person)
        group = grp.getgrnam(cluster.people).gr_gid
    except KeyError as error:
        raise LauncherFailed(action, f"this host knows no such account or group: {error.args[0]}") from None
    if account.pw_uid == 0:
        raise LauncherFailed(action, "never for root")
    if group not in os.getgrouplist(person, account.pw_gid):
        raise LauncherFailed(action, f"{person} is not in the group {cluster.people}, for which the hub may act")
    return account
