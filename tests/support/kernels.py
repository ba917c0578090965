"""A real kernel in a real session, driven through the proxy as JupyterLab does it: cells in, what they print out."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import websocket
from hubclient import HTTP, WAIT_SECONDS, Hub, until

TOKEN_SECONDS = 3600


@dataclass
class Ran:
    """What one cell has given: ``text`` that it printed, ``shown`` (the MIME bundles of its results and displays), and the
    ``error`` that ended it, as a notebook shows it (empty where it went well). ``messages`` is all that came, in order."""

    text: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def result(self) -> str:
        """The plain text of the last thing that it showed."""
        return str(self.shown[-1].get("text/plain", "")) if self.shown else ""


@dataclass
class Kernel:
    """One kernel of a session's server. ``pid`` is its process on this host."""

    hub: Hub
    person: str
    server: str
    token: str = field(repr=False)
    id: str = ""
    pid: int = 0
    wire: Any = None

    # --- Cells -------------------------------------------------------------------------------------------------------

    def run(self, code: str, seconds: float = WAIT_SECONDS) -> Ran:
        """Run a cell and wait for its end; fails the test where the cell fails."""
        ran = self.result(self.begin(code), seconds)
        if ran.error:
            pytest.fail(f"the cell\n{code}\nended with\n{ran.error}\nafter printing\n{ran.text}")
        return ran

    def fails(self, code: str, seconds: float = WAIT_SECONDS) -> str:
        """Run a cell that has to fail; returns what a notebook shows then."""
        ran = self.result(self.begin(code), seconds)
        assert ran.error, f"the cell did not fail; it printed\n{ran.text}\n{ran.result}"
        return ran.error

    def begin(self, code: str) -> str:
        """Begin a cell and go on; what comes of it is told by :meth:`result`."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        return self.send("execute_request", content)

    def send(self, kind: str, content: Mapping[str, Any], channel: str = "shell", **header: Any) -> str:
        """Send one message (a click on a widget is a ``comm_msg``); ``header`` adds to its header. Returns its number."""
        number = uuid.uuid4().hex
        message = {
            "header": {
                "msg_id": number,
                "msg_type": kind,
                "session": "test",
                "username": self.person,
                "version": "5.4",
                "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **header,
            },
            "parent_header": {},
            "metadata": {},
            "content": dict(content),
            "channel": channel,
            "buffers": [],
        }
        self.wire.send(json.dumps(message))
        return number

    def result(self, number: str, seconds: float = WAIT_SECONDS) -> Ran:
        """Wait until the message of that number is answered and the kernel idle again."""
        ran, idle, replied = Ran(), False, False
        for message in self.messages(seconds):
            ran.messages.append(message)
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                ran.text += content["text"]
            elif kind in ("execute_result", "display_data", "update_display_data"):
                ran.shown.append(content["data"])
            elif kind == "error":
                ran.error = "\n".join(content["traceback"]) or f"{content['ename']}: {content['evalue']}"
            idle |= kind == "status" and content["execution_state"] == "idle"
            replied |= message["channel"] == "shell" and kind.endswith("_reply")
            if idle and replied:
                return ran
        pytest.fail(f"the cell was not done within {seconds:g} s; it printed\n{ran.text}")

    def messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        """All that the kernel sends, for so long at most."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.wire.settimeout(left)
            try:
                text = self.wire.recv()
            except websocket.WebSocketTimeoutException:
                return
            if text:
                yield json.loads(text)

    # --- Its life ----------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The stop button of a notebook."""
        self.ask("POST", f"api/kernels/{self.id}/interrupt")

    def restart(self) -> None:
        """The restart button: the same kernel, empty, in another process."""
        answer = self.ask("POST", f"api/kernels/{self.id}/restart")
        assert answer.status_code == 200, answer.text
        self._find()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send its process a signal. The server starts a killed kernel again (:meth:`revived`); a stopped one hangs."""
        os.kill(self.pid, number)

    def revived(self) -> None:
        """Wait until the server has started a killed kernel again."""
        for message in self.messages(WAIT_SECONDS):
            if message["content"].get("execution_state") in ("restarting", "autorestarting"):
                self._find()
                return
        pytest.fail("the killed kernel was not started again")

    def close(self) -> None:
        """Shut it down, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        self.ask("DELETE", f"api/kernels/{self.id}")
        if self.wire is not None:
            self.wire.close()

    def _open(self) -> None:
        answer = self.ask("POST", "api/kernels", json={"name": "python3"})
        assert answer.status_code == 201, answer.text
        self.id = str(answer.json()["id"])
        address = f"{self._url}api/kernels/{self.id}/channels?session_id=test".replace("http", "ws", 1)
        header = [f"Authorization: token {self.token}"]
        self.wire = websocket.create_connection(address, header=header, timeout=WAIT_SECONDS)
        self._find()

    def _find(self) -> None:
        """Its process. What is sent to a kernel that is just being started anew may be lost: it is asked again."""
        for _again in range(9):
            number, text = self.begin("import os; print(os.getpid())"), ""
            for message in self.messages(10):
                if message["parent_header"].get("msg_id") == number and message["header"]["msg_type"] == "stream":
                    text += message["content"]["text"]
                if text.endswith("\n"):
                    self.pid = int(text)
                    return
        pytest.fail("the kernel does not say which process it is")

    @property
    def _url(self) -> str:
        return f"{self.hub.url}user/{self.person}/" + (f"{self.server}/" if self.server else "")

    def ask(self, method: str, path: str, **kwargs: Any) -> Any:
        """One request to the session's server, below its own address."""
        return HTTP.request(method, self._url + path, headers={"Authorization": f"token {self.token}"}, **kwargs)


@contextmanager
def kernel_in(hub: Hub, person: str, server: str = "") -> Iterator[Kernel]:
    """A kernel of its own in a session that runs; shut down afterwards."""
    kernel = Kernel(hub, person, server, hub.own_token(person, TOKEN_SECONDS))
    kernel._open()
    try:
        yield kernel
    finally:
        kernel.close()


@contextmanager
def kernel(hub: Hub, person: str, options: Mapping[str, Any], server: str = "") -> Iterator[Kernel]:
    """A session of these options with a kernel in it; the session is stopped afterwards, and its other jobs cancelled."""
    answer = hub.start(person, options, server)
    assert answer.status_code == 202, answer.text
    hub.ready(person, server)
    try:
        with kernel_in(hub, person, server) as running:
            yield running
    finally:
        if hub.server(person, server):
            hub.stop(person, server)
        cancel_all(hub, person)


def cancel_all(hub: Hub, person: str) -> None:
    """Cancel whatever jobs a person has left, and wait for their end."""
    for job in hub.jobs(person):
        hub.slurm("scancel", str(job))
    until(f"an end of {person}'s jobs", lambda: not hub.jobs(person))


def printed(kernel: Kernel, expression: str) -> Any:
    """The value of an expression in the kernel, which JSON can hold."""
    return json.loads(kernel.run(f"import json; print(json.dumps({expression}))").text)


def awaited(kernel: Kernel, what: str, expression: str, seconds: float = WAIT_SECONDS) -> Any:
    """Look at an expression in the kernel again and again until it is true."""
    return until(what, lambda: printed(kernel, expression), seconds)


__all__: Sequence[str] = ["Kernel", "Ran", "awaited", "cancel_all", "kernel", "kernel_in", "printed"]
