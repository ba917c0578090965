"""The dashboard of a notebook's Dask cluster: there below its secret path, and nothing beside it tells that path."""

from __future__ import annotations

import asyncio
import re
import secrets
from urllib.parse import urljoin

from distributed.security import Security
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from studiolo.dask_scheduler import SecretScheduler

OUTSIDE = [
    "/",
    "/?",
    "//",
    "/.",
    "/%2e",
    "/status",
    "/status/ws",
    "/health",
    "/metrics",
    "/sitemap.json",
    "/json/counts.json",
    "/json/identity.json",
    "/info/main/workers.html",
    "/individual-plots.json",
    "/statics/css/base.css",
    "/static/js/bokeh.min.js",
    "/autoload.js",
    "/favicon.ico",
    "/robots.txt",
    "/%00",
    "/%ff",
]
INSIDE = ["status", "health", "json/counts.json", "info/main/workers.html", "individual-plots.json"]


async def _asked(port: int, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    body = b"" if method == "POST" else None
    request = HTTPRequest(
        f"http://127.0.0.1:{port}{path}", method, headers, body, follow_redirects=False, allow_nonstandard_methods=True
    )
    return await AsyncHTTPClient().fetch(request, raise_error=False)


def _told(answer: HTTPResponse) -> str:
    return f"{list(answer.headers.get_all())}{(answer.body or b'').decode(errors='replace')}"


async def _look(secret: str) -> tuple[dict[str, HTTPResponse], dict[str, HTTPResponse]]:
    options = {"security": Security.temporary(), "host": "127.0.0.1", "port": 0}
    async with SecretScheduler(dashboard_address="127.0.0.1:0", secret=secret, **options) as scheduler:
        port = scheduler.http_server.port
        assert port
        paths = [
            *OUTSIDE,
            f"/{secret[:-1]}",
            f"/{secret[:-1]}/status",
            f"/{secret}x/status",
            f"/{secrets.token_hex(16)}/status",
        ]
        outside = {path: await _asked(port, path) for path in paths}
        outside |= {f"{method} /": await _asked(port, "/", method) for method in ("HEAD", "POST", "OPTIONS", "PUT")}
        outside |= {"websocket": await _asked(port, "/status/ws", Connection="Upgrade", Upgrade="websocket")}
        inside = {path: await _asked(port, f"/{secret}/{path}") for path in ["", *INSIDE]}
        return outside, inside


def test_nothing_beside_the_secret_path_is_there_or_tells_it() -> None:
    secret = secrets.token_hex(16)
    outside, inside = asyncio.run(_look(secret))
    assert {path: answer.code for path, answer in outside.items() if answer.code not in (400, 404)} == {}
    assert outside["/"].code == outside["/status"].code == outside["/sitemap.json"].code == 404
    # A path that holds a part of the secret is not said back either.
    assert [path for path, answer in outside.items() if secret[:8] in _told(answer) or answer.body] == []
    assert {path: answer.code for path, answer in inside.items()} == dict.fromkeys(["", *INSIDE], 200)
    assert b"Status" in inside["status"].body


async def _drawn_with(secret: str) -> dict[str, int]:
    """What a pane of JupyterLab's, which is behind the hub's proxy and this server's, loads besides its page."""
    options = {"security": Security.temporary(), "host": "127.0.0.1", "port": 0}
    async with SecretScheduler(dashboard_address="127.0.0.1:0", secret=secret, **options) as scheduler:
        port = scheduler.http_server.port
        front = f"/user/ada/proxy/{port}"
        page = f"{front}/{secret}/individual-task-stream"
        answer = await _asked(port, page.removeprefix(front))
        parts = [urljoin(page, part) for part in re.findall(r'<script[^>]* src="([^"]+)"', answer.body.decode())]
        # What is not below the front is somebody else's: the hub answers.
        return {
            part: (await _asked(port, part.removeprefix(front))).code for part in parts if part.startswith(front)
        } | {part: 404 for part in parts if not part.startswith(front)}


def test_a_page_behind_a_proxy_finds_what_it_is_drawn_with() -> None:
    found = asyncio.run(_drawn_with(secrets.token_hex(16)))
    assert any("bokeh.min.js" in part for part in found)
    assert set(found.values()) == {200}, found
