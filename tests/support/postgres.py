"""A PostgreSQL cluster of its own in a folder, run by an unprivileged account; Debian's service is left alone."""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest


def programs() -> Path:
    """The folder of the newest PostgreSQL's programs, which Debian keeps out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if not found:
        pytest.fail("PostgreSQL is not installed: `make test` installs it")
    return found[-1].parent


@dataclass
class Cluster:
    """One cluster in an empty folder. ``account`` runs it, ``role`` is the hub's in it and owns the database ``studiolo``."""

    folder: Path
    account: str
    role: str
    password: str = field(default_factory=lambda: f"p%40: @/{secrets.token_urlsafe(12)}", repr=False)
    port: int = 0

    @property
    def by_network(self) -> str:
        """The address for those who bring a password."""
        return f"postgresql://{self.role}@127.0.0.1:{self.port}/studiolo"

    @property
    def by_socket(self) -> str:
        """The address for those whom the socket knows by their unix account."""
        return f"postgresql://{self.role}@/studiolo?host={self.folder}&port={self.port}"

    def create(self) -> None:
        """Make and start it. Knows its own account and the hub's by the socket, and the hub's by its password."""
        owner = pwd.getpwnam(self.account)
        self.folder.chmod(0o755)
        os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "--no-sync", "--auth-local=peer", "--auth-host=scram-sha-256", "--encoding=UTF8",
                  "--locale=C", f"--username={self.account}", f"--pgdata={self.data}")  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nunix_socket_directories = '{self.folder}'\nfsync = off\n")
        self.start()
        self.sql(f"CREATE ROLE \"{self.role}\" LOGIN PASSWORD '{self.password}'")
        self.sql(f'CREATE DATABASE studiolo OWNER "{self.role}"')

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._run("pg_ctl", "start", "--wait", "--silent", f"--pgdata={self.data}", f"--log={self.folder}/log")

    def stop(self, how: str = "fast") -> None:
        """Stop it: "fast" ends all connections, "immediate" is a crash."""
        self._run("pg_ctl", "stop", "--wait", "--silent", f"--mode={how}", f"--pgdata={self.data}")

    def sql(self, command: str, database: str = "postgres") -> str:
        """Run a command as the cluster's administrator."""
        return self._run("psql", "--no-psqlrc", "-XqAt", "-h", str(self.folder), "-p", str(self.port), "-d", database,
                         "-v", "ON_ERROR_STOP=1", "-c", command)  # fmt: skip

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [programs() / program, *arguments],
            user=self.account,
            group=pwd.getpwnam(self.account).pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            # No pipe for pg_ctl: the server that it starts would keep it open.
            stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout or f"see {self.folder}/log"
        return (done.stdout or "").strip()
