"""The page of a session warns before it is stopped for being idle, and keeps it where somebody says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubclient import Hub
from pages import log_in
from playwright.sync_api import Page, expect
from reconfigured import reconfigured

VISITOR = 5


def picture(page: Page, name: str) -> None:
    """Keep a picture for the documentation, where STUDIOLO_PICTURES names a folder for them."""
    if folder := os.environ.get("STUDIOLO_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), animations="disabled")


def test_an_idle_session_warns_in_an_open_page_and_is_kept(
    page: Page, access: Mapping[str, Any], hub: Hub, box: Any, leftovers: list[str]
) -> None:
    with reconfigured(hub, box, idle_limit=2, idle_warning=1):
        name = log_in(page, access, VISITOR)
        leftovers.append(name)
        page.get_by_role("radio", name="Learn", exact=True).check()
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**/user/*/lab**")
        page.goto(f"{access['url']}user/{name}/lab?reset")
        expect(page.locator("#jupyterlab-splash")).to_have_count(0)
        warning = page.get_by_text("Idle for a minute: this session will be stopped at ")
        expect(warning).to_be_visible(timeout=120_000)
        expect(warning).to_contain_text("what is in memory goes.")  # JupyterLab cuts what is long
        picture(page, "idle")
        page.get_by_role("button", name="Keep").click()
        expect(warning).to_have_count(0)
        assert hub.server(name)["ready"]
