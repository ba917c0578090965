"""Sessions in which nothing happens are stopped; those where something does are not, whoever looks at them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
import websocket
from hubclient import Hub, until
from reconfigured import reconfigured, restart

from slurmbox import box as slurmbox


@pytest.fixture(scope="module")
def impatient(hub: Hub, box: Any) -> Iterator[None]:
    """A site where a minute of nothing ends a session."""
    with reconfigured(hub, box, idle_limit=1, idle_warning=1):
        yield


class Session:
    """A person's running session, as its page sees it."""

    def __init__(self, hub: Hub, user: str) -> None:
        body = {"note": "test", "expires_in": 600}
        token = hub.call("POST", f"users/{user}/tokens", json=body).json()["token"]
        self.headers = {"Authorization": f"token {token}"}
        self.url = f"{hub.url}user/{user}/"

    def call(self, method: str, path: str, **rest: Any) -> Any:
        """One request of the page; its JSON."""
        answer = httpx.request(method, self.url + path, headers=self.headers, timeout=30, **rest)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def idle_since(self) -> int:
        return int(self.call("GET", "studiolo/session")["idle_since"])


@pytest.fixture(scope="module")
def clara(person: Callable[..., str]) -> str:
    return person("company", 2)


@pytest.fixture(scope="module")
def session(hub: Hub, impatient: None, clara: str) -> Iterator[Session]:
    """One for all tests of this file; the last that needs it waits for its end."""
    assert hub.start(clara, {"profile": "learn"}).status_code == 202
    hub.ready(clara)
    yield Session(hub, clara)
    if hub.server(clara):
        hub.stop(clara)


def test_a_session_tells_what_becomes_of_it(session: Session) -> None:
    told = session.call("GET", "studiolo/session")
    assert set(told) == {"now", "ends", "idle_since", "warned_at", "culled_at"}
    assert told["ends"] > told["now"] >= told["idle_since"]
    assert told["culled_at"] == told["idle_since"] + 60
    assert told["warned_at"] == told["culled_at"] - 60


def test_nobody_else_is_told(session: Session) -> None:
    assert httpx.get(f"{session.url}studiolo/session", timeout=10).status_code == 403
    assert httpx.post(f"{session.url}studiolo/session", timeout=10).status_code == 403


def test_questions_are_no_activity_and_changes_are(session: Session) -> None:
    before = session.idle_since()
    until("the next second", lambda: datetime.now(timezone.utc).timestamp() > before + 1.5)
    for path in ("api/kernels", "api/sessions", "api/terminals", "api/contents", "api/status", "studiolo/session"):
        session.call("GET", path)
    # JupyterLab itself does so every ten seconds.
    session.call("PUT", "lab/api/workspaces/default", json={"data": {}, "metadata": {"id": "default"}})
    assert session.idle_since() == before
    session.call("PUT", "api/contents/studiolo-test.txt", json={"type": "file", "format": "text", "content": "x"})
    saved = session.idle_since()
    assert saved > before
    session.call("DELETE", "api/contents/studiolo-test.txt")
    until("the next second", lambda: datetime.now(timezone.utc).timestamp() > saved + 1.5)
    assert session.call("POST", "studiolo/session")["idle_since"] > saved, "Keep keeps"


def test_a_program_in_a_terminal_is_activity_and_a_waiting_shell_is_not(session: Session) -> None:
    name = session.call("POST", "api/terminals")["name"]
    address = session.url.replace("http", "ws") + f"terminals/websocket/{name}"
    with closing(websocket.create_connection(address, header=session.headers)) as terminal:
        terminal.send(json.dumps(["stdin", "sleep 1000\r"]))
        told = until("a program in the terminal", lambda: busy(session))
    until("the next second", lambda: datetime.now(timezone.utc).timestamp() > told["now"] + 1.5)
    assert busy(session), "with nobody looking, either"
    session.call("DELETE", f"api/terminals/{name}")
    until("the end of the activity", lambda: not busy(session))


def busy(session: Session) -> Any:
    """What the session tells, where something happens in it at this moment."""
    told = session.call("GET", "studiolo/session")
    return told["idle_since"] >= told["now"] and told


def test_an_idle_session_is_stopped_though_its_page_is_open_and_a_silent_cell_is_not(
    hub: Hub, session: Session, clara: str, person: Callable[..., str]
) -> None:
    other = person("company", 1)
    hub.start(other, {"profile": "learn"})
    try:
        hub.ready(other)
        computing = Session(hub, other)
        kernel = computing.call("POST", "api/kernels")["id"]
        address = computing.url.replace("http", "ws") + f"api/kernels/{kernel}/channels"
        with closing(websocket.create_connection(address, header=computing.headers)) as channel:
            channel.send(json.dumps(execute("import time; time.sleep(10_000)")))
            until("the cell", lambda: computing.call("GET", f"api/kernels/{kernel}")["execution_state"] == "busy")
        job = hub.job(clara)

        def gone() -> bool:
            answer = httpx.get(f"{session.url}api/kernels", headers=session.headers, timeout=30)
            return answer.status_code != 200 and not hub.server(clara)

        until("the end of the idle session", gone, seconds=200)
        assert hub.jobs(clara) == []
        assert hub.slurm("sacct", "-XnP", "-j", str(job), "-o", "State").startswith("CANCELLED")
        (told,) = hub.call("GET", "studiolo/sessions", token=hub.own_token(clara)).json()["ended"]
        assert told["what"] == "Nothing happened in it for 1 min, so it was stopped."
        assert hub.server(other)["ready"]
        assert computing.call("GET", f"api/kernels/{kernel}")["execution_state"] == "busy"
    finally:
        hub.stop(other)


def execute(code: str) -> dict[str, Any]:
    """A kernel's message that runs ``code``."""
    header = {
        "msg_id": "1",
        "msg_type": "execute_request",
        "username": "",
        "session": "1",
        "date": "",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }


def cullers(box: Any) -> list[int]:
    """Process ids of the service."""
    command = ["pgrep", "-u", box.hub_user, "-f", "hub_config.idle"]
    return [int(pid) for pid in subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split()]


def test_the_service_may_list_and_stop_sessions_and_nothing_else(
    hub: Hub, box: Any, impatient: None, clara: str
) -> None:
    (service,) = until("the service", lambda: cullers(box))
    environment = Path(f"/proc/{service}/environ").read_text().split("\0")
    (token,) = [pair.partition("=")[2] for pair in environment if pair.startswith("JUPYTERHUB_API_TOKEN=")]
    listed = {user["name"]: user for user in hub.call("GET", "users", token=token).json()}
    assert not {"groups", "roles", "auth_state"} & set(listed[clara])
    for method, path in (
        ("POST", f"users/{clara}/server"),
        ("GET", f"users/{clara}/tokens"),
        ("POST", f"users/{clara}/tokens"),
        ("DELETE", f"users/{clara}"),
        ("POST", "shutdown"),
        ("GET", "proxy"),
    ):
        assert hub.call(method, path, token=token).status_code in (403, 404), path


def test_a_service_that_dies_is_told_in_the_log_and_begins_again(hub: Hub, box: Any, impatient: None) -> None:
    (before,) = until("the service", lambda: cullers(box))
    log = slurmbox.supervisor(box).log("hub")
    seen = log.stat().st_size
    os.kill(before, signal.SIGKILL)
    (after,) = until("the service again", lambda: [pid for pid in cullers(box) if pid != before])
    assert after != before
    with log.open("rb") as stream:
        stream.seek(seen)
        assert b"Service idle-culler exited with status -9" in stream.read()


def test_a_killed_hub_leaves_no_service_behind(hub: Hub, box: Any, impatient: None) -> None:
    before = until("the service", lambda: cullers(box))
    os.kill(slurmbox.supervisor(box).state("hub").pid, signal.SIGKILL)
    until("the end of the old service", lambda: not set(before) & set(cullers(box)))
    restart(hub, box)
    assert len(until("the new service", lambda: cullers(box))) == 1


def test_where_nobody_is_ever_too_idle_there_is_no_service(hub: Hub, box: Any, impatient: None) -> None:
    with reconfigured(hub, box, idle_limit="never"):
        assert cullers(box) == []
    until("the service", lambda: cullers(box))
