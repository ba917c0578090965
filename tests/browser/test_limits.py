"""A session that nobody comes to is released, one in which nothing happens is stopped after a warning; others are kept.

All of it on one hub with short limits: each takes a minute, and all take the same one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from chaos import Chaos
from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Page, expect
from reconfigured import reconfigured

LEARN = {"profile": "learn"}
KEEPER, LOSER, SLEEPER = 21, 22, 5


@pytest.fixture(scope="module")
def strict(hub: Hub, box: Any) -> Iterator[None]:
    """A hub with short limits."""
    with reconfigured(hub, box, unattended_limit=1, idle_limit=3, idle_warning=2):
        yield


@pytest.mark.usefixtures("strict")
def test_who_comes_keeps_a_session_who_does_not_loses_it_and_who_does_nothing_is_warned(
    page: Page, access: Mapping[str, Any], hub: Hub, box: Any, leftovers: list[str]
) -> None:
    keeper, loser = (str(access["users"][number]["name"]) for number in (KEEPER, LOSER))
    leftovers += [keeper, loser, str(access["users"][SLEEPER]["name"])]
    hub.start(keeper, LEARN)
    hub.ready(keeper)
    log_in(page, access, KEEPER)
    page.goto(f"{access['url']}user/{keeper}/lab")
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)
    page.goto("about:blank")
    hub.start(loser, LEARN)  # after the keeper's: once this one is judged, that one has been
    hub.ready(loser)
    job = hub.job(loser)

    page.context.clear_cookies()
    sleeper = log_in(page, access, SLEEPER)
    page.get_by_role("radio", name="Learn", exact=True).check()
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/user/*/lab**")
    page.goto(f"{access['url']}user/{sleeper}/lab?reset")
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)
    warning = page.get_by_text("Idle for a minute: this session will be stopped at ")
    expect(warning).to_be_visible(timeout=120_000)
    expect(warning).to_contain_text("what is in memory goes.")  # JupyterLab cuts what is long
    picture(page, "idle")
    page.get_by_role("button", name="Keep").click()
    expect(warning).to_have_count(0)
    assert hub.server(sleeper)["ready"]

    until("the release of the one that nobody came to", lambda: not hub.server(loser), seconds=150)
    assert hub.server(keeper)["ready"]
    page.context.clear_cookies()
    log_in(page, access, LOSER)
    page.goto(f"{access['url']}user/{loser}/lab")
    expect(page.get_by_role("alert")).to_contain_text("Nobody came within 1 min, so it was released.")
    expect(page.locator("#studiolo-next")).to_have_text("Start again")
    assert Chaos(hub, box).ended_in_accounting(job) == "COMPLETED"


def picture(page: Page, name: str) -> None:
    """Keep a picture for the documentation, where STUDIOLO_PICTURES names a folder for them."""
    if folder := os.environ.get("STUDIOLO_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), animations="disabled")
