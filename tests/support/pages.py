"""What browser tests do on the hub's pages again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page, expect


def log_in(page: Page, access: Mapping[str, Any], number: int) -> str:
    """Log in as the n-th person of access.json; returns the name."""
    user = access["users"][number]
    page.goto(access["url"])
    page.locator("#username_input").fill(user["name"])  # by their ids, whatever the language
    page.locator("#password_input").fill(user["password"])
    page.locator("#login_submit").click()
    return str(user["name"])


def open_more_choices(page: Page) -> None:
    """Open the knobs, unless a last choice that used them has opened them already."""
    expect(page.locator(".studiolo-more")).to_be_visible()
    if page.locator(".studiolo-more[open]").count() == 0:
        page.get_by_text("More choices").click()
