"""What a session's server leaves out: nothing that it uses, and nothing for good."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jupyterhub.log
import pytest

from spawners import lean
from spawners.lean import HUB_ONLY, OPTIONAL

ROOT = Path(__file__).parents[2]

# Run in a Python of its own, since what is imported once stays. Tells what it finds, in the order of a session's life.
LOOK = """
import importlib, importlib.util, json, os, pathlib, sys

called = pathlib.Path(os.environ["CALLED"])
names = json.loads(os.environ["NAMES"])
found = {}

from spawners.lean import import_server
server_app, single_user = import_server()
found["classes"] = [server_app.__name__, single_user.__name__]
found["left"] = [name for name in names if name in sys.modules]
found["none"] = [name for name, module in sys.modules.items() if module is None]
found["stand-ins"] = [
    name for name, module in sys.modules.items()
    if name.partition(".")[0] == "jupyterhub" and getattr(module, "__spec__", None) is None
]

from jupyterlab import commands
found["registry"] = commands.AppOptions().registry
found["node, lean"] = called.exists()

import jsonschema
from jupyter_events import EventLogger
checker = jsonschema.FormatChecker()
jsonschema.validate("ada@example.org", {"type": "string", "format": "email"}, format_checker=checker)
try:
    jsonschema.validate(5, {"type": "string"}, format_checker=checker)
except jsonschema.ValidationError as error:
    found["refused"] = error.message
schema = {
    "$id": "https://example.org/test", "version": "1", "title": "t", "type": "object",
    "properties": {"path": {"title": "p", "type": "string"}}, "required": ["path"],
}
events = EventLogger()
events.register_event_schema(schema)
found["event"] = "https://example.org/test" in events.schemas

from jupyterhub.services.auth import check_scopes
wanted = {"access:servers!server=ada/"}
found["own"] = sorted(check_scopes(wanted, {"access:servers!user=ada", "read:users"}))
found["foreign"] = sorted(check_scopes(wanted, {"access:servers!user=bob"}))
found["still left"] = [name for name in names if name in sys.modules]

from jupyterhub import scopes
found["late"] = scopes.orm.User.__tablename__
# Found, not imported: that alone takes seconds, which is why they are left out.
found["real"] = {name: spec.origin for name in names if (spec := importlib.util.find_spec(name)) is not None}
import jupyterhub.orm
found["same"] = scopes.orm.User is jupyterhub.orm.User

importlib.reload(commands)
commands.AppOptions().registry
found["node, else"] = called.exists()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What :data:`LOOK` finds, with a ``node`` on the path that notes that it was called."""
    folder = tmp_path_factory.mktemp("lean")
    node = folder / "node"
    node.write_text(f"#!/bin/sh\ntouch {folder}/called\n")
    node.chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CALLED": f"{folder}/called",
        "NAMES": json.dumps([*OPTIONAL, *HUB_ONLY]),
    }
    done = subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_both_classes_of_the_server_are_there(found: Any) -> None:
    assert found["classes"] == ["ServerApp", "JupyterHubSingleUser"]


def test_nothing_of_what_is_left_out_was_loaded(found: Any) -> None:
    assert found["left"] == []


def test_no_stand_in_stays(found: Any) -> None:
    assert found["none"] == []
    assert found["stand-ins"] == []


def test_whoever_wants_the_real_modules_later_gets_them(found: Any) -> None:
    assert set(found["real"]) >= {*HUB_ONLY, "httpx._main"}
    for name, file in found["real"].items():
        assert Path(file).is_file(), name
    assert found["late"] == "users"
    assert found["same"]


def test_jsonschema_and_jupyters_events_work(found: Any) -> None:
    assert found["refused"] == "5 is not of type 'string'"
    assert found["event"]


def test_who_may_come_in_is_decided_as_ever_and_without_the_hubs_database_layer(found: Any) -> None:
    assert found["own"] == ["access:servers!server=ada/"]
    assert found["foreign"] == []
    assert found["still left"] == []


def test_no_node_is_started_and_jupyterlab_finds_its_registry_all_the_same(found: Any) -> None:
    # Undone, it is: so this is still the one place where JupyterLab asks node.
    assert found["node, else"]
    assert not found["node, lean"]
    assert found["registry"].startswith("https://")


def test_jupyterhubs_log_uses_the_hubs_page_handler_in_isinstance_alone() -> None:
    tree = ast.parse(inspect.getsource(jupyterhub.log))
    tests = [
        ast.walk(node.args[1])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
    ]
    allowed = {id(node) for nodes in tests for node in nodes}
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "HealthCheckHandler"]
    assert uses
    assert all(id(node) in allowed for node in uses)


# --- The stand-ins ---------------------------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path; what is imported from it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("heavy", "user"):
        monkeypatch.setitem(sys.modules, name, None)  # so that monkeypatch takes it away again
        del sys.modules[name]
    return tmp_path


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))


def heavy_stand_in(*names: str) -> Any:
    return lean._instead({"heavy": lean._stand_in("heavy", names)})


def test_a_stand_in_is_taken_for_the_module_and_asks_the_real_one_when_it_is_needed(packages: Path) -> None:
    write(packages, heavy="wanted = 'real'", user="import heavy\ndef use(): return heavy.wanted")
    with heavy_stand_in():
        lean._import(("user",))
    user = importlib.import_module("user")
    assert "heavy" not in sys.modules
    assert user.use() == "real"
    assert "heavy" in sys.modules
    with pytest.raises(AttributeError):
        user.heavy.missing  # noqa: B018


@pytest.mark.parametrize(
    "text", ["from heavy import wanted, more", "import heavy\nwanted, more = heavy.wanted, heavy.more"]
)
def test_another_version_that_wants_more_gets_the_real_module(packages: Path, text: str) -> None:
    write(packages, heavy="wanted = more = 'real'", user=text)
    with heavy_stand_in("wanted"):
        lean._import(("user",))
    assert importlib.import_module("user").more == "real"


def test_what_was_loaded_before_stays_what_it_is(packages: Path) -> None:
    write(packages, heavy="wanted = 'real'")
    heavy = importlib.import_module("heavy")
    with heavy_stand_in():
        assert importlib.import_module("heavy") is heavy
    assert sys.modules["heavy"] is heavy


def test_the_stand_ins_go_where_an_import_fails_too(packages: Path) -> None:
    write(packages, heavy="wanted = 'real'", user="1 / 0")
    with pytest.raises(ZeroDivisionError), heavy_stand_in():
        importlib.import_module("user")
    assert "heavy" not in sys.modules


def test_what_reads_as_not_installed_is_there_afterwards(packages: Path) -> None:
    write(packages, heavy="wanted = 'real'")
    with lean._instead({"heavy": None}), pytest.raises(ImportError):
        importlib.import_module("heavy")
    assert importlib.import_module("heavy").wanted == "real"
