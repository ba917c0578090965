"""A client of the running hub, as an operator's script would use it, and a look at what Slurm and the host hold."""

from __future__ import annotations

import json
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

WAIT_SECONDS = 90
# One client: each new one reads all certificates of the host, for longer than most requests take. No connection is
# kept, for hub and proxy come and go in tests; `make up` serves plain http on loopback.
HTTP = httpx.Client(verify=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


def until(what: str, look: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Look again and again until something is there; fail with ``what`` was awaited."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    pytest.fail(f"waited {seconds:g} s for {what}")


@dataclass(frozen=True)
class Hub:
    """The hub's REST API with the operator's token, and root's view of the cluster below it."""

    url: str
    token: str = field(repr=False)  # a failed test prints its fixtures
    state: Path
    slurm_conf: Path

    def call(self, method: str, path: str, *, token: str | None = None, **kwargs: Any) -> httpx.Response:
        """One request to ``/hub/api/…``."""
        headers = {"Authorization": f"token {token or self.token}"}
        return HTTP.request(method, f"{self.url}hub/api/{path}", headers=headers, **kwargs)

    def start(self, user: str, options: Mapping[str, Any], name: str = "") -> httpx.Response:
        """Ask for a session, with a name or without."""
        return self.call("POST", _path(user, name), json={"user_options": dict(options)})

    def server(self, user: str, name: str = "") -> dict[str, Any]:
        """A server of the user as the hub sees it; empty where it does not run."""
        model: dict[str, Any] = self.call("GET", f"users/{user}").json()
        return dict(model.get("servers", {}).get(name, {}))

    def ready(self, user: str, name: str = "") -> dict[str, Any]:
        """Wait until the server is ready."""
        return dict(until(f"{user}'s server {name}", lambda: (s := self.server(user, name)) and s["ready"] and s))

    def events(self, user: str, name: str = "") -> list[dict[str, Any]]:
        """The progress events until the start has succeeded or failed."""
        headers = {"Authorization": f"token {self.token}"}
        url = f"{self.url}hub/api/{_path(user, name)}/progress"
        events = []
        with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    events.append(json.loads(line.removeprefix("data:")))
        return events

    def progress(self, user: str, words: str) -> str:
        """What the waiting person is told once it holds ``words``; fails where the start is over before."""
        headers = {"Authorization": f"token {self.token}"}
        told = []
        deadline = time.monotonic() + WAIT_SECONDS  # the hub sends empty lines all the time: no read times out
        with httpx.stream(
            "GET", f"{self.url}hub/api/users/{user}/server/progress", headers=headers, timeout=60
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    told.append(str(json.loads(line.removeprefix("data:"))["message"]))
                    if words in told[-1]:
                        return told[-1]
                if time.monotonic() > deadline:
                    break
        pytest.fail(f"{words!r} is not among what {user} was told: {told}")

    def own_token(self, user: str, seconds: int = 300) -> str:
        """A token of the user's own."""
        answer = self.call("POST", f"users/{user}/tokens", json={"note": "test", "expires_in": seconds})
        return str(answer.json()["token"])

    def stop(self, user: str, name: str = "", *, by_operator: bool = False) -> None:
        """Stop a server as its owner would, who is told nothing of it; or as an operator, which its page says. Wait until it
        is gone."""
        answer = self.call("DELETE", _path(user, name), token=None if by_operator else self.own_token(user))
        assert answer.status_code in (202, 204), answer.text
        until(f"the end of {user}'s server {name}", lambda: not self.server(user, name))

    def slurm(self, *argv: str) -> str:
        """Run a Slurm command as root."""
        done = subprocess.run(argv, env={"SLURM_CONF": str(self.slurm_conf), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, user: str) -> list[int]:
        """Numbers of the user's jobs that are not over."""
        return [int(n) for n in self.slurm("squeue", "-h", "-o", "%A", "-u", user).split()]

    def job(self, user: str) -> int:
        """The number of the user's one job."""
        return int(until(f"a job of {user}", lambda: self.jobs(user))[0])

    def log(self, user: str) -> Path:
        """Where the log of the user's one session is, or will be: only its script says so."""
        script = self.slurm("scontrol", "write", "batch_script", str(self.job(user)), "-")
        (path,) = re.findall(r" exec >(\S+) ", script, re.MULTILINE)
        return Path(path)

    def processes(self, user: str) -> list[str]:
        """Command lines of all processes of an account."""
        uid = pwd.getpwnam(user).pw_uid
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if folder.stat().st_uid == uid:
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return found

    def environment(self, user: str, wanted: str) -> dict[str, str]:
        """The environment of the user's first process whose command line holds ``wanted``."""
        uid = pwd.getpwnam(user).pw_uid
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if folder.stat().st_uid == uid and wanted in (folder / "cmdline").read_text():
                    pairs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                    return dict(pair.partition("=")[::2] for pair in pairs if pair)
            except OSError:
                continue
        return {}


def _path(user: str, name: str) -> str:
    return f"users/{user}/servers/{name}" if name else f"users/{user}/server"
