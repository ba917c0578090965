"""On the compute node: each way a session can fail to begin is a sentence, and each thing it leaves is cleaned up."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from spawners import singleuser
from spawners.singleuser import (
    Granted,
    SessionError,
    bind,
    candidates,
    enter,
    exchange,
    post,
    report,
    scratch_environment,
)

SECRET = "one-time-secret"


@dataclass
class Hub:
    """A real HTTP server on loopback that answers as it is told and notes what it was sent."""

    url: str = ""
    status: int = 200
    body: bytes = b'{"environment": {"A": "1"}, "outline": ""}'
    raw: bytes | None = None
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a hub that is away, unless a test says so."""
    monkeypatch.setattr(singleuser, "HUB_AWAY_SECONDS", -1)


@pytest.fixture
def hub() -> Iterator[Hub]:
    told = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            if told.raw is not None:
                self.wfile.write(told.raw)
                return
            self.send_response(told.statuses.pop(0) if told.statuses else told.status)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}/hub/api"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody_listens() -> Iterator[str]:
    """The address of a port that refuses connections: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/hub/api"


# --- Exchange --------------------------------------------------------------------------------------------------------


def test_the_one_time_secret_is_exchanged_for_an_environment(hub: Hub) -> None:
    hub.body = b'{"environment": {"JUPYTERHUB_API_TOKEN": "t", "N": 5}, "outline": "{}"}'
    assert exchange(hub.url, SECRET) == Granted({"JUPYTERHUB_API_TOKEN": "t", "N": "5"}, None, "{}")
    ((path, headers, body),) = hub.requests
    assert path == "/hub/api/studiolo/bootstrap"
    assert body == {"secret": SECRET}
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


@pytest.mark.parametrize(("address", "secret"), [("", SECRET), ("http://127.0.0.1:1", ""), ("", "")])
def test_started_by_hand_it_says_that_only_the_hub_can_start_it(address: str, secret: str) -> None:
    with pytest.raises(SessionError, match="only the hub can start it"):
        exchange(address, secret)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_a_refusal_of_the_hub_is_a_sentence(hub: Hub, status: int) -> None:
    hub.status = status
    with pytest.raises(SessionError, match=rf"the hub refused this session \({status}\)"):
        exchange(hub.url, SECRET)


def test_a_hub_that_can_not_be_reached_is_a_sentence_that_names_it(nobody_listens: str) -> None:
    with pytest.raises(SessionError, match="can not be reached from this node") as caught:
        exchange(nobody_listens, SECRET)
    assert nobody_listens in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>log in first</html>", b"{", b"\xff\xfe"])
def test_an_answer_that_is_no_json_is_a_sentence(hub: Hub, body: bytes) -> None:
    hub.body = body
    with pytest.raises(SessionError):
        exchange(hub.url, SECRET)


@pytest.mark.parametrize(
    "body",
    [
        b'{"environment": {}}',
        b'{"environment": {}, "outline": 5}',
        b"{}",
        b"[]",
        b"null",
        b"5",
        b'"x"',
        b'{"environment": null}',
        b'{"environment": []}',
        b'{"environment": "A=1"}',
    ],
)
def test_an_answer_of_another_shape_is_a_sentence(hub: Hub, body: bytes) -> None:
    hub.body = body
    with pytest.raises(SessionError):
        exchange(hub.url, SECRET)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="closed at once"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{", id="cut short"),
    ],
)
def test_whoever_else_answers_in_the_hubs_place_is_a_sentence(hub: Hub, raw: bytes) -> None:
    # http.client's own errors are neither OSError nor ValueError.
    hub.raw = raw
    with pytest.raises(SessionError):
        exchange(hub.url, SECRET)


def test_no_sentence_holds_the_secret(hub: Hub, nobody_listens: str) -> None:
    hub.status = 403
    for address in (hub.url, nobody_listens):
        with pytest.raises(SessionError) as caught:
            exchange(address, SECRET)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_hub_is_asked_straight_whatever_proxy_the_environment_names(
    hub: Hub, nobody_listens: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(name, nobody_listens)
    with post(f"{hub.url}/x", {"a": 1}) as answer:
        assert json.load(answer) == {"environment": {"A": "1"}, "outline": ""}


def test_a_token_is_sent_where_there_is_one(hub: Hub) -> None:
    post(f"{hub.url}/x", {"port": 1}, "tkn").close()
    assert hub.requests[0][1]["authorization"] == "token tkn"


def test_every_failure_is_one_line_in_the_log_and_status_1(nobody_listens: str, tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin",
        "HOME": str(tmp_path),
        "STUDIOLO_HUB": nobody_listens,
        "STUDIOLO_BOOTSTRAP": SECRET,
    }
    done = run_python("singleuser.HUB_AWAY_SECONDS = -1; singleuser.main()", environment)
    assert done.returncode == 1
    assert done.stderr.startswith("studiolo: the hub at ")
    assert done.stderr.count("\n") == 1


# --- The port --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "number"), [("40000-40000", 1), ("40000-40009", 10), ("1024-65535", singleuser.TRIES)]
)
def test_ports_are_tried_within_the_range_each_once(ports: str, number: int) -> None:
    first, last = map(int, ports.split("-"))
    tried = list(candidates(ports))
    assert len(tried) == len(set(tried)) == number
    assert all(first <= port <= last for port in tried)


@pytest.fixture
def free() -> int:
    """The first of three ports in a row that are free at the moment."""
    for first in range(20_000, 30_000, 3):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for offset, probe in enumerate((one, two, three)):
                    probe.bind(("127.0.0.1", first + offset))
            except OSError:
                continue
            return first
    raise AssertionError("no three free ports in a row")


def test_a_bound_port_lies_in_the_range_and_is_kept(free: int) -> None:
    (bound,) = bind(f"{free}-{free + 2}", "127.0.0.1")
    with bound:
        assert bound.getsockname()[0] == "127.0.0.1"
        assert free <= bound.getsockname()[1] <= free + 2
        with socket.create_connection(bound.getsockname(), timeout=5):
            pass


# tornado.netutil.bind_sockets leaves the socket of a failed bind to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_sessions_on_one_node_never_share_a_port_and_the_last_one_says_that_none_is_left(free: int) -> None:
    ports = f"{free}-{free + 2}"
    bound = [bind(ports, "127.0.0.1")[0] for _ in range(3)]
    try:
        assert len({one.getsockname()[1] for one in bound}) == 3
        with pytest.raises(OSError, match=f"no free port among {ports}"):
            bind(ports, "127.0.0.1")
    finally:
        for one in bound:
            one.close()


# tornado.netutil.bind_sockets leaves the socket of a failed bind to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_address_that_is_not_this_nodes_is_told_as_what_it_is(free: int) -> None:
    with pytest.raises(OSError, match="Cannot assign requested address"):
        bind(f"{free}-{free + 2}", "192.0.2.1")


def test_the_port_of_a_session_that_has_ended_is_free_at_once(free: int) -> None:
    for _ in range(3):
        (bound,) = bind(f"{free}-{free}", "127.0.0.1")
        with socket.create_connection(bound.getsockname(), timeout=5):
            bound.close()


# --- The report ------------------------------------------------------------------------------------------------------


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(singleuser.os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "tkn")
    return sent


def test_the_hub_is_told_the_port_with_the_servers_own_token(
    hub: Hub, killed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_URL", hub.url)
    report(40000, {})
    ((path, headers, body),) = hub.requests
    assert (path, headers["authorization"], body) == ("/hub/api/studiolo/listening", "token tkn", {"port": 40000})
    assert killed == []


@pytest.mark.parametrize("status", [400, 413, 500, 503])
def test_a_session_whose_port_the_hub_does_not_take_ends_and_says_why(
    hub: Hub, killed: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    hub.status = status
    monkeypatch.setenv("JUPYTERHUB_API_URL", hub.url)
    report(40000, {})
    assert killed == [(os.getpid(), signal.SIGTERM)]
    assert str(status) in capsys.readouterr().err


def test_a_session_that_can_not_reach_the_hub_ends_and_says_why(
    nobody_listens: str, killed: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_URL", nobody_listens)
    report(40000, {})
    assert killed == [(os.getpid(), signal.SIGTERM)]
    assert capsys.readouterr().err.startswith("studiolo: the hub did not take this session's port")


def test_a_session_that_somebody_else_answers_ends_too(
    hub: Hub, killed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.raw = b"SSH-2.0-OpenSSH_9.2\r\n"
    monkeypatch.setenv("JUPYTERHUB_API_URL", hub.url)
    report(40000, {})
    assert killed == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_session_that_the_hub_does_not_know_begins_again_with_the_environment_that_it_began_with(
    hub: Hub, killed: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    began: list[tuple[str, list[str], dict[str, str]]] = []

    def execve(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        began.append((program, arguments, environment))
        raise SystemExit  # what follows an exec is never reached

    hub.status = status
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(singleuser.os, "execve", execve)
    monkeypatch.setenv("JUPYTERHUB_API_URL", hub.url)
    monkeypatch.setenv("TMPDIR", str(scratch))
    with pytest.raises(SystemExit):
        report(40000, {"STUDIOLO_BOOTSTRAP": SECRET})
    assert began == [(sys.executable, sys.orig_argv, {"STUDIOLO_BOOTSTRAP": SECRET})]
    assert not scratch.exists()
    assert killed == []


def test_a_hub_that_is_just_coming_back_is_asked_again_and_the_log_says_so_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(singleuser, "HUB_AWAY_SECONDS", 60)
    monkeypatch.setattr(singleuser.time, "sleep", lambda seconds: None)
    hub.statuses = [503, 502]
    assert exchange(hub.url, SECRET) == Granted({"A": "1"}, None, "")
    assert len(hub.requests) == 3
    assert capsys.readouterr().err.count("the hub does not answer (HTTP Error 503") == 1


# --- Folders ---------------------------------------------------------------------------------------------------------


def run_python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own, as a session is; what it leaves at its end can be seen."""
    path = f"import sys; sys.path[:0] = {sys.path!r}; from spawners import singleuser; "
    return subprocess.run(
        [sys.executable, "-I", "-c", path + code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_scratch_folder_is_the_sessions_own_and_gone_at_its_end(tmp_path: Path) -> None:
    code = (
        f"e = singleuser.scratch_environment({str(tmp_path)!r}); import os, stat; "
        "open(e['TMPDIR'] + '/file', 'w').close(); os.mkdir(e['TMPDIR'] + '/folder'); "
        "print(*(oct(stat.S_IMODE(os.stat(p).st_mode)) for p in e.values()), e['TMPDIR'])"
    )
    done = run_python(code, {"SLURM_JOB_ID": "4711"})
    *modes, folder = done.stdout.split()
    assert modes == ["0o700", "0o700"], done.stderr
    assert folder.startswith(f"{tmp_path}/studiolo-4711-")
    assert list(tmp_path.iterdir()) == []


def test_a_child_of_the_session_does_not_remove_its_folder(tmp_path: Path) -> None:
    code = (
        f"e = singleuser.scratch_environment({str(tmp_path)!r}); import os, sys\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "os.waitpid(child, 0); print(os.path.isdir(e['TMPDIR']))"
    )
    assert run_python(code, {}).stdout == "True\n"


@pytest.fixture
def no_farewell(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Nothing is left to be done when the tests end."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr(singleuser.atexit, "register", registered.append)
    return registered


@pytest.fixture
def short() -> Iterator[str]:
    """A folder with a short name, as nodes have them for what is temporary."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as folder:
        yield folder


def test_sockets_of_kernels_have_names_that_unix_can_hold_however_long_the_sites_own(
    tmp_path: Path, no_farewell: list[Callable[[], None]]
) -> None:
    parent = tmp_path / ("x" * 100)
    parent.mkdir()
    environment = scratch_environment(str(parent))
    runtime = environment["JUPYTER_RUNTIME_DIR"]
    assert Path(runtime).parent == Path("/tmp")
    assert len(f"{runtime}/kernel-{uuid.uuid4()}-ipc-65535") < 107
    assert stat.S_IMODE(os.stat(runtime).st_mode) == 0o700
    (clean,) = no_farewell
    clean()
    assert not Path(runtime).exists()
    assert not Path(environment["TMPDIR"]).exists()


def test_kernels_keys_lie_in_the_scratch_folder(short: str, no_farewell: list[Callable[[], None]]) -> None:
    environment = scratch_environment(short)
    assert set(environment) == {"TMPDIR", "JUPYTER_RUNTIME_DIR"}
    assert Path(environment["JUPYTER_RUNTIME_DIR"]).parent == Path(environment["TMPDIR"])
    assert stat.S_IMODE(os.stat(environment["JUPYTER_RUNTIME_DIR"]).st_mode) == 0o700
    (clean,) = no_farewell
    clean()
    assert not Path(environment["TMPDIR"]).exists()
    clean()  # once more is no error


def test_two_sessions_of_one_person_on_a_node_have_two_folders(
    tmp_path: Path, no_farewell: list[Callable[[], None]]
) -> None:
    assert scratch_environment(str(tmp_path))["TMPDIR"] != scratch_environment(str(tmp_path))["TMPDIR"]


def test_a_missing_scratch_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"the node's temporary folder .* can not be used \(No such file"):
        scratch_environment(str(tmp_path / "none"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a folder in it; the working directory is put back afterwards."""
    home = tmp_path / "home"
    (home / "work" / "a b").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.mark.parametrize(
    ("workdir", "place"),
    [
        ("", ""),
        ("work", "work"),
        ("work/a b", "work/a b"),
        ("~/work", "work"),
        ("~/", ""),
        ("~", ""),
        ("./work/../work", "work"),
    ],
)
def test_a_session_opens_in_the_folder_asked_for_below_the_home(home: Path, workdir: str, place: str) -> None:
    enter(workdir)
    assert Path.cwd() == home / place


def test_a_session_opens_in_an_absolute_folder(home: Path, tmp_path: Path) -> None:
    enter(str(tmp_path))
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("workdir", ["none", "/none/at/all", "~/none", "~other/x", "x" * 300])
def test_a_folder_that_does_not_exist_is_a_sentence_that_names_it(home: Path, workdir: str) -> None:
    with pytest.raises(SessionError, match="can not be opened") as caught:
        enter(workdir)
    assert workdir.removeprefix("~/") in str(caught.value)
    assert Path.cwd() == home.parent


def test_a_file_in_place_of_a_folder_is_a_sentence(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(SessionError, match="Not a directory"):
        enter("file")


# --- What it is ------------------------------------------------------------------------------------------------------


def environment_of_a_server(hub: Hub, tmp_path: Path, **given: str) -> dict[str, str]:
    """What the server finds in its environment after the exchange, at 1000 seconds since 1970."""
    also = {
        "STUDIOLO_PORTS": "1-2",
        "STUDIOLO_SCRATCH": str(tmp_path),
        "STUDIOLO_WORKDIR": "",
        "STUDIOLO_MINUTES": "90",
    }
    hub.body = json.dumps({"environment": also | given, "outline": "{}"}).encode()
    code = (
        "import json, os, time; time.time = lambda: 1000.5; "
        "singleuser.serve = lambda ports, begun: print(json.dumps({**os.environ, 'ports': ports, 'begun': sorted(begun)})); "
        "singleuser.main()"
    )
    done = run_python(code, {"HOME": str(tmp_path), "STUDIOLO_HUB": hub.url, "STUDIOLO_BOOTSTRAP": SECRET})
    assert done.stderr == ""
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_secret_is_taken_out_of_the_environment_before_anything_else_starts(hub: Hub, tmp_path: Path) -> None:
    found = environment_of_a_server(hub, tmp_path, JUPYTERHUB_API_TOKEN="t")
    assert found["JUPYTERHUB_API_TOKEN"] == "t"
    assert found["ports"] == "1-2"
    assert found["begun"] == ["HOME", "LC_CTYPE", "STUDIOLO_BOOTSTRAP", "STUDIOLO_HUB"]
    assert SECRET not in str(found)
    assert {key for key in found if key.startswith("STUDIOLO")} <= {"STUDIOLO_ENDS", "STUDIOLO_OUTLINE"}


def test_a_session_knows_when_its_walltime_ends(hub: Hub, tmp_path: Path) -> None:
    assert environment_of_a_server(hub, tmp_path)["STUDIOLO_ENDS"] == str(1000 + 90 * 60)


def test_the_node_imports_neither_the_hub_nor_batchspawner_before_the_exchange() -> None:
    # It must fail within milliseconds where it fails, from a shared file system.
    code = "print(sorted(m for m in sys.modules if m.split('.')[0] in ('jupyterhub', 'batchspawner', 'tornado', 'pydantic', 'jinja2')))"
    assert run_python(code, {}).stdout == "[]\n"
