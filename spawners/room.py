"""Whether the hub has room to write down what it starts.

Asked before anything begins: JupyterHub commits several times while it starts a session, and one that fails half-way
leaves a session that is neither there nor gone.
"""

from __future__ import annotations

import os

from spawners.failure import not_saved
from studiolo.site import Site

__all__ = ["must_have_room"]

NEEDED_BYTES = 1 << 20  # SQLite's journal and the database's next pages, many times over


def must_have_room(site: Site) -> None:
    """Raise :class:`~spawners.failure.SessionFailed` (503) where the disk with the hub's own database is full."""
    if site.hub.database != "sqlite":
        return
    facts = os.statvfs(site.paths.state)
    if facts.f_bavail * facts.f_frsize < NEEDED_BYTES:
        raise not_saved(site.support)
