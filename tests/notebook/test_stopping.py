"""One line in a notebook ends its cluster, its batch runs and the person's other session; and not the one it stands in."""

from __future__ import annotations

import json
import pwd
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chaos import visitor
from hubclient import Hub, until
from kernels import Kernel, awaited, kernel, printed

SEND_OFF = """
import nbformat, studiolo
from nbformat.v4 import new_code_cell, new_notebook
nbformat.write(new_notebook(cells=[new_code_cell("import time; time.sleep(900)")]), "long.ipynb")
run = studiolo.run("long.ipynb", cpus=1, memory="500M", minutes=30)
crew = studiolo.cluster(workers=1, cpus=1, memory="500M", minutes=30)
"""


def test_everything_else_of_the_person_ends_and_the_session_goes_on(notebook: Kernel) -> None:
    hub, person = notebook.hub, notebook.person
    own = hub.job(person)
    assert hub.start(person, {"profile": "learn"}, "second").status_code == 202
    hub.ready(person, "second")
    notebook.run(SEND_OFF)
    until("all of them in the queue", lambda: len(hub.jobs(person)) == 4)
    told = notebook.run("print(studiolo.stop_everything())").text
    assert told.strip() == "Stopped: 1 session, 1 batch run, 1 Dask worker."
    until("the end of all but one", lambda: hub.jobs(person) == [own])
    until("the hub to know", lambda: not hub.server(person, "second"))
    assert notebook.run("print(crew.status.name, run.state)").text.split() == ["closed", "cancelled"]
    assert "Nothing else of yours" in notebook.run("print(studiolo.stop_everything())").text


CLUSTER_OF_A_RUN = """
import nbformat, studiolo
from nbformat.v4 import new_code_cell, new_notebook
work = "import studiolo, time; crew = studiolo.cluster(workers=1, cpus=1, memory='500M', minutes=30); time.sleep(900)"
nbformat.write(new_notebook(cells=[new_code_cell(work)]), "crew.ipynb")
run = studiolo.run("crew.ipynb", cpus=1, memory="700M", minutes=30)
"""


def test_a_dask_cluster_that_a_batch_run_has_started_ends_with_everything(notebook: Kernel) -> None:
    hub, person = notebook.hub, notebook.person
    own = hub.job(person)
    notebook.run(CLUSTER_OF_A_RUN)
    until("the run and its worker", lambda: len(hub.jobs(person)) == 3)
    assert notebook.run("print(studiolo.stop_everything())").text.strip() == "Stopped: 1 batch run, 1 Dask worker."
    until("the end of both", lambda: hub.jobs(person) == [own])
    awaited(notebook, "what the run says", "run.state == 'cancelled'")


def test_the_home_pages_button_ends_the_dask_cluster_of_a_batch_run_too(
    hub: Hub, access: Mapping[str, Any], person: Callable[..., str]
) -> None:
    name = person("company", 3)
    with kernel(hub, name, {"profile": "learn"}) as running:
        running.run(CLUSTER_OF_A_RUN)
        until("the run and its worker", lambda: len(hub.jobs(name)) == 3)
        with visitor(hub, access, name) as browser:
            (xsrf,) = re.findall(r'data-xsrf="([^"]+)"', browser.get("hub/home").text)
            form = {"action": "stop-everything", "_xsrf": xsrf}
            assert browser.post("hub/home", data=form).status_code == 200
        # Once the run is gone as well, nobody is left who would send off another worker.
        until("the end of all", lambda: not hub.jobs(name))
        until("the hub to know", lambda: not hub.server(name))


FROM_WITHIN = """
import nbformat, studiolo
from nbformat.v4 import new_code_cell, new_notebook
cells = [new_code_cell("import studiolo; studiolo.record(told=repr(studiolo.stop_everything()))"), new_code_cell("1")]
nbformat.write(new_notebook(cells=cells), "ends-all.ipynb")
sweep = studiolo.sweep("ends-all.ipynb", [{}, {}], at_once=1, cpus=1, memory="700M", minutes=30)
"""


def test_a_sweep_that_stops_everything_ends_the_session_and_not_itself(notebook: Kernel) -> None:
    hub, person = notebook.hub, notebook.person
    notebook.run(FROM_WITHIN)
    folder = Path(pwd.getpwnam(person).pw_dir) / ".studiolo" / "runs" / printed(notebook, "sweep.id")

    def done(index: int) -> bool:
        state = folder / str(index) / "state.json"
        return state.exists() and json.loads(state.read_text())["phase"] == "done"

    until("the end of the first run", lambda: done(0))
    until("the end of the second run", lambda: done(1))
    told = [json.loads((folder / str(index) / "result.json").read_text())["told"] for index in (0, 1)]
    assert told == ["Stopped: 1 session.", "Nothing else of yours runs or waits."]
    until("the hub to know", lambda: not hub.server(person))
