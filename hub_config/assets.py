"""Scripts and styles of our pages, as files: ``/hub/studiolo/assets/NAME``."""

from __future__ import annotations

from pathlib import Path

from tornado.web import StaticFileHandler

__all__ = ["ASSETS", "ROUTE", "Assets"]

ASSETS = Path(__file__).resolve().parent / "static"


class Assets(StaticFileHandler):
    """Nothing secret is among them: the page for logging in needs them too."""

    def set_extra_headers(self, path: str) -> None:
        """Ask again each time, which costs a 304: a new version of the hub has no new addresses."""
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")


ROUTE = (r"/studiolo/assets/(.*)", Assets, {"path": str(ASSETS)})
