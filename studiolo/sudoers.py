"""The one privilege the hub needs, as text for a file in /etc/sudoers.d: submit, foretell and cancel for people, nothing else."""

from __future__ import annotations

import re

from studiolo.errors import Fault, SiteError
from studiolo.site import Cluster, Site
from studiolo.slurm.commands import ACTIONS, launcher_argv

__all__ = ["sudoers"]

_PLAIN = re.compile(r"[A-Za-z0-9_./+@-]+", re.ASCII)


def sudoers(site: Site) -> str:
    """Return the rules. Raises :class:`SiteError` for a path that sudoers would read in its own way."""
    lines = [
        "# Studiolo: for the people of a group, the hub may submit jobs, ask when one would start, and cancel them; requests",
        "# come on standard input, so every command line is fixed to the last letter. Written by `studiolo sudoers`.",
    ]
    for cluster in site.clusters.values():
        if cluster.via == "slurmrestd":
            continue
        lines += [
            f"Defaults!{cluster.launcher} env_reset, !requiretty",
            *(f"{site.hub.account} ALL=(%{cluster.people}) NOPASSWD: {_line(cluster, a)}" for a in ACTIONS),
        ]
    return "\n".join([*lines, ""])


def _line(cluster: Cluster, action: str) -> str:
    words = launcher_argv(cluster, action)
    for word in words:
        if not _PLAIN.fullmatch(word):
            raise SiteError(
                [Fault("clusters", word, "a path of letters, digits and _./+@- for use in sudoers")], "site.toml"
            )
    return " ".join(words)
