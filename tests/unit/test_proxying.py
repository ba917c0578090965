"""Whose port it is, by the kernel's own tables, and what is not handed on to a program behind the proxy."""

from __future__ import annotations

import os
import socket

import pytest
from tornado.httputil import HTTPHeaders

from spawners.proxying import guard, is_own, listens_as, own_cookies, without_credentials, without_token

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ANY6 = "0" * 32


def table(*rows: tuple[str, int, str, int]) -> str:
    """A table of sockets: address, port, state, owner."""
    lines = [
        f"   {n}: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:>5} 0 4711 1\n"
        for n, (address, port, state, uid) in enumerate(rows)
    ]
    return HEAD + "".join(lines)


@pytest.mark.parametrize(
    ("rows", "own"),
    [
        ([("0100007F", 8787, "0A", 1000)], True),
        ([("00000000", 8787, "0A", 1000)], True),
        ([(ANY6, 8787, "0A", 1000)], True),
        ([("0100007F", 8787, "0A", 1001)], False),
        ([("0100007F", 8787, "0A", 0)], False),
        ([("0100007F", 8787, "0A", 1000), ("00000000", 8787, "0A", 1001)], False),  # either may answer
        ([("0100007F", 8788, "0A", 1000)], False),
        ([("0100007F", 8787, "01", 1000)], False),  # a connection, and nobody who listens
        ([("0A00000A", 8787, "0A", 1000)], False),  # an address that is not asked
        ([], False),
    ],
)
def test_a_port_is_ones_own_where_all_that_listens_there_is(rows: list[tuple[str, int, str, int]], own: bool) -> None:
    assert listens_as(8787, 1000, [table(*rows), HEAD]) is own
    assert listens_as(8787, 1000, [HEAD, table(*rows)]) is own


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_this_machines_tables_are_read(family: socket.AddressFamily) -> None:
    with socket.socket(family) as server:
        try:
            server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = server.getsockname()[1]
        assert not is_own(port)
        server.listen()
        assert is_own(port)
    assert not is_own(port)
    assert os.getuid() >= 0


def test_what_opens_the_session_is_not_handed_on() -> None:
    headers = HTTPHeaders({"Authorization": "token secret", "X-XSRFToken": "secret", "Accept": "text/html"})
    headers.add("Cookie", "mine=1; jupyterhub-user-ada=secret; _xsrf=secret; theme=dark; jupyterhub-session-id=secret")
    kept = without_credentials(headers)
    assert dict(kept.get_all()) == {"Accept": "text/html", "Cookie": "mine=1; theme=dark"}
    assert "Cookie" not in without_credentials(HTTPHeaders({"Cookie": "_xsrf=secret"}))


@pytest.mark.parametrize(("text", "kept"), [("", ""), ("a", "a"), (" _xsrf=1;;b=2; ", "b=2"), ("username-x=1", "")])
def test_odd_cookies_are_read_as_browsers_write_them(text: str, kept: str) -> None:
    assert own_cookies(text) == kept


@pytest.mark.parametrize(
    ("query", "kept"), [("", ""), ("a=b&c=", "a=b&c="), ("token=x", ""), ("a=%C3%A9&token=x&b=", "a=%C3%A9&b=")]
)
def test_a_token_in_an_address_is_not_handed_on(query: str, kept: str) -> None:
    assert without_token(query) == kept


def test_the_proxys_handlers_are_guarded_once() -> None:
    from jupyter_server_proxy.handlers import ProxyHandler

    class Handler(ProxyHandler):  # type: ignore[misc]
        pass

    guard(Handler)
    once = Handler.proxy
    guard(Handler)
    assert Handler.proxy is once
    assert once is not ProxyHandler.proxy
