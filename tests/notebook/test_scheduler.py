"""JupyterLab's own page "Jobs", by its REST API in a real session: batch runs sent off, listed, fetched, stopped and deleted."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hubclient import Hub, until
from kernels import TOKEN_SECONDS, Kernel

SMALL = {"cpus": 1, "minutes": 10}


class Page:
    """What the page asks for, in the session of a person."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.entry = pwd.getpwnam(kernel.person)
        self.home = Path(self.entry.pw_dir)

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """One request, as JupyterLab sends it; the server may have it wait until jupyter-scheduler is there."""
        return self.kernel.ask(method, f"scheduler/{path}", follow_redirects=True, **more)

    def notebook(self, name: str, source: str) -> str:
        cells = [("n = 1  # how often", ["parameters"]), (source, [])]
        content = {
            "cells": [
                {
                    "cell_type": "code",
                    "execution_count": None,
                    "metadata": {"tags": tags},
                    "outputs": [],
                    "source": text,
                }
                for text, tags in cells
            ],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
        path = self.home / name
        path.write_text(json.dumps(content))
        os.chown(path, self.entry.pw_uid, self.entry.pw_gid)
        return name

    def create(self, notebook: str, **more: Any) -> Any:
        environment = self.ask("GET", "runtime_environments").json()[0]
        form = {
            "name": "from the page",
            "input_uri": notebook,
            "runtime_environment_name": environment["name"],
            "output_formats": [each["name"] for each in environment["output_formats"]],
            "compute_type": environment["default_compute_type"],
            "runtime_environment_parameters": SMALL,
            **more,
        }
        return self.ask("POST", "jobs", json=form)

    def until(self, run: str, status: str) -> Any:
        """The job, once it has that status."""

        def there() -> Any:
            job = self.ask("GET", f"jobs/{run}").json()
            return job if job["status"] == status else None

        return until(f"a job that is {status}", there)


@pytest.fixture
def page(session: Kernel) -> Page:
    return Page(session)


def test_a_notebook_is_sent_off_listed_fetched_and_deleted(page: Page) -> None:
    sent = page.create(page.notebook("page.ipynb", "print('n is', n + 1)"), parameters={"n": "41"})
    assert sent.status_code == 200, sent.text
    run = sent.json()["job_id"]
    job = page.until(run, "COMPLETED")
    assert (job["name"], job["parameters"]) == ("from the page", {"n": "41"})
    # It is the very run that Python knows, and jupyter-scheduler keeps nothing of its own.
    assert run in page.kernel.run("import studiolo; print([run.id for run in studiolo.runs()])").text
    assert not list(page.home.glob(".local/share/jupyter/scheduler*"))
    answer = page.ask("GET", "jobs?sort_by=desc(create_time)&max_items=1").json()
    assert [each["job_id"] for each in answer["jobs"]] == [run]
    # Opened where it lies, and downloaded to where the file browser shows it.
    (there,) = [each["file_path"] for each in job["job_files"] if each["file_format"] == "ipynb"]
    content = page.kernel.ask("GET", f"api/contents/{there}")
    assert "n is 42" in content.text
    assert page.ask("GET", f"jobs/{run}/download_files?redownload=false").status_code == 204
    job = page.ask("GET", f"jobs/{run}").json()
    (copy,) = [each["file_path"] for each in job["job_files"] if each["file_format"] == "ipynb"]
    assert copy.startswith("jobs/page-")
    assert "n is 42" in (page.home / copy).read_text()
    assert page.ask("DELETE", f"jobs/{run}").status_code == 204
    assert page.ask("GET", f"jobs/{run}").status_code == 500
    assert not (page.home / ".studiolo" / "runs" / run).exists()


def test_what_makes_no_sense_is_told_and_leaves_no_job(page: Page) -> None:
    name = page.notebook("page.ipynb", "n")
    before = page.kernel.hub.jobs(page.kernel.person)
    for more, words in (
        ({"parameters": {"n": "six"}}, "n"),
        ({"parameters": {"m": "6"}}, "the notebook declares no such parameter"),
        ({"compute_type": "the whole machine"}, "compute_type"),
    ):
        answer = page.create(name, **more)
        assert answer.status_code == 500
        assert words in answer.json()["message"]
    schedule = {"name": "x", "input_uri": name, "runtime_environment_name": "x", "schedule": "0 0 * * *"}
    answer = page.ask("POST", "job_definitions", json=schedule)
    assert "runs a notebook once" in answer.json()["message"]
    assert page.ask("GET", "job_definitions").json()["total_count"] == 0
    assert page.kernel.hub.jobs(page.kernel.person) == before


def test_a_long_one_is_stopped_and_one_that_runs_is_deleted(page: Page) -> None:
    name = page.notebook("long.ipynb", "import time\nprint('begun', flush=True)\ntime.sleep(600)")
    run = page.create(name).json()["job_id"]
    page.until(run, "IN_PROGRESS")
    assert page.ask("GET", "jobs/count").json()["count"] >= 1
    assert page.ask("PATCH", f"jobs/{run}", json={"status": "STOPPED"}).status_code == 204
    assert "cancelled" in page.until(run, "STOPPED")["status_message"]
    other = page.create(name).json()["job_id"]
    page.until(other, "IN_PROGRESS")
    assert page.ask("DELETE", f"jobs/{other}").status_code == 204
    until("no job but the session's", lambda: len(page.kernel.hub.jobs(page.kernel.person)) == 1)
    assert page.ask("DELETE", f"batch/jobs?job_id={run}").status_code == 204
    assert run not in page.ask("GET", "jobs").text


def test_a_page_that_asks_as_soon_as_its_session_serves_is_answered(hub: Hub, person: Callable[..., str]) -> None:
    name = person("learner", 3)
    assert hub.start(name, {"profile": "learn"}).status_code == 202
    hub.ready(name)
    try:
        early = Kernel(hub, name, "", hub.own_token(name, TOKEN_SECONDS))
        # "Not found" would have JupyterLab say that jupyter-scheduler is not installed.
        answer = early.ask("GET", "scheduler/jobs?max_items=0", follow_redirects=True)
        assert answer.status_code == 200, answer.text
        assert answer.json()["jobs"] == []
    finally:
        hub.stop(name)
