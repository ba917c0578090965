"""The kernel that the tests of this folder drive: it is in a session, and knows its site."""

from __future__ import annotations

import http.server
import json
import signal
import stat
import threading
from pathlib import Path

from hubclient import HTTP, until
from kernels import Kernel, printed


def test_a_notebook_knows_its_session_and_its_site(notebook: Kernel) -> None:
    notebook.run("import studiolo; from studiolo.desk import desk")
    assert printed(notebook, "studiolo.session().job") == notebook.hub.job(notebook.person)
    assert printed(notebook, "studiolo.session().asked['profile']") == "learn"
    assert "learn" in printed(notebook, "list(desk().site.profiles)")


def test_a_failing_cell_shows_its_error_and_a_running_one_is_interrupted(notebook: Kernel) -> None:
    assert "ZeroDivisionError" in notebook.fails("1 / 0")
    cell = notebook.begin("print('there', flush=True)\nimport time\nwhile True: time.sleep(0.1)")
    for message in notebook.messages(30):
        if message["header"]["msg_type"] == "stream":
            break
    notebook.interrupt()
    assert "KeyboardInterrupt" in notebook.result(cell).error


def test_a_killed_kernel_is_another_process_afterwards_and_so_is_one_that_is_restarted(notebook: Kernel) -> None:
    pids = {notebook.pid}
    notebook.run("kept = 1")
    notebook.kill(signal.SIGKILL)
    notebook.revived()
    pids.add(notebook.pid)
    notebook.restart()
    pids.add(notebook.pid)
    assert len(pids) == 3
    assert "NameError" in notebook.fails("kept")


def test_what_listens_in_a_session_is_reached_through_the_hub_and_dasks_sidebar_finds_its_server(
    notebook: Kernel,
) -> None:
    """Both come with extensions that are loaded once the server serves (spawners/later.py)."""
    notebook.run(
        "import http.server, threading\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'a dashboard')\n"
        "    def log_message(self, *words): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Page)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()"
    )
    port = printed(notebook, "server.server_port")
    page = until("the way to it", lambda: (a := notebook.ask("GET", f"proxy/{port}/")).status_code == 200 and a)
    assert page.text == "a dashboard"
    known = until("Dask's sidebar", lambda: (a := notebook.ask("GET", "dask/clusters")).status_code == 200 and a)
    assert known.json() == []
    assert notebook.ask("GET", f"proxy/example.org:{port}/").status_code == 403


def test_a_widget_that_changes_by_itself_keeps_no_session_from_being_idle(notebook: Kernel) -> None:
    def active() -> str:
        return str(notebook.ask("GET", f"api/kernels/{notebook.id}").json()["last_activity"])

    notebook.run(
        "import ipywidgets, threading, time\n"
        "shown = ipywidgets.HTML()\n"
        "def go_on():\n"
        "    for number in range(10_000):\n"
        "        shown.value = str(number); time.sleep(0.05)\n"
        "threading.Thread(target=go_on, daemon=True).start()\n"
        "shown"
    )
    before = until("rest after the cell", lambda: (a := active()) == active() and a)
    changes = 0
    for message in notebook.messages(30):
        changes += message["header"]["msg_type"] == "comm_msg"
        if changes == 30:
            break
    assert changes == 30
    assert active() == before
    notebook.run("1")
    assert active() > before


# --- Others on the same node -----------------------------------------------------------------------------------------


def test_what_a_kernel_says_passes_through_files_of_its_persons_alone(notebook: Kernel) -> None:
    runtime = Path(printed(notebook, "__import__('os').environ['JUPYTER_RUNTIME_DIR']"))
    told = json.loads((runtime / f"kernel-{notebook.id}.json").read_text())
    assert told["transport"] == "ipc"
    for channel in ("shell", "iopub", "stdin", "control", "hb"):
        place = Path(f"{told['ip']}-{told[f'{channel}_port']}")
        assert stat.S_ISSOCK(place.stat().st_mode)
        assert place.parent == runtime
    assert stat.S_IMODE(runtime.stat().st_mode) & 0o077 == 0


def test_what_somebody_else_has_on_a_port_is_not_shown_and_learns_nothing(notebook: Kernel) -> None:
    asked: list[str] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(str(self.headers))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<script>steal()</script>")

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as foreign:
        thread = threading.Thread(target=foreign.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        answer = until(
            "an answer", lambda: (a := notebook.ask("GET", f"proxy/{foreign.server_port}/")).status_code != 404 and a
        )
        foreign.shutdown()
        thread.join()
    assert answer.status_code == 403
    assert "Nothing of yours" in answer.text
    assert asked == []


def test_ones_own_programs_are_shown_and_learn_no_token_and_no_cookie_of_the_session(notebook: Kernel) -> None:
    notebook.run(
        "import http.server, threading\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write((self.path + str(self.headers)).encode())\n"
        "    def log_message(self, *words): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Page)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()"
    )
    port = printed(notebook, "server.server_port")
    until("the way to it", lambda: notebook.ask("GET", f"proxy/{port}/").status_code == 200)
    url = f"{notebook.hub.url}user/{notebook.person}/proxy/{port}/x"
    headers = {"Authorization": f"token {notebook.token}", "Cookie": "mine=1; jupyterhub-session-id=secret; _xsrf=s"}
    seen = HTTP.get(url, params={"token": notebook.token, "a": "b"}, headers=headers).text
    assert seen.startswith("/x?a=b")
    assert "mine=1" in seen
    assert notebook.token not in seen
    assert "secret" not in seen
