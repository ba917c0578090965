"""The start page on the running platform: what it says before the click, with a long queue, a closed partition, no scheduler."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from chaos import Chaos
from hubclient import Hub, until
from pages import log_in, open_more_choices
from playwright.sync_api import Page, expect

PERSON, OTHER, KEEPER = 7, 8, 9


@contextmanager
def long_queue(hub: Hub, access: Mapping[str, Any]) -> Iterator[None]:
    """Every GPU taken for three hours, by somebody who may have so many."""
    (busy,) = [user["name"] for user in access["users"] if user["role"] == "researcher"][:1]
    nodes = hub.slurm("sinfo", "-h", "-N", "-p", "gpu", "-o", "%N").split()
    job = [
        "-p",
        "gpu",
        "-A",
        "large-scale",
        "--qos=large-scale",
        "--uid",
        busy,
        "--gres=gpu:4",
        "--mem=100",
        "-t",
        "180",
    ]
    for node in nodes:
        hub.slurm("sbatch", *job, "-w", node, "--chdir=/", "--output=/dev/null", "--wrap", "sleep 10000")
    running = ("squeue", "-h", "-t", "R", "-u", busy, "-o", "%A")
    until("the last node", lambda: len(hub.slurm(*running).split()) == len(nodes))
    try:
        yield
    finally:
        hub.slurm("scancel", "-u", busy)
        until("the end of the queue", lambda: hub.jobs(busy) == [])


@pytest.fixture
def chaos(hub: Hub, box: Any) -> Iterator[Chaos]:
    """What breaks parts of the platform; all run again afterwards."""
    breaker = Chaos(hub, box)
    yield breaker
    breaker.repair()


def card(page: Page, name: str) -> Any:
    return page.locator(f'.studiolo-card[data-profile="{name}"]')


def start(page: Page) -> Any:
    return page.locator("#studiolo-start")


def test_every_card_says_that_it_starts_now_what_is_free_and_what_it_costs(
    page: Page, access: Mapping[str, Any]
) -> None:
    log_in(page, access, PERSON)
    page.goto(f"{access['url']}hub/spawn?profile=learn")  # whatever another test has chosen last
    expect(card(page, "learn")).to_contain_text("Starts now")
    expect(card(page, "learn")).to_contain_text(re.compile(r"CPUs: \d+ of \d+ free"))
    expect(card(page, "learn")).to_contain_text("Costs no GPU-hours")
    expect(card(page, "one-gpu")).to_contain_text(re.compile(r"GPUs: \d+ of \d+ free"))
    expect(card(page, "one-gpu")).to_contain_text("Costs up to 2 GPU-hours")
    page.get_by_role("radio", name="One GPU", exact=True).check()
    expect(start(page)).to_have_text("Start: One GPU, 2 h, starts now")


def test_the_last_choice_starts_again_in_one_click(
    page: Page, access: Mapping[str, Any], hub: Hub, leftovers: list[str]
) -> None:
    name = log_in(page, access, PERSON)
    leftovers.append(name)
    page.goto(f"{access['url']}hub/spawn?profile=learn")  # whatever another test has chosen last
    open_more_choices(page)
    page.get_by_label("Time").fill("30m")
    start(page).click()
    page.wait_for_url("**/user/*/lab**")
    hub.stop(name)
    page.goto(f"{access['url']}hub/spawn")
    expect(page.get_by_label("Time")).to_have_value("30m")
    page.get_by_role("button", name="Again: Learn · 30 min").click()
    page.wait_for_url("**/user/*/lab**")
    (job,) = hub.jobs(name)
    assert hub.slurm("squeue", "-h", "-j", str(job), "-o", "%l").strip() == "30:00"


def test_a_start_of_another_site_is_refused(page: Page, access: Mapping[str, Any], hub: Hub) -> None:
    """The one click sends a form; without the page's own token it starts nothing."""
    name = log_in(page, access, OTHER)
    page.wait_for_url("**/hub/spawn**")
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies(f"{access['url']}hub/spawn")}
    for address in ("hub/spawn", "hub/spawn?_xsrf=wrong"):
        answer = httpx.post(f"{access['url']}{address}", data={"profile": "learn"}, cookies=cookies)
        assert answer.status_code == 403
    assert hub.jobs(name) == []


def test_a_long_queue_is_told_before_the_click(page: Page, access: Mapping[str, Any], hub: Hub) -> None:
    with long_queue(hub, access):
        log_in(page, access, OTHER)
        page.goto(f"{access['url']}hub/spawn?profile=learn")  # whatever another test has chosen last
        expect(card(page, "one-gpu").locator('[data-live="starts"]')).to_have_attribute("data-kind", "later")
        expect(card(page, "one-gpu")).to_contain_text(re.compile(r"Starts (in about|about)"))
        expect(card(page, "learn")).to_contain_text("Starts now")
        page.get_by_role("radio", name="One GPU", exact=True).check()
        expect(start(page)).to_have_text(re.compile("^Start: One GPU, 2 h, in about "))
        assert hub.jobs(access["users"][OTHER]["name"]) == []


def test_a_closed_partition_is_told_before_the_click(page: Page, access: Mapping[str, Any], hub: Hub) -> None:
    hub.slurm("scontrol", "update", "PartitionName=gpu", "State=DOWN")
    try:
        log_in(page, access, OTHER)
        expect(card(page, "one-gpu").locator('[data-live="obstacle"]')).not_to_be_empty()
        expect(card(page, "one-gpu").locator('[data-live="starts"]')).not_to_have_text("Starts now")
        expect(card(page, "learn")).to_contain_text("Starts now")
        open_more_choices(page)
        expect(page.locator("#studiolo-partition")).to_contain_text("(closed at the moment)")
    finally:
        hub.slurm("scontrol", "update", "PartitionName=gpu", "State=UP")
    expect(card(page, "one-gpu")).to_contain_text("Starts now")


def test_a_silent_scheduler_is_told_before_the_click_and_the_page_still_works(
    page: Page, access: Mapping[str, Any], chaos: Chaos
) -> None:
    log_in(page, access, OTHER)
    expect(card(page, "learn")).to_contain_text("Starts now")
    with chaos.stopped("slurmctld"):
        expect(page.locator("#studiolo-silent")).to_contain_text("has not answered since", timeout=120_000)
        page.reload()
        expect(page.locator("#studiolo-silent")).to_contain_text("scheduler")
        expect(page.get_by_role("radio", name="One GPU", exact=True)).to_be_visible()
    expect(page.locator("#studiolo-silent")).to_be_hidden(timeout=120_000)
    expect(card(page, "learn")).to_contain_text("Starts now")


def test_what_can_not_be_granted_is_told_at_its_field_before_and_after_the_click(
    page: Page, access: Mapping[str, Any], hub: Hub
) -> None:
    name = log_in(page, access, OTHER)
    page.get_by_role("radio", name="Learn", exact=True).check()
    open_more_choices(page)
    page.get_by_label("CPUs", exact=True).fill("99")
    expect(page.locator("#studiolo-cpus-fault")).to_have_text("at most 16 on partition cpu")
    page.get_by_label("Memory").fill("lots")
    start(page).click()
    expect(page.get_by_role("alert").get_by_role("link")).to_have_count(2)
    expect(page.get_by_label("Memory")).to_have_value("lots")
    expect(page.get_by_label("Memory")).to_have_attribute("aria-invalid", "true")
    page.get_by_role("alert").get_by_role("link", name="cpus = 99").click()
    expect(page.get_by_label("CPUs", exact=True)).to_be_focused()
    assert hub.jobs(name) == []


def test_a_preset_is_saved_used_and_deleted(page: Page, access: Mapping[str, Any], hub: Hub) -> None:
    name = log_in(page, access, KEEPER)
    preset = "数学 <b>& more"
    page.get_by_role("radio", name="One GPU", exact=True).check()
    open_more_choices(page)
    page.get_by_label("Time").fill("45m")
    page.get_by_text("Keep or share this choice").click()
    page.get_by_label("Name of the preset").fill(preset)
    page.get_by_role("button", name="Save as a preset").click()
    expect(page.locator("#studiolo-notice")).to_contain_text(preset)
    page.goto(f"{access['url']}hub/spawn")
    page.get_by_role("radio", name="Learn", exact=True).check()
    page.get_by_role("link", name=preset).click()
    expect(page.get_by_role("radio", name="One GPU", exact=True)).to_be_checked()
    expect(page.get_by_label("Time")).to_have_value("45m")
    expect(start(page)).to_have_text("Start: One GPU, 45 min, starts now")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=f"Delete the preset {preset}").click()
    expect(page.get_by_role("link", name=preset)).to_have_count(0)
    page.goto(f"{access['url']}hub/spawn")
    expect(page.get_by_role("link", name=preset)).to_have_count(0)
    assert hub.jobs(name) == []


def test_a_link_to_a_choice_fills_in_another_persons_page_and_starts_nothing(
    page: Page, access: Mapping[str, Any], hub: Hub
) -> None:
    log_in(page, access, KEEPER)
    page.get_by_role("radio", name="One GPU", exact=True).check()
    open_more_choices(page)
    page.get_by_label("Folder to open").fill("my work")
    page.get_by_text("Keep or share this choice").click()
    page.get_by_role("button", name="Copy a link to this choice").click()
    link = page.get_by_label("Link to this choice").input_value()
    page.context.clear_cookies()
    name = log_in(page, access, OTHER)
    page.wait_for_url("**/hub/spawn**")
    for address in (link, link.replace("opt-", "")):
        page.goto(address)
        expect(page.locator("#studiolo-notice")).to_contain_text("Nothing has been started")
        expect(page.get_by_role("radio", name="One GPU", exact=True)).to_be_checked()
        expect(page.get_by_label("Folder to open")).to_have_value("my work")
    assert hub.jobs(name) == []
    assert not hub.server(name)


def test_the_page_is_there_without_its_script(page: Page, access: Mapping[str, Any], hub: Hub) -> None:
    name = log_in(page, access, OTHER)
    page.wait_for_url("**/hub/spawn**")
    page.route("**/start.js", lambda route: route.abort())
    page.reload()
    expect(card(page, "learn")).to_contain_text("Starts now")
    open_more_choices(page)
    page.get_by_label("CPUs", exact=True).fill("99")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("at most 16 on partition cpu")
    assert hub.jobs(name) == []


@pytest.mark.parametrize("address", ["hub/spawn?opt-workdir=%ff", "hub/spawn?preset=%ff"])
def test_an_address_that_is_no_text_is_refused_in_words(page: Page, access: Mapping[str, Any], address: str) -> None:
    log_in(page, access, OTHER)
    page.wait_for_url("**/hub/spawn**")
    answer = page.goto(f"{access['url']}{address}")
    assert answer is not None
    assert answer.status == 400
    expect(page.locator("main")).to_contain_text("UTF-8")
