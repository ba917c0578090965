"""A whole class starts in the same moment: nobody is refused, everybody waits with a job of their own."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hubclient import Hub, until


def test_a_class_that_starts_at_once_is_refused_nothing(hub: Hub, access: Mapping[str, Any]) -> None:
    learners = [user["name"] for user in access["users"] if user["role"] == "learner"]
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        with ThreadPoolExecutor(len(learners)) as pool:
            answers = list(pool.map(lambda name: hub.start(name, {"profile": "learn"}).status_code, learners))
            assert answers == [202] * len(learners)
            until("a job of everybody", lambda: all(hub.jobs(name) for name in learners))
            assert {len(hub.jobs(name)) for name in learners} == {1}
            list(pool.map(hub.stop, learners))
        assert [name for name in learners if hub.jobs(name)] == []
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
