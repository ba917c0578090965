"""What begins once the hub serves. JupyterHub has no hook for that moment, so it is awaited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from prometheus_client import REGISTRY

from hub_config.speed import look_past_what_stays
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
    while app.http_server is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(LOOK_SECONDS)
    for package in ("spawners", "studiolo"):  # what they log belongs into the hub's log, in its form
        logger = logging.getLogger(package)
        logger.handlers, logger.level, logger.propagate = app.log.handlers, app.log.level, False
    look_past_what_stays()
    engine = engine_for(site_file)
    engine.begin(living_sessions)
    REGISTRY.register(EngineCollector(engine))


def living_sessions() -> Iterable[str]:
    """The names of all sessions that a server in the database stands for, at this moment."""
    with JupyterHub.instance().session_factory() as database:
        running = database.query(orm.Spawner).filter(orm.Spawner.server != None)  # noqa: E711 - SQL
        states = [spawner.state or {} for spawner in running]
    return [str(state["session_id"]) for state in states if state.get("session_id")]
