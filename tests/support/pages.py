"""What browser tests do on the hub's pages again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page, expect

# What browsers that have logged in hold, by address and name: to fill in the form is no matter of most tests.
_COOKIES: dict[tuple[str, str], Any] = {}


def log_in(page: Page, access: Mapping[str, Any], number: int, path: str = "") -> str:
    """Come in as the n-th person of access.json, by the front door or at another path, with what an earlier log-in has left
    if there was one; returns the name."""
    user = access["users"][number]
    key = (str(access["url"]), str(user["name"]))
    if known := _COOKIES.get(key):
        page.context.add_cookies(known)
    page.goto(f"{access['url']}{path}")
    if page.locator("#username_input").count():
        fill_in(page, user)
        _COOKIES[key] = page.context.cookies()
    return key[1]


def fill_in(page: Page, user: Mapping[str, Any]) -> None:
    """Log in with name and password, whatever the language."""
    page.locator("#username_input").fill(user["name"])
    page.locator("#password_input").fill(user["password"])
    page.locator("#login_submit").click()
    expect(page.locator("#login_submit")).to_have_count(0)


def open_more_choices(page: Page) -> None:
    """Open the knobs, unless a last choice that used them has opened them already."""
    expect(page.locator(".studiolo-more")).to_be_visible()
    if page.locator(".studiolo-more[open]").count() == 0:
        page.get_by_text("More choices").click()
