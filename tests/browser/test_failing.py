"""What somebody reads whose session failed or ended: what happened, why, what to do, and the one next thing to press.

All fail and end together, since Slurm and the hub look at such things at intervals; each is then looked at by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from chaos import Chaos, eater, full_home, jupyter_config, preemption
from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Page, expect

LEARN: Mapping[str, Any] = {"profile": "learn"}
FIRST, PREEMPTOR, ROOMLESS = 10, 4, 20
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror=window.hacked=1></pre>{{ 7*7 }} token=SESAME-SESAME"
# Jupyter reads these as the person, before it listens.
SABOTAGE = f"""
import os
print({HOSTILE!r}, flush=True)
os._exit(3)
"""
# A disk quota of nothing: what the kernel then answers is said as Python does.
NO_ROOM = """
import os, traceback
try:
    open("/dev/full", "w").write("x" * 100_000)
except OSError:
    traceback.print_exc()
    os._exit(3)
"""


@dataclass(frozen=True)
class Way:
    """One way to lose a session: what was asked for, what its owner must read, the next thing to press, and where it leads
    (empty: it starts the same again). ``began``: its server had answered before."""

    words: tuple[str, ...]
    next: str = "Start again"
    leads: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: LEARN)
    began: bool = True


WAYS = {
    "bad folder": Way(
        ("The folder that was asked for can not be opened.", "Slurm's word for it is FAILED"),
        "Choose another folder",
        ("profile=learn&cpus=1",),
        LEARN | {"workdir": "no/such/<b>folder", "cpus": 1},
        began=False,
    ),
    "hostile log": Way(
        ("The job's program failed.", "Slurm's word for it is FAILED"), began=False
    ),
    "no room": Way(
        ("There was no room left to write to.", "Remove files that you do not need"), "How to make room", ("#studiolo-room",), began=False,
    ),
    "cancelled": Way(("cancelled by an operator or by the system", "CANCELLED")),
    "out of memory": Way(
        ("The job needed more memory than it had.", "OUT_OF_MEMORY"),
        "Choose again, with 2 GB of memory",
        ("memory=2048M",),
        LEARN | {"memory": "1G"},
    ),
    "time over": Way(
        ("The job reached the end of its time.", "TIMEOUT"), "Choose again, with 2 h", ("minutes=120",),
        LEARN | {"minutes": 60},
    ),
    "preempted": Way(("made way for one of higher priority", "it will wait for its turn", "PREEMPTED")),
    "node failed": Way(
        ("The node that it ran on failed.", "Slurm will choose another node", "NODE_FAIL"),
        options={"profile": "quarter-gpu"},
    ),
}  # fmt: skip
NUMBERS = {way: FIRST + number for number, way in enumerate(WAYS)}


@pytest.fixture(scope="module")
def lost(access: Mapping[str, Any], hub: Hub, box: Any) -> Iterator[Mapping[str, str]]:
    """Whose session was lost in which way; the hub knows of all of them."""
    chaos = Chaos(hub, box)
    who = {way: str(access["users"][number]["name"]) for way, number in NUMBERS.items()}
    try:
        with ExitStack() as stack:
            stack.enter_context(preemption(chaos))
            stack.enter_context(jupyter_config(who["hostile log"], SABOTAGE))
            stack.enter_context(jupyter_config(who["no room"], NO_ROOM))
            trigger = stack.enter_context(eater(who["out of memory"]))
            begin(hub, chaos, who)
            jobs = {way: hub.job(name) for way, name in who.items() if WAYS[way].began}
            hub.slurm("scontrol", "update", f"JobId={jobs['time over']}", "EndTime=now+2")
            hub.slurm("scancel", str(jobs["cancelled"]))
            trigger.touch()
            node = chaos.node_of(jobs["node failed"])
            hub.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
            preempt(hub, chaos, jobs["preempted"], str(access["users"][PREEMPTOR]["name"]))
            for way, name in who.items():
                until(f"the hub's notice: {way}", lambda name=name: not hub.server(name), 120)
            chaos.repair()
            # All stays as it is meanwhile: a slurmctld that is restarted forgets whose doing a cancellation was.
            yield who
    finally:
        chaos.repair()
        for name in who.values():
            if hub.server(name):
                hub.stop(name)


def begin(hub: Hub, chaos: Chaos, who: Mapping[str, str]) -> None:
    """Start one session for each; the one that will be preempted has a node of its own."""
    hub.slurm("scontrol", "update", "NodeName=cpu1", "State=DRAIN", "Reason=test")
    hub.start(who["preempted"], WAYS["preempted"].options)
    until("a node for the job", lambda: chaos.job_state(hub.job(who["preempted"])) == "RUNNING")
    hub.slurm("scontrol", "update", "NodeName=cpu1", "State=RESUME")
    hub.slurm("scontrol", "update", "NodeName=cpu2", "State=DRAIN", "Reason=test")
    for way, name in who.items():
        if way != "preempted":
            assert hub.start(name, WAYS[way].options).status_code in (201, 202), way
    for way, name in who.items():
        if WAYS[way].began:
            hub.ready(name)
    hub.slurm("scontrol", "update", "NodeName=cpu2", "State=RESUME")


def preempt(hub: Hub, chaos: Chaos, job: int, preemptor: str) -> None:
    """Have a job of higher priority take the whole node of another."""
    urgent = hub.slurm(
        "sbatch", "--parsable", f"--uid={preemptor}", "-p", "cpu", "-w", chaos.node_of(job), "--exclusive",
        "-A", "fast-lane", "-q", "fast-lane", "--mem=100", "-t", "5", "-D", "/", "-o", "/dev/null", "--wrap", "sleep 60",
    ).strip()  # fmt: skip
    until("the preemption", lambda: chaos.job_state(job) == "PREEMPTED")
    hub.slurm("scancel", urgent)


def come(page: Page, access: Mapping[str, Any], way: str) -> str:
    """Log in as the one whose session was lost in this way, and come back to it."""
    # Not by the front door: who chooses anew has put the failure of a start behind them.
    name = log_in(page, access, NUMBERS[way], "hub/home")
    page.goto(f"{access['url']}{f'user/{name}/lab' if WAYS[way].began else f'hub/spawn-pending/{name}'}")
    expect(page.get_by_role("heading", name="Your notebook")).to_be_visible()
    return name


def next_thing(page: Page) -> Any:
    return page.locator("#studiolo-next")


@pytest.mark.parametrize("way", WAYS)
def test_its_owner_reads_what_happened_and_gets_one_next_thing_to_press(
    page: Page, access: Mapping[str, Any], hub: Hub, lost: Mapping[str, str], way: str
) -> None:
    name, expected = come(page, access, way), WAYS[way]
    expect(page.locator("h1")).to_have_text(f"Your notebook {'is not running' if expected.began else 'did not start'}")

    def told() -> bool:
        alert = page.get_by_role("alert").inner_text()
        if all(words in alert for words in expected.words):
            return True
        page.reload()  # accounting, which alone knows whose doing it was, may lag behind
        return False

    until(f"the words {expected.words}", told)
    expect(page.locator("main .btn-primary")).to_have_count(1)
    expect(next_thing(page)).to_have_text(expected.next)
    assert "Traceback" not in page.locator("main").inner_text() or not expected.began
    if expected.leads == ("#studiolo-room",):
        next_thing(page).click()
        expect(page.get_by_role("heading", name="How to make room")).to_be_in_viewport()
        expect(page.get_by_role("button", name="Start again")).to_be_visible()
    elif expected.leads:
        next_thing(page).click()
        expect(page.get_by_role("radio", name="Learn")).to_be_checked()
        assert all(part in page.url for part in expected.leads), page.url
        assert hub.jobs(name) == []


def test_the_log_is_shown_as_it_is_and_the_report_leaves_secrets_out(
    page: Page, access: Mapping[str, Any], lost: Mapping[str, str]
) -> None:
    come(page, access, "bad folder")
    expect(page.locator(".studiolo-log")).to_contain_text("no/such/<b>folder can not be opened")

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.context.clear_cookies()
    name = come(page, access, "hostile log")
    expect(page.locator(".studiolo-log")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked ?? 0") == 0
    page.get_by_role("button", name="Copy the report for the support").click()
    expect(page.locator("#studiolo-copied")).to_contain_text("Copied")
    report = page.evaluate("navigator.clipboard.readText()")
    assert "SESAME" not in report
    for words in (f"Person: {name}", "State: FAILED", "Node: cpu", "Request: profile=learn", "window.hacked"):
        assert words in report


def test_the_page_of_a_failure_works_with_the_keyboard_alone(
    page: Page, access: Mapping[str, Any], lost: Mapping[str, str]
) -> None:
    come(page, access, "bad folder")
    expect(next_thing(page)).to_be_visible()
    reached = set()
    for _n in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"studiolo-next", "studiolo-log"} <= reached


def test_start_again_starts_the_same_with_one_click(
    page: Page, access: Mapping[str, Any], hub: Hub, lost: Mapping[str, str]
) -> None:
    name = come(page, access, "cancelled")
    next_thing(page).click()
    page.wait_for_url("**/user/*/lab**")
    assert len(hub.jobs(name)) == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("hub/no/such/page", "No such page"),
        ("hub/admin", "That is not yours to open"),
        ("hub/spawn-pending/somebody-else", "No such page"),
    ],
)
def test_the_hubs_own_refusals_say_what_to_do(page: Page, access: Mapping[str, Any], path: str, words: str) -> None:
    log_in(page, access, FIRST)
    page.goto(f"{access['url']}{path}")
    expect(page.locator("h1")).to_have_text(words)
    assert "Traceback" not in page.locator("body").inner_text()
    expect(page.locator("main .btn-primary")).to_have_text(re.compile("[Hh]ome"))


def test_who_has_no_room_at_home_gets_in_to_make_some_and_is_told_when_saving(
    page: Page, access: Mapping[str, Any], hub: Hub, leftovers: list[str]
) -> None:
    name = log_in(page, access, ROOMLESS, "hub/home")
    leftovers.append(name)
    with full_home(name):
        hub.start(name, LEARN)
        hub.ready(name)
        page.goto(f"{access['url']}user/{name}/lab")
        expect(page.locator("#jupyterlab-splash")).to_have_count(0)
        page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
        expect(page.get_by_text("No space left on device").first).to_be_visible()
        hub.stop(name)
