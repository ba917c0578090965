"""The home page: sessions as cards, live, with the keyboard and without a script."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Browser, Page, expect
from reconfigured import restart

from slurmbox import box as slurmbox
from studiolo.site import load

PERSON = 7
SECOND = "second"


def picture(page: Page, name: str) -> None:
    """Keep pictures for the documentation, where STUDIOLO_PICTURES names a folder for them."""
    if folder := os.environ.get("STUDIOLO_PICTURES"):
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                page.emulate_media(color_scheme=scheme)
                page.evaluate("(scheme) => document.documentElement.setAttribute('data-bs-theme', scheme)", scheme)
                page.set_viewport_size({"width": width, "height": 900})
                page.screenshot(path=str(Path(folder) / f"{name}-{scheme}-{width}.png"), full_page=True)
        page.set_viewport_size({"width": 1280, "height": 860})


@pytest.fixture(scope="module")
def both(access: Mapping[str, Any], hub: Hub) -> Iterator[str]:
    """Somebody with two ready sessions, one of them called after its name; tests that end one come last."""
    name = str(access["users"][PERSON]["name"])
    for session in ("", SECOND):
        assert hub.start(name, {"profile": "learn", "minutes": 60}, session).status_code == 202
    for session in ("", SECOND):
        hub.ready(name, session)
    yield name
    for session in ("", SECOND):
        if hub.server(name, session):
            hub.stop(name, session)
    hub.call("DELETE", f"users/{name}/servers/{SECOND}", json={"remove": True})


def test_a_form_of_another_site_stops_nothing(page: Page, access: Mapping[str, Any], hub: Hub, both: str) -> None:
    log_in(page, access, PERSON)
    home = f"{access['url']}hub/home"
    for form in ({"action": "stop", "name": ""}, {"action": "stop", "name": "", "_xsrf": "wrong"}):
        assert page.request.post(home, form=form).status == 403
    api = f"{access['url']}hub/api/studiolo/extend"
    assert page.request.post(api, data={"name": "", "minutes": 5}).status == 403
    page.goto(home)
    xsrf = page.locator("#studiolo-home").get_attribute("data-xsrf")
    assert page.request.post(home, form={"action": "stop", "name": "x" * 5000, "_xsrf": xsrf}).status == 413
    assert page.request.post(home, form={"action": "explode", "_xsrf": xsrf}).status == 400
    for action, field in (("stop", "name"), ("delete", "name"), ("extend", "name")):
        answer = page.request.post(home, form={"action": action, field: "<script>alert(1)</script>", "_xsrf": xsrf})
        assert answer.status in (200, 404)
        assert "<script>alert(1)" not in answer.text()
    assert hub.server(both)["ready"]


def test_it_works_without_a_script(browser: Browser, access: Mapping[str, Any], hub: Hub, both: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    try:
        log_in(page, access, PERSON)
        page.goto(f"{access['url']}hub/home")
        card = page.get_by_role("article", name=SECOND)
        expect(card.locator(".studiolo-left")).to_have_text(re.compile(r"^(1 h|5\d min)$"))
        card.get_by_label(f"How much more time for {SECOND}").select_option("60")
        card.get_by_role("button", name=f"Extend {SECOND}").click()
        expect(card.locator(".studiolo-left")).to_have_text(re.compile(r"^1 h 5\d min$"))
        card.get_by_label(f"How much more time for {SECOND}").select_option("30")
        card.get_by_role("button", name=f"Extend {SECOND}").click()
        expect(page.get_by_role("alert")).to_have_text("One moment: this session has just been asked to be extended.")
        card.get_by_role("button", name=f"Stop {SECOND}").click()
        until("the end of the session", lambda: not hub.server(both, SECOND))
        page.goto(f"{access['url']}hub/home")
        expect(card).to_have_count(0)
        expect(page.get_by_role("link", name=f"Start {SECOND}")).to_be_visible()
    finally:
        context.close()


def test_a_session_is_a_card_that_is_live(page: Page, access: Mapping[str, Any], hub: Hub, both: str) -> None:
    log_in(page, access, PERSON)
    page.goto(f"{access['url']}hub/home")
    card = page.get_by_role("article", name="My session")
    expect(card).to_contain_text("Running")
    expect(card).to_contain_text("Learn")
    expect(card).to_contain_text("2 CPUs · 4 GB")
    expect(card).to_contain_text(re.compile(r"cpu\d"))
    expect(card.locator(".studiolo-left")).to_have_text(re.compile(r"^5\d min$"))
    expect(card).to_contain_text("CPU-hours")
    expect(card.get_by_label("Memory")).to_be_visible()  # once its server has reported
    picture(page, "home")

    # An extension asked for elsewhere arrives by itself.
    token = hub.call("POST", f"users/{both}/tokens", json={"note": "test", "expires_in": 300}).json()["token"]
    assert hub.call("POST", "studiolo/extend", token=token, json={"name": "", "minutes": 120}).status_code == 200
    expect(card.locator(".studiolo-left")).to_have_text(re.compile(r"^2 h 5\d min$"))

    expect(card.get_by_role("link", name="Open My session")).to_have_attribute("href", re.compile(rf"/user/{both}/"))


def submit(hub: Hub, person: str, comment: str) -> int:
    """A job of the person's that sleeps, or waits to: the cluster's CPU nodes are few."""
    command = ("sbatch", "--parsable", "-p", "cpu", "-A", "playground", "--uid", person, "--mem=50M", "--chdir=/")
    return int(hub.slurm(*command, "--output=/dev/null", f"--comment={comment}", "--wrap=sleep 900"))


def test_batch_runs_and_clusters_stand_below_and_each_is_stopped_alone(
    page: Page, access: Mapping[str, Any], hub: Hub, both: str, site_file: Any
) -> None:
    site, other = load(site_file), str(access["users"][PERSON + 1]["name"])
    run, kept = submit(hub, both, site.tag("run", "first")), submit(hub, both, site.tag("run", "second"))
    workers = [submit(hub, both, site.tag("dask", "second.c1")) for _worker in range(2)]
    strangers = submit(hub, other, site.tag("run", "theirs"))
    try:
        log_in(page, access, PERSON)
        page.goto(f"{access['url']}hub/home")
        jobs = page.get_by_role("region", name="Batch runs and Dask clusters")
        stop = jobs.get_by_role("button", name=f"Stop Batch run first · job {run}")
        expect(stop).to_be_visible(timeout=90_000)  # the next look at the queue, by itself
        expect(jobs.get_by_role("listitem")).to_have_count(3)
        expect(jobs.get_by_role("button", name="Stop Dask workers · 2 jobs")).to_be_visible()
        expect(jobs).not_to_contain_text("theirs")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 900})
                told = Axe().run(page, context=".studiolo-jobs", options={"resultTypes": ["violations"]}).response
                assert told["violations"] == [], (scheme, width)
                assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (scheme, width)
        picture(page, "home-jobs")

        xsrf = page.locator("#studiolo-home").get_attribute("data-xsrf")
        forged = {"action": "stop-job", "name": f"{next(iter(site.clusters))}/run/theirs"}
        assert page.request.post(f"{access['url']}hub/home", form=forged).status == 403
        assert page.request.post(f"{access['url']}hub/home", form={**forged, "_xsrf": str(xsrf)}).status == 200

        stop.press("Enter")
        until("the end of one run", lambda: run not in hub.jobs(both))
        expect(stop).to_have_count(0)
        expect(jobs.get_by_role("listitem")).to_have_count(2)
        assert {kept, *workers} <= set(hub.jobs(both))
        assert strangers in hub.jobs(other)
    finally:
        hub.slurm("scancel", *map(str, (run, kept, *workers, strangers)))


def test_it_says_so_while_the_scheduler_is_silent(
    page: Page, access: Mapping[str, Any], hub: Hub, box: Any, both: str
) -> None:
    log_in(page, access, PERSON)
    supervisor = slurmbox.supervisor(box)
    supervisor.stop("slurmctld")
    try:
        page.goto(f"{access['url']}hub/home")
        card = page.get_by_role("article", name="My session")
        expect(card).to_contain_text("Running")
        expect(page.get_by_role("alert")).to_contain_text("scheduler does not answer at the moment", timeout=90_000)
        card.get_by_role("button", name="Extend My session").click()
        expect(page.get_by_role("alert").first).to_contain_text("try again in a minute")
    finally:
        supervisor.start("slurmctld")
        until("Slurm", lambda: _answers(hub))
    page.goto(f"{access['url']}hub/home")
    expect(page.get_by_role("alert")).to_have_count(0, timeout=90_000)  # by itself


def test_a_session_is_stopped_with_the_keyboard_and_what_it_used_is_told(
    page: Page, access: Mapping[str, Any], hub: Hub, both: str
) -> None:
    log_in(page, access, PERSON)
    page.goto(f"{access['url']}hub/home")
    card = page.get_by_role("article", name="My session")
    card.get_by_role("button", name="Stop My session").press("Enter")
    until("the end of the session", lambda: hub.server(both) == {})
    expect(page.get_by_role("link", name="Start a session")).to_be_visible()
    expect(page.get_by_text("Last time: Learn: 2 CPUs · 4 GB · 1 h")).to_be_visible()
    expect(page.get_by_role("heading", name="Your last session")).to_be_visible()
    picture(page, "home-after")

    # What its owner stops is not told; what somebody else stops appears by itself, with a way to the whole.
    line = page.locator(".studiolo-ended[data-name='']")
    expect(line).to_have_count(0)
    assert hub.start(both, {"profile": "learn", "minutes": 60}).status_code == 202
    hub.ready(both)
    expect(card).to_contain_text("Running")
    hub.stop(both, by_operator=True)
    expect(line).to_contain_text("“My session” has ended. It was stopped by ")
    line.get_by_role("link", name="Why, and what to do: My session").click()
    expect(page.get_by_role("heading", name="Your notebook is not running")).to_be_visible()
    expect(page.locator(".studiolo-failure")).to_contain_text("What was saved is kept.")


def _answers(hub: Hub) -> bool:
    try:
        hub.slurm("scontrol", "ping")
        hub.slurm("squeue")
    except AssertionError:
        return False
    return True


def test_it_goes_on_by_itself_after_the_hub_was_away(
    page: Page, access: Mapping[str, Any], hub: Hub, both: str, box: Any
) -> None:
    if hub.server(both):
        hub.stop(both)
    log_in(page, access, PERSON)
    page.goto(f"{access['url']}hub/home")
    expect(page.get_by_role("link", name="Start a session")).to_be_visible()
    page.evaluate("() => { window.stayed = true; }")
    restart(hub, box)
    assert hub.start(both, {"profile": "learn"}).status_code == 202
    expect(page.get_by_role("article", name="My session")).to_be_visible()
    assert page.evaluate("() => window.stayed")  # nobody has loaded the page anew
