"""In a session's own server: extensions that nobody needs to begin, loaded once the server serves.

The ways to Dask's dashboards import ``distributed`` and ``aiohttp``: half a second of each start and more where the disk is
slow, long before anybody has a cluster to look at. Jupyter's configuration leaves them out (``spawners/jupyter_config``); this
extension brings them in, the most of their modules imported beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Any

__all__ = ["LATER", "load"]

LATER = {"jupyter_server_proxy": "aiohttp", "dask_labextension": "distributed"}
"""Extensions, and what takes long to import of each; they themselves may want the event loop when they are imported."""
WAIT_SECONDS = 2.0
"""After the server's first turn: a page that is being opened has the processor first."""


async def load(server: Any, extensions: Mapping[str, str] = LATER) -> None:
    """Load these extensions into a server that runs; what an environment does not hold is left out."""
    manager = server.extension_manager
    for name, heavy in extensions.items():
        try:
            await asyncio.get_running_loop().run_in_executor(None, import_module, heavy)
            import_module(name)
        except ImportError as error:
            server.log.warning("studiolo: %s is not loaded: %s", name, error)
            continue
        # Whatever goes wrong in there is logged by Jupyter, as for every extension.
        if manager.add_extension(name, enabled=True):
            manager.link_extension(name)
            manager.load_extension(name)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "spawners.later"}]


def _load_jupyter_server_extension(server: Any) -> None:
    loop = server.io_loop
    loop.add_callback(lambda: loop.call_later(WAIT_SECONDS, lambda: loop.add_callback(load, server)))
