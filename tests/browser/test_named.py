"""A second session with a name, from the home page to its notebook and back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hubclient import Hub, until
from pages import log_in, open_more_choices
from playwright.sync_api import Page, expect

VISITOR = 4
TITLE = "数学 <b>& more</b>"


@pytest.fixture
def visitor(access: Mapping[str, Any], hub: Hub) -> Iterator[str]:
    """Somebody who has no named session before and after."""
    name = str(access["users"][VISITOR]["name"])
    yield name
    for session, model in hub.call("GET", f"users/{name}?include_stopped_servers=1").json()["servers"].items():
        if model["ready"] or model["pending"]:
            hub.stop(name, session)
        if session:
            hub.call("DELETE", f"users/{name}/servers/{session}", json={"remove": True})


def test_a_session_with_a_name_is_chosen_started_stopped_and_deleted(
    page: Page, access: Mapping[str, Any], hub: Hub, visitor: str
) -> None:
    log_in(page, access, VISITOR)
    page.goto(f"{access['url']}hub/home")
    expect(page.get_by_text("You may have 3 sessions at once.")).to_be_visible()
    page.get_by_label("Name of the new session").fill(TITLE)
    page.get_by_role("button", name="Choose and start").click()
    expect(page.get_by_role("heading", name=f"Start a notebook: {TITLE}")).to_be_visible()

    open_more_choices(page)
    page.get_by_label("CPUs", exact=True).fill("99")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text("cpus = 99: at most 16 on partition cpu")
    expect(page.get_by_role("heading", name=f"Start a notebook: {TITLE}")).to_be_visible()
    expect(page.get_by_label("CPUs", exact=True)).to_have_value("99")
    page.get_by_label("CPUs", exact=True).fill("1")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name=f"“{TITLE}” is on its way")).to_be_visible()
    page.wait_for_url(f"**/user/{visitor}/*/lab**")
    (session,) = [name for name in hub.call("GET", f"users/{visitor}").json()["servers"] if name]
    assert f"/user/{visitor}/{session}/lab" in page.url

    page.goto(f"{access['url']}hub/home")
    expect(page.get_by_role("link", name=f"Open {TITLE}")).to_be_visible()
    page.get_by_role("button", name=f"Stop {TITLE}").click()
    until("the end of the job", lambda: hub.jobs(visitor) == [])
    until("the end of the session", lambda: not hub.server(visitor, session))
    page.reload()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=f"Delete {TITLE}").click()
    expect(page.get_by_role("button", name=f"Delete {TITLE}")).to_have_count(0)
    servers = hub.call("GET", f"users/{visitor}?include_stopped_servers=1").json()["servers"]
    assert session not in servers


def test_two_titles_that_an_address_can_not_tell_apart_are_two_sessions(
    page: Page, access: Mapping[str, Any], visitor: str
) -> None:
    log_in(page, access, VISITOR)
    for title in ("数学", "物理"):
        page.goto(f"{access['url']}hub/home")
        page.get_by_label("Name of the new session").fill(title)
        page.get_by_role("button", name="Choose and start").click()
        expect(page.get_by_role("heading", name=f"Start a notebook: {title}")).to_be_visible()
    page.goto(f"{access['url']}hub/home")
    for title in ("数学", "物理"):
        expect(page.get_by_role("link", name=f"Start {title}")).to_be_visible()
    assert visitor in page.get_by_role("link", name="Start 物理").get_attribute("href")


def test_a_link_that_meets_a_session_asks_what_to_do_and_loses_nothing(
    page: Page, access: Mapping[str, Any], hub: Hub, visitor: str
) -> None:
    log_in(page, access, VISITOR)
    link = f"{access['url']}hub/spawn/{visitor}?opt-profile=learn&opt-minutes=90&opt-workdir=%3Cb%3Enotes"
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        assert hub.start(visitor, {"profile": "learn"}).status_code == 202
        job = hub.job(visitor)
        page.goto(link)
        expect(page.get_by_role("heading", name="A session of yours is on its way")).to_be_visible()
        expect(page.get_by_text("<b>notes")).to_be_visible()
        pictures(page, "running-link")
        page.get_by_role("link", name="Look how it starts").click()
        page.wait_for_url(f"**/spawn-pending/{visitor}**")

        page.goto(link)
        page.get_by_role("link", name="Start another session with the link").click()
        page.wait_for_url(f"**/hub/spawn/{visitor}/*?opt-profile=learn**")
        expect(page.get_by_label("Time", exact=True)).to_have_value("90")

        # Only the page's own button stops anything, and never starts.
        for form in ({"studiolo-stop-first": "yes"}, {"studiolo-stop-first": "yes", "_xsrf": "wrong"}):
            assert page.request.post(link, form=form, max_redirects=0).status == 403
        assert hub.jobs(visitor) == [job]

        page.goto(link)
        page.get_by_role("button", name="Stop it, then use the link").click()
        expect(page.get_by_label("Time", exact=True)).to_have_value("90")
        expect(page.get_by_text("Nothing has been started")).to_be_visible()
        until("the end of the job", lambda: hub.jobs(visitor) == [])
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def pictures(page: Page, name: str) -> None:
    """Of a page in light and dark, wide and narrow, for those who look at it."""
    if folder := os.environ.get("STUDIOLO_SCREENSHOTS"):
        for scheme, width in (("light", 1280), ("dark", 390)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 700})
            page.screenshot(path=str(Path(folder) / f"{name}-{scheme}.png"))
