"""Panels and answers from within a real session: what it has, what runs beside it, why something waits."""

from __future__ import annotations

import nbformat
import pytest
from kernels import Kernel, awaited, printed

NOTEBOOK = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import time; time.sleep(600)")]))


@pytest.fixture
def at(notebook: Kernel) -> Kernel:
    """A kernel with a notebook beside it that takes long."""
    notebook.run(f"import studiolo; open('long.ipynb', 'w').write({NOTEBOOK!r}); panel = studiolo.panel()")
    return notebook


def test_a_session_says_what_it_has_costs_and_uses(at: Kernel) -> None:
    said = printed(at, "panel.text")
    assert "2 cores on cpu" in said
    assert "an hour; at most" in said
    assert "GPU-hours" in said, "what is left of the project"
    assert " of 4 GB" in said
    words = at.run("studiolo.explain()").result
    assert words.startswith("2 cores on cpu")
    assert "are left." in words


def test_a_run_stands_in_the_panel_and_one_sent_elsewhere_in_the_queue(at: Kernel) -> None:
    at.run("run = studiolo.run('long.ipynb', profile='learn')")
    awaited(at, "the run", "run.state == 'running'")
    awaited(at, "its row", "'long.ipynb' in studiolo.panel('batch').text and 'Running' in studiolo.panel('batch').text")
    assert "Nothing else of yours" in printed(at, "studiolo.panel('jobs').text"), "it is told once"
    assert "Cell 1 of 1." in at.run("studiolo.why(run)").result
    assert "It runs on " in at.run("studiolo.why(run.job)").result
    at.run("run.cancel()")
    awaited(at, "its end", "run.state == 'cancelled'")
    assert printed(at, "[one.name for one in studiolo.receipts(run)]") == ["long.ipynb"]


def test_a_run_that_waits_for_a_maintenance_is_told_how_long_it_may_be_to_start_now(at: Kernel) -> None:
    slurm = at.hub.slurm
    nodes = slurm("sinfo", "--noheader", "--partition=cpu", "--format=%N").strip()
    times = ("StartTime=now+90minutes", "Duration=60", "Users=root", "Flags=MAINT,IGNORE_JOBS")
    slurm("scontrol", "create", "reservation", "ReservationName=upkeep", f"Nodes={nodes}", *times)
    try:
        at.run("run = studiolo.run('long.ipynb', profile='learn')")
        awaited(at, "Slurm's reason", "run.state == 'waiting' and 'maintenance' in run.why")
        awaited(at, "what starts sooner", "studiolo.why(run).sooner.startswith('1 h instead of 2 h starts')")
        assert "maintenance" in printed(at, "studiolo.panel('batch').text")
        at.run("run.cancel()")
    finally:
        slurm("scontrol", "delete", "ReservationName=upkeep")


def test_a_job_of_nobody_is_said(at: Kernel) -> None:
    assert "the number of a job of yours" in at.fails("studiolo.why(999999)")
