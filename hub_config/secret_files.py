"""The hub's secrets, one file each below ``paths.secrets``."""

from __future__ import annotations

import contextlib
from pathlib import Path

from studiolo.errors import Fault, SiteError
from studiolo.site import Site

__all__ = ["optional_secret", "secret"]


def secret(site: Site, name: str) -> str:
    """Read one secret. Raises :class:`SiteError` where it is missing, empty, or open to others; never prints it."""
    path = Path(site.paths.secrets) / name
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise SiteError(
            [Fault("paths.secrets", str(path), "must be text: openssl rand -hex 32")], "site.toml"
        ) from None
    except OSError as error:
        allowed = f"a file that the hub's account can read ({error.strerror})"
        raise SiteError([Fault("paths.secrets", str(path), allowed)], "site.toml") from error
    if mode & 0o007:
        raise SiteError([Fault("paths.secrets", str(path), "must not be open to all users: chmod o= it")], "site.toml")
    if not text:
        raise SiteError([Fault("paths.secrets", str(path), "must not be empty")], "site.toml")
    return text


def optional_secret(site: Site, name: str) -> str:
    """Read a secret that a site may do without; empty where there is no such file."""
    with contextlib.suppress(PermissionError):  # there or not: `secret` says what is wrong
        if not (Path(site.paths.secrets) / name).exists():
            return ""
    return secret(site, name)
