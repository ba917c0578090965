"""Every page for everybody: axe finds nothing, the keyboard reaches everything, in light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from axe import looks, overflow, unreachable, violations
from hubclient import Hub
from playwright.sync_api import Page
from scenes import SCENES, scene

VISITOR = 8


@pytest.mark.parametrize("title", SCENES)
def test_a_page_can_be_read_and_used_by_everybody(page: Page, access: Mapping[str, Any], hub: Hub, title: str) -> None:
    with scene(title, page, access, hub, VISITOR):
        for look in looks(page):
            assert (look, violations(page)) == (look, [])
            assert (look, overflow(page)) == (look, 0)
            assert (look, unreachable(page)) == (look, [])
