"""What somebody reads whose session failed or ended: what happened, why, what to do, and the one next thing to press."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chaos import Chaos
from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Page, expect
from reconfigured import reconfigured

LEARN = {"profile": "learn"}
LOSER = 22
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror=window.hacked=1></pre>{{ 7*7 }} token=SESAME-SESAME"
# Jupyter reads this as the person, before it listens.
SABOTAGE = """
import os, sys
print({text!r}, flush=True)
os._exit(3)
"""


@pytest.fixture
def loser(page: Page, access: Mapping[str, Any], hub: Hub, leftovers: list[str]) -> str:
    """Somebody logged in whose session is about to fail."""
    name = log_in(page, access, LOSER)
    leftovers.append(name)
    return name


@contextmanager
def jupyter_config(user: str, text: str) -> Iterator[None]:
    """A person's own settings of Jupyter."""
    entry = pwd.getpwnam(user)
    folder = Path(entry.pw_dir) / ".jupyter"
    mine = not folder.exists()
    folder.mkdir(mode=0o700, exist_ok=True)
    config = folder / "jupyter_server_config.py"
    config.write_text(text)
    for path in (folder, config):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    try:
        yield
    finally:
        config.unlink()
        if mine:
            for left in folder.iterdir():
                left.unlink()
            folder.rmdir()


def next_thing(page: Page) -> Any:
    return page.locator("#studiolo-next")


def lost(page: Page, access: Mapping[str, Any], hub: Hub, name: str) -> None:
    """Wait until the hub knows that the session is gone, and come back to it."""
    until("the hub's notice", lambda: not hub.server(name))
    page.goto(f"{access['url']}user/{name}/lab")
    expect(page.get_by_role("heading", name="Your notebook is not running")).to_be_visible()


def test_a_bad_folder_says_so_with_its_log_escaped_and_offers_another(
    page: Page, access: Mapping[str, Any], hub: Hub, loser: str
) -> None:
    hub.start(loser, LEARN | {"workdir": "no/such/<b>folder", "cpus": 1})
    page.goto(f"{access['url']}hub/spawn-pending/{loser}")
    expect(page.get_by_role("heading", name="Your notebook did not start")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("The folder that was asked for can not be opened.")
    expect(page.get_by_role("alert")).to_contain_text("Slurm's word for it is FAILED")
    expect(page.locator(".studiolo-log")).to_contain_text("no/such/<b>folder can not be opened")
    expect(next_thing(page)).to_have_text("Choose another folder")
    expect(next_thing(page)).to_have_attribute("href", f"/hub/spawn/{loser}?profile=learn&cpus=1")
    next_thing(page).click()
    expect(page.get_by_role("radio", name="Learn")).to_be_checked()
    assert hub.jobs(loser) == []


def test_hostile_lines_of_a_log_are_shown_as_they_are_and_the_report_leaves_secrets_out(
    page: Page, access: Mapping[str, Any], hub: Hub, loser: str
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    with jupyter_config(loser, SABOTAGE.format(text=HOSTILE)):
        hub.start(loser, LEARN)
        page.goto(f"{access['url']}hub/spawn-pending/{loser}")
        expect(page.locator(".studiolo-log")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked ?? 0") == 0
    page.get_by_role("button", name="Copy the report for the support").click()
    expect(page.locator("#studiolo-copied")).to_contain_text("Copied")
    report = page.evaluate("navigator.clipboard.readText()")
    assert "SESAME" not in report
    for words in (f"Person: {loser}", "State: FAILED", "Node: cpu", "Request: profile=learn", "window.hacked"):
        assert words in report


def test_the_page_of_a_failure_works_with_the_keyboard_alone(
    page: Page, access: Mapping[str, Any], hub: Hub, loser: str
) -> None:
    hub.start(loser, LEARN | {"workdir": "no/such/folder"})
    page.goto(f"{access['url']}hub/spawn-pending/{loser}")
    expect(next_thing(page)).to_be_visible()
    reached = set()
    for _n in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"studiolo-next", "studiolo-log"} <= reached


def test_out_of_memory_offers_more_of_it(page: Page, access: Mapping[str, Any], hub: Hub, loser: str) -> None:
    trigger = Path(pwd.getpwnam(loser).pw_dir) / "eat"
    eat = (
        "import pathlib, threading, time\n"
        "def eat():\n"
        f"    while not pathlib.Path({str(trigger)!r}).exists(): time.sleep(0.1)\n"
        "    eaten = []\n"
        "    while True: eaten.append(bytearray(50_000_000))\n"
        "threading.Thread(target=eat, daemon=True).start()\n"
    )
    with jupyter_config(loser, eat):
        try:
            hub.start(loser, LEARN | {"memory": "1G"})
            hub.ready(loser)
            trigger.touch()
            lost(page, access, hub, loser)
        finally:
            trigger.unlink(missing_ok=True)
    expect(page.get_by_role("alert")).to_contain_text("The job needed more memory than it had.")
    expect(page.get_by_role("alert")).to_contain_text("OUT_OF_MEMORY")
    expect(next_thing(page)).to_have_text("Choose again, with 2 GB of memory")
    next_thing(page).click()
    assert "memory=2048M" in page.url
    assert hub.jobs(loser) == []


def test_a_session_that_an_operator_cancelled_says_who_and_starts_again_with_one_click(
    page: Page, access: Mapping[str, Any], hub: Hub, loser: str
) -> None:
    hub.start(loser, LEARN)
    hub.ready(loser)
    hub.slurm("scancel", str(hub.job(loser)))
    lost(page, access, hub, loser)

    def told() -> bool:  # accounting may lag behind
        page.reload()
        return "cancelled by an operator or by the system" in page.get_by_role("alert").inner_text()

    until("whose doing it was", told)
    next_thing(page).click()
    page.wait_for_url("**/user/*/lab**")
    assert len(hub.jobs(loser)) == 1


def test_a_session_that_nobody_came_to_is_released_and_says_so(
    page: Page, access: Mapping[str, Any], hub: Hub, box: Any, loser: str
) -> None:
    with reconfigured(hub, box, unattended_limit=1):
        hub.start(loser, LEARN)
        hub.ready(loser)
        job = hub.job(loser)
        until("its release", lambda: not hub.server(loser), seconds=150)
        page.goto(f"{access['url']}user/{loser}/lab")
        expect(page.get_by_role("alert")).to_contain_text("Nobody came within 1 min, so it was released.")
        expect(next_thing(page)).to_have_text("Start again")
        ended = until("its end in accounting", lambda: Chaos(hub, box).ended_in_accounting(job))
        assert ended == "COMPLETED"


def test_a_session_that_somebody_came_to_is_kept(
    page: Page, access: Mapping[str, Any], hub: Hub, box: Any, loser: str
) -> None:
    with reconfigured(hub, box, unattended_limit=1):
        hub.start(loser, LEARN)
        hub.ready(loser)
        page.goto(f"{access['url']}user/{loser}/lab")
        expect(page.locator("#jupyterlab-splash")).to_have_count(0)
        page.goto("about:blank")
        log = hub.log(loser).read_text()
        assert "released" not in log
        # The judgement is a minute after the beginning: by then the server has said nothing and is there.
        page.wait_for_timeout(75_000)
        assert hub.server(loser)["ready"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("hub/no/such/page", "No such page"),
        ("hub/admin", "That is not yours to open"),
        ("hub/spawn-pending/somebody-else", "No such page"),
    ],
)
def test_the_hubs_own_refusals_say_what_to_do(
    page: Page, access: Mapping[str, Any], loser: str, path: str, words: str
) -> None:
    page.goto(f"{access['url']}{path}")
    expect(page.locator("h1")).to_have_text(words)
    assert "Traceback" not in page.locator("body").inner_text()
    expect(page.locator("main .btn-primary")).to_have_text(re.compile("[Hh]ome"))
