"""The page of a session warns before it is stopped for being idle, and keeps it where somebody says so."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hubclient import Hub
from pages import log_in
from playwright.sync_api import Page, expect
from reconfigured import reconfigured

VISITOR = 5


def picture(page: Page, name: str) -> None:
    """Keep a picture for the documentation, where STUDIOLO_PICTURES names a folder for them."""
    if folder := os.environ.get("STUDIOLO_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), animations="disabled")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_idle_session_warns_in_an_open_page_and_is_kept(
    page: Page, access: Mapping[str, Any], hub: Hub, box: Any, leftovers: list[str], theme: str
) -> None:
    with reconfigured(hub, box, idle_limit=2, idle_warning=1):
        name = log_in(page, access, VISITOR)
        leftovers.append(name)
        page.get_by_role("radio", name="Learn", exact=True).check()
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**/user/*/lab**")
        page.goto(f"{access['url']}user/{name}/lab?reset")
        expect(page.locator("#jupyterlab-splash")).to_have_count(0)
        page.evaluate(SET_THEME, f"JupyterLab {theme.title()}")
        page.reload()
        warning = page.get_by_text("Idle for a minute: this session will be stopped at ")
        expect(warning).to_be_visible(timeout=120_000)
        expect(warning).to_contain_text("what is in memory goes.")  # JupyterLab cuts what is long
        expect(page.locator("body")).to_have_attribute("data-jp-theme-light", json.dumps(theme == "light"))
        picture(page, f"idle-{theme}")
        page.get_by_role("button", name="Keep").click()
        expect(warning).to_have_count(0)
        assert hub.server(name)["ready"]


# As the settings page does: there is no button for it.
SET_THEME = """async (theme) => {
  const base = JSON.parse(document.getElementById("jupyter-config-data").textContent).baseUrl;
  const xsrf = document.cookie.split("; ").filter((c) => c.startsWith("_xsrf=")).map((c) => c.slice(6))[0];
  const answer = await fetch(`${base}lab/api/settings/@jupyterlab/apputils-extension:themes`, {
    method: "PUT",
    headers: { "Content-Type": "application/json", "X-XSRFToken": xsrf },
    body: JSON.stringify({ raw: JSON.stringify({ theme, "adaptive-theme": false }) }),
  });
  if (!answer.ok) throw new Error(answer.status);
}"""
