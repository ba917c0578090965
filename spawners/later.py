"""In a session's own server: extensions that nobody needs to begin, loaded once the server serves.

The ways to Dask's dashboards import ``distributed`` and ``aiohttp``: half a second of each start and more where the disk is
slow, long before anybody has a cluster to look at; jupyter-scheduler imports databases and calendars, for seconds. Jupyter's
configuration leaves them out (``spawners/jupyter_config``); this extension brings them in, the most of their modules imported
beside the event loop.

A page that asks for jupyter-scheduler before it is there waits for it: to "not found" JupyterLab would say that it is not
installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches

from spawners.proxying import guard

__all__ = ["AWAITED", "LATER", "HeldHandler", "Until", "load"]

PROXY = "jupyter_server_proxy"
LATER = {
    PROXY: "aiohttp",
    "dask_labextension": "distributed",
    "spawners.scheduler_api": "jupyter_scheduler.extension",
}
"""Extensions, and what takes long to import of each; they themselves may want the event loop when they are imported."""
AWAITED = "scheduler"
"""The addresses below the server's own that a page may ask for before they are there."""
WAIT_SECONDS = 2.0
"""After the server's first turn: a page that is being opened has the processor first."""


class Until(PathMatches):
    """Addresses of a pattern, until something has come to pass; from then on none."""

    def __init__(self, pattern: str, over: asyncio.Event) -> None:
        super().__init__(pattern)
        self.over = over

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """As tornado asks each rule in turn: ``None`` lets others answer."""
        return None if self.over.is_set() else super().match(request)


class HeldHandler(APIHandler):
    """Answers what is asked too early once it can be answered: by sending the page to the same address again."""

    _track_activity = False

    def initialize(self, over: asyncio.Event) -> None:
        """``over`` is set when all extensions are loaded, or can not be."""
        self.over = over

    @web.authenticated
    async def get(self) -> None:
        """Wait, and have it asked again."""
        await self.over.wait()
        self.redirect(str(self.request.uri), status=307)

    post = patch = delete = get


async def load(server: Any, extensions: Mapping[str, str] = LATER) -> None:
    """Load these extensions into a server that runs; what an environment does not hold is left out."""
    manager = server.extension_manager
    for name, heavy in extensions.items():
        try:
            await asyncio.get_running_loop().run_in_executor(None, import_module, heavy)
            module = import_module(name)
            if name == PROXY:
                guard(import_module(f"{module.__name__}.handlers").ProxyHandler)
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
    loop, over = server.io_loop, asyncio.Event()
    held = url_path_join(server.web_app.settings["base_url"], AWAITED, ".*")
    server.web_app.add_handlers(".*$", [(Until(held, over), HeldHandler, {"over": over})])

    async def bring() -> None:
        try:
            await load(server)
        finally:
            over.set()

    loop.add_callback(lambda: loop.call_later(WAIT_SECONDS, lambda: loop.add_callback(bring)))
