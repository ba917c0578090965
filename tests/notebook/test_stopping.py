"""One line in a notebook ends its cluster, its batch runs and the person's other session; and not the one it stands in."""

from __future__ import annotations

from hubclient import until
from kernels import Kernel

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
