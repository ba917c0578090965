"""The hub's secrets: made once, each a file that root and the hub's account can read."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from slurmbox.files import ensure_folder, write_atomic

# Without letters and digits that look alike.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def grouped_password(groups: int) -> str:
    """A password to be typed by people, such as ``k7dp-2mwx-9rtq``; five bits a character."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(groups))


MAKERS: dict[str, Callable[[], str]] = {
    "user_password": lambda: grouped_password(3),
    "admin_password": lambda: grouped_password(8),  # the hub wants 32 characters or more
    "proxy_token": lambda: secrets.token_hex(32),
    "api_token": lambda: secrets.token_hex(32),
    "cookie_secret": lambda: secrets.token_hex(32),
}


def ensure(folder: Path, group_id: int) -> dict[str, str]:
    """Make the missing secrets and return all; those that exist keep their value."""
    ensure_folder(folder, mode=0o750, gid=group_id)
    values = {}
    for name, make in MAKERS.items():
        value = read(folder, name) or make()
        write_atomic(folder / name, f"{value}\n", mode=0o640, gid=group_id)
        values[name] = value
    return values


def read(folder: Path, name: str) -> str:
    """One secret; an empty string if it was never made."""
    try:
        return (folder / name).read_text().strip()
    except FileNotFoundError:
        return ""
