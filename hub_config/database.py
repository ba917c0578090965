"""The hub's database: its address with the password put in, and how far its schema is.

``python -m hub_config.database SITE_FILE`` prints the latter as JSON: what ``studiolo doctor`` asks, in a process of the
hub's own account, since the database may know the hub by its account alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from jupyterhub.dbutil import ALEMBIC_DIR
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from hub_config.secret_files import optional_secret
from studiolo.errors import SiteError
from studiolo.site import Site, load

__all__ = ["DatabaseState", "address", "connection_arguments", "give_back_connections", "look"]

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5
LOCKED_SECONDS = 60


@dataclass(frozen=True)
class DatabaseState:
    """What was found. ``revision`` is empty where there are no tables yet; ``trouble`` is empty where it answers."""

    trouble: str = ""
    revision: str = ""
    head: str = ""


def address(site: Site) -> URL:
    """The address for SQLAlchemy. Its text holds the password only where that is asked for (``hide_password=False``)."""
    if site.hub.database == "sqlite":
        return make_url(f"sqlite:///{site.paths.state}/jupyterhub.sqlite")
    password = optional_secret(site, "database_password")
    url = make_url(site.hub.database).set(drivername="postgresql+psycopg")
    return url.set(password=password) if password else url


def connection_arguments(site: Site) -> dict[str, Any]:
    """What the hub tells SQLAlchemy. The hub is one thread with one session, so a pool's size is no matter."""
    if site.hub.database == "sqlite":
        # Locked by a backup, say: waiting loses nothing, while giving up leaves JupyterHub with half a session.
        # check_same_thread: what JupyterHub itself would set.
        return {"connect_args": {"check_same_thread": False, "timeout": LOCKED_SECONDS}}
    # While the hub waits for its database it serves nobody: a host that does not answer must not hold it for minutes.
    limits = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    return {"connect_args": {"application_name": "studiolo-hub", **limits}}


def give_back_connections() -> None:
    """Have every database session of this process end its transaction within one turn of the event loop.

    JupyterHub has one session for everything, commits what it writes before it awaits anything, and never ends a
    transaction that only read. So its connection is always in use: PostgreSQL counts it as idle in transaction, keeps
    old rows for it, ends it after `idle_in_transaction_session_timeout`; and whoever comes first after a restart of
    PostgreSQL is told that their login is not valid. Ended transactions return the connection to the pool, and what
    comes out of the pool is tried first (JupyterHub's own ``register_ping_connection``).
    """
    if not event.contains(Session, "after_begin", _end_soon):
        event.listen(Session, "after_begin", _end_soon)


def _end_soon(session: Session, transaction: object, connection: object) -> None:
    with contextlib.suppress(RuntimeError):  # before the hub's loop runs nobody waits
        asyncio.get_running_loop().call_soon(_end, session)


def _end(session: Session) -> None:
    if session.new or session.dirty or session.deleted:
        return  # somebody is in the middle of a change, and will commit it
    try:
        session.commit()  # nothing is written; unlike rollback() it lets the session keep what it has read
    except SQLAlchemyError as error:
        log.warning("the database's connection is lost, the next use makes a new one: %s", _first_line(error))
        session.rollback()


def look(site: Site) -> DatabaseState:
    """Connect, and compare the schema's revision with the one that this JupyterHub needs; changes nothing."""
    head = ScriptDirectory(ALEMBIC_DIR).get_current_head() or ""
    url = address(site)
    if url.drivername == "sqlite" and not Path(str(url.database)).exists():
        return DatabaseState(head=head)
    engine = create_engine(url, **connection_arguments(site))
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("users"):
                return DatabaseState(head=head)
            tagged = inspect(connection).has_table("alembic_version")
            row = connection.execute(text("SELECT version_num FROM alembic_version")).first() if tagged else None
            return DatabaseState(revision=str(row[0]) if row else "unknown", head=head)
    except SQLAlchemyError as error:
        return DatabaseState(trouble=_first_line(error), head=head)
    finally:
        engine.dispose()


def _first_line(error: SQLAlchemyError) -> str:
    """The driver's own words, without the statement and its values."""
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return words[0] if words else type(error).__name__


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(look(load(sys.argv[1])))))
    except SiteError as error:
        print(json.dumps(asdict(DatabaseState(trouble=str(error)))))
