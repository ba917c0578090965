"""The start page's script, against answers that a test chooses: what starts when, what it costs, limits at the fields."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fakehub import ORIGIN, FakeHub, known
from playwright.sync_api import Page, expect

from studiolo.site import parse

SITE = Path(__file__).parents[1] / "unit" / "site_for_tests.toml"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def fake() -> FakeHub:
    """A hub where everything starts now."""
    hub = FakeHub(parse(SITE.read_text(encoding="utf-8")))
    hub.offers = hub.offered({})
    return hub


@pytest.fixture
def quiet(page: Page) -> Iterator[Page]:
    """A page on which no script may fail."""
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    assert failures == []


def card(page: Page, name: str) -> Any:
    return page.locator(f'.studiolo-card[data-profile="{name}"]')


def start(page: Page) -> Any:
    return page.locator("#studiolo-start")


def test_each_card_says_what_it_means_now(quiet: Page, fake: FakeHub) -> None:
    soon = time.time() + 700
    budget = {"kind": "budget", "until": None, "text": "Project One has used up its GPU-hours."}
    fake.offers = fake.offered(
        {
            "quarter": known("later", expected=soon, waiting=3, cost={"gpu_hours": 0.5, "cpu_hours": 4}),
            "one": known("never", obstacle=budget, cost={"gpu_hours": 4, "cpu_hours": 4}),
            "course": known("unknown"),
        },
        accounts={"p1": {"title": "Project One", "gpu_hours": {"limit": 100, "used": 20, "left": 80}, "default": True}},
    )
    fake.open(quiet)
    expect(card(quiet, "learn")).to_contain_text("Starts now")
    expect(card(quiet, "learn")).to_contain_text("CPUs: 20 of 32 free")
    expect(card(quiet, "learn")).to_contain_text("Costs no GPU-hours")
    expect(card(quiet, "quarter")).to_contain_text("Starts in about 12 min")
    expect(card(quiet, "quarter")).to_contain_text("Parts of GPUs: 12 of 16 free · 3 waiting")
    expect(card(quiet, "quarter")).to_contain_text("Costs up to 0.5 GPU-hours of the 80 that Project One has left")
    expect(card(quiet, "one")).to_contain_text("Project One has used up its GPU-hours.")
    expect(card(quiet, "course")).to_contain_text("When it starts is not known")
    expect(start(quiet)).to_have_text("Start: Learn, 2 h, starts now")
    quiet.get_by_role("radio", name="Quarter").check()
    expect(start(quiet)).to_have_text("Start: Quarter, 2 h, in about 12 min")
    quiet.get_by_role("radio", name="One GPU").check()
    expect(start(quiet)).to_have_text("Start all the same: One GPU, 4 h")
    expect(quiet.locator("#studiolo-said")).to_contain_text("Project One has used up its GPU-hours.")


def test_what_was_kept_says_as_much_as_the_cards(quiet: Page, fake: FakeHub) -> None:
    limit = {"kind": "limit", "until": None, "text": f"You have 3 jobs running {HOSTILE}."}
    fake.filled = {
        "last": {"profile": "one", "minutes": "30"},
        "presets": {"big": {"profile": "one", "gpus": 2}, "odd": {"profile": "gone"}},
    }
    fake.offers = fake.offered({}) | {
        "kept": {
            "last": known("later", expected=time.time() + 700, cost={"gpu_hours": 0.5, "cpu_hours": 4}),
            "presets": {"big": known("never", obstacle=limit, cost={"gpu_hours": 8, "cpu_hours": 4}), "odd": None},
        }
    }
    fake.open(quiet)
    expect(quiet.locator("#studiolo-again")).to_contain_text("Starts in about 12 min")
    expect(quiet.locator("#studiolo-again")).to_contain_text("Costs up to 0.5 GPU-hours")
    preset = quiet.locator('[data-preset="big"]')
    expect(preset).to_contain_text("Can not start as it stands")
    expect(preset).to_contain_text(f"You have 3 jobs running {HOSTILE}.")
    expect(preset).to_contain_text("Costs up to 8 GPU-hours")
    expect(quiet.locator('[data-preset="odd"]')).to_contain_text("no longer allowed here")
    if folder := os.environ.get("STUDIOLO_SCREENSHOTS"):
        for theme, width in (("light", 1280), ("dark", 390)):
            quiet.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
            quiet.set_viewport_size({"width": width, "height": 900})
            quiet.screenshot(path=str(Path(folder) / f"kept-{theme}.png"))


def test_what_would_start_sooner_is_taken_with_one_click(quiet: Page, fake: FakeHub) -> None:
    sooner = {"options": {"minutes": 60, "hours": None}, "text": "1 h instead of 4 h starts now.", "starts": "now"}
    fake.offers = fake.offered({"one": known("later", expected=time.time() + 9000, instead=sooner)})
    fake.open(quiet)
    expect(card(quiet, "one").locator(".studiolo-instead")).to_contain_text("1 h instead of 4 h starts now.")
    card(quiet, "one").get_by_role("button", name="Take it").click()
    expect(quiet.get_by_role("radio", name="One GPU")).to_be_checked()
    expect(quiet.get_by_label("Time")).to_have_value("60")
    expect(start(quiet)).to_have_text("Start: One GPU, 1 h, starts now")
    expect(start(quiet)).to_be_focused()
    assert fake.sent[-1] == (
        "POST",
        "/hub/api/studiolo/estimate",
        {"user_options": {"profile": "one", "minutes": "60"}},
    )


def test_knobs_are_judged_as_they_stand_and_each_fault_is_told_at_its_field(quiet: Page, fake: FakeHub) -> None:
    fake.estimate = known("never", faults=[{"field": "cpus", "value": "99", "text": "at most 16 on partition cpu"}])
    fake.open(quiet)
    quiet.get_by_text("More choices").click()
    quiet.get_by_label("CPUs", exact=True).fill("99")
    expect(quiet.locator("#studiolo-cpus-fault")).to_have_text("at most 16 on partition cpu")
    expect(quiet.get_by_label("CPUs", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(quiet.get_by_label("CPUs", exact=True)).to_have_accessible_description(
        "From 1 to 16 here at most 16 on partition cpu"
    )
    quiet.get_by_role("button", name="Back to the card as it is").click()
    expect(quiet.locator("#studiolo-cpus-fault")).to_have_text("")
    expect(quiet.get_by_label("CPUs", exact=True)).to_have_attribute("aria-invalid", "false")
    expect(start(quiet)).to_have_text("Start: Learn, 2 h, starts now")


def test_at_its_field_a_fault_does_not_name_the_field_again_in_any_language(quiet: Page, fake: FakeHub) -> None:
    fake.tongue = "fr"
    text = "cpus = 99\u00a0: au plus 16 sur la partition cpu"  # French has a space before its colon
    fake.estimate = known("never", faults=[{"field": "cpus", "value": "99", "text": text}])
    fake.open(quiet)
    quiet.get_by_text("Plus de choix").click()
    quiet.locator("#studiolo-cpus").fill("99")
    expect(quiet.locator("#studiolo-cpus-fault")).to_have_text("au plus 16 sur la partition cpu")


def test_the_hub_is_asked_once_for_what_is_typed_in_one_go(quiet: Page, fake: FakeHub) -> None:
    fake.open(quiet)
    quiet.get_by_text("More choices").click()
    quiet.get_by_label("Time").press_sequentially("90m")
    expect(start(quiet)).to_have_text("Start: Learn, 1 h 30 min, starts now")
    asked = [sent[2]["user_options"]["minutes"] for sent in fake.sent]
    assert asked[-1] == "90m"
    assert len(asked) == len(set(asked))


def test_limits_follow_the_partition_and_the_account(quiet: Page, fake: FakeHub) -> None:
    fake.offers = fake.offered(
        {},
        accounts={"p1": {"title": "p1", "gpu_hours": {"limit": 100, "used": 20, "left": 80}, "default": True}},
        partitions={"gpu": {"open": False, "max_cpus": 24}},
        reservations=[{"name": "course-2026", "maintenance": False, "partitions": ["gpu"]}],
    )
    fake.open(quiet)
    quiet.get_by_text("More choices").click()
    expect(quiet.get_by_label("Whole GPUs")).to_be_disabled()
    expect(quiet.get_by_label("Whole GPUs")).to_have_accessible_description("This part of the machine has no GPUs")
    expect(quiet.get_by_label("CPUs", exact=True)).to_have_accessible_description("From 1 to 16 here")
    quiet.get_by_label("Part of the machine (partition)").select_option("gpu")
    expect(quiet.get_by_role("option", name="GPU nodes (closed at the moment)")).to_be_attached()
    expect(quiet.get_by_label("Whole GPUs")).to_be_enabled()
    expect(quiet.get_by_label("CPUs", exact=True)).to_have_accessible_description("From 1 to 24 here")
    expect(quiet.locator("#studiolo-reservations option")).to_have_attribute("value", "course-2026")
    account = quiet.get_by_label("Project charged (account)")
    expect(account.get_by_role("option", name="p1 (80 GPU-hours left)")).to_be_enabled()
    expect(account.get_by_role("option", name="p2 (not yours)")).to_be_disabled()
    expect(account.get_by_role("option", name="p3 (not on this partition)")).to_be_disabled()
    account.select_option("p1")
    quiet.get_by_label("Whole GPUs").fill("1")
    expect(quiet.get_by_label("Parts of a GPU")).to_be_disabled()
    quiet.get_by_label("Part of the machine (partition)").select_option("cpu")
    expect(quiet.get_by_label("Whole GPUs")).to_be_enabled()  # what was typed stays in sight
    expect(quiet.get_by_label("Whole GPUs")).to_have_value("1")


def test_a_silent_scheduler_is_said_before_the_click(quiet: Page, fake: FakeHub) -> None:
    fake.offers = fake.offered({}, answers=False, silent_since=time.time() - 60)
    fake.open(quiet)
    expect(quiet.locator("#studiolo-silent")).to_contain_text("has not answered since")
    fake.offers = fake.offered({})
    expect(quiet.locator("#studiolo-silent")).to_be_hidden()  # the browser asks again by itself


def test_the_page_works_where_nothing_answers(quiet: Page, fake: FakeHub) -> None:
    fake.open(quiet)
    quiet.unroute_all()
    quiet.route(f"{ORIGIN}/hub/api/**", lambda route: route.abort())
    quiet.get_by_text("More choices").click()
    quiet.get_by_label("CPUs", exact=True).fill("4")
    expect(start(quiet)).to_have_text("Start: Learn, 2 h")
    expect(quiet.locator("#studiolo-when")).to_contain_text("When it starts is not known")


def test_a_preset_is_saved_under_its_name_and_then_the_page_shows_it(quiet: Page, fake: FakeHub) -> None:
    fake.open(quiet, "/hub/spawn?next=%2Fx&opt-cpus=4")
    quiet.get_by_role("radio", name="Quarter").check()
    quiet.get_by_text("Keep or share this choice").click()
    quiet.get_by_role("button", name="Save as a preset").click()
    expect(quiet.locator("#studiolo-save-said")).to_have_text("Give it a name first.")
    quiet.get_by_label("Name of the preset").fill("50 % & a bit?")
    fake.status = 409
    quiet.get_by_role("button", name="Save as a preset").click()
    expect(quiet.locator("#studiolo-save-said")).to_have_text("No, says the hub.")
    fake.status = 201
    quiet.get_by_role("button", name="Save as a preset").click()
    quiet.wait_for_url(f"{ORIGIN}/hub/spawn?next=%2Fx&preset=50+%25+%26+a+bit%3F")
    put = ("PUT", "/hub/api/studiolo/presets/50 % & a bit?", {"user_options": {"profile": "quarter"}})
    assert fake.sent.count(put) == 2


def test_a_preset_is_deleted_after_a_question(quiet: Page, fake: FakeHub) -> None:
    fake.filled = {"presets": {HOSTILE: {"profile": "one"}, "other": {"profile": "gone"}}}
    fake.status = 204
    asked: list[str] = []
    quiet.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    fake.open(quiet)
    quiet.get_by_role("button", name=f"Delete the preset {HOSTILE}").click()
    expect(quiet.get_by_role("link", name=HOSTILE)).to_have_count(0)
    expect(quiet.get_by_role("link", name="other")).to_be_visible()
    assert asked == [f"Delete the preset “{HOSTILE}”?"]
    assert [sent[:2] for sent in fake.sent] == [("DELETE", f"/hub/api/studiolo/presets/{HOSTILE}")]


def test_a_link_to_the_choice_fills_in_the_page_for_others(quiet: Page, fake: FakeHub) -> None:
    fake.open(quiet)
    quiet.get_by_role("radio", name="One GPU").check()
    quiet.get_by_text("More choices").click()
    quiet.get_by_label("Folder to open").fill("my work & more")
    quiet.get_by_label("nvme").check()
    quiet.get_by_text("Keep or share this choice").click()
    quiet.get_by_role("button", name="Copy a link to this choice").click()
    expect(quiet.get_by_label("Link to this choice")).to_have_value(
        f"{ORIGIN}/hub/spawn?opt-profile=one&opt-workdir=my+work+%26+more&opt-features=nvme"
    )


def test_words_of_slurm_and_of_the_site_are_text(quiet: Page, fake: FakeHub) -> None:
    bad = {"kind": "closed", "until": None, "text": HOSTILE}
    instead = {"options": {"workdir": HOSTILE}, "text": HOSTILE, "starts": "now"}
    fake.offers = fake.offered(
        {"learn": known("never", obstacle=bad, instead=instead, cost={"gpu_hours": 1, "cpu_hours": 1})},
        accounts={"p1": {"title": HOSTILE, "gpu_hours": {"limit": 1, "used": 0, "left": 1}, "default": True}},
        reservations=[{"name": HOSTILE, "maintenance": False}],
    )
    fake.estimate = known("never", obstacle=bad, faults=[{"field": HOSTILE, "value": "", "text": HOSTILE}])
    fake.open(quiet)
    card(quiet, "learn").get_by_role("button", name="Take it").click()
    expect(quiet.get_by_label("Folder to open")).to_have_value(HOSTILE)
    expect(quiet.locator("#studiolo-when")).to_contain_text(HOSTILE)
    assert quiet.locator("main img").count() == 0


def test_a_second_click_on_start_sends_nothing_more(quiet: Page, fake: FakeHub) -> None:
    fake.open(quiet)
    quiet.evaluate(
        "window.sent = 0; document.getElementById('spawn_form')"
        ".addEventListener('submit', (event) => { if (!event.defaultPrevented) window.sent += 1; event.preventDefault(); })"
    )
    start(quiet).dblclick()
    expect(start(quiet)).to_have_text("Starting …")
    assert quiet.evaluate("window.sent") == 1


def test_with_the_keyboard_alone_a_card_is_taken_and_started(quiet: Page, fake: FakeHub) -> None:
    fake.open(quiet)
    quiet.evaluate(
        "document.getElementById('spawn_form').addEventListener('submit', (event) => { window.took ="
        " new FormData(event.target).get('profile'); event.preventDefault(); })"
    )
    quiet.get_by_role("radio", name="Learn").focus()
    quiet.keyboard.press("ArrowDown")
    expect(quiet.get_by_role("radio", name="Quarter")).to_be_checked()
    for _ in range(2):
        quiet.keyboard.press("Tab")
    expect(start(quiet)).to_be_focused()
    quiet.keyboard.press("Enter")
    assert quiet.evaluate("window.took") == "quarter"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_sticks_out(quiet: Page, fake: FakeHub, theme: Any, width: int) -> None:
    sooner = {"options": {"minutes": 60}, "text": "1 h instead of 4 h starts now.", "starts": "now"}
    bad = {"kind": "closed", "until": None, "text": "Closed for maintenance."}
    later = time.time() + 900
    fake.offers = fake.offered(
        {"one": known("later", expected=later, instead=sooner), "course": known("never", obstacle=bad)},
        answers=False,
    )
    fake.estimate = known(
        "later", expected=later, instead=sooner, faults=[{"field": "cpus", "value": "", "text": "too many"}]
    )
    fake.filled = {
        "submitted": {"profile": ["one"], "cpus": ["99"]},
        "last": {"profile": "one", "minutes": "8h"},
        "presets": {"nightly": {"profile": "one", "workdir": "x" * 200}, "old": {"profile": "gone"}},
    }
    quiet.emulate_media(color_scheme=theme)
    quiet.set_viewport_size({"width": width, "height": 860})
    fake.open(quiet)
    expect(card(quiet, "one")).to_contain_text("instead of")
    expect(quiet.locator("#studiolo-sooner")).to_be_visible()
    quiet.get_by_text("Keep or share this choice").click()
    report = Axe().run(quiet)
    assert report.violations_count == 0, report.generate_report()
    assert quiet.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
