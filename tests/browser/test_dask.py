"""Dask's sidebar in JupyterLab: it finds the notebook's cluster by itself, and its panes are drawn through the hub's proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubclient import Hub
from pages import log_in
from playwright.sync_api import Page, expect
from scenes import dask, session

PERSON = 10


def test_the_sidebar_finds_the_cluster_and_a_pane_shows_its_workers(
    page: Page, access: Mapping[str, Any], hub: Hub
) -> None:
    name = log_in(page, access, PERSON)
    with session(hub, name):
        dask(page, access, name, "Workers")
        pane = page.frame_locator("iframe[src*='individual-workers']")
        for worker in ("worker-0", "worker-1"):
            expect(pane.get_by_text(worker, exact=True).first).to_be_visible()
