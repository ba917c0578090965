"""The newcomer's way: log in, choose, wait, run a cell on the node, stop; and what they meet when it goes wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hubclient import Hub, until
from pages import log_in, open_more_choices
from playwright.sync_api import Page, expect

CELL = "import studiolo\nstudiolo.session()"
SESSIONS = [
    ("Learn", 0, "partition='cpu', account='playground', cpus=2, memory=4096, gpus=0, shards=0", "cpu=2"),
    (
        "Explore: a quarter GPU",
        1,
        "partition='gpu', account='playground', cpus=2, memory=8192, gpus=1, shards=1",
        "gres/shard=1",
    ),
    ("One GPU", 2, "partition='gpu', account='playground', cpus=8, memory=65536, gpus=1, shards=0", "gres/gpu=1"),
]
VISITOR, NEWCOMER = 3, 5


def picture(page: Page, name: str, title: str) -> None:
    """Keep a picture for the documentation, where STUDIOLO_PICTURES names a folder for them."""
    if (folder := os.environ.get("STUDIOLO_PICTURES")) and title == "One GPU":
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize(("title", "number", "expected", "tres"), SESSIONS, ids=["cpu", "quarter", "gpu"])
def test_two_clicks_and_a_cell_runs_on_the_node(
    page: Page,
    access: Mapping[str, Any],
    hub: Hub,
    leftovers: list[str],
    title: str,
    number: int,
    expected: str,
    tres: str,
) -> None:
    name = log_in(page, access, number)
    leftovers.append(name)
    page.get_by_role("radio", name=title, exact=True).check()
    picture(page, "start", title)
    page.get_by_role("button", name="Start").click()

    page.wait_for_url("**/user/*/lab**")
    job = hub.job(name)
    page.goto(f"{access['url']}user/{name}/lab?reset")  # whatever an earlier run left open
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.type(CELL)
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_contain_text(expected)
    expect(page.locator(".jp-OutputArea-output").first).not_to_contain_text("ends=None")
    picture(page, "notebook", title)

    page.goto(f"{access['url']}hub/home")
    page.get_by_role("button", name="Stop My session").click()
    until("the end of the job", lambda: hub.jobs(name) == [])
    until("the end of the server", lambda: not hub.server(name))
    until("the end of its processes", lambda: hub.processes(name) == [], seconds=15)
    assert list(Path("/tmp").glob(f"studiolo-{job}-*")) == []
    charged = until("the charge", lambda: hub.slurm("sacct", "-XnP", "-j", str(job), "-o", "Account,AllocTRES").strip())
    assert charged.startswith("playground|")
    assert tres in charged


def test_a_refused_choice_is_explained_on_the_page_and_stays_filled_in(
    page: Page, access: Mapping[str, Any], hub: Hub
) -> None:
    name = log_in(page, access, VISITOR)
    open_more_choices(page)
    page.get_by_label("CPUs", exact=True).fill("99")
    page.get_by_label("Folder to open").fill("<script>alert(1)</script>")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text("cpus = 99: at most 16 on partition cpu")
    expect(page.get_by_role("alert").get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_label("CPUs", exact=True)).to_have_value("99")
    expect(page.get_by_label("Folder to open")).to_have_value("<script>alert(1)</script>")
    assert hub.jobs(name) == []


def test_a_launch_link_fills_the_page_in_and_starts_nothing(page: Page, access: Mapping[str, Any], hub: Hub) -> None:
    name = log_in(page, access, VISITOR)
    page.goto(f"{access['url']}hub/spawn?opt-profile=one-gpu&opt-minutes=30")
    expect(page.get_by_role("radio", name="One GPU", exact=True)).to_be_checked()
    expect(page.get_by_label("Time")).to_have_value("30")
    assert hub.jobs(name) == []
    assert not hub.server(name)


def test_a_failed_start_says_what_happened_and_offers_the_way_back(
    page: Page, access: Mapping[str, Any], hub: Hub
) -> None:
    name = log_in(page, access, VISITOR)
    open_more_choices(page)
    page.get_by_label("Folder to open").fill("no/such/folder")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Your notebook did not start")).to_be_visible()
    expect(page.locator(".studiolo-log")).to_contain_text("no/such/folder can not be opened")
    page.get_by_role("button", name="Choose another folder").click()
    expect(page.get_by_role("radio", name="Learn")).to_be_visible()
    assert hub.jobs(name) == []


def test_a_waiting_start_says_why_and_can_be_cancelled(page: Page, access: Mapping[str, Any], hub: Hub) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        name = log_in(page, access, NEWCOMER)
        page.get_by_role("radio", name="Learn", exact=True).check()
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#studiolo-state")).to_contain_text("closed at the moment. (Slurm says: PartitionDown)")
        page.get_by_role("button", name="Cancel the start").click()
        page.wait_for_url("**/hub/home")
        until("the end of the job", lambda: hub.jobs(name) == [])
        until("the end of the start", lambda: not hub.server(name))
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_the_start_page_works_with_the_keyboard_alone(page: Page, access: Mapping[str, Any]) -> None:
    log_in(page, access, NEWCOMER)
    page.get_by_role("radio", name="Learn").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="Explore: a quarter GPU")).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_text("More choices")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Time")).to_be_focused()
