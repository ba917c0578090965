"""The pages of a session, one after the other, as a person comes to them: for tests of all pages, and for their pictures.

Whatever the language: everything is found by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Page, expect

NO_FOLDER = "no/such/folder"


def logging_in(page: Page, access: Mapping[str, Any]) -> None:
    """The page for logging in."""
    page.goto(f"{access['url']}hub/login")
    expect(page.locator("#username_input")).to_be_visible()


def wrong_password(page: Page, access: Mapping[str, Any]) -> None:
    """The same after a wrong password."""
    logging_in(page, access)
    page.locator("#username_input").fill("somebody")
    page.locator("#password_input").fill("something")
    page.locator("#login_submit").click()
    expect(page.locator("#login-error")).to_be_visible()


def start_page(page: Page, access: Mapping[str, Any], name: str) -> None:
    """The start page, with the scheduler's word on each card."""
    page.goto(f"{access['url']}hub/spawn/{name}")
    expect(page.locator(".studiolo-card .studiolo-starts").first).not_to_be_empty()


def knobs(page: Page, access: Mapping[str, Any], name: str) -> None:
    """The start page, all knobs open."""
    start_page(page, access, name)
    more = page.locator(".studiolo-more")
    if more.get_attribute("open") is None:
        more.locator("summary").first.click()


def home(page: Page, access: Mapping[str, Any], name: str) -> None:
    """The home page."""
    del name
    page.goto(f"{access['url']}hub/home")
    expect(page.locator("h1")).to_have_count(1)


def refused(page: Page, access: Mapping[str, Any], name: str) -> None:
    """A request that can not be granted."""
    knobs(page, access, name)
    page.locator("#studiolo-cpus").fill("999")
    submit(page)
    expect(page.get_by_role("alert").first).to_be_visible()


def no_page(page: Page, access: Mapping[str, Any], name: str) -> None:
    """An address where nothing is."""
    page.goto(f"{access['url']}hub/{name}/nothing")
    expect(page.locator("h1")).to_be_visible()


def tokens(page: Page, access: Mapping[str, Any], name: str) -> None:
    """The page with tokens for scripts, one of them new."""
    del name
    page.goto(f"{access['url']}hub/token")
    page.locator("#token-note").fill("nightly")
    page.locator("#request-token-form button[type=submit]").click()
    expect(page.locator("#token-result")).not_to_be_empty()
    page.reload()
    expect(page.locator("#api-tokens-table")).to_contain_text("nightly")


def submit(page: Page) -> None:
    """Press what starts a session with what is filled in. Not the mouse: the browser's own check is not the matter."""
    page.locator("#spawn_form").evaluate("form => { form.noValidate = true; }")
    page.locator("#spawn_form button[type=submit]").click()


@contextmanager
def waiting(page: Page, access: Mapping[str, Any], hub: Hub, name: str) -> Iterator[None]:
    """A start that waits, as its part of the machine is closed; cancelled afterwards."""
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        page.goto(f"{access['url']}hub/spawn/{name}")
        page.locator("input[type=radio][value=learn]").check()
        submit(page)
        page.wait_for_url("**/spawn-pending/**")
        expect(page.get_by_text("PartitionDown").first).to_be_visible()
        yield
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
        stop(hub, name)


@contextmanager
def failed(page: Page, access: Mapping[str, Any], hub: Hub, name: str) -> Iterator[None]:
    """A start that fails: its folder is not there."""
    knobs(page, access, name)
    page.locator("input[type=radio][value=learn]").check()
    page.locator("#studiolo-workdir").fill(NO_FOLDER)
    submit(page)
    expect(page.locator(".studiolo-log")).to_contain_text(NO_FOLDER)
    try:
        yield
    finally:
        stop(hub, name)


@contextmanager
def running(page: Page, access: Mapping[str, Any], hub: Hub, name: str) -> Iterator[None]:
    """The home page while a session runs."""
    hub.start(name, {"profile": "learn"})
    try:
        hub.ready(name)
        home(page, access, name)
        yield
    finally:
        stop(hub, name)


def stop(hub: Hub, name: str) -> None:
    """Whatever there is of the person's session, end it."""
    if hub.server(name):
        hub.stop(name)
    until("the end of the job", lambda: hub.jobs(name) == [])


Scene = Callable[[Page, Mapping[str, Any], str], None]
CALM: dict[str, Scene] = {
    "start": start_page,
    "knobs": knobs,
    "home": home,
    "refused": refused,
    "tokens": tokens,
    "404": no_page,
}
LIVELY: dict[str, Any] = {"waiting": waiting, "failed": failed, "running": running}


@contextmanager
def scene(title: str, page: Page, access: Mapping[str, Any], hub: Hub, number: int) -> Iterator[None]:
    """Any of them by its title, for the n-th person of access.json."""
    before: dict[str, Callable[[Page, Mapping[str, Any]], None]] = {"login": logging_in, "wrong": wrong_password}
    if title in before:
        before[title](page, access)
        yield
        return
    name = log_in(page, access, number)
    if title in CALM:
        CALM[title](page, access, name)
        yield
    else:
        with LIVELY[title](page, access, hub, name):
            yield


SCENES = ("login", "wrong", *CALM, *LIVELY)
