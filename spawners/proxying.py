"""In a session's own server: jupyter-server-proxy, made fit for nodes that are shared.

``proxy/PORT/`` shows in the session's own origin whatever listens on that port of the node. On a shared node that may be
somebody else: they would be sent the cookies and tokens that open this session, and could run scripts in it. So only what
listens as the session's own person is reached, and what opens the session is never handed on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tornado import web
from tornado.httputil import HTTPHeaders

from studiolo.language import _, later

__all__ = ["guard", "listens_as", "without_credentials"]

LISTENS = "0A"  # in the kernel's tables of sockets
TABLES = ("tcp", "tcp6")
LOCAL = frozenset(
    {
        "00000000",  # any address
        "0100007F",  # 127.0.0.1
        "0" * 32,  # any address of IPv6, and of IPv4 then too
        "00000000000000000000000001000000",  # ::1
        "0000000000000000FFFF00000100007F",  # 127.0.0.1 as IPv6 writes it
    }
)
OWN_COOKIES = ("jupyterhub-", "jupyter-", "_xsrf", "username-")
REFUSED = later("Nothing of yours listens on port %(port)s of this node.")


def listens_as(port: int, uid: int, tables: Iterable[str]) -> bool:
    """Whether all that listens on a port of this host's own addresses is of one person, and something does.

    ``tables`` are the texts of the kernel's tables of TCP sockets (``/proc/net/tcp``, ``tcp6``), in the byte order of little
    endians, as all machines with GPUs have it.
    """
    owners = set()
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) < 8 or fields[3] != LISTENS:
                continue
            address, _colon, number = fields[1].partition(":")
            if int(number, 16) == port and address in LOCAL:
                owners.add(int(fields[7]))
    return owners == {uid}


def is_own(port: int) -> bool:
    """Whether a port of this node is the session's own person's."""
    tables = []
    for name in TABLES:
        try:
            tables.append(Path("/proc/self/net", name).read_text(encoding="ascii"))
        except OSError:  # a kernel without IPv6
            continue
    return listens_as(port, os.getuid(), tables)


def without_credentials(headers: HTTPHeaders) -> HTTPHeaders:
    """Headers of a request without what opens the session; cookies of the program's own stay."""
    kept = HTTPHeaders()
    for name, value in headers.get_all():
        if name == "Cookie":
            if text := own_cookies(value):
                kept.add(name, text)
        elif name not in ("Authorization", "X-Xsrftoken"):
            kept.add(name, value)
    return kept


def own_cookies(text: str) -> str:
    """Of a header of cookies, those that are not the session's."""
    pairs = [pair.strip() for pair in text.split(";")]
    return "; ".join(pair for pair in pairs if pair and not pair.partition("=")[0].strip().startswith(OWN_COOKIES))


def without_token(query: str) -> str:
    """A query without Jupyter's token, as it was written where it has none."""
    if "token" not in query:
        return query
    return urlencode([(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "token"])


def guard(handler: Any) -> None:
    """Have the proxy's handlers (``jupyter_server_proxy.handlers.ProxyHandler``) look whose port it is, and keep credentials."""
    if getattr(handler, "guarded_by_studiolo", False):
        return
    proxy, proxy_open, headers = handler.proxy, handler.proxy_open, handler.proxy_request_headers

    def look(self: Any, port: Any) -> None:
        if getattr(self, "unix_socket", None) is None and not is_own(int(port)):
            raise web.HTTPError(403, _(REFUSED, port=int(port)))
        self.request.query = without_token(self.request.query)

    async def guarded_proxy(self: Any, host: Any, port: Any, proxied_path: str) -> Any:
        look(self, port)
        return await proxy(self, host, port, proxied_path)

    async def guarded_open(self: Any, host: Any, port: Any, proxied_path: str = "") -> Any:
        try:
            look(self, port)
        except web.HTTPError as error:
            self.log.warning("studiolo: %s", error)
            self.close()
            return None
        return await proxy_open(self, host, port, proxied_path)

    handler.proxy, handler.proxy_open = guarded_proxy, guarded_open
    handler.proxy_request_headers = lambda self: without_credentials(headers(self))
    handler.guarded_by_studiolo = True
