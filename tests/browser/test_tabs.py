"""Two tabs of one person: whatever each does, there is one session, and each shows what became of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Page, expect

PERSON = 6


def test_start_pressed_in_both_is_one_session_and_opens_in_both(
    page: Page, access: Mapping[str, Any], hub: Hub, leftovers: list[str]
) -> None:
    name = log_in(page, access, PERSON)
    leftovers.append(name)
    page.wait_for_url("**/hub/spawn**")
    second = page.context.new_page()
    second.goto(f"{access['url']}hub/spawn")
    for tab in (page, second):
        tab.get_by_role("radio", name="Learn", exact=True).check()
    for tab in (page, second):
        tab.get_by_role("button", name="Start").click()
    for tab in (page, second):
        tab.wait_for_url(f"**/user/{name}/lab**")
    assert len(hub.jobs(name)) == 1


def test_a_start_cancelled_in_one_is_told_in_the_other(
    page: Page, access: Mapping[str, Any], hub: Hub, leftovers: list[str]
) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        name = log_in(page, access, PERSON)
        leftovers.append(name)
        page.get_by_role("radio", name="Learn", exact=True).check()
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#studiolo-state")).to_contain_text("closed at the moment")
        second = page.context.new_page()
        second.goto(f"{access['url']}user/{name}/lab")
        expect(second.locator("#studiolo-state")).to_contain_text("closed at the moment")
        second.get_by_role("button", name="Cancel the start").click()
        second.wait_for_url("**/hub/home")
        expect(
            page.get_by_role("heading", name=re.compile("Your notebook (is not running|did not start)"))
        ).to_be_visible()
        until("the end of the job", lambda: hub.jobs(name) == [])
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_a_session_whose_job_ends_while_its_page_is_opened_says_so_by_itself(
    page: Page, access: Mapping[str, Any], hub: Hub, leftovers: list[str]
) -> None:
    """Nobody presses anything: the page looks again until the hub knows what happened."""
    name = log_in(page, access, PERSON)
    leftovers.append(name)
    assert hub.start(name, {"profile": "learn"}).status_code in (201, 202)
    hub.ready(name)
    hub.slurm("scancel", str(hub.job(name)))
    until("the end of the session's processes", lambda: hub.processes(name) == [])
    page.goto(f"{access['url']}user/{name}/lab")
    expect(page.get_by_role("alert").first).to_contain_text("The job was cancelled")
    expect(page.get_by_role("button", name="Start")).to_be_visible()
