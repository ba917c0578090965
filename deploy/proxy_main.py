"""Start the proxy with its token: read from the secret's file, handed on in the environment.

So the token stands neither on a command line nor in the supervisor's configuration. Runs as the hub's account,
whose processes' environment nobody but it and root can read, and becomes the proxy (exec).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """``proxy_main SECRET_FILE COMMAND…``"""
    secret_file, *command = sys.argv[1:]
    token = Path(secret_file).read_text().strip()
    os.execve(command[0], command, {**os.environ, "CONFIGPROXY_AUTH_TOKEN": token})  # noqa: S606


if __name__ == "__main__":
    main()
