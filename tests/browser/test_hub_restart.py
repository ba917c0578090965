"""A hub that is restarted below open pages: they recover by themselves, nothing typed is lost, and buttons work again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from chaos import Chaos
from hubclient import Hub
from pages import log_in, open_more_choices
from playwright.sync_api import Page, expect

PERSON = 24


def test_start_page_and_home_page_recover_by_themselves_and_the_session_is_extended(
    page: Page, access: Mapping[str, Any], hub: Hub, chaos: Chaos, leftovers: list[str]
) -> None:
    name = log_in(page, access, PERSON)
    leftovers.append(name)
    hub.start(name, {"profile": "learn", "minutes": 60})
    hub.ready(name)
    home = page
    home.goto(f"{access['url']}hub/home")
    session = home.get_by_role("article", name="My session")
    expect(session).to_contain_text("Running")
    start = page.context.new_page()
    start.goto(f"{access['url']}hub/spawn/{name}/second")
    start.get_by_role("radio", name="One GPU", exact=True).check()
    open_more_choices(start)
    start.get_by_label("Time").fill("45m")
    expect(start.locator("#studiolo-start")).to_have_text("Start: One GPU, 45 min, starts now")
    for tab in (home, start):
        tab.evaluate("window.untouched = true")

    chaos.restart("hub")

    with chaos.closed("gpu"):
        card = start.locator('.studiolo-card[data-profile="one-gpu"]')
        expect(card.locator('[data-live="obstacle"]')).to_contain_text("Closed at the moment")
    expect(card).to_contain_text("Starts now")
    expect(start.get_by_label("Time")).to_have_value("45m")
    # News of the session come by themselves, and its buttons work.
    hub.slurm("scontrol", "update", f"JobId={hub.job(name)}", "TimeLimit=120")
    expect(session.locator(".studiolo-left")).to_have_text(re.compile(r"^1 h 5\d min$"))
    assert [tab.evaluate("window.untouched") for tab in (home, start)] == [True, True]
    session.get_by_label("How much more time for My session").select_option("60")
    session.get_by_role("button", name="Extend My session").click()
    expect(session.locator(".studiolo-left")).to_have_text(re.compile(r"^2 h 5\d min$"))
    expect(home.get_by_role("alert")).to_have_count(0)
    assert len(hub.jobs(name)) == 1


def test_whoever_comes_while_the_hub_is_away_is_told_so_and_gets_in_by_waiting(
    page: Page, access: Mapping[str, Any], chaos: Chaos
) -> None:
    log_in(page, access, PERSON)
    home = f"{access['url']}hub/home"
    with chaos.stopped("hub"):
        answer = page.goto(home)
        assert answer
        assert answer.status == 503
        expect(page.get_by_role("heading", name="Back in a moment")).to_be_visible()
        assert Axe().run(page).violations_count == 0
        plain = page.request.get(home, headers={"Accept": "application/json"})
        assert (plain.status, plain.text()) == (503, "Service Unavailable")
    expect(page.get_by_role("heading", name="My sessions")).to_be_visible()
