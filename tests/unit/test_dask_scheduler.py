"""The dashboard of a notebook's Dask cluster: there below its secret path, and nothing beside it tells that path."""

from __future__ import annotations

import asyncio
import secrets

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


async def _look(prefix: str) -> tuple[dict[str, HTTPResponse], dict[str, HTTPResponse]]:
    options = {"security": Security.temporary(), "host": "127.0.0.1", "port": 0}
    async with SecretScheduler(dashboard_address="127.0.0.1:0", http_prefix=f"/{prefix}", **options) as scheduler:
        port = scheduler.http_server.port
        assert port
        paths = [
            *OUTSIDE,
            f"/{prefix[:-1]}",
            f"/{prefix[:-1]}/status",
            f"/{prefix}x/status",
            f"/{secrets.token_hex(16)}/status",
        ]
        outside = {path: await _asked(port, path) for path in paths}
        outside |= {f"{method} /": await _asked(port, "/", method) for method in ("HEAD", "POST", "OPTIONS", "PUT")}
        outside |= {"websocket": await _asked(port, "/status/ws", Connection="Upgrade", Upgrade="websocket")}
        inside = {path: await _asked(port, f"/{prefix}/{path}") for path in ["", *INSIDE]}
        return outside, inside


def test_nothing_beside_the_secret_path_is_there_or_tells_it() -> None:
    prefix = secrets.token_hex(16)
    outside, inside = asyncio.run(_look(prefix))
    assert {path: answer.code for path, answer in outside.items() if answer.code not in (400, 404)} == {}
    assert outside["/"].code == outside["/status"].code == outside["/sitemap.json"].code == 404
    # A path that holds a part of the secret is not said back either.
    assert [path for path, answer in outside.items() if prefix[:8] in _told(answer) or answer.body] == []
    assert {path: answer.code for path, answer in inside.items() if path} == dict.fromkeys(INSIDE, 200)
    assert inside[""].code in (301, 302)
    assert b"Status" in inside["status"].body
