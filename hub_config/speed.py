"""What JupyterHub would do anew at each of sixty starts, done once: a class that starts together waits for all of them.

Each is a measured cost of the hub's one thread, which serves nobody meanwhile.
"""

from __future__ import annotations

import gc
import re
import sqlite3
import sys
from functools import lru_cache
from typing import Any

import jupyterhub.oauth.provider
import jupyterhub.orm
import jupyterhub.user
import jupyterhub.utils
from sqlalchemy import event
from sqlalchemy.engine import Engine

__all__ = [
    "hash_once",
    "keep_contexts",
    "look_past_what_stays",
    "share_the_lock",
    "trust_files",
    "write_ahead",
]

LOCKED_MILLISECONDS = 30_000
# What JupyterHub's own new_token() makes: 122 random bits.
RANDOM_TOKEN = re.compile(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}")


def keep_contexts() -> None:
    """Make one TLS context for all sessions: each takes some 55 ms, to read all authorities that the host trusts.

    The files behind it change only while the hub is down. JupyterHub makes it anew to ask whether a server answers.
    """
    if not hasattr(jupyterhub.user.make_ssl_context, "cache_info"):
        jupyterhub.user.make_ssl_context = lru_cache(maxsize=8)(jupyterhub.utils.make_ssl_context)


def share_the_lock() -> None:
    """Have threads that compute hand the interpreter over ten times as soon as they would.

    Large answers of Slurm's are read in a thread. Each time that the hub's own thread has waited for its database, some
    twenty times a page, it would wait for 5 ms more until that thread lets go.
    """
    sys.setswitchinterval(0.0005)


def look_past_what_stays() -> None:
    """Have Python's garbage collector leave out what there is when the hub begins to serve, which is there until it ends.

    Everybody waits while it looks through all objects, a hundred thousand and more of modules alone: tenths of a second on a
    busy machine, and most often just after a large answer of Slurm's.
    """
    gc.collect()
    gc.freeze()


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


def hash_once() -> None:
    """Do not stretch the secret of a session's OAuth client: it is the session's random token, and takes 7 ms each time.

    Stretching is for what people think up. JupyterHub knows that, and keeps the very same token hashed once beside it.
    """
    jupyterhub.oauth.provider.hash_token = _hash_token


def _hash_token(token: str) -> str:
    hashed: str = jupyterhub.utils.hash_token(token, **({"rounds": 1} if RANDOM_TOKEN.fullmatch(token) else {}))
    return hashed


def trust_files() -> None:
    """Do not ask SQLite before each transaction whether it is still there: it is a file, and not behind a network."""
    jupyterhub.orm.register_ping_connection = _ask_nothing


def _ask_nothing(engine: Engine) -> None:
    """Stands where JupyterHub has a database asked for a sign of life."""
