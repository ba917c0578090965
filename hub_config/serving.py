"""What begins once the hub serves. JupyterHub has no hook for that moment, so it is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from prometheus_client import REGISTRY

from spawners.engine import engine_for
from spawners.metrics import EngineCollector

__all__ = ["begin_when_serving", "living_sessions"]

LOOK_SECONDS = 0.5


def begin_when_serving(site_file: str) -> None:
    """Have the engine begin as soon as the hub serves; nothing for commands such as ``jupyterhub upgrade-db``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    engine_for(site_file).keep(_begin(site_file))


async def _begin(site_file: str) -> None:
    app = JupyterHub.instance()
    while app.http_server is None:
        await asyncio.sleep(LOOK_SECONDS)
    engine = engine_for(site_file)
    engine.begin(living_sessions)
    REGISTRY.register(EngineCollector(engine))


def living_sessions() -> Iterable[str]:
    """The names of all sessions that a server in the database stands for, at this moment."""
    app = JupyterHub.instance()
    with app.session_factory() as database:
        states = database.query(orm.Spawner.state).filter(orm.Spawner.server != None).all()  # noqa: E711 - SQL
    return [str(state["session_id"]) for (state,) in states if state and state.get("session_id")]
