"""What stands at the end of `make up`: where to go and who may log in."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from deploy.access import Access, Login

ROLES_SHOWN = ("company", "researcher", "trainer", "learner", "operator")


def summary(access: Access, access_file: Path, hostname: str, down: str) -> str:
    """A few logins, one of each kind, and how to reach the page from elsewhere."""
    shown = [first(access["users"], role) for role in ROLES_SHOWN]
    rows = [(u["name"], u["password"], u["role"]) for u in shown if u is not None]
    lines = [
        "",
        f"Studiolo is up: {access['url']}",
        "",
        *table(("log in as", "password", "who"), rows),
        "",
        f"All {len(access['users'])} logins and the API token: {access_file} (root only)",
    ]
    port = loopback_port(access["url"])
    if port is not None:
        lines.append(f"From your laptop: ssh -L {port}:127.0.0.1:{port} {hostname}, then the same URL")
    lines.append(f"Stop it with: {down}")
    return "\n".join(lines)


def first(users: Sequence[Login], role: str) -> Login | None:
    return next((user for user in users if user["role"] == role), None)


def loopback_port(url: str) -> int | None:
    """The port of a URL that only this machine can reach; None if others can."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return (parts.port or 80) if local else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Left-aligned columns with their heading, indented by two."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
