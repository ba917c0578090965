"""The start page in a browser without a hub: its own template, style and script, and answers that a test chooses."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import jupyterhub
from jinja2 import Environment, FileSystemLoader
from jupyterhub._data import get_data_files
from playwright.sync_api import Page, Route

import hub_config
from spawners.startpage import start_page
from studiolo.language import _, language, plural, speak
from studiolo.site import Site

ORIGIN = "http://studiolo.test"
HERE = Path(hub_config.__file__).resolve().parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}

__all__ = ["ORIGIN", "FakeHub", "known"]


def known(starts: str = "now", **more: Any) -> dict[str, Any]:
    """What the offers say of one profile."""
    free = {"gpus": 3, "shards": 12, "cpus": 20, "memory_mb": 100_000}
    total = {"gpus": 4, "shards": 16, "cpus": 32, "memory_mb": 240_000}
    return {
        "starts": starts,
        "expected": None,
        "room": 1,
        "free": free,
        "total": total,
        "waiting": 0,
        "obstacle": None,
        "cost": {"gpu_hours": 0, "cpu_hours": 4},
        "instead": None,
    } | more


@dataclass
class FakeHub:
    """Answers for ``/hub/…``; what was sent is kept in ``sent``."""

    site: Site
    offers: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=known)
    filled: dict[str, Any] = field(default_factory=dict)
    status: int = 201
    sent: list[tuple[str, str, Any]] = field(default_factory=list)
    tongue: str = "en"

    def open(self, page: Page, address: str = "/hub/spawn") -> None:
        """Load the page."""
        page.route(f"{ORIGIN}/**", self.answer)
        page.goto(f"{ORIGIN}{address}")

    def offered(self, profiles: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """The offers of a cluster that answers."""
        return {
            "now": time.time(),
            "answers": True,
            "silent_since": None,
            "profiles": {name: known() for name in self.site.profiles} | dict(profiles),
            "accounts": {},
            "partitions": {},
            "reservations": [],
        } | more

    def answer(self, route: Route) -> None:
        """Answer one request of the browser."""
        address = urlsplit(route.request.url)
        path = unquote(address.path)
        if path == "/hub/spawn":
            route.fulfill(content_type="text/html", body=self.html())
        elif path.endswith("/offers/events"):
            route.fulfill(content_type="text/event-stream", body=f"data: {json.dumps(self.offers)}\n\n")
        elif path.startswith("/hub/api/"):
            self.sent.append((route.request.method, path, route.request.post_data_json))
            body = json.dumps(self.estimate if path.endswith("estimate") else {"message": "No, says the hub."})
            route.fulfill(
                status=200 if path.endswith("estimate") else self.status, content_type="application/json", body=body
            )
        else:
            self.file(route, path)

    def file(self, route: Route, path: str) -> None:
        """A script or style, ours or JupyterHub's."""
        ours = path.removeprefix("/hub/studiolo/assets/")
        theirs = path.removeprefix("/hub/static/")
        file = HERE / "static" / ours if ours != path else Path(get_data_files()) / "static" / theirs
        if file.is_file():
            route.fulfill(content_type=TYPES.get(file.suffix, "application/octet-stream"), body=file.read_bytes())
        else:
            route.fulfill(status=404)

    def html(self) -> str:
        """The page as the hub would send it."""
        speak(self.tongue)
        templates = [str(HERE / "templates"), str(Path(get_data_files()) / "templates")]
        environment = Environment(loader=FileSystemLoader(templates), autoescape=True)
        person = SimpleNamespace(name="ada", escaped_name="ada", json_escaped_name="ada", spawner=SimpleNamespace())
        shown = start_page(self.site, **({"last": {}, "presets": {}} | self.filled))
        try:
            return environment.get_template("spawn.html").render(
                **shown,
                _=_,
                plural=plural,
                language=language,
                studiolo_title="Studiolo",
                base_url="/hub/",
                prefix="/",
                static_url=lambda path, **more: f"/hub/static/{path}",
                version_hash="",
                parsed_scopes={},
                user=person,
                for_user=person,
                presets_fault="",
                url="/hub/spawn",
                xsrf_token="x",
                jupyterhub_version=jupyterhub.__version__,
            )
        finally:
            speak("en")
