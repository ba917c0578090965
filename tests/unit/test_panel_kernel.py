"""Panels in a real kernel without a page: they go on while a cell runs, buttons are heard, and nothing is done for nobody.

``STUDIOLO_KERNEL_PYTHONS`` names further Pythons, with other ipykernels, that the same is asked of (``:`` between them).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from headless import Headless, headless
from nbclient import NotebookClient

from studiolo.outline import VARIABLE, outline
from studiolo.site import Site

if TYPE_CHECKING:
    from conftest import FakePrograms

PYTHONS = [sys.executable, *filter(None, os.environ.get("STUDIOLO_KERNEL_PYTHONS", "").split(":"))]
ROOT = Path(__file__).parents[2]

# Something of a person's that notes on which thread, and when, it was told to end.
THING = """
import threading, time, studiolo
from studiolo.views import CANCEL, JobView, announce
class Thing:
    done = 0
    over = False
    def view(self):
        state = "cancelled" if self.over else "running"
        return JobView("run", "1", "train", state, f"At {self.done}.", done=self.done, of=100, actions=() if self.over else (CANCEL,))
    def act(self, action):
        self.over = True
thing = Thing()
announce(thing)
"""


@pytest.fixture
def environment(site: Site, tmp_path: Path, programs: FakePrograms) -> dict[str, str]:
    """That of a session whose Slurm knows of no job."""
    for name in ("sbatch", "squeue", "sacct"):
        programs.add(name)
    programs.add("scontrol", err="slurm_load_assoc_mgr_info error: Socket timed out on send/recv operation", status=1)
    clusters = {
        name: cluster.model_copy(update={"commands": str(programs.folder)}) for name, cluster in site.clusters.items()
    }
    path = tmp_path / "site.json"
    path.write_text(outline(site.model_copy(update={"clusters": clusters})), encoding="utf-8")
    return {
        **os.environ,
        VARIABLE: str(path),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "SLURM_JOB_ID": "7",
        "SLURMD_NODENAME": "gpu2",
        "SLURM_JOB_PARTITION": "gpu",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_MEM_PER_NODE": "16384",
        "SLURM_SHARDS_ON_NODE": "1",
        "STUDIOLO_SESSION": "0123456789abcdef",
    }


@pytest.fixture(params=PYTHONS, ids=lambda python: Path(python).parents[1].name)
def kernel(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path) -> Iterator[Headless]:
    with headless(request.param, environment, str(tmp_path)) as running:
        running.run(THING)
        yield running


def button(kernel: Headless, words: str) -> str:
    """The comm of the button that says this."""
    for message in kernel.heard:
        if message["msg_type"] == "comm_open":
            state = message["content"]["data"]["state"]
            if state.get("_model_name") == "ButtonModel" and words in state.get("description", ""):
                return str(message["content"]["comm_id"])
    raise AssertionError(f"no button says {words!r}")


def page(kernel: Headless, words: str) -> str:
    """The comm of the HTML that holds this."""
    for message in kernel.heard:
        if message["msg_type"] == "comm_msg" and words in message["content"]["data"].get("state", {}).get("value", ""):
            return str(message["content"]["comm_id"])
    raise AssertionError(f"no part says {words!r}")


BUSY = """
print("busy", flush=True)
while not {condition}:
    thing.done += 1
    time.sleep(0.05)  # a cell that holds the kernel's own loop
"""


def test_a_panel_goes_on_while_a_cell_runs(kernel: Headless) -> None:
    kernel.run("panel = studiolo.panel('batch'); panel")
    part = page(kernel, "Batch runs")
    cell = kernel.begin(BUSY.format(condition="globals().get('enough')"))
    kernel.until("three updates", lambda: len(kernel.updates(part)) >= 3)
    assert not kernel.is_idle(cell), "they came while the cell ran"
    kernel.send("interrupt_request", {}, channel="control")
    kernel.until("the end of the cell", lambda: kernel.is_idle(cell))


def test_a_click_is_heard_while_a_cell_runs(kernel: Headless) -> None:
    kernel.run("panel = studiolo.panel('batch'); panel")
    cancel, part = button(kernel, "Cancel train"), page(kernel, "Batch runs")
    subshell = kernel.subshell()
    cell = kernel.begin(BUSY.format(condition="thing.over"))
    kernel.until("the cell", lambda: any(message["content"].get("text") == "busy\n" for message in kernel.heard))
    kernel.click(cancel, subshell)
    kernel.until(
        "a question whether that is meant", lambda: {"description": "Really? Cancel train"} in kernel.updates(cancel)
    )
    assert not kernel.is_idle(cell)
    kernel.click(cancel, subshell)
    kernel.until("the end of the cell, which waits for the click", lambda: kernel.is_idle(cell))
    kernel.until("the news", lambda: any("Cancelled" in update.get("value", "") for update in kernel.updates(part)))


def test_a_closed_panel_is_looked_after_no_more(kernel: Headless) -> None:
    kernel.run("panel = studiolo.panel('gauges'); panel")
    kernel.run(
        "from studiolo.desk import desk; from studiolo.panels.live import _pollers; poller = _pollers[desk()]; panel.close()"
    )
    wait = "import time\nwhile not poller._task.done(): time.sleep(0.05)\nprint(poller.looks)"
    looks = kernel.run(wait)
    assert kernel.run(wait) == looks


def test_outside_of_a_session_and_for_unknown_parts_it_says_what_to_do(kernel: Headless) -> None:
    said = kernel.run("try: studiolo.panel('job')\nexcept ValueError as error: print(error)")
    assert "'job'; there are session, gauges, jobs, dask, batch" in said


def test_a_notebook_that_ran_without_a_page_holds_the_panel_as_it_was(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(THING + "studiolo.panel()")])
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (output,) = notebook.cells[0].outputs
    assert {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"} <= set(output["data"])
    assert "One quarter of an A100 on gpu2, 4 cores, 16 GB" in output["data"]["text/html"]
    assert "As of " in output["data"]["text/html"]
    assert "train: Running." in output["data"]["text/plain"]
