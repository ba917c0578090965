"""Stopping a session: who asked for that is kept for its owner, and a start under way is let go of for as long as that takes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from jupyterhub import orm

from spawners.idleness import SERVICE, idle_limit

if TYPE_CHECKING:
    from spawners.engine import Engine
    from spawners.server import StudioloSpawner

__all__ = ["let_go", "stop", "stopped_by", "why_stopped"]

SLOW_STOP_SECONDS = 10
STOP_SECONDS = 2.0  # what a page waits for a stop; it shows the rest as it happens


def why_stopped(who: Any, person: str) -> tuple[str, str]:
    """The kind of a stop that ``who`` (a user or a service of the hub, as a request has it) asks for, and their name.

    Both are empty where it is the session's owner ``person`` themselves: who does something need not be told so.
    """
    name = str(who.name)
    if isinstance(who, orm.Service):
        return ("idle" if name == SERVICE else "stopped-by"), name
    return ("", "") if name == person else ("stopped-by", name)


def stopped_by(spawner: StudioloSpawner, who: Any) -> None:
    """Keep who stops a session and why, for its owner to read; nothing where they do so themselves.

    To be called before the stop: with its end, the spawner forgets job and node.
    """
    if not spawner.active or spawner.pending == "stop":  # the first to ask ends it
        return
    kind, name = why_stopped(who, spawner.user.name)
    spawner.last_end = {}
    if not kind:
        return
    state = spawner.last_state
    spawner.last_end = {
        "stopped": kind,
        "who": name,
        "minutes": idle_limit(spawner.engine.site, spawner.user_options) if kind == "idle" else 0,
        "job": spawner.job or 0,
        "state": "CANCELLED" if spawner.job else "",
        "node": state.node if state else spawner.node,
        "cluster": spawner.cluster,
        "served": bool(spawner.served_port),
        "at": int(time.time()),
    }


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
    if name in user.spawners:
        stopped_by(user.spawners[name], handler.current_user)
    await let_go(engine, user, user.name, name)
    spawner = user.spawners.get(name)
    if spawner is not None and spawner.ready and not spawner.pending and await spawner.poll_and_notify() is None:
        await handler.stop_single_user(user, name)


async def _told(task: asyncio.Future[None]) -> None:
    """Wait for a stop that nobody may be waiting for any more; JupyterHub has logged its failure already."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
