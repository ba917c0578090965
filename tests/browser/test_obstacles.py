"""What stands in the way is told before the click, by the button, and to who starts all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from chaos import Chaos
from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Page, expect

PERSON = 23


@contextmanager
def spent(chaos: Chaos, name: str) -> Iterator[None]:
    """Somebody's share of their project is used up. A hub asks for such things every few minutes, and when it begins."""
    limits(chaos.hub, name, "GrpTRESMins=gres/gpu=0,gres/shard=0")
    try:
        chaos.restart("hub")
        yield
    finally:
        limits(chaos.hub, name, "GrpTRESMins=gres/gpu=-1,gres/shard=-1")


@contextmanager
def maintenance(chaos: Chaos, _name: str) -> Iterator[None]:
    """All nodes for CPU sessions are reserved for maintenance from an hour on."""
    hub = chaos.hub
    nodes = ",".join(hub.slurm("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N").split())
    what = ("ReservationName=works", "Users=root", "StartTime=now+1hour", "Duration=60", "Flags=MAINT,IGNORE_JOBS")
    hub.slurm("scontrol", "create", "reservation", *what, f"Nodes={nodes}")
    try:
        yield
    finally:
        hub.slurm("scontrol", "delete", "ReservationName=works")


def limits(hub: Hub, name: str, *limits: str) -> None:
    """Set limits of a person in the playground."""
    who = ("where", f"name={name}", "account=playground")
    hub.slurm("sacctmgr", "-i", "modify", "user", *who, "set", *limits)


@dataclass(frozen=True)
class Obstacle:
    """What is put in the way, of which card; what is told before, on the button, and afterwards to who starts all the same:
    Slurm's own word among it. ``refused``: Slurm takes no such job; else it waits."""

    put: Callable[[Chaos, str], AbstractContextManager[None]]
    title: str
    before: str
    button: str
    after: tuple[str, ...]
    refused: bool


OBSTACLES = {
    "budget spent": Obstacle(
        spent,
        "One GPU",
        "The project Playground has used up its GPU-hours.",
        "Start all the same: One GPU, 2 h",
        (
            "accounting/QOS policy",
            "Nothing was started.",
        ),
        refused=True,
    ),
    "maintenance ahead": Obstacle(
        maintenance,
        "Learn",
        "Maintenance begins before this session would end. A shorter one may start before it.",
        "Start: Learn, 2 h",
        ("perhaps for maintenance", "(Slurm says: ReqNodeNotAvail"),
        refused=False,
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_is_told_before_the_click_and_after_it(
    page: Page, access: Mapping[str, Any], hub: Hub, chaos: Chaos, leftovers: list[str], name: str
) -> None:
    expected = OBSTACLES[name]
    person = log_in(page, access, PERSON)
    leftovers.append(person)
    page.wait_for_url("**/hub/spawn**")
    page.get_by_role("radio", name=expected.title, exact=True).check()
    card = page.locator(".studiolo-card").filter(has=page.get_by_role("radio", name=expected.title, exact=True))
    expect(card).to_contain_text("Starts now")
    with expected.put(chaos, person):
        expect(card.locator('[data-live="obstacle"]')).to_have_text(expected.before)
        expect(card).not_to_contain_text("Starts now")
        start = page.get_by_role("button", name="Start")
        expect(start).to_contain_text(expected.button)
        start.click()
        told = page.get_by_role("alert") if expected.refused else page.locator("#studiolo-state")
        for words in expected.after:
            expect(told).to_contain_text(words)
        if expected.refused:
            expect(page.locator("main .btn-primary")).to_have_count(1)
            assert hub.jobs(person) == []
            return
        page.get_by_role("button", name="Cancel the start").click()
        page.wait_for_url("**/hub/home")
        until("the end of the job", lambda: hub.jobs(person) == [])
    page.goto(f"{access['url']}hub/spawn")
    expect(card).to_contain_text("Starts now")


def test_what_slurm_refuses_all_the_same_says_why_and_leads_to_something_smaller(
    page: Page, access: Mapping[str, Any], hub: Hub
) -> None:
    """A limit of a single job, of which Slurm tells nobody before."""
    hub.slurm("sacctmgr", "-i", "modify", "qos", "where", "name=playground", "set", "MaxTRESMins=gres/gpu=30")
    try:
        name = log_in(page, access, PERSON)
        page.wait_for_url("**/hub/spawn**")
        page.get_by_role("radio", name="One GPU", exact=True).check()
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert")).to_contain_text("Slurm refused this session")
        expect(page.get_by_role("alert")).to_contain_text("Nothing was started.")
        assert hub.jobs(name) == []
        page.locator("#studiolo-next").click()
        expect(page.get_by_role("radio", name="One GPU", exact=True)).to_be_checked()
    finally:
        hub.slurm("sacctmgr", "-i", "modify", "qos", "where", "name=playground", "set", "MaxTRESMins=gres/gpu=-1")
