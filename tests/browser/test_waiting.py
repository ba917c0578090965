"""The way of somebody who waits: what the page tells while the queue is long, shut or silent, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from chaos import Chaos
from hubclient import Hub, until
from pages import log_in
from playwright.sync_api import Browser, Page, expect

LEARN = {"profile": "learn"}
WAITER, OTHER = 20, 21
# Keeps what a page has notified of beyond its own end.
KEEP_NOTICES = """
const Real = window.Notification;
window.Notification = class extends Real {
  constructor(title, options) {
    super(title, options);
    sessionStorage.setItem("notices", `${sessionStorage.getItem("notices") ?? ""}${title}: ${options.body}\\n`);
  }
};
"""


@pytest.fixture
def chaos(hub: Hub, box: Any) -> Iterator[Chaos]:
    """What breaks a part of the platform; all is mended afterwards."""
    breaker = Chaos(hub, box)
    yield breaker
    breaker.repair()


@pytest.fixture
def waiting(page: Page, access: Mapping[str, Any], hub: Hub, leftovers: list[str]) -> Callable[..., str]:
    """Somebody logged in whose session waits, its page open."""

    def begin(number: int = WAITER, options: Mapping[str, Any] = LEARN) -> str:
        name = log_in(page, access, number)
        leftovers.append(name)
        assert hub.start(name, options).status_code == 202
        hub.job(name)
        page.goto(f"{access['url']}hub/spawn-pending/{name}")
        expect(page.get_by_role("heading", name="Your notebook is on its way")).to_be_visible()
        return name

    return begin


@contextmanager
def full(hub: Hub, box: Any, user: str, minutes: int) -> Iterator[list[str]]:
    """The part of the machine for CPU sessions taken by somebody for so long."""
    nodes = hub.slurm("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N").split()
    jobs = [
        hub.slurm(
            "sbatch", "--parsable", f"--uid={user}", "-p", "cpu", "-w", node, "--exclusive", "--mem=100", "-D", "/",
            "-t", str(minutes), "-o", "/dev/null", "--wrap", "sleep 3600",
        ).strip()
        for node in nodes
    ]  # fmt: skip
    try:
        until(
            "a full machine",
            lambda: set(hub.slurm("squeue", "-h", "-j", ",".join(jobs), "-o", "%T").split()) == {"RUNNING"},
        )
        yield jobs
    finally:
        hub.slurm("scancel", *jobs)


def state(page: Page) -> Any:
    return page.locator("#studiolo-state")


def test_a_long_queue_tells_place_reason_and_expected_start_and_opens_the_notebook_by_itself(
    page: Page, hub: Hub, box: Any, access: Mapping[str, Any], waiting: Callable[..., str]
) -> None:
    other = access["users"][OTHER]["name"]
    with full(hub, box, other, 30) as jobs:
        name = waiting()
        expect(state(page)).to_contain_text("(Slurm says: Resources)")
        expect(state(page)).to_contain_text("You are number 1 of 1 in the line.")
        expect(page).to_have_title("1st in line · " + title(page))
        expect(page.locator("[data-step=line]")).to_have_attribute("aria-current", "step")
        expect(page.locator("[data-step=line]")).to_contain_text(f"job {hub.job(name)}")
        expect(page.get_by_role("list", name="What you asked for")).to_contain_text("2 CPUs")
        expect(page.locator("#studiolo-expected")).to_contain_text("Expected start:")
        for job in jobs:
            hub.slurm("scontrol", "update", f"JobId={job}", "TimeLimit=300")
        expect(page.locator("#studiolo-expected")).to_contain_text(", was ", timeout=120_000)
    page.wait_for_url("**/user/*/lab**")


def title(page: Page) -> str:
    """The name of the service, as its pages end their titles."""
    return str(page.title()).rpartition(" · ")[2]


def test_a_shut_part_of_the_machine_is_told_and_the_start_can_be_cancelled_with_the_keyboard_alone(
    page: Page, hub: Hub, chaos: Chaos, waiting: Callable[..., str]
) -> None:
    with chaos.closed():
        name = waiting()
        expect(state(page)).to_contain_text(
            "This part of the machine is closed at the moment. (Slurm says: PartitionDown)"
        )
        page.locator("body").press("Tab")
        for _n in range(20):
            if page.evaluate("document.activeElement.id") == "studiolo-cancel":
                break
            page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Cancel the start")).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url("**/hub/home")
        until("the end of the job", lambda: hub.jobs(name) == [])
        until("the end of the start", lambda: not hub.server(name))


def test_leaving_coming_back_and_a_restart_of_the_hub_lose_nothing(
    page: Page, hub: Hub, access: Mapping[str, Any], chaos: Chaos, waiting: Callable[..., str]
) -> None:
    with chaos.closed():
        name = waiting()
        job = hub.job(name)
        page.goto(f"{access['url']}hub/home")
        page.go_back()
        expect(state(page)).to_contain_text("PartitionDown")
        chaos.boss.stop("hub")
        expect(page.locator("#studiolo-calm")).to_contain_text("Nothing is lost")
        chaos.boss.start("hub")
        chaos.await_hub()
        expect(state(page)).to_contain_text("PartitionDown")
        expect(page.locator("#studiolo-calm")).to_be_empty()
        assert hub.job(name) == job
        expect(page.locator("[data-step=line]")).to_contain_text(f"job {job}")
    page.wait_for_url("**/user/*/lab**")


def test_a_silent_scheduler_is_told_calmly_and_what_was_known_stays(
    page: Page, chaos: Chaos, waiting: Callable[..., str]
) -> None:
    with chaos.closed():
        waiting()
        expect(state(page)).to_contain_text("PartitionDown")
        with chaos.stopped("slurmctld"):
            expect(page.locator("#studiolo-calm")).to_contain_text(
                "The machine's scheduler does not answer at the moment."
            )
            expect(state(page)).to_contain_text("PartitionDown")
            page.reload()
            expect(page.locator("#studiolo-calm")).to_contain_text(
                "The machine's scheduler does not answer at the moment."
            )
            expect(state(page)).to_contain_text("PartitionDown")
        expect(page.locator("#studiolo-calm")).to_be_empty(timeout=90_000)


def test_with_consent_a_notification_tells_that_it_is_ready(
    page: Page, hub: Hub, chaos: Chaos, waiting: Callable[..., str]
) -> None:
    page.context.grant_permissions(["notifications"])
    page.add_init_script(KEEP_NOTICES)
    with chaos.closed():
        waiting()
        button = page.get_by_role("button", name="Tell me when it is ready")
        expect(button).to_have_attribute("aria-pressed", "false")  # allowed by the browser is not yet asked for
        button.click()
        expect(page.get_by_role("button", name="You will be told when it is ready")).to_have_attribute(
            "aria-pressed", "true"
        )
    page.wait_for_url("**/user/*/lab**")
    assert "Your notebook is ready." in page.evaluate("sessionStorage.getItem('notices') ?? ''")


def test_without_consent_nothing_is_asked_and_nothing_notified(
    page: Page, chaos: Chaos, waiting: Callable[..., str]
) -> None:
    page.add_init_script(
        "window.Notification.requestPermission = async () => { window.asked = true; return 'denied'; };"
    )
    with chaos.closed():
        waiting()
        expect(state(page)).to_contain_text("PartitionDown")
        assert page.evaluate("window.asked ?? false") is False
        page.get_by_role("button", name="Tell me when it is ready").click()
        expect(page.locator("#studiolo-notify-note")).to_contain_text("Your browser does not allow notifications")
        expect(page.get_by_role("button", name="Tell me when it is ready")).to_have_attribute("aria-pressed", "false")


def test_without_scripts_the_page_tells_the_same(
    browser: Browser, hub: Hub, access: Mapping[str, Any], chaos: Chaos, leftovers: list[str]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    with chaos.closed():
        name = log_in(page, access, WAITER)
        leftovers.append(name)
        hub.start(name, LEARN)
        until("a reason", lambda: "PartitionDown" in hub.slurm("squeue", "-h", "-u", name, "-o", "%r"))
        page.goto(f"{access['url']}hub/spawn-pending/{name}")
        expect(state(page)).to_contain_text("PartitionDown")
        expect(page.get_by_role("button", name="Cancel the start")).to_have_count(0)
    context.close()
