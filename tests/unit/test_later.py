"""Extensions that are loaded once a session's server serves: left out of its start, and in afterwards."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httputil import HTTPServerRequest, RequestStartLine

import spawners
from spawners.later import LATER, Until, load

CONFIG = Path(spawners.__file__).parent / "jupyter_config" / "server_extensions.json"


class Manager:
    """Notes what is asked of Jupyter's manager of extensions."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def add_extension(self, name: str, *, enabled: bool) -> bool:
        assert enabled
        self.done.append(("add", name))
        return name != "json.tool"

    def link_extension(self, name: str) -> None:
        self.done.append(("link", name))

    def load_extension(self, name: str) -> None:
        self.done.append(("load", name))


def test_what_is_loaded_later_is_left_out_of_the_start_and_is_there() -> None:
    enabled = json.loads(CONFIG.read_text(encoding="utf-8"))["ServerApp"]["jpserver_extensions"]
    assert enabled["spawners.later"] is True
    for name in LATER:
        assert enabled[name] is False
        if not name.startswith("spawners."):
            assert distribution(name).version
    # What it takes the place of is never loaded on its own, with a database of its own.
    assert enabled["jupyter_scheduler"] is False


def test_each_is_imported_and_then_loaded_as_jupyter_does(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    manager = Manager()
    server = SimpleNamespace(
        extension_manager=manager, log=SimpleNamespace(warning=lambda *words: told.append(words[1:]))
    )
    asyncio.run(load(server, {"json": "re", "no_such_package_here": "re", "json.tool": "re"}))
    assert manager.done == [("add", "json"), ("link", "json"), ("load", "json"), ("add", "json.tool")]
    ((name, error),) = told
    assert name == "no_such_package_here"
    assert isinstance(error, ImportError)


def test_what_is_asked_too_early_is_held_until_it_can_be_answered_and_then_no_more() -> None:
    async def held() -> list[bool]:
        over = asyncio.Event()
        rule = Until("/user/ada/scheduler/.*", over)
        early, other = (
            HTTPServerRequest(start_line=RequestStartLine("GET", path, "HTTP/1.0"))
            for path in ("/user/ada/scheduler/jobs?max_items=0", "/user/ada/api/kernels")
        )
        answers = [rule.match(early) is not None, rule.match(other) is not None]
        over.set()
        return [*answers, rule.match(early) is not None]

    assert asyncio.run(held()) == [True, False, False]
