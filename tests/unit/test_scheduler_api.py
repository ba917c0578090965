"""Batch runs as jobs of jupyter-scheduler: from folders made by hand to what JupyterLab's page is told."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_scheduler.exceptions import SchedulerError
from jupyter_scheduler.models import (
    CountJobsQuery,
    CreateJob,
    DescribeJob,
    JobFeature,
    ListJobsQuery,
    SortDirection,
    SortField,
    Status,
    UpdateJob,
)

from spawners.scheduler_api import LIKE_SESSION, STATUS, Environments, Features, Files, StudioloScheduler
from studiolo import desk as desks
from studiolo.batch import folder
from studiolo.batch.folder import Place, Record
from studiolo.batch.plan import Plan
from studiolo.batch.run import Run
from studiolo.desk import Desk
from studiolo.session import Session
from studiolo.site import Site
from studiolo.views import State

NOTEBOOK: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": "epochs = 3\nname = 'first'",
            "outputs": [],
            "execution_count": None,
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 4,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder, "home", lambda: tmp_path)
    monkeypatch.setattr(desks, "_desk", None)
    monkeypatch.delenv("STUDIOLO_OUTLINE", raising=False)
    return tmp_path


@pytest.fixture
def at(site: Site, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Desk]:
    asked = {"profile": site.default_profile, "environment": list(site.environments)[-1], "cpus": 1, "memory": 1024, "minutes": 30}  # fmt: skip
    made = Desk(site, Session(1, "n", "cpu", "", 1, 1024, 0, 0, None, "s1", asked))
    monkeypatch.setattr(desks, "_desk", made)
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


def scheduler(root: Path) -> StudioloScheduler:
    return StudioloScheduler(root_dir=str(root), environments_manager=Environments())


def kept(asked: float, phase: str = "done", **record: Any) -> str:
    """The folder of a run that has come to such an end (``"running"``: none yet); returns its name."""
    facts = {"title": "", "notebook": "/data/train.ipynb", "submitted": asked, "cluster": "main", "parameters": {}}
    files = {folder.SOURCE: json.dumps(NOTEBOOK).encode()}
    made = folder.make(files, Record(**{**facts, **record}))
    name = folder.new_id(asked)
    made.base.rename(folder.root() / name)
    place = Place(folder.root() / name)
    state = {"phase": phase, "job": 7, "cells": 2, "done": 2, "started": asked + 10, "ended": asked + 20, "updated": asked + 20}  # fmt: skip
    folder.write_json(place.own / folder.STATE, state)
    if phase == "done":
        folder.write_whole(place.own / folder.OUTPUT, b'{"cells": ["executed"]}')
    return name


def ids(jobs: list[DescribeJob]) -> list[str]:
    return [job.job_id for job in jobs]


def listed(of: StudioloScheduler, **query: Any) -> list[str]:
    return ids(asyncio.run(of.list_jobs(ListJobsQuery(**query))).jobs)


def test_a_run_is_a_job_with_its_notebook_its_parameters_and_its_times(home: Path) -> None:
    name = kept(1_700_000_000, parameters={"epochs": 9, "name": "it's"}, request={"environment": "torch"})
    job = asyncio.run(scheduler(home).get_job(name))
    assert (job.job_id, job.name, job.input_filename) == (name, "train.ipynb", "train.ipynb")
    assert job.status == Status.COMPLETED
    assert job.parameters == {"epochs": "9", "name": "it's"}
    assert job.runtime_environment_name == "torch"
    assert (job.create_time, job.start_time, job.end_time) == (1_700_000_000_000, 1_700_000_010_000, 1_700_000_020_000)
    # The file browser reaches the run's own folder: nothing has to be downloaded.
    assert job.downloaded
    assert {file.file_format: file.file_path for file in job.job_files} == {
        "ipynb": f".studiolo/runs/{name}/output.ipynb",
        "input": f".studiolo/runs/{name}/source.ipynb",
    }


def test_runs_are_listed_newest_first_page_by_page(home: Path) -> None:
    of = scheduler(home)
    names = [kept(1_700_000_000 + 100 * number) for number in range(5)][::-1]
    first = asyncio.run(of.list_jobs(ListJobsQuery(max_items=2)))
    assert (ids(first.jobs), first.total_count, first.next_token) == (names[:2], 5, "2")
    last = asyncio.run(of.list_jobs(ListJobsQuery(max_items=3, next_token="2")))
    assert (ids(last.jobs), last.next_token) == (names[2:], None)
    assert listed(of, max_items=0) == []
    assert listed(of, max_items=None) == names
    with pytest.raises(SchedulerError, match="next_token"):
        listed(of, next_token="-1")


def test_runs_are_chosen_and_sorted_as_the_page_asks(home: Path) -> None:
    of = scheduler(home)
    old = kept(1_700_000_000, title="b")
    middle = kept(1_700_000_100, title="a", phase="running")
    new = kept(1_700_000_200, title="ab")
    by_name = [SortField(name="name", direction=SortDirection.asc)]
    assert listed(of, sort_by=by_name) == [middle, new, old]
    assert listed(of, sort_by=[SortField(name="create_time", direction=SortDirection.asc)]) == [old, middle, new]
    assert listed(of, name="a") == [new, middle]
    assert listed(of, status=Status.COMPLETED, sort_by=by_name) == [new, old]
    assert listed(of, start_time=1_700_000_050_000) == [new, middle]
    assert listed(of, tags=["any"]) == listed(of, job_definition_id="any") == []
    page = asyncio.run(of.list_jobs(ListJobsQuery(name="a", max_items=1)))
    assert (ids(page.jobs), page.total_count, page.next_token) == ([new], 2, "1")
    assert asyncio.run(of.count_jobs(CountJobsQuery(status=Status.COMPLETED))) == 2
    with pytest.raises(SchedulerError, match="sort_by"):
        listed(of, sort_by=[SortField(name="__class__", direction=SortDirection.asc)])


def test_every_state_has_a_status_and_what_nobody_could_ask_claims_nothing() -> None:
    assert set(STATUS) == set(State.__args__)  # type: ignore[attr-defined]
    assert STATUS["unknown"] == Status.CREATED


def test_a_folder_that_says_nothing_is_a_job_all_the_same_and_seen_once_it_does(home: Path) -> None:
    of = scheduler(home)
    name = folder.new_id(1_700_000_000)
    (folder.root() / name).mkdir(parents=True)
    (job,) = asyncio.run(of.list_jobs(ListJobsQuery())).jobs
    assert (job.job_id, job.downloaded) == (name, False)
    folder.write_record(Place(folder.root() / name), Record(title="now it does"))
    (job,) = asyncio.run(of.list_jobs(ListJobsQuery())).jobs
    assert job.name == "now it does"


def test_a_sweep_is_one_job_without_a_notebook_of_its_own(home: Path) -> None:
    name = kept(1_700_000_000, points=({"epochs": 1}, {"epochs": 2}))
    job = asyncio.run(scheduler(home).get_job(name))
    assert job.output_formats == []
    assert [file.file_format for file in job.job_files] == ["input"]


def test_files_that_the_browser_does_not_reach_are_copied_to_where_it_does(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    of, name = scheduler(root), kept(1_700_000_000)
    assert not asyncio.run(of.get_job(name)).downloaded
    asyncio.run(Files(scheduler=of).copy_from_staging(name, "false"))
    job = asyncio.run(of.get_job(name))
    assert job.downloaded
    copy = root / next(file.file_path for file in job.job_files if file.file_format == "ipynb")
    assert copy.read_text() == '{"cells": ["executed"]}'
    assert copy.parent == root / "jobs" / f"train-{name}"
    copy.write_text("mine")
    asyncio.run(Files(scheduler=of).copy_from_staging(name, "false"))
    assert copy.read_text() == "mine"
    asyncio.run(Files(scheduler=of).copy_from_staging(name, "true"))
    assert copy.read_text() == '{"cells": ["executed"]}'


def test_files_that_can_not_be_copied_are_told(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    (root / "jobs").write_text("no folder")
    with pytest.raises(SchedulerError, match="can not be copied"):
        asyncio.run(scheduler(root).bring(kept(1_700_000_000), False))


def test_a_run_that_is_over_is_forgotten_with_its_folder(home: Path) -> None:
    of, name = scheduler(home), kept(1_700_000_000)
    asyncio.run(of.stop_job(name))
    assert listed(of) == [name]
    asyncio.run(of.delete_job(name))
    assert listed(of) == os.listdir(folder.root()) == []
    with pytest.raises(SchedulerError, match="reload the list"):
        asyncio.run(of.get_job(name))


def test_a_run_that_does_not_end_keeps_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(run: Run, timeout: float | None = None) -> Run:
        raise TimeoutError

    monkeypatch.setattr(Run, "wait", never)
    monkeypatch.setattr(Run, "cancel", lambda run: None)
    of, name = scheduler(home), kept(1_700_000_000, phase="running")
    with pytest.raises(SchedulerError, match="being stopped"):
        asyncio.run(of.delete_job(name))
    assert listed(of) == [name]


@pytest.mark.parametrize("job", ["../../etc", "20261122-154501-zzzz", ""])
def test_what_is_no_run_is_told(home: Path, job: str) -> None:
    of = scheduler(home)
    for asked in (of.get_job, of.stop_job, of.delete_job):
        with pytest.raises(SchedulerError, match="name of a run"):
            asyncio.run(asked(job))


def sent(at: Desk, home: Path, monkeypatch: pytest.MonkeyPatch, **model: Any) -> Plan:
    """What would be submitted for this form."""
    plans: list[Plan] = []

    def submit(plan: Plan) -> Run:
        plans.append(plan)
        return Run(Place(folder.root() / folder.new_id()), plan.record)

    monkeypatch.setattr("studiolo.jobs.submit", submit)
    (home / "my work").mkdir(exist_ok=True)
    (home / "my work" / "train.ipynb").write_text(json.dumps(NOTEBOOK))
    form = {"name": "train", "input_uri": "my work/train.ipynb", "runtime_environment_name": "", **model}
    assert asyncio.run(scheduler(home).create_job(CreateJob(**form)))
    return plans[0]


def test_a_form_is_sent_off_with_its_values_and_as_the_session_is(
    at: Desk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = sent(at, home, monkeypatch, parameters={"epochs": "9", "name": "2024"}, compute_type=LIKE_SESSION)
    assert plan.record.parameters == {"epochs": 9, "name": "2024"}
    assert plan.record.notebook == str(home / "my work" / "train.ipynb")
    assert (plan.request.cpus, plan.request.minutes, plan.record.file) == (1, 30, "train")


def test_a_name_a_card_and_an_environment_are_what_was_chosen(
    at: Desk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, profile = next(iter(at.site.profiles.items()))
    environment = next(iter(at.site.environments))
    plan = sent(at, home, monkeypatch, name="Night 1", compute_type=profile.title, runtime_environment_name=environment)
    assert plan.record.file == "Night 1"
    assert plan.record.options["profile"] == name
    assert plan.request.partition == profile.partition
    assert plan.request.environment == environment


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"parameters": {"epochs": "__import__('os')"}}, "epochs"),
        ({"parameters": {"epoch": "3"}}, "epochs, name"),
        ({"compute_type": "the whole machine"}, "compute_type"),
        ({"runtime_environment_name": "nowhere"}, "environment"),
        ({"runtime_environment_parameters": {"reservation": "r"}}, "reservation"),
        ({"runtime_environment_parameters": {"cpus": 100_000}}, "cpus"),
        ({"output_formats": ["ipynb", "html"]}, "html"),
        ({"tags": ["night"]}, "tags"),
        ({"idempotency_token": "t"}, "idempotency_token"),
        ({"input_uri": "nothing.ipynb"}, "save it first"),
        ({"job_definition_id": "a-b"}, "once"),
    ],
)
def test_what_can_not_be_sent_is_told_in_words(
    at: Desk, home: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], words: str
) -> None:
    with pytest.raises(SchedulerError, match=words):
        sent(at, home, monkeypatch, **model)


def test_schedules_and_changes_are_refused_with_a_sentence(home: Path) -> None:
    of = scheduler(home)
    assert of.list_job_definitions(None).total_count == 0
    for refused in (of.create_job_definition, of.get_job_definition, of.delete_job_definition):
        with pytest.raises(SchedulerError, match="runs a notebook once"):
            refused("a-b")
    for changed in (of.update_job_definition, of.create_job_from_definition):
        with pytest.raises(SchedulerError, match="runs a notebook once"):
            changed("a-b", None)
    with pytest.raises(SchedulerError, match="as it was sent off"):
        asyncio.run(of.update_job(kept(1_700_000_000), UpdateJob(name="other")))


def test_environments_are_the_sites_with_the_sessions_own_first(at: Desk) -> None:
    found = asyncio.run(Environments().list_environments())
    assert {each.name for each in found} == set(at.site.environments)
    assert found[0].name == list(at.site.environments)[-1]
    assert found[0].compute_types[0] == found[0].default_compute_type == LIKE_SESSION
    assert {profile.title for profile in at.site.profiles.values()} < set(found[0].compute_types)
    assert Features().supported_features()[JobFeature.job_definition] is False
