"""A single-user server that weighs next to nothing: what a class's start costs without JupyterLab.

Runs under both hubs. Started by our batch script it exchanges its secret, gets its certificate and reports its port with
the very functions of :mod:`spawners.singleuser`; started by batchspawner's it posts its port as
``batchspawner-singleuser`` does. It answers every request alike, with the header by which a hub knows its own servers.
"""

import os
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlparse

from spawners import singleuser
from spawners.identity import keep

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-JupyterHub-Version: @VERSION@\r\n"
    b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
)


def main() -> None:
    """Become this session's server."""
    begun_with = dict(os.environ)
    ours = "STUDIOLO_BOOTSTRAP" in begun_with
    if ours:
        begin()
    address = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"]).hostname or ""
    listener = bound(os.environ.get("STUDIOLO_PORTS", "20000-30000"), address)
    port = listener.getsockname()[1]
    if ours:
        singleuser.report(port, begun_with)
    else:
        url = f"{os.environ['JUPYTERHUB_API_URL']}/batchspawner"
        singleuser.post(url, {"port": port}, os.environ["JUPYTERHUB_API_TOKEN"]).close()
    serve(listener)


def begin() -> None:
    """Our sessions' first steps, without those that only a notebook server needs."""
    given = {name: os.environ.pop(name, "") for name in singleuser.GIVEN}
    door = singleuser.front_door(given)
    environment, identity = singleuser.exchange(given["STUDIOLO_HUB"], given["STUDIOLO_BOOTSTRAP"], door)
    os.environ.update(environment)
    if identity is not None:
        os.environ.update(singleuser.scratch_environment(os.environ["STUDIOLO_SCRATCH"]))
        os.environ.update(keep(identity, os.environ["TMPDIR"]))


def bound(ports: str, address: str) -> socket.socket:
    """Listen on the first free port of the range."""
    for port in singleuser.candidates(ports):
        try:
            return socket.create_server((address, port), backlog=64)
        except OSError:
            continue
    raise OSError(f"no free port among {ports}")


def serve(listener: socket.socket) -> None:
    """Answer one after the other, until Slurm ends this."""
    context = None
    if key := os.environ.get("JUPYTERHUB_SSL_KEYFILE"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=os.environ["JUPYTERHUB_SSL_CLIENT_CA"])
        context.load_cert_chain(os.environ["JUPYTERHUB_SSL_CERTFILE"], key)
        context.verify_mode = ssl.CERT_REQUIRED
    while True:
        connection, _ = listener.accept()
        connection.settimeout(5)  # nobody who says nothing keeps the others waiting
        with suppress(OSError), connection:
            answer(context.wrap_socket(connection, server_side=True) if context else connection)


def answer(connection: socket.socket) -> None:
    """One request, whatever it is."""
    with connection:
        if connection.recv(65536):
            connection.sendall(ANSWER)


if __name__ == "__main__":
    main()
