"""Panels in JupyterLab: live beside a running cell, whose run is cancelled by a click, in light and dark, wide and narrow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from hubclient import HTTP, Hub, until
from pages import log_in
from playwright.sync_api import Page, expect

PERSON = 9
BEGIN = """import nbformat, studiolo
cells = [nbformat.v4.new_code_cell(text) for text in ("1 + 1", "import time; time.sleep(900)")]
nbformat.write(nbformat.v4.new_notebook(cells=cells), "night & <b>day.ipynb")
run = studiolo.run("night & <b>day.ipynb", profile="learn")
studiolo.panel()"""
BUSY = """import time
while run.state in ("waiting", "starting", "running", "stopping"):
    time.sleep(0.2)
print("in the end the run is", run.state)"""
# The very poller: what it does for nobody can not be seen from outside.
UNSEEN = """import asyncio
from studiolo.desk import desk
from studiolo.panels.live import _pollers
while any(panel.is_shown for panel in _pollers[desk()]._panels):
    await asyncio.sleep(0.2)
print("nobody looks at a panel")"""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@pytest.fixture
def name(access: Mapping[str, Any], hub: Hub) -> Iterator[str]:
    """Somebody with a quarter of a GPU."""
    name = str(access["users"][PERSON]["name"])
    assert hub.start(name, {"profile": "quarter-gpu"}).status_code == 202
    hub.ready(name)
    yield name
    if hub.server(name):
        hub.stop(name)
    for job in hub.jobs(name):
        hub.slurm("scancel", str(job))


def picture(page: Page, name: str) -> None:
    """Keep a picture, where STUDIOLO_PICTURES names a folder for them."""
    if folder := os.environ.get("STUDIOLO_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), animations="disabled")


def test_a_run_is_cancelled_from_its_panel_while_a_cell_waits_for_it(
    page: Page, access: Mapping[str, Any], hub: Hub, name: str
) -> None:
    token = hub.own_token(name, 1200)
    headers, server = {"Authorization": f"token {token}"}, f"{hub.url}user/{name}/"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in (BEGIN, BUSY, UNSEEN)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}},
    )
    body = {"type": "notebook", "format": "json", "content": json.loads(nbformat.writes(notebook))}
    assert HTTP.put(f"{server}api/contents/panels.ipynb", headers=headers, json=body).status_code in (200, 201)

    assert log_in(page, access, PERSON) == name
    page.goto(f"{access['url']}user/{name}/doc/tree/panels.ipynb?reset")  # a file browser leaves no room on a phone
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    panel = page.locator(".jp-OutputArea-output .studiolo-panel")
    expect(panel.first).to_contain_text("quarter of an")
    runs = page.locator(".studiolo-panel section[aria-label='Batch runs']")
    expect(runs).to_contain_text("night & <b>day.ipynb")
    expect(runs).to_contain_text("Running")
    expect(runs).to_contain_text("1 of 2 cells")
    gauges = page.locator(".studiolo-panel section[aria-label='In use']")
    expect(gauges).to_contain_text("of 2 cores")

    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").nth(1).click()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Busy")).to_be_visible()
    page.get_by_role("button", name="Cancel night", exact=False).click()
    page.get_by_role("button", name="Really? Cancel night", exact=False).click()
    expect(page.locator(".jp-OutputArea-output").last).to_contain_text("in the end the run is cancelled")
    expect(runs).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel night", exact=False)).to_have_count(0)
    picture(page, "panels-cancelled")
    until("the run's end in the queue", lambda: hub.jobs(name) == [hub.job(name)])

    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.get_by_role("menuitem", name="Edit").click()
    page.get_by_role("menuitem", name="Clear Cell Output").click()
    expect(runs).to_have_count(0)
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").nth(2).click()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".jp-OutputArea-output").last).to_contain_text("nobody looks at a panel")

    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    expect(runs).to_contain_text("Running")
    expect(runs).to_contain_text("1 of 2 cells")
    page.keyboard.press("Control+S")
    saved = lambda: "Batch runs" in HTTP.get(f"{server}api/contents/panels.ipynb", headers=headers).text  # noqa: E731
    until("the saved notebook", saved)
    for scheme, theme in THEMES.items():
        address = f"{server}lab/api/settings/@jupyterlab/apputils-extension:themes"
        assert HTTP.put(address, headers=headers, json={"raw": json.dumps({"theme": theme})}).status_code == 204
        page.reload()
        expect(page.locator("#jupyterlab-splash")).to_have_count(0)
        expect(page.locator(f"body[data-jp-theme-name='{theme}']")).to_have_count(1)
        expect(runs).to_contain_text("1 of 2 cells")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 1100})
            runs.scroll_into_view_if_needed()
            found = Axe().run(page, context=".jp-OutputArea-output", options={"resultTypes": ["violations"]})
            told = [(rule["id"], node["html"]) for rule in found.response["violations"] for node in rule["nodes"]]
            assert told == [], (scheme, width)
            wider = "all => all.map(one => one.scrollWidth - one.clientWidth)"
            assert max(panel.evaluate_all(wider)) <= 0, (scheme, width)
            picture(page, f"panels-{scheme}-{width}")
        page.set_viewport_size({"width": 1280, "height": 1100})
