"""The spawner's decisions that need no hub."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from spawners.server import StudioloSpawner
from studiolo.slurm.states import Tagged


@pytest.mark.parametrize(
    ("tagged", "mine"),
    [
        (Tagged(7, "ada", "session", "s1"), True),
        (Tagged(8, "mallory", "session", "s1"), False),  # a comment copied from the queue
        (Tagged(9, "ada", "session", "s2"), False),
        (Tagged(10, "ada", "worker", "s1"), False),
    ],
)
def test_a_cut_off_start_takes_up_its_own_job_and_never_somebody_elses_with_its_comment(
    tagged: Tagged, mine: bool
) -> None:
    spawner: Any = SimpleNamespace(user=SimpleNamespace(name="ada"), session_id="s1")
    assert StudioloSpawner._is_mine(spawner, tagged) is mine
