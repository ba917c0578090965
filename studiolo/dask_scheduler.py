"""Dask's scheduler in a notebook, with a dashboard that nobody finds who was not told where it is.

The dashboard has no password, and everybody on the node can reach its port: a path that nobody can guess is its key. Dask's own
pages beside that path would give it away: `/` leads to the first page, `/sitemap.json` lists all of them.
"""

from __future__ import annotations

import socket
from secrets import compare_digest
from typing import Any

from distributed import Scheduler
from distributed.utils import get_ip, get_ip_interface

__all__ = ["SecretScheduler", "address_of"]


class SecretScheduler(Scheduler):  # type: ignore[misc]  # Dask is not followed by mypy here
    """Dask's, whose pages are below ``/SECRET/`` alone: whatever else is asked for is not there."""

    def __init__(self, *args: Any, secret: str, **kwargs: Any) -> None:
        # Not Dask's own ``http_prefix``: pages below that load what they are drawn with from the server's root, where behind
        # a proxy there is something else (distributed 2026.8). Without it they name everything relative to themselves.
        self._secret = secret.encode()
        super().__init__(*args, **kwargs)

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Serve the pages; the loop has not turned since the port was opened, so nobody has asked yet."""
        super().start_http_server(*args, **kwargs)
        application, secret = self.http_application, self._secret
        every = application.find_handler

        def below(request: Any, **more: Any) -> Any:
            first, _, rest = request.path.removeprefix("/").partition("/")
            if not compare_digest(first.encode(), secret):
                return None  # tornado itself answers, with a 404 that says nothing
            request.path = f"/{rest or 'status'}"
            request.uri = f"{request.path}?{request.query}" if request.query else request.path
            return every(request, **more)

        application.find_handler = below


def address_of(interface: str) -> str:
    """The address that this node's workers reach a notebook at."""
    if interface:
        return str(get_ip_interface(interface))
    try:
        found = socket.gethostbyname(socket.gethostname())
    except OSError:
        found = "127.0.0.1"
    # Some systems give a host's own name to its loopback: then the way to the rest of the world has the address.
    return str(get_ip()) if found.startswith("127.") else found
