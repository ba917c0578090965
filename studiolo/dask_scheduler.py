"""Dask's scheduler in a notebook, with a dashboard that nobody finds who was not told where it is.

The dashboard has no password, and everybody on the node can reach its port: a path that nobody can guess is its key. Dask's own
pages beside that path would give it away: `/` leads to the first page, `/sitemap.json` lists all of them.
"""

from __future__ import annotations

from secrets import compare_digest
from typing import Any

from distributed import Scheduler

__all__ = ["SecretScheduler"]


class SecretScheduler(Scheduler):  # type: ignore[misc]  # Dask is not followed by mypy here
    """Dask's, whose pages are below ``http_prefix`` alone: whatever else is asked for is not there."""

    def __init__(self, *args: Any, http_prefix: str, **kwargs: Any) -> None:
        self._secret = http_prefix.strip("/").encode()
        super().__init__(*args, http_prefix=http_prefix, **kwargs)

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Serve the pages; the loop has not turned since the port was opened, so nobody has asked yet."""
        super().start_http_server(*args, **kwargs)
        application, secret = self.http_application, self._secret
        every = application.find_handler

        def below(request: Any, **more: Any) -> Any:
            first = request.path.encode().removeprefix(b"/").partition(b"/")[0]
            # For "no handler" tornado itself answers, with a 404 that says nothing.
            return every(request, **more) if compare_digest(first, secret) else None

        application.find_handler = below
