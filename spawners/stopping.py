"""Letting go of a session that is being started, for as long as that takes, before JupyterHub stops it."""

from __future__ import annotations

import asyncio
from typing import Any

from spawners.engine import Engine

__all__ = ["let_go"]

SLOW_STOP_SECONDS = 10


async def let_go(engine: Engine, user: Any, user_name: str, server_name: str) -> None:
    """End a start that is under way; ``user`` is ``None`` where the hub knows nobody of that name.

    JupyterHub gives an interrupted start one second. In a busy hub some take longer, and their servers would stay in its
    books, their jobs in the queue.
    """
    if cut_off := engine.cut_off.take(user_name, server_name):
        engine.look_for_orphans(str(cut_off.state["cluster"]))  # it was to go on in a moment: not any more
    spawner = user.spawners[server_name] if user is not None and server_name in user.spawners else None
    if spawner is None or spawner.pending != "spawn" or spawner._spawn_future is None:
        return
    spawner._spawn_future.cancel()
    await asyncio.wait([spawner._spawn_future])
    if spawner.server is not None:
        spawner._stop_future = asyncio.ensure_future(user.stop(spawner.name))
        await asyncio.wait([spawner._stop_future], timeout=SLOW_STOP_SECONDS)
        if spawner._stop_future.done():
            spawner._stop_future.result()
