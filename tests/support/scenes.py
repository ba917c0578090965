"""The pages of a session, one after the other, as a person comes to them: for tests of all pages, and for their pictures.

A scene is a page; a stage is what the platform has to be like for it, made once for all the scenes on it, whoever looks
and in whatever language. Whatever the language: everything is found by its id.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from hubclient import Hub, until
from playwright.sync_api import Page, expect

__all__ = ["SCENES", "Scene", "Stage", "dask", "lab", "session", "stop"]

NO_FOLDER = "no/such/folder"
Access = Mapping[str, Any]
Come = Callable[[Page, Access, str], None]
Stage = Callable[[Hub, str], AbstractContextManager[None]]


# --- Nothing runs ------------------------------------------------------------------------------------------------------


def logging_in(page: Page, access: Access, _name: str) -> None:
    """The page for logging in."""
    page.goto(f"{access['url']}hub/login")
    expect(page.locator("#username_input")).to_be_visible()


def wrong_password(page: Page, access: Access, name: str) -> None:
    """The same after a wrong password."""
    logging_in(page, access, name)
    page.locator("#username_input").fill("somebody")
    page.locator("#password_input").fill("something")
    page.locator("#login_submit").click()
    expect(page.locator("#login-error")).to_be_visible()


def logged_out(page: Page, access: Access, _name: str) -> None:
    """What somebody reads who has logged out."""
    page.goto(f"{access['url']}hub/logout")
    expect(page.locator("#logout-main")).to_be_visible()


def start_page(page: Page, access: Access, name: str) -> None:
    """The start page, with the scheduler's word on each card."""
    page.goto(f"{access['url']}hub/spawn/{name}")
    expect(page.locator(".studiolo-card .studiolo-starts").first).not_to_be_empty()


def knobs(page: Page, access: Access, name: str) -> None:
    """The start page, all knobs open."""
    start_page(page, access, name)
    more = page.locator(".studiolo-more")
    if more.get_attribute("open") is None:
        more.locator("summary").first.click()


def home(page: Page, access: Access, _name: str) -> None:
    """The home page."""
    page.goto(f"{access['url']}hub/home")
    expect(page.locator("h1")).to_have_count(1)


def refused(page: Page, access: Access, name: str) -> None:
    """A request that can not be granted."""
    knobs(page, access, name)
    page.locator("#studiolo-cpus").fill("999")
    submit(page)
    expect(page.get_by_role("alert").first).to_be_visible()


def no_page(page: Page, access: Access, name: str) -> None:
    """An address where nothing is."""
    page.goto(f"{access['url']}hub/{name}/nothing")
    expect(page.locator("h1")).to_be_visible()


def tokens(page: Page, access: Access, _name: str) -> None:
    """The page with tokens for scripts, one of them the person's own."""
    page.goto(f"{access['url']}hub/token")
    if page.get_by_text("nightly").count() == 0:
        page.locator("#token-note").fill("nightly")
        page.locator("#request-token-form button[type=submit]").click()
        expect(page.locator("#token-result")).not_to_be_empty()
        page.reload()
    expect(page.locator("#api-tokens-table")).to_contain_text("nightly")


def submit(page: Page) -> None:
    """Press what starts a session with what is filled in. Not the mouse: the browser's own check is not the matter."""
    page.locator("#spawn_form").evaluate("form => { form.noValidate = true; }")
    page.locator("#spawn_form button[type=submit]").click()


def calm(_hub: Hub, _name: str) -> AbstractContextManager[None]:
    """Nothing of theirs runs."""
    return nullcontext()


# --- A start -----------------------------------------------------------------------------------------------------------


@contextmanager
def shut(hub: Hub, name: str) -> Iterator[None]:
    """A start that waits, as its part of the machine is closed; cancelled afterwards."""
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(name, {"profile": "learn"})
        hub.job(name)
        yield
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
        stop(hub, name)


def waiting(page: Page, access: Access, name: str) -> None:
    """The page of a start on its way."""
    page.goto(f"{access['url']}hub/spawn-pending/{name}")
    expect(page.get_by_text("PartitionDown").first).to_be_visible()


@contextmanager
def without_its_folder(hub: Hub, name: str) -> Iterator[None]:
    """A start that has failed: its folder is not there."""
    hub.start(name, {"profile": "learn", "workdir": NO_FOLDER})
    until("the end of the start", lambda: not hub.server(name))
    try:
        yield
    finally:
        stop(hub, name)


def failed(page: Page, access: Access, name: str) -> None:
    """Why it has failed."""
    page.goto(f"{access['url']}hub/spawn-pending/{name}")
    expect(page.locator(".studiolo-log")).to_contain_text(NO_FOLDER)


# --- A session ---------------------------------------------------------------------------------------------------------


@contextmanager
def session(hub: Hub, name: str, minutes: int = 120) -> Iterator[None]:
    """A session that runs."""
    hub.start(name, {"profile": "learn", "minutes": minutes})
    try:
        hub.ready(name)
        yield
    finally:
        stop(hub, name)


def running(page: Page, access: Access, name: str) -> None:
    """The home page while it runs."""
    home(page, access, name)
    expect(page.locator("article[data-state=ready]")).to_be_visible()


def lab(page: Page, access: Access, name: str) -> None:
    """A new notebook in JupyterLab."""
    page.goto(f"{access['url']}user/{name}/lab?reset")  # whatever an earlier visit left open
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.wait_for()


CLUSTER = """import time, studiolo
from dask.distributed import Client
cluster = studiolo.cluster(workers=2, cpus=1, memory="1G")
client = Client(cluster)
def clean(x): time.sleep(0.1 + x % 5 / 10)
def fit(_, x): time.sleep(0.4 + x % 3 / 3)
def score(_): time.sleep(0.2)
work = [client.submit(score, client.submit(fit, client.submit(clean, x), x)) for x in range(300)]
cluster.wait_for_workers(2)
print(cluster.view().words)"""


def dask(page: Page, access: Access, name: str, pane: str) -> None:
    """One of the panes of Dask's sidebar in JupyterLab, which has found the cluster of the open notebook."""
    lab(page, access, name)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.insert_text(CLUSTER)
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_contain_text("2 of 2 workers run")
    page.locator(".jp-SideBar [data-id=dask-dashboard-launcher]").click()
    page.get_by_role("button", name="Auto-detect dashboard URL").click()
    page.get_by_role("button", name=pane, exact=True).click()


@contextmanager
def reluctant(hub: Hub, name: str) -> Iterator[None]:
    """A session that is being stopped and takes its time: its processes do not hear of it for as long as the stage stands."""
    with session(hub, name):
        job = hub.job(name)
        daemon = _slurmd(hub, job)
        os.kill(daemon, signal.SIGSTOP)
        try:
            with suppress(httpx.ReadTimeout):  # the hub would answer when it is over
                hub.call("DELETE", f"users/{name}/server", timeout=1)
            until("the stop", lambda: hub.server(name).get("pending") == "stop")
            yield
        finally:
            os.kill(daemon, signal.SIGCONT)
            until("its end", lambda: not hub.server(name))


def _slurmd(hub: Hub, job: int) -> int:
    """The daemon of the node that a job runs on: it is what ends a job's processes."""
    node = hub.slurm("squeue", "-h", "-j", str(job), "-o", "%N").strip()
    return int((hub.state / "slurm" / "run" / f"slurmd-{node}.pid").read_text())


def stopping(page: Page, access: Access, name: str) -> None:
    """Where somebody comes who opens it meanwhile."""
    page.goto(f"{access['url']}hub/spawn-pending/{name}")
    expect(page.locator("[data-again=stopping] .btn-primary")).to_have_attribute(
        "href", "/hub/home"
    )  # no way in circles


@contextmanager
def taken_away(hub: Hub, name: str) -> Iterator[None]:
    """A session that an operator has cancelled, once accounting knows so."""
    with session(hub, name):
        job = str(hub.job(name))
        hub.slurm("scancel", job)
        until("the hub's notice", lambda: not hub.server(name))
        until("its end in accounting", lambda: "CANCELLED" in hub.slurm("sacct", "-Xnj", job, "-o", "State"))
        yield


def ended(page: Page, access: Access, name: str) -> None:
    """What has become of it."""
    page.goto(f"{access['url']}user/{name}/lab")
    expect(page.locator(".studiolo-slurm")).to_contain_text("CANCELLED")


def right_size(page: Page, access: Access, name: str) -> None:
    """The home page after it: what was asked for, and what was used."""
    home(page, access, name)
    expect(page.locator("#studiolo-rightsize")).to_be_visible()


@dataclass(frozen=True)
class Scene:
    """A page: how one comes to it, and on what stage. A ``stranger`` has not logged in."""

    come: Come
    stage: Stage = calm
    stranger: bool = False


SCENES: Mapping[str, Scene] = {
    "login": Scene(logging_in, stranger=True),
    "wrong": Scene(wrong_password, stranger=True),
    "logout": Scene(logged_out, stranger=True),
    "start": Scene(start_page),
    "knobs": Scene(knobs),
    "home": Scene(home),
    "refused": Scene(refused),
    "tokens": Scene(tokens),
    "404": Scene(no_page),
    "waiting": Scene(waiting, shut),
    "failed": Scene(failed, without_its_folder),
    "running": Scene(running, session),
    "stopping": Scene(stopping, reluctant),
    "ended": Scene(ended, taken_away),
    "rightsize": Scene(right_size, taken_away),
}
"""By their titles, those of one stage side by side."""


def stop(hub: Hub, name: str) -> None:
    """Whatever there is of the person's session, end it."""
    if hub.server(name):
        hub.stop(name)
    until("the end of the job", lambda: hub.jobs(name) == [])
