"""Which system packages the embedded cluster needs, by distribution.

No package here starts a database service: MariaDB comes as the bare server program. Debian's Slurm and
munge packages do bring services; the installer must keep them from starting (``policy-rc.d``).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

SLURM_PACKAGES: tuple[str, ...] = (
    "munge",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",  # slurmdbd's storage
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "slurmrestd",
)

# The plugin for JSON Web Tokens became a package of its own in Debian 12; before, the basic plugins held it.
JWT_PACKAGE = "slurm-wlm-jwt-plugin"

MARIADB_PACKAGES: tuple[str, ...] = ("mariadb-server-core", "mariadb-client-core")
MARIADB_PACKAGES_JAMMY: tuple[str, ...] = ("mariadb-server-core-10.6", "mariadb-client-core-10.6")

PROGRAMS: tuple[str, ...] = (
    "munged", "munge", "unmunge", "mariadbd", "mariadb", "mariadb-install-db",
    "slurmctld", "slurmdbd", "slurmd", "slurmrestd", "sacctmgr", "scontrol", "sinfo", "squeue", "scancel", "sbatch",
)  # fmt: skip
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def system_packages(os_release: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the packages to install, given the fields of ``/etc/os-release`` (unquoted).

    ``ID`` and ``VERSION_ID`` decide; a distribution that is neither Debian nor Ubuntu gets Debian's names.
    """
    old = (os_release.get("ID"), os_release.get("VERSION_ID")) == ("ubuntu", "22.04")
    if old:
        return SLURM_PACKAGES + MARIADB_PACKAGES_JAMMY
    return (*SLURM_PACKAGES, JWT_PACKAGE, *MARIADB_PACKAGES)


def program(name: str) -> str | None:
    """Absolute path of a system program, or None; root's ``PATH`` may lack the sbin folders."""
    return shutil.which(name, path=SEARCH_PATH)


def missing_programs() -> tuple[str, ...]:
    """Those of ``PROGRAMS`` that this machine lacks."""
    return tuple(name for name in PROGRAMS if program(name) is None)
