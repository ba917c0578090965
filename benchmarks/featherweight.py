"""A single-user server that weighs next to nothing: what a class's start costs without JupyterLab.

Runs under both hubs. Started by our batch script it exchanges its one-time secret and reports its port as
``spawners/singleuser.py`` does; started by batchspawner's it posts its port as ``batchspawner-singleuser`` does. It
answers every request alike, with the header by which a hub knows its own servers.

Neither side's packages are imported, not even Python's own http client: sixty JupyterLabs on one machine's processors
would hide what hub, spawner and scheduler cost, and so would sixty times the imports. Its key is the same in all
sessions for the same reason (the benchmark puts it in); what the hub signs is each session's own certificate.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from base64 import b64decode, encodebytes
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl import SSLContext

KEY = """@KEY@"""
REQUEST = """@REQUEST@"""
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-JupyterHub-Version: @VERSION@\r\n"
    b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
)
Files = tuple[str, str]  # private key and certificate; authorities


def main() -> None:
    """Become this session's server."""
    ours = "STUDIOLO_BOOTSTRAP" in os.environ
    inside = begin() if ours else None
    scheme, host, _, _ = parts(os.environ["JUPYTERHUB_SERVICE_URL"])
    listener = bound(os.environ.get("STUDIOLO_PORTS", "20000-30000"), host)
    path = "studiolo/listening" if ours else "batchspawner"
    url, token = f"{os.environ['JUPYTERHUB_API_URL']}/{path}", os.environ["JUPYTERHUB_API_TOKEN"]
    post(url, {"port": listener.getsockname()[1]}, token, inside)
    serve(listener, inside if scheme == "https" else None)


def begin() -> Files | None:
    """Take this session's environment from the hub; with TLS inside, return its identity."""
    hub = os.environ["STUDIOLO_HUB"]
    body = {"secret": os.environ.pop("STUDIOLO_BOOTSTRAP")}
    if not hub.startswith("https:"):
        os.environ.update(post(f"{hub}/studiolo/bootstrap", body)["environment"])
        return None
    authority, certificate, key = (
        b64decode(os.environ[name]) for name in ("STUDIOLO_HUB_CA", "STUDIOLO_VISITOR", "STUDIOLO_VISITOR_KEY")
    )
    visitor = pem("CERTIFICATE", certificate) + pem("PRIVATE KEY", key)
    door = in_memory(visitor), in_memory(pem("CERTIFICATE", authority))
    answer = post(f"{hub}/studiolo/bootstrap", {**body, "csr": REQUEST}, "", door)
    os.environ.update(answer["environment"])
    return in_memory(KEY + answer["certificate"]), in_memory(answer["authorities"])


def pem(kind: str, content: bytes) -> str:
    """Binary content as OpenSSL reads it."""
    return f"-----BEGIN {kind}-----\n{encodebytes(content).decode()}-----END {kind}-----\n"


def in_memory(text: str) -> str:
    """A file for OpenSSL, which reads files alone; gone with this process."""
    number = os.memfd_create("featherweight")
    os.write(number, text.encode())
    return f"/proc/self/fd/{number}"


def context(files: Files, *, server: bool) -> SSLContext:
    """Prove this session, and take those of the platform alone."""
    import ssl

    identity, authorities = files
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.load_cert_chain(identity)
    made.load_verify_locations(authorities)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def post(url: str, body: Mapping[str, str | int], token: str = "", files: Files | None = None) -> dict[str, Any]:
    """Send JSON to the hub and return its answer."""
    _, host, port, path = parts(url)
    content = json.dumps(body)
    head = (
        f"POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    )
    if token:
        head += f"Authorization: token {token}\r\n"
    connection = socket.create_connection((host, port), timeout=60)
    if files is not None:
        connection = context(files, server=False).wrap_socket(connection, server_hostname=host)
    with connection:
        connection.sendall(f"{head}\r\n{content}".encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = received.decode().partition("\r\n\r\n")
    status = head.split()[1]
    if not status.startswith("2"):
        sys.exit(f"featherweight: {path} was answered by {head.splitlines()[0]}: {content}")
    return json.loads(content) if content else {}


def parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of a URL that names all of them."""
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    host, _, port = place.partition(":")
    return scheme, host, int(port), f"/{path}"


def bound(ports: str, address: str) -> socket.socket:
    """Listen on a free port of the range."""
    first, last = map(int, ports.split("-"))
    for number in range(200):
        port = first + (os.getpid() * 7919 + number) % (last - first + 1)
        try:
            return socket.create_server((address, port), backlog=64)
        except OSError:
            continue
    raise OSError(f"no free port among {ports}")


def serve(listener: socket.socket, files: Files | None) -> None:
    """Answer one after the other, until Slurm ends this."""
    door = context(files, server=True) if files else None
    while True:
        connection, _ = listener.accept()
        connection.settimeout(5)  # nobody who says nothing keeps the others waiting
        with suppress(OSError), connection:
            answer(door.wrap_socket(connection, server_side=True) if door else connection)


def answer(connection: socket.socket) -> None:
    """One request, whatever it is."""
    with connection:
        if connection.recv(65536):
            connection.sendall(ANSWER)


if __name__ == "__main__":
    main()
