"""A single-user server that weighs next to nothing: what a class's start costs without JupyterLab.

Runs under both hubs. Started by our batch script it exchanges its secret and reports its port with the very functions
of :mod:`spawners.singleuser`; started by batchspawner's it posts its port as ``batchspawner-singleuser`` does. It
answers every request alike, with the header by which a hub knows its own servers.
"""

import os
import socket
from urllib.parse import urlparse

from spawners import singleuser

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-JupyterHub-Version: @VERSION@\r\n"
    b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
)


def main() -> None:
    """Become this session's server."""
    ours = "STUDIOLO_BOOTSTRAP" in os.environ
    if ours:
        hub, secret = os.environ.pop("STUDIOLO_HUB"), os.environ.pop("STUDIOLO_BOOTSTRAP")
        os.environ.update(singleuser.exchange(hub, secret))
    address = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"]).hostname or ""
    listener = bound(os.environ.get("STUDIOLO_PORTS", "20000-30000"), address)
    port = listener.getsockname()[1]
    if ours:
        singleuser.report(port)
    else:
        url = f"{os.environ['JUPYTERHUB_API_URL']}/batchspawner"
        singleuser.post(url, {"port": port}, os.environ["JUPYTERHUB_API_TOKEN"]).close()
    while True:
        connection, _ = listener.accept()
        with connection:
            if connection.recv(65536):
                connection.sendall(ANSWER)


def bound(ports: str, address: str) -> socket.socket:
    """Listen on the first free port of the range."""
    for port in singleuser.candidates(ports):
        try:
            return socket.create_server((address, port), backlog=64)
        except OSError:
            continue
    raise OSError(f"no free port among {ports}")


if __name__ == "__main__":
    main()
