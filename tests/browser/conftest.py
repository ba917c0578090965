"""A real browser, Debian's Chromium, on the running platform."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from chaos import Chaos
from hubclient import Hub
from playwright.sync_api import Browser, Page, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def hub(access: Mapping[str, Any], box: Any) -> Hub:
    """The running hub."""
    return Hub(access["url"], access["hub_api_token"], box.state, box.slurm_conf)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a sandbox of its own where tests run as root.

    Not for the whole run: while Playwright is there, no other test can run an event loop of its own.
    """
    expect.set_options(timeout=60_000)  # a kernel's start takes what it takes on a busy machine
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh window without cookies; its last sight is kept in test-results/ when STUDIOLO_SCREENSHOTS is set."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(60_000)
    window = context.new_page()
    yield window
    if folder := os.environ.get("STUDIOLO_SCREENSHOTS"):
        window.screenshot(path=str(Path(folder) / f"{request.node.name.replace('/', '_')}.png"))
    context.close()


@pytest.fixture
def leftovers(hub: Hub) -> Iterator[list[str]]:
    """Names of people whose server is stopped at the end of the test, should it still be there."""
    names: list[str] = []
    yield names
    for name in names:
        if hub.server(name):
            hub.stop(name)


@pytest.fixture
def chaos(hub: Hub, box: Any) -> Iterator[Chaos]:
    """What breaks parts of the platform; all run again afterwards."""
    breaker = Chaos(hub, box)
    yield breaker
    breaker.repair()
