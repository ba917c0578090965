"""Becoming root: the same command again through sudo, as a list of arguments."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SUDO = Path("/usr/bin/sudo")
# Beside STUDIOLO_*: how this machine reaches the registries, and which certificates it trusts.
NETWORK_VARIABLES = frozenset(
    {
        "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "PIP_CERT", "NODE_EXTRA_CA_CERTS",
    }
)  # fmt: skip
ALSO_PASSED = frozenset({"CI", "KEEP"})


def is_passed(name: str) -> bool:
    """Whether root's command is given this variable of ours."""
    return name.startswith("STUDIOLO_") or name in NETWORK_VARIABLES or name in ALSO_PASSED


def sudo_arguments(environ: Mapping[str, str], python: Path, arguments: Sequence[str]) -> list[str]:
    """The command line that runs ``python3 -m deploy ARGUMENTS`` as root.

    Variables are passed by name: a proxy's password in one must not stand on a command line.
    """
    names = sorted(name for name in environ if is_passed(name))
    keep = [f"--preserve-env={','.join(names)}"] if names else []
    return [str(SUDO), *keep, "--", str(python), "-B", "-m", "deploy", *arguments]


def sudo_works(*, has_terminal: bool) -> bool:
    """Whether sudo may be asked: it needs no password, or there is a terminal to ask for it."""
    if not os.access(SUDO, os.X_OK):
        return False
    if has_terminal:
        return True
    ask = [str(SUDO), "--non-interactive", "--validate"]
    return subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def become_root(python: Path, arguments: Sequence[str], checkout: Path) -> None:
    """Replace this process by the same command as root. Does not return."""
    os.chdir(checkout)
    command = sudo_arguments(os.environ, python, arguments)
    os.execv(command[0], command)  # noqa: S606 - a list of arguments is the point
