"""Stopping a session; one that is being started is let go of first, for as long as that takes."""

from __future__ import annotations

import asyncio
from typing import Any

from spawners.engine import Engine

__all__ = ["let_go", "stop"]

SLOW_STOP_SECONDS = 10
STOP_SECONDS = 2.0  # what a page waits for a stop; it shows the rest as it happens


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


async def stop(handler: Any, engine: Engine, user: Any, name: str) -> None:
    """Stop a session, or its start, for a page of JupyterHub's: what takes longer than a moment goes on behind it."""
    task = asyncio.ensure_future(_stop(handler, engine, user, name))
    engine.keep(_told(task))
    await asyncio.wait([task], timeout=STOP_SECONDS)


async def _stop(handler: Any, engine: Engine, user: Any, name: str) -> None:
    await let_go(engine, user, user.name, name)
    spawner = user.spawners.get(name)
    if spawner is not None and spawner.ready and not spawner.pending and await spawner.poll_and_notify() is None:
        await handler.stop_single_user(user, name)


async def _told(task: asyncio.Future[None]) -> None:
    """Wait for a stop that nobody may be waiting for any more; JupyterHub has logged its failure already."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
