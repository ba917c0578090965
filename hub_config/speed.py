"""What JupyterHub would do anew at each of sixty starts, done once: a class that starts together waits for all of them.

Each is a measured cost of the hub's one thread, which serves nobody meanwhile.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import Any

import jupyterhub.user
import jupyterhub.utils
from sqlalchemy import event
from sqlalchemy.engine import Engine

__all__ = ["keep_contexts", "write_ahead"]

LOCKED_MILLISECONDS = 30_000


def keep_contexts() -> None:
    """Make one TLS context for all sessions: each takes some 55 ms, to read all authorities that the host trusts.

    The files behind it change only while the hub is down. JupyterHub makes it anew to ask whether a server answers.
    """
    if not hasattr(jupyterhub.user.make_ssl_context, "cache_info"):
        jupyterhub.user.make_ssl_context = lru_cache(maxsize=8)(jupyterhub.utils.make_ssl_context)


def write_ahead() -> None:
    """Have SQLite append what is committed to a log instead of waiting for the disk some twenty times a start.

    A hub that is killed loses nothing. When the machine itself loses power the last moments may be missing: a session
    begun then is found by its job's comment. A backup that holds the file locked is waited for, not failed upon.
    """
    if not event.contains(Engine, "connect", _write_ahead):
        event.listen(Engine, "connect", _write_ahead)


def _write_ahead(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"busy_timeout = {LOCKED_MILLISECONDS}"):
            connection.execute(f"PRAGMA {pragma}")
