"""A crowd of simulated sessions: one program that answers for all their servers and tells the hub of their activity.

Run as ``python crowd.py PORT COUNT``: listens on the port and answers every request as a running server does. Nothing
of it is measured; it is here so that a hub finds a thousand servers alive.
"""

from __future__ import annotations

import asyncio
import sys

from jupyterhub import __version__

ANSWER = (
    f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-JupyterHub-Version: {__version__}\r\n"
    "Connection: close\r\nContent-Length: 2\r\n\r\n{}"
).encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of anybody's server."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Answer until somebody ends it."""
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
