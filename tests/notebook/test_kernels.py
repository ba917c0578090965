"""The kernel that the tests of this folder drive: it is in a session, and knows its site."""

from __future__ import annotations

import signal

from hubclient import until
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
