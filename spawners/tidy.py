"""After a session's end JupyterHub writes that down; where it could not, it is asked again until it can.

Its own cleaning up commits to the database. With a full disk, say, that fails half-way, and the server stays "stopping" or
"ready" for ever though its job is over: nobody could start again until the hub is restarted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import object_session

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["tidy_up"]

FIRST_PAUSE_SECONDS = 2.0  # JupyterHub itself needs some milliseconds
LONGEST_PAUSE_SECONDS = 60.0


async def tidy_up(spawner: StudioloSpawner) -> None:
    """See to it that JupyterHub has written down the end of a session whose job is over, or that never had one."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        await asyncio.sleep(pause)
        database = object_session(spawner.user.orm_user)
        if database is None or spawner.user.spawners.get(spawner.name) is not spawner or not _untidy(spawner):
            return
        if spawner._spawn_future is not None and not spawner._spawn_future.done():
            continue  # JupyterHub still waits for its first answer, and will clean up itself
        spawner.log.warning("%s: the hub could not write down its end; trying again", spawner._log_name)
        try:
            database.rollback()
            await spawner.user.stop(spawner.name)
        except SQLAlchemyError as error:
            spawner.log.error("%s: the hub's database can not be written: %s", spawner._log_name, error)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _untidy(spawner: StudioloSpawner) -> bool:
    return bool(spawner._stop_pending or spawner.server is not None)
