"""A notebook goes off as a batch job from JupyterLab's menu: with the keyboard, with a wrong value, and is opened when done.

And the page of jobs, which is jupyter-scheduler's: what it offers works.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from hubclient import Hub, until
from nbformat.v4 import new_code_cell, new_notebook
from pages import log_in
from playwright.sync_api import Locator, Page, expect

from slurmbox import box as slurmbox

PERSON = 9


EPOCHS = "for epoch in range(epochs):\n    print(name, 'epoch', epoch)"


def write_notebook(person: str, work: str = EPOCHS) -> Path:
    """A notebook with parameters in a person's home."""
    account = pwd.getpwnam(person)
    parameters = new_code_cell(
        "epochs = 3  # how often the data is seen\nname = 'first'", metadata={"tags": ["parameters"]}
    )
    path = Path(account.pw_dir) / "batch-test.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(work)], metadata=kernel), path)
    os.chown(path, account.pw_uid, account.pw_gid)
    return path


@pytest.fixture(scope="module")
def person(access: Mapping[str, Any], hub: Hub) -> Iterator[str]:
    """Somebody in a session."""
    name = str(access["users"][PERSON]["name"])
    assert hub.start(name, {"profile": "learn"}).status_code == 202
    hub.ready(name)
    yield name
    hub.stop(name)
    for job in hub.jobs(name):
        hub.slurm("scancel", str(job))


def runs_of(person: str) -> set[str]:
    """The folders of all runs."""
    return {path.name for path in Path(pwd.getpwnam(person).pw_dir).glob(".studiolo/runs/*-*-*")}


def form_of(page: Page) -> Locator:
    """The form, opened by keys alone."""
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").fill("Run as Batch")
    page.keyboard.press("Enter")
    form = page.get_by_role("form", name="batch-test.ipynb")
    expect(form.get_by_label("epochs")).to_be_focused()
    return form


def test_a_notebook_goes_off_from_the_menu_and_its_executed_copy_is_one_click_away(
    page: Page, hub: Hub, access: Mapping[str, Any], person: str
) -> None:
    path = write_notebook(person)
    log_in(page, access, PERSON, f"user/{person}/lab/tree/{path.name}?reset")
    expect(page.get_by_text("| Idle")).to_be_visible()  # the notebook is open, and the menu its own
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run as Batch Job").click()
    form = page.get_by_role("form", name="batch-test.ipynb")
    expect(form.get_by_text("how often the data is seen")).to_be_visible()
    expect(form.get_by_label("CPUs")).to_have_value("2")
    expect(form.get_by_text("It would start now.")).to_be_visible()
    assert Axe().run(page, context=".studiolo-batch").violations_count == 0

    form.get_by_label("name").focus()
    form.get_by_label("epochs").fill("many")
    form.get_by_label("CPUs").focus()
    page.keyboard.press("Enter")
    expect(form.get_by_role("alert")).to_contain_text("epochs")
    expect(form.get_by_label("epochs")).to_have_value("many")
    expect(form.get_by_label("epochs")).to_be_focused()
    expect(form.get_by_label("epochs")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("epochs").fill("2")
    form.get_by_label("name").fill("<img src=x onerror=alert(1)>")
    form.get_by_label("CPUs").fill("1")
    expect(form.get_by_role("alert")).to_be_empty()
    expect(form.locator("[aria-invalid]")).to_have_count(0)
    before = runs_of(person)
    page.get_by_role("button", name="Run", exact=True).dblclick()

    told = page.get_by_role("alert").filter(has_text="batch-test.ipynb: Done.")
    expect(told).to_be_visible(timeout=90_000)
    told.get_by_role("button", name="Open").click()
    expect(page.get_by_text("<img src=x onerror=alert(1)> epoch 1")).to_be_visible()
    assert len(runs_of(person) - before) == 1
    until("the end of its job", lambda: len(hub.jobs(person)) == 1)


def test_with_keys_alone_nothing_goes_off_by_mistake_and_a_silent_scheduler_is_told_in_the_form(
    page: Page, hub: Hub, access: Mapping[str, Any], box: Any, person: str
) -> None:
    path = write_notebook(person)
    log_in(page, access, PERSON, f"user/{person}/lab/tree/{path.name}?reset")
    expect(page.get_by_text("| Idle")).to_be_visible()
    form = form_of(page)
    page.keyboard.press("Escape")
    expect(form).to_have_count(0)

    supervisor = slurmbox.supervisor(box)
    supervisor.stop("slurmctld")
    try:
        form = form_of(page)
        page.keyboard.press("Tab")
        expect(form.get_by_label("name")).to_be_focused()
        page.keyboard.type("kept")
        page.keyboard.press("Enter")
        expect(page.get_by_text("batch-test.ipynb is being sent off…")).to_be_visible()
        expect(form.get_by_role("alert")).to_contain_text("did not answer", timeout=120_000)
        expect(form.get_by_label("name")).to_have_value("kept")
        expect(page.get_by_text("batch-test.ipynb is being sent off…")).to_have_count(0)
    finally:
        supervisor.start("slurmctld")
    page.keyboard.press("Escape")
    expect(form).to_have_count(0)
    until("the queue", lambda: len(hub.jobs(person)) == 1)  # nothing but the session


def test_jupyterlabs_page_of_jobs_offers_what_there_is_and_does_it(
    page: Page, hub: Hub, access: Mapping[str, Any], person: str
) -> None:
    path = write_notebook(person, "import time\nprint(name, flush=True)\ntime.sleep(900)")
    log_in(page, access, PERSON, f"user/{person}/lab/tree/{path.name}?reset")
    expect(page.get_by_text("| Idle")).to_be_visible()
    before = runs_of(person)
    page.locator("[data-jp-item-name=create-job]").click()
    jobs = page.locator("#notebook-jobs-panel")
    create = jobs.get_by_role("button", name="Create", exact=True)
    expect(create).to_be_visible()
    expect(jobs.get_by_text("Compute type")).to_be_visible()
    for refused in ("Run on a schedule", "Run job with input folder", "Additional options"):
        expect(jobs.get_by_text(refused)).to_be_hidden()
    picture(page, "jobs-create")
    create.click()

    reload = jobs.get_by_role("button", name="Reload", exact=True)
    row = jobs.get_by_role("row", name="batch-test").first
    reach(reload, row, "In progress")
    expect(jobs.get_by_text("Job Definitions")).to_be_hidden()
    jobs.get_by_text("batch-test", exact=True).first.click()
    expect(jobs.get_by_role("heading", name="Job Detail")).to_be_visible()
    expect(jobs.get_by_role("button", name="Stop Job")).to_be_visible()
    expect(jobs.get_by_role("alert")).to_have_count(0)  # nothing is wrong
    expect(jobs.get_by_text("Idempotency token")).to_be_hidden()
    picture(page, "jobs-detail")
    jobs.get_by_text("Jobs", exact=True).first.click()

    row.get_by_role("button", name="Stop", exact=False).click()
    row.get_by_role("button", name="Stop", exact=True).click()
    reach(reload, row, "Stopped")
    until("the end of its job", lambda: len(hub.jobs(person)) == 1)
    picture(page, "jobs-list")
    row.get_by_role("link", name="batch-test.ipynb").click()
    expect(page.get_by_role("tab", name="source.ipynb")).to_be_visible()
    page.get_by_role("tab", name="Jobs").click()

    (run,) = runs_of(person) - before
    row.get_by_role("button", name="Delete", exact=False).click()
    row.get_by_role("button", name="Delete", exact=True).click()
    until("the end of its folder", lambda: run not in runs_of(person))


def reach(reload: Locator, row: Locator, words: str) -> None:
    """The page of jobs shows what was when it was loaded: load it until it shows this."""

    def shown() -> bool:
        reload.click()
        return words in row.inner_text()

    until(f"a job that is {words}", shown)


def picture(page: Page, name: str) -> None:
    """Keep a picture, where STUDIOLO_PICTURES names a folder for them."""
    if folder := os.environ.get("STUDIOLO_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), animations="disabled")
