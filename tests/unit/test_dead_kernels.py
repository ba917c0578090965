"""A session's server sees a kernel die, and ends what its Dask clusters have left; it waits for nothing meanwhile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spawners import dead_kernels
from spawners.dead_kernels import DeadKernels, end_clusters, lives, processes
from studiolo.errors import OutsideSession, SlurmUnavailable


class Server:
    """One with these kernels; ``errors`` is what ending their clusters raises, in this order."""

    def __init__(self, *kernels: int) -> None:
        self.kernels = set(kernels)
        self.errors: list[Exception] = []
        self.ended = 0
        self.watch = DeadKernels(lambda: set(self.kernels), self.end)

    def end(self) -> list[int]:
        assert threading.current_thread() is not threading.main_thread(), "the server's loop stands still meanwhile"
        self.ended += 1
        if self.errors:
            raise self.errors.pop(0)
        return [7]

    def look(self, *kernels: int) -> int:
        """How often clusters were ended, after these kernels are there."""
        self.kernels = set(kernels)
        asyncio.run(self.watch.look())
        return self.ended


def test_clusters_are_looked_at_when_a_kernel_has_died_and_only_then() -> None:
    server = Server()
    assert server.look(1) == 0
    assert server.look(1, 2) == 0
    assert server.look(1, 3) == 1, "killed, and started again"
    assert server.look(1, 3) == 1
    assert server.look() == 2
    assert server.look() == 2


def test_what_a_silent_slurm_could_not_be_told_it_is_told_later() -> None:
    server = Server()
    server.look(1)
    server.errors = [SlurmUnavailable("list jobs", "Socket timed out")] * 2
    assert server.look() == 1
    first = server.watch.pause
    assert server.look() == 2
    assert server.watch.pause > first > 0
    assert server.look() == 3
    assert server.watch.pause == 0
    assert server.look() == 3


def test_what_can_never_be_done_is_not_tried_again() -> None:
    server = Server()
    server.look(1)
    server.errors = [OutsideSession()]
    assert server.look() == 1
    assert server.look() == 1


def test_a_process_that_has_ended_does_not_live_though_nobody_has_asked_after_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(process.pid)
    process.wait()
    assert not lives(process.pid)
    assert lives(os.getpid())


def test_kernels_of_other_kinds_and_those_that_just_begin_have_no_process() -> None:
    kernels: dict[str, Any] = {
        "mine": SimpleNamespace(provisioner=SimpleNamespace(pid=os.getpid())),
        "begins": SimpleNamespace(provisioner=None),
        "far": SimpleNamespace(provisioner=SimpleNamespace()),
    }
    manager = SimpleNamespace(list_kernel_ids=lambda: list(kernels), get_kernel=kernels.__getitem__)
    assert processes(manager) == {os.getpid()}


def test_who_never_had_a_cluster_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_kernels, "folders", lambda: str(tmp_path / "none"))
    assert end_clusters() == []
