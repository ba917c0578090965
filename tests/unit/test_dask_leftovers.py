"""What a killed notebook's clusters have left ends; a cluster whose notebook may live is never touched."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studiolo import dask_leftovers
from studiolo.dask_folder import ClusterFolder
from studiolo.dask_leftovers import end_leftovers, leftovers
from studiolo.dask_worker import HANDOVER, Handover
from studiolo.errors import SlurmUnavailable
from studiolo.slurm.states import Tagged

OWNER = "s1"
NODE = socket.gethostname()


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port of this host that nobody listens at, and nobody else is given."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def hangs() -> Iterator[int]:
    """A port that is open, and whose program does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _told(port: int, owner: str = OWNER, node: str = NODE) -> Handover:
    pulse = ("127.0.0.1", port)
    return Handover("tls://127.0.0.1:1", pulse, 60.0, "", "/tmp", "/", "python", (), 1, 1 << 30, 0, 0.0, owner, node)


def _clusters(root: Path, **told: Handover) -> None:
    for name, handover in told.items():
        ClusterFolder(str(root), name).open(handover, "KEY")


class Queue:
    """A person's jobs: of a dead notebook's cluster, of a living one's, of another session's, and one that is no worker."""

    def __init__(self) -> None:
        self.silent = False
        names = ("s1.deadbeef", "s1.deadbeef", "s1.11111111", "s2.deadbeef")
        self.jobs = [Tagged(number, "ada", "dask", name) for number, name in enumerate(names, 1)]
        self.jobs.append(Tagged(9, "ada", "run", "s1.deadbeef"))

    async def tagged(self) -> list[Tagged]:
        if self.silent:
            raise SlurmUnavailable("list jobs", "Socket timed out")
        return self.jobs


class At:
    """A desk."""

    owner = OWNER

    def __init__(self) -> None:
        self.queue = Queue()
        self.slurm = {"main": self.queue}
        self.cancelled: list[int] = []

    async def cancel(self, cluster: str, jobs: list[int]) -> None:
        assert cluster == "main"
        self.cancelled += jobs


def test_only_what_is_surely_over_is_left_over(tmp_path: Path, nobody: int, hangs: int) -> None:
    dead = _told(nobody)
    _clusters(
        tmp_path,
        deadbeef=dead,
        hanging=_told(hangs),
        another_session=replace(dead, owner="s2"),
        another_node=replace(dead, node="elsewhere"),
        from_before=replace(dead, owner="", node=""),
        unreachable=replace(dead, pulse=("no host has this name", 1)),
        broken=dead,
        closed=dead,
    )
    (tmp_path / "broken" / HANDOVER).write_text("{half")
    ClusterFolder(str(tmp_path), "closed").shut()
    (tmp_path / "a file").write_text("")
    assert leftovers(str(tmp_path), OWNER) == ["deadbeef"]
    assert leftovers(str(tmp_path / "none"), OWNER) == []


def test_a_dead_notebooks_waiting_workers_are_cancelled_and_its_key_goes(
    tmp_path: Path, nobody: int, hangs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_leftovers, "folders", lambda: str(tmp_path))
    _clusters(tmp_path, deadbeef=_told(nobody), **{"11111111": _told(hangs)})
    (tmp_path / "deadbeef" / "worker-0.log").write_text("it began")
    at: Any = At()
    at.queue.silent = True
    with pytest.raises(SlurmUnavailable):
        asyncio.run(end_leftovers(at))
    assert leftovers(str(tmp_path), OWNER) == ["deadbeef"], "nothing was cancelled: it is tried again"
    at.queue.silent = False
    assert asyncio.run(end_leftovers(at)) == at.cancelled == [1, 2]
    assert os.listdir(tmp_path / "deadbeef") == ["worker-0.log"]
    assert (tmp_path / "11111111" / HANDOVER).exists()
    at.slurm = {}
    assert asyncio.run(end_leftovers(at)) == []


def test_what_a_closed_cluster_could_not_cancel_is_cancelled_once_its_notebook_is_gone(
    tmp_path: Path, hangs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_leftovers, "folders", lambda: str(tmp_path))
    _clusters(tmp_path, deadbeef=_told(hangs), **{"11111111": _told(hangs)})
    ClusterFolder(str(tmp_path), "deadbeef").shut()
    at: Any = At()
    at.queue.jobs += [Tagged(20, "ada", "dask", "s1.22222222"), Tagged(21, "ada", "dask", "s1.../../etc")]
    assert asyncio.run(end_leftovers(at)) == []
    assert asyncio.run(end_leftovers(at, closed=True)) == at.cancelled == [1, 2, 20]
