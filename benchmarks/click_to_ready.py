"""One person clicks and waits for JupyterLab: ours, stock and the floor in turn, run by run, so that noise hits all alike.

Ready is the first answer of ``/lab`` through the proxy. The floor is what no spawner can beat: an empty batch job's
start, and a bare ``jupyter-labhub`` from the beginning of its process until it listens.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import phases
import stock
from ground import Ground, person_argv, until
from hubs import Hub
from job_start import Shell
from linux import processes_of
from playwright.async_api import Browser, async_playwright
from results import Row, row, said

from slurmbox import accounts

PARTITION, CPUS, MEMORY, TIME = "cpu", 2, "4G", "2:00:00"
OURS: Mapping[str, Any] = {"profile": "learn"}  # the same resources, of the embedded cluster's site file
SHELL = "#jp-main-dock-panel"
CHROMIUM = "/usr/bin/chromium"
BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure ``runs`` rounds after one that is not counted."""
    resources = stock.Resources(PARTITION, CPUS, MEMORY, TIME)
    with stock.running(ground, resources.settings()) as theirs:
        stock.add_people(theirs, [ground.researcher])
        return asyncio.run(_measure(ground, ground.hub(), theirs, runs))


async def _measure(ground: Ground, ours: Hub, theirs: Hub, runs: int) -> list[Row]:
    sides: Mapping[str, list[phases.Moments]] = {"ours": [], "stock": []}
    floors: list[dict[str, float]] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER)
        for number in range(runs + 1):
            turn: list[Callable[[], Any]] = [
                lambda: one_start(ground, ours, OURS, browser),
                lambda: one_start(ground, theirs, {}, browser),
                lambda: floor(ground),
            ]
            at = number % len(turn)
            for act in turn[at:] + turn[:at]:
                found = await act()
                if number == 0:
                    continue  # the first start fills caches and the person's home
                if isinstance(found, dict):
                    floors.append(found)
                    print(said("floor", found), flush=True)
                else:
                    sides[found[0]].append(found[1])
                    print(said(found[0], phases.durations(found[1])), flush=True)
        await browser.close()
    return table(sides["ours"], sides["stock"], floors)


def table(
    ours: Sequence[phases.Moments], theirs: Sequence[phases.Moments], floors: Sequence[Mapping[str, float]]
) -> list[Row]:
    """The row of the whole way, then one for each phase."""
    found = [
        row(
            "click-to-ready",
            "s",
            [run.answer - run.click for run in ours],
            [run.answer - run.click for run in theirs],
            [run["scheduling"] + run["server"] for run in floors],
        )
    ]
    per_run = [[phases.durations(run) for run in side] for side in (ours, theirs)]
    for name in phases.PHASES:
        ours_of, stock_of = ([run[name] for run in side] for side in per_run)
        found.append(
            row(f"  phase-{name}".strip(), "s", ours_of, stock_of, [run[name] for run in floors if name in run])
        )
    server = [[_server(run) for run in side] for side in (ours, theirs)]
    found.append(row("process-to-listening", "s", server[0], server[1], [run["server"] for run in floors]))
    return found


def _server(run: phases.Moments) -> float | None:
    begun = run.process or run.scheduling
    return None if begun is None or run.setup is None else run.setup - begun


async def one_start(
    ground: Ground, hub: Hub, options: Mapping[str, Any], browser: Browser
) -> tuple[str, phases.Moments]:
    """Start one session, read what it has left, look at it, stop it."""
    person = ground.researcher
    token = hub.token_of(person)
    began_at = hub.log.stat().st_size
    async with hub.client(token) as client:
        times = await hub.click_to_answer(client, person, options)
        processes = [(process.command, process.began) for process in processes_of(accounts.ids(person)[0])]
        server_log = _server_log(ground, hub, person)
        painted = await paint(browser, f"{hub.url}user/{person}/lab", token)
        hub_log = _since(hub.log, began_at)
        await hub.stop_all({person: client})
    ground.await_quiet()
    found = phases.moments(
        person=person, times=times, hub_log=hub_log, server_log=server_log, processes=processes, paint=painted
    )
    return hub.name, found


async def paint(browser: Browser, url: str, token: str) -> float:
    """Seconds from opening a page in a window without cookies or cache until JupyterLab's shell stands there."""
    context = await browser.new_context(extra_http_headers={"Authorization": f"token {token}"})
    context.set_default_timeout(120_000)
    try:
        page = await context.new_page()
        begun = time.perf_counter()
        await page.goto(url, wait_until="commit")
        await page.wait_for_selector(SHELL, state="visible")
        return time.perf_counter() - begun
    finally:
        await context.close()


def _server_log(ground: Ground, hub: Hub, person: str) -> str:
    """What the server has written: ours in the site's folder, stock's in the person's home. The latest of this person."""
    uid = accounts.ids(person)[0]
    folder, pattern = (
        (ground.box.state / "logs" / "sessions", "*.log")
        if hub.name == "ours"
        else (ground.box.homes / person, "jupyterhub_slurmspawner_*.log")
    )
    files = [file for file in folder.glob(pattern) if file.stat().st_uid == uid]
    latest = max(files, key=lambda file: file.stat().st_mtime_ns)
    return latest.read_text(encoding="utf-8", errors="replace")


def _since(log: Path, offset: int) -> str:
    """What a log has got since it was ``offset`` bytes long."""
    with log.open("rb") as words:
        words.seek(offset)
        return words.read().decode("utf-8", errors="replace")


# -- the floor ----------------------------------------------------------------------------------------


async def floor(ground: Ground) -> dict[str, float]:
    """Seconds of an empty job's start and of a bare ``jupyter-labhub``."""
    ground.await_quiet()
    scheduling = Shell(ground.box).batch()
    ground.await_quiet()
    return {"scheduling": scheduling, "server": labhub(ground)}


def labhub(ground: Ground) -> float:
    """Seconds from the beginning of a ``jupyter-labhub`` with its defaults until it takes connections."""
    person = ground.researcher
    port = stock.free_ports(1)[0]
    hub = ground.hub()
    program = ground.python.parent / "jupyter-labhub"
    environment = {
        "PATH": f"{ground.python.parent}:/usr/bin:/bin",
        "HOME": str(ground.box.homes / person),
        "JUPYTERHUB_API_TOKEN": secrets.token_hex(16),  # good for nothing: asking the hub's version needs none
        "JUPYTERHUB_API_URL": f"{hub.url}hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": f"jupyterhub-user-{person}",
        "JUPYTERHUB_SERVICE_PREFIX": f"/user/{person}/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/user/{person}/",
        "JUPYTERHUB_USER": person,
        "JUPYTERHUB_DEFAULT_URL": "/lab",
    }
    log = ground.box.homes / person / ".bench-labhub.log"
    with _started(person_argv(person, [str(ground.python), "-I", str(program)]), environment, log) as process:
        begun = time.perf_counter()
        until("jupyter-labhub", lambda: _answers(port, process), pause=0.01)
        return time.perf_counter() - begun


@contextmanager
def _started(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as words:
        process = subprocess.Popen(
            argv, env=dict(environment), cwd=log.parent, stdin=subprocess.DEVNULL, stdout=words,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.unlink(missing_ok=True)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise RuntimeError("jupyter-labhub ended before it listened")
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
