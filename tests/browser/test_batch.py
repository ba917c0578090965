"""A notebook goes off as a batch job from JupyterLab's menu: with the keyboard, with a wrong value, and is opened when done."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from axe_playwright_python.sync_playwright import Axe
from hubclient import Hub, until
from nbformat.v4 import new_code_cell, new_notebook
from pages import log_in
from playwright.sync_api import Page, expect

PERSON = 9


def write_notebook(person: str) -> Path:
    """A notebook with parameters in a person's home."""
    account = pwd.getpwnam(person)
    parameters = new_code_cell(
        "epochs = 3  # how often the data is seen\nname = 'first'", metadata={"tags": ["parameters"]}
    )
    work = new_code_cell("for epoch in range(epochs):\n    print(name, 'epoch', epoch)")
    path = Path(account.pw_dir) / "batch-test.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[parameters, work], metadata=kernel), path)
    os.chown(path, account.pw_uid, account.pw_gid)
    return path


def test_a_notebook_goes_off_from_the_menu_and_its_executed_copy_is_one_click_away(
    page: Page, hub: Hub, access: Mapping[str, Any]
) -> None:
    person = str(access["users"][PERSON]["name"])
    path = write_notebook(person)
    assert hub.start(person, {"profile": "learn"}).status_code == 202
    hub.ready(person)
    try:
        log_in(page, access, PERSON, f"user/{person}/lab/tree/{path.name}")
        expect(page.get_by_text("| Idle")).to_be_visible()  # the notebook is open, and the menu its own
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run as Batch Job").click()
        form = page.get_by_role("form", name="batch-test.ipynb")
        expect(form.get_by_text("how often the data is seen")).to_be_visible()
        expect(form.get_by_label("CPUs")).to_have_value("2")
        expect(form.get_by_text("It would start now.")).to_be_visible()
        assert Axe().run(page, context=".studiolo-batch").violations_count == 0

        form.get_by_label("epochs").fill("many")
        page.keyboard.press("Enter")
        expect(form.get_by_role("alert")).to_contain_text("epochs")
        expect(form.get_by_label("epochs")).to_have_value("many")
        form.get_by_label("epochs").fill("2")
        form.get_by_label("name").fill("<img src=x onerror=alert(1)>")
        form.get_by_label("CPUs").fill("1")
        expect(form.get_by_role("alert")).to_be_empty()
        page.get_by_role("button", name="Run", exact=True).click()

        told = page.get_by_role("alert").filter(has_text="batch-test.ipynb: Done.")
        expect(told).to_be_visible(timeout=90_000)
        told.get_by_role("button", name="Open").click()
        expect(page.get_by_text("<img src=x onerror=alert(1)> epoch 1")).to_be_visible()
        until("the end of its job", lambda: len(hub.jobs(person)) == 1)
    finally:
        hub.stop(person)
        path.unlink()
