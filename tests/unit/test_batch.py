"""Notebooks as batch jobs without a cluster: parameters, folders, what is asked for, and what is true of a run."""

from __future__ import annotations

import ast
import itertools
import json
import os
import pickle
import re
import shutil
import stat
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from submitit.core.utils import DelayedSubmission

from studiolo import jobs
from studiolo.batch import attempt, calls, folder, follow, inside, mapping, runner
from studiolo.batch.folder import Place, Record, read_record
from studiolo.batch.parameters import check_parameters, declared, injected, plain, require, with_parameters
from studiolo.batch.parts import Arrays, parts_of, read_arrays
from studiolo.batch.plan import Plan, like_session, plan_run, points_of, rehearsal_of
from studiolo.batch.progress import Progress, Trouble, Used, read_progress
from studiolo.batch.sampler import Sampler
from studiolo.batch.shown import Held, held, measured, together, view_html
from studiolo.batch.snapshot import git_state, notebook_path, read_notebook
from studiolo.batch.state import Verdict, hopeless, judge
from studiolo.batch.sweep import Sweep, summary
from studiolo.batch.table import plotted, row, tabled
from studiolo.cost import use_words
from studiolo.desk import Desk
from studiolo.errors import RequestError, RunFailed, RunGone, RunsUnusable, SlurmRefused, SlurmUnavailable
from studiolo.magics import CellRun, cell_notebook, read_line, run_batch
from studiolo.meter import Totals
from studiolo.nvml import Gpu
from studiolo.request import check
from studiolo.script import Job, render
from studiolo.session import Session
from studiolo.site import Site
from studiolo.slurm.arrays import name_of, parse_most_tasks, parse_task_accounting, parse_task_queue, split, task
from studiolo.slurm.states import OVER_STATES, JobState
from studiolo.views import Amount, JobView, Measured, Resources

ASKED = {"profile": "one", "partition": "gpu", "gpus": 2, "cpus": 4, "memory": 8192, "minutes": 60, "account": "p1", "qos": "short", "environment": "torch"}  # fmt: skip
HERE = Session(1, "gpu1", "gpu", "p1", 4, 8192, 2, 0, None, owner="0123456789abcdef", asked=ASKED)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder, "home", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def at_desk(site: Site) -> Iterator[Desk]:
    made = Desk(site, HERE)
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


def notebook(*cells: Any) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def code(source: Any, *tags: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "outputs": [], "source": source, "id": "x"}


# --- Parameters ------------------------------------------------------------------------------------------------------


def test_a_notebook_declares_its_parameters_with_types_defaults_and_words_about_them() -> None:
    cell = code(
        ["lr: float = 1  # step\n", "names = ['a']\n", "data = load()\n", "seed: int\n", "x, y = 1, 2\n"], "parameters"
    )
    found = declared(notebook(code("a = 1"), cell))
    assert found is not None
    assert [(p.name, p.kind, p.default, p.has_default, p.help) for p in found] == [
        ("lr", "float", 1, True, "step"),
        ("names", "list", ["a"], True, ""),
        ("data", "", None, False, ""),
        ("seed", "int", None, False, ""),
    ]
    assert found[2].written == "load()"


def test_a_notebook_without_the_tagged_cell_declares_nothing_and_a_cell_of_magics_no_parameter() -> None:
    assert declared(notebook(code("a = 1"))) is None
    assert declared(notebook(code("%magic\na = 1", "parameters"))) == ()


@pytest.mark.parametrize("value", ["-" * 1500 + "1", "a" + ".b" * 1200, "0x" + "f" * 20_000])
def test_a_value_that_python_can_hardly_read_is_shown_as_it_stands(value: str) -> None:
    found = declared(notebook(code(f"odd = {value}\nlr = 1", "parameters")))
    assert [(each.name, each.written) for each in found or ()] == [("odd", value), ("lr", "1")]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_plain_value_becomes_source_that_is_this_value_and_nothing_else(value: object) -> None:
    (statement,) = ast.parse(injected({"x": plain(value)})).body
    assert isinstance(statement, ast.Assign)
    assert ast.literal_eval(statement.value) == value


def test_values_that_are_not_numbers_stay_what_they_are() -> None:
    space: dict[str, Any] = {}
    exec(injected({"a": float("inf"), "b": float("nan")}), space)
    assert space["a"] == float("inf")
    assert space["b"] != space["b"]


def test_numpy_and_paths_count_as_plain() -> None:
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": Path("/x"), "d": range(2), "e": np.bool_(True)}
    assert plain(value) == {"a": 0.5, "b": [0, 1], "c": "/x", "d": [0, 1], "e": True}
    assert type(plain(np.float64(1))) is float
    with pytest.raises(ValueError, match="a number, text"):
        plain(object())
    with pytest.raises(ValueError, match="a thousand digits"):  # which JSON could not hold
        plain([10**5000])


def test_parameters_stand_behind_the_tagged_cell_and_those_of_an_earlier_run_go() -> None:
    first = with_parameters(notebook(code("a"), code("b", "parameters"), code("c")), {"x": 1})
    assert ["".join(cell["source"]) for cell in first["cells"]] == ["a", "b", "# Parameters\nx = 1\n", "c"]
    again = with_parameters(first, {"x": 2})
    assert ["".join(cell["source"]) for cell in again["cells"]] == ["a", "b", "# Parameters\nx = 2\n", "c"]
    bare = with_parameters(notebook(code("a")), {"x": 1})
    assert [cell["source"] for cell in bare["cells"]] == ["# Parameters\nx = 1\n", "a"]


def test_an_unknown_parameter_is_told_with_those_that_there_are() -> None:
    known = declared(notebook(code("lr = 1\nseed = 2", "parameters")))
    with pytest.raises(
        RequestError, match=r"parameters\.rate: the notebook declares no such parameter; it has lr, seed"
    ):
        require({"rate": 1}, known)
    assert require({"anything": 1}, None) == {"anything": 1}


@pytest.mark.parametrize("name", ["a b", "class", "1x", "", "x=1\nimport os", 5])
def test_a_parameter_has_the_name_of_a_variable(name: object) -> None:
    assert check_parameters({name: 1}, None)[1]


# --- Folders ---------------------------------------------------------------------------------------------------------


def test_runs_are_found_newest_first_and_other_things_are_none(home: Path) -> None:
    made = [folder.make({"source.ipynb": b"{}"}, Record(title=str(n)), tasks=n) for n in range(3)]
    (folder.root() / "a file").touch()
    (folder.root() / ".new-1234").mkdir()
    assert sorted(p.id for p in folder.newest()) == sorted(p.id for p in made)
    assert [p.id for p in folder.newest()] == sorted((p.id for p in made), reverse=True)
    assert len(list(folder.newest(2))) == 2
    assert sorted(p.name for p in made[2].base.iterdir()) == ["0", "1", "run.json", "source.ipynb"]
    assert folder.find(f"{made[2].id}/1") == Place(made[2].base, 1)
    for name in ("", "..", "x", f"{made[2].id}/../..", f"{made[2].id}/-1", "20200101-000000-zzzz"):
        assert folder.find(name) is None


def test_what_was_asked_for_reads_back_and_what_was_edited_by_hand_is_no_error(home: Path) -> None:
    record = Record(
        notebook="/x/a\n'.ipynb", points=({"a": 1}, {"a": 2}), request={"minutes": 5}, submitted=3.0, resume=True
    )
    place = folder.make({}, record)
    assert read_record(place) == record
    for text in (
        "",
        "[]",
        "{",
        '{"points": 5, "resume": "yes", "minutes": {}, "at_once": true, "request": {"minutes": "x"}}',
    ):
        (place.base / folder.RUN).write_text(text)
        found = read_record(place)
        assert found is None or (found.points, found.resume, found.at_once, found.minutes) == ((), False, 0, 0)


def test_a_folder_that_takes_nothing_is_told_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunsUnusable, match="Disk quota exceeded"):
        folder.make({"source.ipynb": b"{}"}, Record())
    assert list(folder.root().iterdir()) == []


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    folder.write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        folder.write_json(path, {"a": 2})
    assert folder.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_progress_reads_back_and_nonsense_is_none() -> None:
    told = Progress("failed", 2, 7, "n1", 3, 1, 2, 1.0, trouble=Trouble("E", "v", 2, "x"))
    assert read_progress(json.loads(json.dumps(told.as_json()))) == told
    assert read_progress({"phase": "dancing"}) is None
    assert read_progress({"phase": "running", "cells": "many", "trouble": 5, "job": True}) == Progress("running")


@pytest.mark.parametrize("odd", [10**400, float("inf"), float("nan"), -1, True, "soon"])
def test_numbers_that_can_not_be_true_are_dropped_and_hide_no_other_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, odd: object
) -> None:
    monkeypatch.setattr(follow, "here", lambda: None)
    names = ("attempt", "job", "cells", "done", "current", "started", "cell_started", "updated", "ended", "memory", "peak", "cores")  # fmt: skip
    told = {"phase": "running", "note": "kept", **dict.fromkeys(names, odd)}
    assert read_progress(told) == Progress("running", note="kept")
    request = dict.fromkeys(("cpus", "memory", "gpus", "shards", "minutes"), odd)
    place = folder.make({}, Record(title="odd", submitted=odd, at_once=odd, request=request))  # type: ignore[arg-type]
    folder.write_json(place.own / folder.STATE, told)
    end = {"job": 7, "state": "FAILED", "reason": "None", "node": "n1", "start": odd, "end": odd, "exit_code": 1, "signal": 0}  # fmt: skip
    folder.write_json(place.own / folder.END, end)
    fine = folder.make({}, Record(title="fine"))
    folder.write_json(fine.own / folder.STATE, Progress("done").as_json())
    listed = jobs.runs()
    assert "fine: done" in repr(listed)
    assert "odd" in listed._repr_html_()
    assert jobs.find_run(place.id).view().started is None


def in_place_of(name: str, text: str | None) -> Any:
    """Puts a text in the place of a file of a run, or a folder (``None``)."""

    def change(base: Path) -> None:
        for path in (base / name, base / "0" / name):
            if path.parent.is_dir():
                path.unlink(missing_ok=True)
                path.mkdir() if text is None else path.write_text(text)

    return change


FILES = (folder.RUN, folder.STATE, folder.JOB, folder.END, folder.RESULT, folder.SOURCE, folder.OUTPUT, folder.LOG)
HALF = '{"phase": "running", "job": 7, "nbformat": 4, "cells": [{"cell_ty'


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(shutil.rmtree, id="removed"),
        *(pytest.param(in_place_of(name, None), id=f"{name}-folder") for name in FILES),
        *(pytest.param(in_place_of(name, HALF), id=f"{name}-half") for name in FILES),
        *(pytest.param(in_place_of(name, "[5]"), id=f"{name}-list") for name in FILES),
    ],
)
@pytest.mark.parametrize("kind", ["run", "sweep", "map"])
def test_whatever_becomes_of_a_runs_folder_is_told_in_a_sentence(
    at_desk: Desk, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str, harm: Any
) -> None:
    for name in ("follow.here", "run.here", "sweep.here"):
        monkeypatch.setattr(f"studiolo.batch.{name}", lambda: None)
    for name in ("run.desk", "sweep.desk", "submit.desk"):
        monkeypatch.setattr(f"studiolo.batch.{name}", lambda: at_desk)
    Slurm(at_desk, 99)
    path = home / "a.ipynb"
    path.write_text(json.dumps(notebook(code("lr = 1", "parameters"))))
    points = () if kind == "run" else ({"lr": 1}, {"lr": 2})
    record = Record(kind=kind, notebook=str(path), points=points, submitted=5.0, cluster=next(iter(at_desk.slurm)))
    files = {folder.SOURCE: path.read_bytes()}
    if kind == "map":
        files = {f"{n}/{folder.CALL}": b"" for n in range(2)}
    place = folder.make(files, record, len(points))
    sent = jobs.found(place)
    harm(place.base)
    for one in (sent, jobs.made_of(place, record), *(sent if isinstance(sent, Sweep) else ())):
        assert one.used == ""
        assert one.state in ("failed", "running", "unknown")
        assert one.why
        assert one.view().identity == one.id
        assert one.id in repr(one)
        one._repr_html_()
        one.cancel()
        assert one.rehearsal is None
        assert isinstance(one.notebook, Path)
        if isinstance(one, jobs.Run):
            assert not one.result
            assert isinstance(one.log(), str)
            assert (one.usage, one.link) == (None, "")
        else:
            assert len(one.table()) == 2
    repr(jobs.runs())
    try:
        sent.again()
    except RunGone as error:
        assert f"Run {place.id}" in str(error)
        assert "again, with studiolo." in str(error)
    else:
        assert harm is not shutil.rmtree


@pytest.mark.parametrize(
    ("phase", "heard", "state"),
    [
        ("running", 90.0, "running"),  # nobody has asked Slurm since
        ("starting", 90.0, "starting"),
        ("running", 110.0, "waiting"),  # put back into the queue, by a preemption say
        ("requeued", 90.0, "waiting"),
    ],
)
def test_a_run_that_says_that_it_runs_is_believed_until_slurm_says_later_that_it_waits(
    home: Path, monkeypatch: pytest.MonkeyPatch, phase: str, heard: float, state: str
) -> None:
    waits = JobState(7, "PENDING", "Priority")
    watcher = SimpleNamespace(heard=heard, silent_since=None, state=lambda number: waits)
    monkeypatch.setattr(follow.Follower, "watcher", lambda self: watcher)
    place = folder.make({}, Record())
    folder.write_json(place.base / folder.JOB, Arrays((7,)).as_json())
    folder.write_json(place.own / folder.STATE, Progress(phase, cells=3, current=1, updated=100.0).as_json())
    assert follow.Follower(place, Record()).verdict().state == state


@pytest.mark.parametrize(
    ("slurm", "state", "words"),
    [
        (None, "failed", "was removed"),
        (JobState(1, "RUNNING"), "running", "run.cancel() ends it"),
        (JobState(1, "PENDING", "Priority"), "waiting", "run.cancel() ends it"),
        (JobState(1, "COMPLETED"), "done", "was removed"),
        (JobState(1, "OUT_OF_MEMORY"), "failed", "was removed"),
        (JobState(1, "CANCELLED"), "cancelled", "was removed"),
    ],
)
def test_of_a_run_whose_folder_is_gone_slurm_alone_knows(slurm: JobState | None, state: str, words: str) -> None:
    found = judge(None, slurm, submitted=False, removed=True)
    assert found.state == state
    assert words in found.why
    assert judge(None, None, removed=True).state == "unknown", "its job is known, and Slurm has said nothing yet"


def test_a_notebook_whose_own_folder_is_gone_is_told(
    at_desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(mapping, "desk", lambda: at_desk)
    gone.rmdir()
    for asked in (lambda: plan_run(at_desk, "a.ipynb", {}, {}), lambda: mapping.plan_map(len, ["a"], None, False, {})):
        with pytest.raises(RequestError, match="this notebook's folder: one that is there"):
            asked()


def test_a_home_that_takes_no_checkpoint_and_one_that_takes_no_run_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".studiolo").write_text("")
    with pytest.raises(RunsUnusable, match="ask those who run this machine"):
        folder.make({}, Record())
    monkeypatch.setenv(inside.FOLDER, str(home))
    (home / folder.CHECKPOINT).write_text("")
    with pytest.raises(RunsUnusable, match="File exists"):
        inside.checkpoint()


def test_variables_of_a_cell_that_can_not_be_read_are_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CellRun, "wait", lambda self, timeout=None: self)
    run = CellRun(folder.make({}, Record()), Record())
    with pytest.raises(RunFailed, match="-o names them"):
        run.variables()
    (run.folder / "outputs.pkl").write_bytes(b"cno_such_module\nThing\n.")
    with pytest.raises(RunFailed, match="ModuleNotFoundError"):
        run.variables()


# --- What is asked for -----------------------------------------------------------------------------------------------


def test_what_is_left_out_is_as_in_the_session(site: Site) -> None:
    request = check(like_session({}, HERE, site), site)
    assert (request.gpus, request.cpus, request.memory, request.minutes) == (2, 4, 8192, 60)
    assert (request.account, request.qos, request.environment) == ("p1", "short", "torch")
    changed = check(like_session({"gpus": 1, "hours": "90m", "memory": "16G"}, HERE, site), site)
    assert (changed.gpus, changed.minutes, changed.memory, changed.cpus) == (1, 90, 16384, 4)
    assert check(like_session({"shards": 2}, HERE, site), site).gpus == 0
    assert check(like_session({"hours": 0.5}, HERE, site), site).minutes == 30
    with pytest.raises(RequestError, match="hours = 'soon'"):
        check(like_session({"hours": "soon"}, HERE, site), site)


def test_another_profile_stands_for_itself_and_keeps_project_and_environment_where_they_fit(site: Site) -> None:
    other = check(like_session({"profile": "learn"}, HERE, site), site)
    assert (other.cpus, other.memory, other.account, other.environment) == (2, 4096, "p1", "torch")
    # The course has a project of its own.
    assert check(like_session({"profile": "course"}, HERE, site), site).account == "p2"


def test_a_session_without_gpus_has_runs_without_though_its_profile_has_one(site: Site) -> None:
    none = replace(HERE, asked={**ASKED, "gpus": 0})
    assert check(like_session({}, none, site), site).gpus == 0


LEARN = {"profile": "learn", "partition": "cpu", "gpus": 0, "cpus": 2, "memory": 4096, "minutes": 120, "account": "p2", "environment": "base"}  # fmt: skip


def test_gpus_that_the_sessions_partition_does_not_have_come_from_the_first_profile_with_them(site: Site) -> None:
    learning = replace(HERE, partition="cpu", asked=LEARN)
    for own in (learning, None):
        for asked in (1, "1"):
            request = check(like_session({"gpus": asked}, own, site), site)
            assert (request.profile, request.partition, request.gpus, request.cpus) == ("one", "gpu", 1, 8)
    request = check(like_session({"gpus": 2, "minutes": 30, "memory": "32G"}, learning, site), site)
    assert (request.gpus, request.minutes, request.memory, request.environment) == (2, 30, 32768, "base")
    assert request.account == "p1"  # that of the profile, which has one
    assert check(like_session({"shards": 2}, learning, site), site).profile == "quarter"
    with pytest.raises(RequestError, match="at most 4 on partition gpu"):
        check(like_session({"gpus": 5}, learning, site), site)
    # Who names a place, or asks for none, stays there.
    assert check(like_session({"gpus": 0}, learning, site), site).partition == "cpu"
    assert check(like_session({"cpus": 1}, learning, site), site).partition == "cpu"
    for place in ({"partition": "cpu"}, {"profile": "learn"}):
        with pytest.raises(RequestError, match="at most 0 on partition cpu"):
            check(like_session({"gpus": 1, **place}, learning, site), site)
    bare = site.model_copy(update={"profiles": {"learn": site.profiles["learn"]}})
    with pytest.raises(RequestError, match="at most 0 on partition cpu"):
        check(like_session({"gpus": 1}, learning, bare), bare)


def test_a_sweep_is_every_combination_or_a_list_as_it_stands() -> None:
    assert points_of({"lr": [1, 2], "seed": range(2), "name": "ab"}) == [
        {"lr": 1, "seed": 0, "name": "ab"},
        {"lr": 1, "seed": 1, "name": "ab"},
        {"lr": 2, "seed": 0, "name": "ab"},
        {"lr": 2, "seed": 1, "name": "ab"},
    ]
    assert points_of([{"a": 1}, {"a": 2, "b": 3}]) == [{"a": 1}, {"a": 2, "b": 3}]
    assert points_of({"lr": np.array([0.5, 1.0]), "seed": np.int64(3)}) == [
        {"lr": 0.5, "seed": 3},
        {"lr": 1.0, "seed": 3},
    ]
    for wrong in ({"a": []}, {"a": np.array([])}, [], 5, "abc"):
        with pytest.raises(RequestError):
            points_of(wrong)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"a": range(1000), "b": range(1000)}, "1000000 runs: at most"),
        ([{"a": 1}] * 20_000, "20000 runs: at most"),
        # Written out, these would fill any memory.
        ({"a": range(10**12)}, "more than 1000000000 runs: at most"),
        ({"a": range(10**30)}, "more than 1000000000 runs: at most"),
    ],
)
def test_too_many_runs_are_counted_before_they_are_written_out(grid: object, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        points_of(grid)


def test_all_that_is_wrong_is_told_at_once(at_desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook(code("lr = 1", "parameters"))))
    with pytest.raises(RequestError) as caught:
        plan_run(at_desk, path, {"rate": 1}, {"cpus": "many"}, points=[{"x": 1}], at_once=0)
    assert [fault.where for fault in caught.value.faults] == ["parameters.rate", "parameters.x", "at_once", "cpus"]


def test_a_plan_is_one_job_whose_log_and_name_are_the_runs(at_desk: Desk, site: Site, tmp_path: Path) -> None:
    path = tmp_path / 'it\'s "a"\nnotebook.ipynb'
    path.write_text(json.dumps(notebook(code("lr = 1", "parameters"))))
    plan = plan_run(at_desk, path, {}, {}, points=points_of({"lr": [1, 2, 3]}), at_once=2, resume=True)
    place = Place(Path("/home/ada/.studiolo/runs/20261122-154501-k3f9"))
    (part,) = parts_of(plan.tasks, 1001)
    batch = render(plan.request, site, plan.job(place, site, part))
    assert "#SBATCH --array=0-2%2" in batch.text
    assert "#SBATCH --output=.studiolo/runs/20261122-154501-k3f9/%a/log.txt" in batch.text
    assert "#SBATCH --requeue" in batch.text
    assert "#SBATCH --signal=B:USR1@120" in batch.text
    assert f"#SBATCH --comment={site.tag('run', place.id)}" in batch.text
    assert "-I -m studiolo.batch.runner /home/ada/.studiolo/runs/20261122-154501-k3f9" in batch.text
    assert "notebook" not in batch.text  # what people name is in no script
    assert set(plan.environment(place)) == {"STUDIOLO_RUN", "STUDIOLO_REQUEST", "STUDIOLO_OUTLINE"}


def test_a_sweep_of_more_runs_than_an_array_may_have_is_several_whose_logs_lie_in_the_runs_folders(
    at_desk: Desk, site: Site, tmp_path: Path
) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook(code("lr = 1", "parameters"))))
    plan = plan_run(at_desk, path, {}, {}, points=points_of({"lr": range(1203)}), at_once=7)
    place = Place(Path("/home/ada/.studiolo/runs/20261122-154501-k3f9"))
    parts = parts_of(plan.tasks, 345)
    assert [(part.first, part.count) for part in parts][-2:] == [(1100, 100), (1200, 3)]
    script = render(plan.request, site, plan.job(place, site, parts[-1], after=5, behind=6)).text
    assert "#SBATCH --array=0-2%7\n" in script
    assert "#SBATCH --output=.studiolo/runs/20261122-154501-k3f9/12%2a/log.txt\n" in script
    assert "20261122-154501-k3f9 1200\n" in script
    assert "#SBATCH --dependency=afterok:5,afterany:6\n" in script


@given(st.integers(1, 10_000), st.integers(1, 5000))
def test_each_run_of_a_sweep_is_in_one_array_and_followed_as_its_task(tasks: int, most: int) -> None:
    parts = parts_of(tasks, most)
    assert sum(part.count for part in parts) == tasks
    assert all(0 < part.count <= most for part in parts)
    arrays = read_arrays(Arrays(tuple(range(100, 100 + len(parts))), parts[0].size).as_json())
    assert arrays.holds(tasks)
    for part in (parts[0], parts[-1]):
        for index in (0, part.count - 1):
            # The folder that Slurm makes of the pattern, and the task that the run is.
            name = re.sub(r"%(\d*)a", lambda match, n=index: f"{n:0{match[1] or 1}d}", part.folder)  # type: ignore[misc]
            assert name == str(part.first + index)
            assert arrays.number(part.first + index) == task(100 + part.number, index)
    assert arrays.number(parts[0].size * len(parts)) is None


def test_what_job_json_says_of_no_array_is_nothing() -> None:
    for odd in ({}, {"job": True}, {"job": 0}, {"job": "7"}, {"arrays": []}, {"arrays": [1, "2"], "size": 1}):
        assert read_arrays(odd) == Arrays()
    assert read_arrays({"job": 7}).number(3) == task(7, 3)
    assert read_arrays({"job": 7, "arrays": [7, 9], "size": -1}) == Arrays((7,))
    assert Arrays().number(None) is None


def test_a_job_of_an_array_finds_which_run_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempt.place_of(["/r/x"]) == Place(Path("/r/x"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert attempt.place_of(["/r/x"]) == Place(Path("/r/x"), 4)
    assert attempt.place_of(["/r/x", "1000"]) == Place(Path("/r/x"), 1004)


class Slurm:
    """One that takes ``most`` runs in an array, and no more than ``takes`` arrays; then it refuses, or is silent."""

    def __init__(self, at: Desk, most: int, takes: int = 99, error: type[Exception] = SlurmRefused) -> None:
        self.most, self.takes, self.error = most, takes, error
        self.sent: list[Job] = []
        self.cancelled: list[int] = []
        at.submit, at.cancel = self.submit, self.cancel  # type: ignore[method-assign]
        for client in at.slurm.values():
            client.most_tasks = self.most_tasks  # type: ignore[method-assign]
        for watcher in at.watchers.values():
            watcher.follow = lambda job: None  # type: ignore[method-assign]

    async def most_tasks(self) -> int:
        return self.most

    async def submit(self, request: object, job: Job, environment: object) -> int:
        if len(self.sent) >= self.takes:
            raise self.error("submit your job", "QOSMaxSubmitJobPerUserLimit")
        self.sent.append(job)
        return 70 + len(self.sent)

    async def cancel(self, cluster: str, jobs: list[int]) -> None:
        self.cancelled += jobs


@pytest.fixture
def many(at_desk: Desk, home: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A sweep of 23 runs, two at once; nobody asks the queue."""
    monkeypatch.setattr("studiolo.batch.submit.desk", lambda: at_desk)
    monkeypatch.setattr("studiolo.batch.submit.announce", lambda made: None)
    monkeypatch.setattr(follow, "here", lambda: None)
    (home / "a.ipynb").write_text(json.dumps(notebook(code("lr = 1", "parameters"))))
    return plan_run(at_desk, home / "a.ipynb", {}, {}, points=points_of({"lr": range(23)}), at_once=2)


def test_several_arrays_are_one_sweep_also_for_those_who_find_it_later(
    many: Plan, at_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Slurm(at_desk, 19)
    sent = jobs.submit(many)
    assert [(job.array, job.behind) for job in slurm.sent] == [("0-9%2", 0), ("0-9%2", 71), ("0-2%2", 72)]
    found = jobs.find_run(sent.id)
    assert isinstance(found, Sweep)
    assert (found.job, found.jobs, len(found), found.view().jobs) == (71, (71, 72, 73), 23, (71, 72, 73))
    assert [found[index]._follower.number() for index in (0, 10, 22)] == [task(71, 0), task(72, 0), task(73, 2)]
    ended: list[list[int]] = []
    monkeypatch.setattr("studiolo.batch.follow.desk", lambda: at_desk)

    async def cancel(at: Desk, cluster: str, numbers: list[int], followed: list[int]) -> None:
        ended.append(numbers)

    monkeypatch.setattr(follow, "_cancel", cancel)
    found.cancel()
    assert ended == [[71, 72, 73]]
    # Who was cut off while they were sent knows the first alone, and of others what their runs say.
    folder.write_json(found.folder / folder.JOB, Arrays((71,), 10).as_json())
    folder.write_json(found.folder / "22" / folder.STATE, Progress("running", job=99, started=1.0).as_json())
    half = Sweep(found._place, found._record)
    half.cancel()
    assert ended[1][0] == 71
    assert ended[1][-1] == 99


def test_arrays_wait_for_one_another_only_where_so_many_may_run_at_once(many: Plan, at_desk: Desk) -> None:
    slurm = Slurm(at_desk, 19)
    jobs.submit(replace(many, record=replace(many.record, at_once=0)))
    assert [job.behind for job in slurm.sent] == [0, 0, 0]


def test_a_sweep_that_slurm_takes_in_part_is_taken_back_and_one_it_is_silent_about_is_kept(
    many: Plan, at_desk: Desk
) -> None:
    slurm = Slurm(at_desk, 19, takes=2)
    with pytest.raises(SlurmRefused, match=r"23 more jobs, .* than you may have at once: send fewer .*QOSMaxSubmit"):
        jobs.submit(many)
    assert slurm.cancelled == [71, 72]
    assert list(folder.newest()) == []
    slurm = Slurm(at_desk, 19, takes=1, error=SlurmUnavailable)
    with pytest.raises(SlurmUnavailable, match="1 of its 3 job arrays"):
        jobs.submit(many)
    assert slurm.cancelled == []
    assert len(list(folder.newest())) == 1
    Slurm(at_desk, 0)
    with pytest.raises(SlurmRefused, match="one by one"):
        jobs.submit(many)


def test_a_time_is_refused_by_the_name_that_was_written(at_desk: Desk, home: Path) -> None:
    (home / "a.ipynb").write_text(json.dumps(notebook()))
    for options, told in (
        ({"hours": "900h"}, "hours = '900h': at most"),
        ({"minutes": "900h"}, "minutes = 37 d 12 h: at most"),
        ({"hours": 900}, "hours = 37 d 12 h: at most"),
        ({"hours": "2h", "minutes": 5}, "minutes or hours, not both"),
    ):
        with pytest.raises(RequestError) as caught:
            plan_run(at_desk, home / "a.ipynb", {}, options)
        assert told in str(caught.value)


def test_a_rehearsal_is_small_short_and_told_that_it_is_one(at_desk: Desk, site: Site, tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook(code("lr = 1\nrehearsal = False", "parameters"))))
    plan = plan_run(at_desk, path, {"lr": 2}, {"hours": 8, "cpus": 16, "gpus": 4, "memory": "200G"})
    tiny = rehearsal_of(plan, declared(read_notebook(path)))
    assert (tiny.request.minutes, tiny.request.cpus, tiny.request.gpus, tiny.request.memory) == (10, 2, 1, 16384)
    assert tiny.record.parameters == {"lr": 2, "rehearsal": True}
    after = render(plan.request, site, plan.job(Place(Path("/r/x")), site, after=7))
    assert "#SBATCH --dependency=afterok:7" in after.text
    assert "#SBATCH --kill-on-invalid-dep=yes" in after.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds something else"),
        ("[]", "format 4"),
        ('{"cells": []}', "format 4"),
        ('{"nbformat": 3, "nbformat_minor": 0, "worksheets": []}', "format 4"),
        ('{"nbformat": 3, "nbformat_minor": 0, "cells": []}', "format 4"),
        ('{"nbformat": 4, "nbformat_minor": "5", "cells": []}', "format 4"),
        ('{"nbformat": 4, "metadata": [], "cells": []}', "format 4"),
        (json.dumps(notebook(5)), "the whole of cell 1"),
        (json.dumps(notebook({})), "the type of cell 1"),
        (json.dumps(notebook(code("a"), code([1, 2], "parameters"))), "the text of cell 2"),
        (json.dumps(notebook({"cell_type": "code"})), "the text of cell 1"),
        (json.dumps(notebook({**code("a"), "metadata": None})), "the metadata of cell 1"),
        (json.dumps({**notebook(), "metadata": {"kernelspec": {"language": "R"}}}), "a Python notebook"),
    ],
)
def test_what_is_no_notebook_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    with pytest.raises(RequestError, match=words):
        read_notebook(path)
    with pytest.raises(RequestError, match="save it first"):
        read_notebook(tmp_path / "none.ipynb")


def test_what_harms_nobody_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    odd = [{"cell_type": "code", "source": "a"}, {**code("b", "x", "x"), "outputs": [5], "more": 1}]
    path.write_text(json.dumps({"nbformat": 4, "cells": odd}))
    found = read_notebook(path)
    assert [cell["source"] for cell in with_parameters(found, {"n": 1})["cells"]] == ["# Parameters\nn = 1\n", "a", "b"]


def test_a_path_is_a_path() -> None:
    assert notebook_path("~/a.ipynb").is_absolute()
    for wrong in (5, None, "a\0b"):
        with pytest.raises(RequestError, match="notebook"):
            notebook_path(wrong)


def test_a_folder_that_is_no_repository_has_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {}


# --- What is true of a run -------------------------------------------------------------------------------------------

RUNNING = Progress("running", cells=9, done=2, current=3)
FAILED = replace(RUNNING, phase="failed", trouble=Trouble("ValueError", "no such thing", 3))
DIED = replace(RUNNING, phase="failed", trouble=Trouble("DeadKernelError", "Kernel died", 3))


@pytest.mark.parametrize(
    ("progress", "slurm", "state", "words"),
    [
        (None, None, "unknown", "Slurm has not told"),
        (None, JobState(1, "PENDING", "Resources"), "waiting", "Resources"),
        (None, JobState(1, "RUNNING", node="n1"), "starting", ""),
        (RUNNING, JobState(1, "RUNNING", node="n1"), "running", "Cell 3 of 9"),
        (RUNNING, None, "running", "Cell 3 of 9"),
        (RUNNING, JobState(1, "PENDING", "BeginTime"), "waiting", "goes on from its checkpoint"),
        (replace(RUNNING, phase="done"), None, "done", ""),
        # Killed or cut off: its own file says "running" for ever.
        (RUNNING, JobState(1, "CANCELLED", "by 5"), "cancelled", "in cell 3 of 9"),
        (RUNNING, JobState(1, "TIMEOUT"), "failed", "resume=True"),
        (RUNNING, JobState(1, "NODE_FAIL"), "failed", "not your doing"),
        (RUNNING, JobState(1, "PREEMPTED"), "failed", "more urgent"),
        (RUNNING, JobState(1, "VANISHED"), "failed", "Neither the queue nor accounting"),
        (RUNNING, JobState(1, "OUT_OF_MEMORY"), "failed", "out of memory in cell 3 of 9"),
        (DIED, JobState(1, "OUT_OF_MEMORY"), "failed", "out of memory in cell 3 of 9"),
        (DIED, JobState(1, "FAILED"), "failed", "kernel died in cell 3 of 9"),
        (DIED, JobState(1, "RUNNING"), "stopping", "kernel died"),
        (DIED, None, "failed", "kernel died"),
        (FAILED, JobState(1, "FAILED"), "failed", "Cell 3 of 9 failed with ValueError: no such thing"),
        (FAILED, None, "failed", "Cell 3 of 9 failed"),
        # A full home: it is done, and could not say so.
        (RUNNING, JobState(1, "COMPLETED", exit_code=0), "done", "make room"),
        (None, JobState(1, "FAILED", exit_code=1), "failed", "run.log()"),
        (replace(RUNNING, phase="done"), JobState(1, "NODE_FAIL"), "done", ""),
        (None, JobState(1, "CANCELLED", "DependencyNeverSatisfied"), "failed", "rehearsal"),
        (replace(RUNNING, phase="requeued"), JobState(1, "RUNNING"), "waiting", "checkpoint"),
    ],
)
def test_what_is_true_of_a_run(progress: Progress | None, slurm: JobState | None, state: str, words: str) -> None:
    found = judge(progress, slurm)
    assert found.state == state
    assert words in found.why


def test_an_errors_colours_and_line_breaks_stay_out_of_the_sentence() -> None:
    said = Trouble("\x1b[0;31mValueError\x1b[0m", "\x1b[1mno\x1b[0m such\n\x07thing\x1b[2J", 3)
    assert "failed with ValueError: no such  thing - " in judge(replace(FAILED, trouble=said), None).why
    assert judge(replace(FAILED, trouble=said), None).why.isprintable()


def test_a_cancelled_task_that_slurm_has_dropped_was_cancelled() -> None:
    assert judge(None, JobState(1, "VANISHED"), cancelled=True).state == "cancelled"
    assert judge(None, JobState(1, "VANISHED")).state == "failed"


def test_a_silent_slurm_ends_no_run_and_says_so() -> None:
    for progress in (None, RUNNING):
        found = judge(progress, JobState(1, "RUNNING") if progress else None, silent=True)
        assert not found.is_over
        assert "does not answer" in found.why


def test_the_last_words_of_a_run_that_has_just_ended_are_waited_for() -> None:
    assert judge(RUNNING, JobState(1, "FAILED"), recent=True).state == "stopping"
    assert judge(FAILED, JobState(1, "FAILED"), recent=True).state == "failed"


@pytest.mark.parametrize("word", sorted(OVER_STATES))
def test_every_end_that_slurm_knows_is_an_end(word: str) -> None:
    assert judge(RUNNING, JobState(1, word)).is_over


def test_what_never_starts_is_told_from_what_waits() -> None:
    for reason in ("AssocGrpGRESMinutes", "PartitionDown", "InvalidAccount", "PartitionTimeLimit", "QOSMaxGRESPerJob"):
        assert hopeless(reason), reason
    for reason in (
        "None",
        "Priority",
        "Resources",
        "AssocGrpGRES",
        "QOSMaxJobsPerUserLimit",
        "Dependency",
        "JobArrayTaskLimit",
    ):
        assert not hopeless(reason), reason


# --- Tasks of job arrays ---------------------------------------------------------------------------------------------


@given(st.integers(1, 2**32 - 1), st.none() | st.integers(0, 4_000_000))
def test_a_task_is_followed_by_a_number_that_no_job_has(job: int, index: int | None) -> None:
    number = job if index is None else task(job, index)
    assert split(number) == (job, index)
    assert name_of(number) == (str(job) if index is None else f"{job}_{index}")
    assert (number < 2**32) == (index is None)


def test_the_queue_tells_of_tasks_that_wait_and_of_those_that_have_a_number_of_their_own() -> None:
    said = "71|RUNNING|None|n1|100|200|70|0\n70|PENDING|JobArrayTaskLimit|n/a|N/A|N/A|70|1\n80|PENDING|Priority|n/a|N/A|N/A|80|N/A\n"
    found = parse_task_queue(said, [task(70, 0), task(70, 1), 80])
    assert {number: state.state for number, state in found.items()} == {
        task(70, 0): "RUNNING",
        task(70, 1): "PENDING",
        80: "PENDING",
    }
    with pytest.raises(ValueError, match="unpack"):
        parse_task_queue("71|RUNN", [71])


def test_accounting_tells_of_each_task_and_of_those_that_never_began_in_one_line() -> None:
    said = "70_0|COMPLETED|0:0|n1|100|200\n70_[1-2,4%2]|CANCELLED by 5|0:0|None assigned|Unknown|300\n80|FAILED|1:0|n1|1|2\n"
    found = parse_task_accounting(said, [task(70, 0), task(70, 1), task(70, 4), task(70, 3), 80])
    assert {number: state.state for number, state in found.items()} == {
        task(70, 0): "COMPLETED",
        task(70, 1): "CANCELLED",
        task(70, 4): "CANCELLED",
        80: "FAILED",
    }


def test_how_many_tasks_an_array_may_have_is_read_from_slurms_settings() -> None:
    assert parse_most_tasks("MailProg = /usr/bin/mail\nMaxArraySize            = 1001\nMaxBatchRequeue = 5\n") == 1001
    with pytest.raises(ValueError, match="MaxArraySize"):
        parse_most_tasks("MaxArraySize = many")


# --- Inside of a run -------------------------------------------------------------------------------------------------


def test_what_is_recorded_adds_up_and_a_full_home_is_a_warning_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(inside.FOLDER, str(tmp_path))
    inside.record(a=1, b=np.float64(2))
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(122, "Disk quota exceeded")))
        with pytest.warns(UserWarning, match="Disk quota exceeded"):
            inside.record(a=3, kept="later")
    assert folder.read_json(tmp_path / folder.RESULT) == {"a": 1, "b": 2.0}
    inside.record(c=True)
    assert folder.read_json(tmp_path / folder.RESULT) == {"a": 3, "b": 2.0, "kept": "later", "c": True}
    with pytest.raises(RequestError, match="model"):
        inside.record(model=object())


def test_in_a_session_nothing_is_recorded_and_no_checkpoint_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(inside.FOLDER, raising=False)
    inside.record(a=1)
    saved = inside.checkpoint()
    assert saved.folder.is_dir()
    assert not saved.resumed
    assert not saved.requested
    saved.folder.rmdir()


def test_a_run_that_goes_on_finds_what_it_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tmp_path / "flags"
    flags.mkdir()
    monkeypatch.setenv(inside.FOLDER, str(tmp_path))
    monkeypatch.setenv(inside.FLAGS, str(flags))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    saved = inside.checkpoint()
    assert not saved.resumed
    assert not saved.requested
    (flags / inside.ASKED).touch()
    assert saved.requested
    assert (flags / inside.HEARD).exists()
    (saved.folder / "epoch").write_text("7")
    with pytest.raises(inside.GoesOnLater):
        saved.leave()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert inside.checkpoint().resumed


# --- What it uses ----------------------------------------------------------------------------------------------------

GPU_AND_MORE = Resources(4, 8192, gpus=1)


def looked(monkeypatch: pytest.MonkeyPatch, *looks: list[Gpu], tmp_path: Path, before: Used | None = None) -> Used:
    """What a sampler keeps that sees these GPUs, one list a look."""
    left = iter(looks)
    monkeypatch.setattr("studiolo.nvml.Gpus.look", lambda self: next(left, looks[-1]))
    sampler = Sampler(Progress(used=before, peak=7), environ={"SLURM_CPUS_PER_TASK": "2"}, root=tmp_path, seconds=60)
    sampler.start()
    sampler.finish(30)
    assert isinstance(sampler.seen["used"], Used)
    assert sampler.seen["used"].seconds >= 0
    return sampler.seen["used"]


def test_a_run_looks_at_itself_and_what_nobody_tells_stays_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = looked(monkeypatch, [], tmp_path=tmp_path)  # neither control groups nor /proc nor a GPU
    assert replace(used, seconds=0.0) == Used()
    monkeypatch.setattr("studiolo.batch.sampler.Meter.totals", lambda self: Totals(next(clock), next(clock), 512))
    clock = itertools.count()
    used = looked(monkeypatch, [Gpu(0.5, joules=10.0)], [Gpu(0.25, joules=25.0)], tmp_path=tmp_path)
    assert used == Used(2.0, cpu=0.5, gpu=0.25, gpu_idle=0.0, gpu_most=0.25, gpu_joules=15.0)
    clock = itertools.count()
    earlier = Used(8.0, cpu=0.0, gpu=0.0, gpu_idle=1.0, gpu_most=0.5, gpu_joules=5.0)
    gpus = [Gpu(0.5, joules=10.0)], [Gpu(0.25, joules=25.0)]
    used = looked(monkeypatch, *gpus, tmp_path=tmp_path, before=earlier)
    assert used == Used(10.0, cpu=0.1, gpu=0.05, gpu_idle=0.8, gpu_most=0.5, gpu_joules=20.0)
    used = looked(monkeypatch, [Gpu()], [Gpu(memory=5)], tmp_path=tmp_path)
    assert (used.gpu, used.gpu_idle, used.gpu_joules) == (None, None, None), (
        "a part made by MIG tells of its memory alone"
    )


def test_what_was_used_reads_back_and_nonsense_is_unknown() -> None:
    told = Progress("running", used=Used(60.0, cpu=0.5, gpu=0.0, gpu_idle=1.0))
    assert read_progress(json.loads(json.dumps(told.as_json()))) == told
    odd = {"phase": "running", "used": {"seconds": -1, "cpu": "much", "gpu": 7, "gpu_idle": True, "cpu_joules": 1e300}}
    assert read_progress(odd) == Progress("running", used=Used(gpu=1.0))
    assert read_progress({"phase": "running", "used": 5}) == Progress("running")


@pytest.mark.parametrize(
    ("used", "of", "words"),
    [
        (Measured(cpu=0.5, gpu=0.4, idle=0.25), GPU_AND_MORE, "2 of 4 cores; 4 GB of 8 GB at most; GPU 40% busy and idle for 25% of the time; 120 Wh, estimated"),
        (Measured(cpu=0.5), GPU_AND_MORE, "2 of 4 cores; 4 GB of 8 GB at most; GPU: not told on this node; 120 Wh, estimated"),
        (Measured(), Resources(4, 8192), "CPUs: not told on this node; 4 GB of 8 GB at most; 120 Wh, estimated"),
        (Measured(cpu=0.25), Resources(4, 8192, shards=1), "1 of 4 cores; 4 GB of 8 GB at most; GPU: others share it, and its use can not be told apart; 120 Wh, estimated"),
    ],
)  # fmt: skip
def test_what_a_run_has_used_is_a_sentence(used: Measured, of: Resources, words: str) -> None:
    view = JobView("run", "1", "x", "done", "", resources=of, used=used, kwh=0.12)
    assert use_words(view, 4096) == words
    assert f"<small>Used {use_words(view)}.</small>" in view_html(view)
    assert use_words(replace(view, used=None)) == ""


def test_an_attempt_carries_on_what_earlier_ones_have_held_and_one_that_waits_to_go_on_holds_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder.make({}, Record())
    first = Progress("requeued", attempt=1, started=100.0, updated=160.0, earlier=5.0, peak=9, used=Used(50.0, cpu=0.5))
    folder.write_json(place.own / folder.STATE, first.as_json())
    assert attempt.begun(place).earlier == 0, "the same attempt, whose job was started anew"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = attempt.begun(place)
    assert (second.attempt, second.earlier, second.used, second.peak) == (2, 65.0, first.used, 9)
    running, waiting, over = Verdict("running"), Verdict("waiting"), Verdict("failed")
    assert held(first, waiting, None, 900.0) == Held(100.0, None, 65.0)
    again = replace(second, started=800.0, updated=850.0)
    assert held(again, running, None, 900.0) == Held(800.0, None, 165.0)
    assert held(replace(again, ended=890.0), over, None, 900.0) == Held(800.0, 890.0, 155.0)
    assert held(again, over, JobState(1, "TIMEOUT", end=880), 900.0) == Held(800.0, 880.0, 145.0)
    assert held(again, over, None, 900.0) == Held(800.0, 850.0, 115.0)
    assert held(None, over, JobState(1, "FAILED", end=880), 900.0) == Held(None, 880.0, 0.0)


def test_counters_count_only_where_they_were_read_for_nearly_all_of_the_time() -> None:
    used = Used(95.0, cpu=0.5, gpu_joules=7.0)
    assert measured(used, 100.0) == Measured(cpu=0.5, gpu_joules=7.0)
    assert measured(used, 200.0) == Measured(cpu=0.5)
    assert measured(None, 1.0) is None
    assert measured(Used(), 1.0) is None


def test_a_sweep_has_used_what_its_runs_have_by_their_hours() -> None:
    def one(hours: float, used: Measured | None) -> JobView:
        return JobView("run", "1", "x", "done", "", spent=Amount(0.0, hours), used=used)

    busy, idle = Measured(cpu=1.0, gpu=0.5, idle=0.0, most_gpu=1.0, gpu_joules=3.0), Measured(cpu=0.0, gpu_joules=4.0)
    assert together([one(1, busy), one(3, idle)]) == Measured(cpu=0.25, gpu_joules=7.0, most_gpu=1.0)
    assert together([one(9.5, busy), one(0.5, None)]) == replace(busy, gpu_joules=None)
    assert together([one(1, busy), one(1, None)]) is None
    assert together([]) is None


# --- Sweeps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "together"),
    [
        (["waiting", "waiting"], "waiting"),
        (["running", "waiting"], "running"),
        (["done", "waiting"], "running"),
        (["done", "done"], "done"),
        (["done", "failed", "cancelled"], "failed"),
        (["done", "cancelled"], "cancelled"),
        (["unknown", "unknown"], "unknown"),
    ],
)
def test_many_runs_are_one_state_and_a_count(states: list[Any], together: str) -> None:
    found = summary([Verdict(state, f"because of {n}") for n, state in enumerate(states)])
    assert found.state == together
    assert f"{states.count(states[0])} {states[0]}" in found.why


def test_a_sweeps_failure_names_the_first_run_that_failed() -> None:
    assert summary([Verdict("done"), Verdict("failed", "Cell 7.")]).why == "1 done, 1 failed. Run 1: Cell 7."


def test_the_first_look_at_a_sweep_waits_for_an_answer_that_tells_of_all_its_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[int] = []
    heard: set[int] = set()

    def verdict(self: follow.Follower, wait: float = 0.0) -> Verdict:
        index = self.place.index
        assert index is not None
        if index not in followed:
            followed.append(index)
        if wait:  # the question that answers this one was asked when it was followed, and tells of those before it
            heard.update(followed[: followed.index(index) + 1])
        return Verdict("waiting" if index in heard else "unknown")

    monkeypatch.setattr(follow.Follower, "verdict", verdict)
    monkeypatch.setattr(follow.Follower, "number", lambda self, progress=None: 7)
    monkeypatch.setattr(follow, "here", lambda: None)
    monkeypatch.setattr("studiolo.batch.sweep.here", lambda: None)
    record = Record(kind="sweep", title="many", points=({"a": 1}, {"a": 2}, {"a": 3}))
    place = folder.make({folder.SOURCE: json.dumps(notebook()).encode()}, record, tasks=3)
    assert Sweep(place, record).why.strip() == "3 waiting."
    heard.clear()
    followed.clear()
    assert list(Sweep(place, record).table()["state"]) == ["waiting"] * 3


def test_sending_off_again_what_failed_needs_something_that_failed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "here", lambda: None)
    sent: list[list[dict[str, Any]]] = []

    def submitted(plan: Plan, *, rehearse: bool) -> Sweep:
        sent.append([dict(point) for point in plan.record.points])
        return Sweep(place, record)

    monkeypatch.setattr("studiolo.batch.submit.submit", submitted)
    monkeypatch.setattr("studiolo.batch.sweep.desk", lambda: None)
    monkeypatch.setattr("studiolo.batch.sweep.plan_run", lambda *_, points, **__: Plan(replace(record, points=tuple(points)), None, {}))  # type: ignore[arg-type]  # fmt: skip
    record = Record(kind="sweep", title="many", points=({"a": 1}, {"a": 2}, {"a": 3}))
    place = folder.make({folder.SOURCE: json.dumps(notebook()).encode()}, record, tasks=3)
    for index, phase in enumerate(("done", "done", "running")):
        folder.write_json(place.base / str(index) / folder.STATE, Progress(phase).as_json())
    with pytest.raises(RequestError, match="no run of .* has failed: 1 running, 2 done"):
        Sweep(place, record).again(failed=True)
    assert sent == []
    folder.write_json(place.base / "1" / folder.STATE, replace(FAILED, updated=1.0).as_json())
    Sweep(place, record).again(failed=True)
    assert sent == [[{"a": 2}]]


def test_a_row_keeps_apart_what_has_the_same_name() -> None:
    found = row(
        {"lr": 1, "state": "x"}, {"lr": 2, "why": 3, "acc": 0.5}, Verdict("done"), seconds=7200, gpus=0.25, link="/n"
    )
    assert found == {
        "lr": 1,
        "parameter.state": "x",
        "result.lr": 2,
        "result.why": 3,
        "acc": 0.5,
        "state": "done",
        "why": "",
        "hours": 2.0,
        "gpu_hours": 0.5,
        "notebook": "/n",
    }


def test_a_table_has_a_row_for_each_run_and_empty_cells_where_nothing_was_recorded() -> None:
    rows = [
        row({"lr": 1}, {}, Verdict("waiting"), seconds=None, gpus=1, link=""),
        row({"lr": 2}, {"acc": 0.5}, Verdict("done"), seconds=36, gpus=1, link=""),
    ]
    table = tabled(rows)
    assert list(table.columns) == ["lr", "acc", "state", "why", "hours", "gpu_hours", "notebook"]
    assert table["acc"].isna().tolist() == [True, False]
    assert list(tabled([]).columns) == ["state", "why", "hours", "gpu_hours", "notebook"]


def test_a_plot_takes_what_varies_and_says_what_there_is() -> None:
    import matplotlib

    matplotlib.use("agg")
    rows = [
        row(
            {"same": 1, "lr": lr, "seed": seed},
            {"name": "x", "acc": lr + seed},
            Verdict("done"),
            seconds=1,
            gpus=0,
            link="",
        )
        for lr in (0.0001, 0.01)
        for seed in (0, 1)
    ]
    axes = plotted(tabled(rows), ["same", "lr", "seed"], ["name", "acc"])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("lr", "acc", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["seed = 0", "seed = 1"]
    assert plotted(tabled(rows), ["lr"], [], x="seed", y="acc", by="lr").get_xlabel() == "seed"
    with pytest.raises(RequestError, match="y = 'loss': one of"):
        plotted(tabled(rows), ["lr"], ["acc"], y="loss")
    with pytest.raises(RequestError, match="y: a name .* no run has recorded anything yet"):
        plotted(tabled(rows), ["lr"], [])
    with pytest.raises(RequestError, match="y = 'accuracy': a name .* no run has recorded anything yet"):
        plotted(tabled(rows), ["lr"], [], y="accuracy")


# --- Functions and magics --------------------------------------------------------------------------------------------


def test_a_function_and_its_items_are_pickled_one_call_a_folder(at_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "desk", lambda: at_desk)
    plan = mapping.plan_map(lambda x: x + 1, [1, "two"], 2, False, {"gpus": 1})
    assert set(plan.files) == {"0/submitted.pkl", "1/submitted.pkl", folder.SITE}
    assert plan.record.points == ({"item": "1"}, {"item": "'two'"})
    assert plan.record.kind == "map"
    assert plan.request.gpus == 1
    assert "studiolo.batch.calls" in plan.job(Place(Path("/r/x")), at_desk.site).command
    assert pickle.loads(plan.files["0/submitted.pkl"]).result() == 2
    for function, items, words in (
        (5, [1], "function"),
        (len, [], "items"),
        (len, 5, "items = 5"),
        (len, itertools.count(), "items = more than"),
        (len, [threading.Lock()], r"items\[0\]"),
    ):
        with pytest.raises(RequestError, match=words):
            mapping.plan_map(function, items, None, False, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "phase", "outcome", "value"),
    [
        (lambda item: item * 2, "done", "success", 14),
        (lambda item: 1 / 0, "failed", "error", "ZeroDivisionError: division by zero"),
        (lambda item: sys.exit(3), "failed", "error", "SystemExit: 3"),
        (lambda item: threading.Lock(), "failed", "error", "cannot pickle"),
    ],
)
def test_what_a_call_returns_or_raises_is_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, function: Any, phase: str, outcome: str, value: object
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", sys.path[:])
    call = cloudpickle.dumps(DelayedSubmission(function, 7))
    record = Record(kind="map", title="double", folder=str(home), points=({"item": "7"},))
    place = Place(folder.make({"0/submitted.pkl": call}, record, tasks=1).base, 0)
    assert calls.call(place, record) == (0 if phase == "done" else 1)
    told = read_progress(folder.read_json(place.own / folder.STATE))
    assert told is not None
    assert told.phase == phase
    kind, kept = pickle.loads((place.own / "result.pkl").read_bytes())
    assert kind == outcome
    assert kept == value or value in kept
    if phase == "failed":
        assert judge(told, None).why.startswith("double failed with ")


def test_a_magics_line_reads_as_people_write_it() -> None:
    line = "train.ipynb lr=0.01 name='it is' tags=[1,2] --gpus 1 --hours=2 --rehearse"
    found = read_line(line)
    assert found.notebook == "train.ipynb"
    assert found.parameters == {"lr": 0.01, "name": "it is", "tags": [1, 2]}
    assert found.resources == {"gpus": "1", "hours": "2"}
    assert found.flags == {"rehearse"}
    cell = read_line("--memory 16G -i data,more -o model --dry-run")
    assert (cell.inputs, cell.outputs, cell.flags) == (("data", "more"), ("model",), {"dry_run"})
    for wrong in ("a.ipynb b.ipynb", "'open"):
        with pytest.raises(RequestError, match="%run_batch"):
            read_line(wrong)


def test_a_cell_brings_its_variables_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIOLO_FOLDER", str(tmp_path))
    (tmp_path / "inputs.pkl").write_bytes(cloudpickle.dumps({"data": [1, 2]}))
    cells = cell_notebook("model = sum(data)", True, ("model",))["cells"]
    assert [cell["metadata"]["tags"] for cell in cells] == [["studiolo"], [], ["studiolo"]]
    space: dict[str, Any] = {}
    for cell in cells:
        exec(cell["source"], space)
    assert pickle.loads((tmp_path / "outputs.pkl").read_bytes()) == {"model": 3}


def test_a_cell_is_told_what_it_may_be_given() -> None:
    with pytest.raises(RequestError, match="-i = data"):
        run_batch("-i data", "x", {})
    with pytest.raises(RequestError, match=r"lr: resources"):
        run_batch("lr=1", "x", {})
    for alone in ("", "--gpus 1"):
        with pytest.raises(RequestError, match="%run_batch: NOTEBOOK name=value"):
            run_batch(alone, None, {})


# --- All of them -----------------------------------------------------------------------------------------------------


def test_all_runs_are_listed_as_what_they_are_outside_of_a_session_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDIOLO_OUTLINE", raising=False)
    monkeypatch.setattr(follow, "here", lambda: None)
    single = folder.make({}, Record(notebook="/x/<i>it's\n.ipynb", request={"minutes": 5}))
    folder.write_json(single.own / folder.STATE, Progress("done", cells=2, done=2, started=1.0, ended=3.0).as_json())
    many = folder.make({}, Record(title="many", points=({"a": 1}, {"a": 2})), tasks=2)
    calls_ = folder.make({}, Record(kind="map", title="f", points=({"item": "1"},)), tasks=1)
    broken = folder.make({}, Record())
    (broken.base / folder.RUN).write_text("{")
    listed = {one.id: one for one in jobs.runs()}
    assert {name: type(one).__name__ for name, one in listed.items()} == {
        single.id: "Run",
        many.id: "Sweep",
        calls_.id: "Calls",
        broken.id: "Run",
    }
    assert listed[single.id].state == "done"
    assert "<i>" not in listed[single.id]._repr_html_()
    assert "says nothing" in repr(listed[broken.id])
    assert {one.id: one for one in jobs.runs()}[single.id] is listed[single.id]
    assert isinstance(jobs.runs()[:2], jobs.Runs)
    assert jobs.find_run(f"{many.id}/1").parameters == {"a": 2}
    with pytest.raises(RequestError, match="as in studiolo"):
        jobs.find_run("../../etc")
    assert "No runs yet" in repr(jobs.Runs(()))


def test_sockets_of_a_runs_kernel_are_files_however_long_the_sites_names() -> None:
    assert runner.socket_name(Path("/tmp/studiolo-5-abc")) == "/tmp/studiolo-5-abc/runtime/k"
    short = Path(runner.socket_name(Path("/" + "x" * 120, "studiolo-5-abc")))
    try:
        assert short.parent.name.startswith("studiolo-5-abc-")
        assert len(str(short)) < 100
        assert stat.S_IMODE(short.parent.stat().st_mode) == 0o700
    finally:
        short.parent.rmdir()
