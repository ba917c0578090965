"""A hub without room on its disk starts nothing, and says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from spawners import room
from spawners.failure import SessionFailed
from studiolo.site import Site


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``free(bytes)``: what the disk with the hub's files has left for others than root."""

    def left(size: int) -> None:
        monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=size // 512, f_frsize=512))

    return left


def test_a_full_disk_refuses_with_the_operators_move(site: Site, free: Callable[[int], None]) -> None:
    free(room.NEEDED_BYTES - 512)
    with pytest.raises(SessionFailed, match="disk") as refused:
        room.must_have_room(site)
    assert refused.value.status_code == 503


def test_little_room_is_enough(site: Site, free: Callable[[int], None]) -> None:
    free(room.NEEDED_BYTES)
    room.must_have_room(site)


def test_a_database_elsewhere_does_not_mind_this_disk(site: Site, free: Callable[[int], None]) -> None:
    free(0)
    hub = site.hub.model_copy(update={"database": "postgresql://db.example.org/studiolo"})
    room.must_have_room(site.model_copy(update={"hub": hub}))
