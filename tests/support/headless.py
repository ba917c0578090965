"""A kernel without a server, of whatever Python, driven by Jupyter's own client: what a page would send and see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

SECONDS = 60.0


@dataclass
class Headless:
    """One kernel; ``heard`` is all that it has sent, in order."""

    client: BlockingKernelClient
    heard: list[dict[str, Any]] = field(default_factory=list)

    def send(self, kind: str, content: Mapping[str, Any], channel: str = "shell", **header: Any) -> str:
        """Send one message; ``header`` adds to its header. Returns its number."""
        message = self.client.session.msg(kind, dict(content))
        message["header"].update(header)
        getattr(self.client, f"{channel}_channel").send(message)
        return str(message["header"]["msg_id"])

    def begin(self, code: str) -> str:
        """Begin a cell and go on."""
        return str(self.client.execute(code, allow_stdin=False))

    def run(self, code: str) -> str:
        """Run a cell to its end; returns what it printed. Fails where the cell fails."""
        number = self.begin(code)
        self.until(f"the end of {code!r}", lambda: self.is_idle(number))
        mine = [message for message in self.heard if message["parent_header"].get("msg_id") == number]
        errors = ["\n".join(message["content"]["traceback"]) for message in mine if message["msg_type"] == "error"]
        assert not errors, errors[0]
        return "".join(message["content"]["text"] for message in mine if message["msg_type"] == "stream")

    def is_idle(self, number: str) -> bool:
        """Whether a request is done with."""
        return any(
            message["msg_type"] == "status"
            and message["content"]["execution_state"] == "idle"
            and message["parent_header"].get("msg_id") == number
            for message in self.heard
        )

    def until(self, what: str, found: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """Listen until ``found()`` is true; returns it."""
        deadline = time.monotonic() + seconds
        while not (result := found()):
            left = deadline - time.monotonic()
            assert left > 0, f"no {what} within {seconds:g} s"
            try:
                self.heard.append(self.client.get_iopub_msg(timeout=min(left, 0.5)))
            except Empty:
                continue
        return result

    def subshell(self) -> str:
        """A thread of the kernel's for clicks, as JupyterLab asks for it."""
        self.send("create_subshell_request", {}, channel="control")
        reply = self.client.get_control_msg(timeout=SECONDS)
        return str(reply["content"]["subshell_id"])

    def updates(self, comm: str) -> list[dict[str, Any]]:
        """What was sent to one widget, each as its changed traits."""
        return [
            message["content"]["data"]["state"]
            for message in self.heard
            if message["msg_type"] == "comm_msg"
            and message["content"]["comm_id"] == comm
            and message["content"]["data"].get("method") == "update"
        ]

    def click(self, comm: str, subshell: str | None) -> str:
        """Press a button as a page does."""
        data = {"method": "custom", "content": {"event": "click"}}
        return self.send("comm_msg", {"comm_id": comm, "data": data}, subshell_id=subshell)


@contextmanager
def headless(python: str, environment: Mapping[str, str], folder: str) -> Iterator[Headless]:
    """A kernel of that Python, shut down afterwards."""
    manager = KernelManager(kernel_name="python3")
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager.start_kernel(env=dict(environment), cwd=folder)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=SECONDS)
        yield Headless(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
