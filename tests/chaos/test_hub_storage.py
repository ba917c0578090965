"""The hub can not write what it has to remember: its database is locked, its disk is full."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from chaos import Chaos, fill, small_disk, visitor
from hubclient import Hub, until

LEARN = {"profile": "learn"}
SQLITE_GIVES_UP_SECONDS = 5  # by itself


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """A database that somebody else is writing, a backup say."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            writer.execute("ROLLBACK")


def test_a_locked_database_is_waited_for(hub: Hub, chaos: Chaos, ada: str) -> None:
    """Locked from before the job's number is known until long after SQLite would give up."""
    with chaos.mute("slurmctld"):
        hub.start(ada, LEARN)
        until("sbatch", lambda: any("sbatch" in line for line in hub.processes(ada)))
        lock = locked(chaos.database)
        lock.__enter__()
    try:
        job = hub.job(ada)
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{hub.url}hub/api/", timeout=SQLITE_GIVES_UP_SECONDS + 3)
    finally:
        lock.__exit__(None, None, None)
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert httpx.get(f"{hub.url}user/{ada}/api", timeout=10).status_code == 200
    hub.stop(ada)
    chaos.no_trace(ada, job)


@pytest.fixture
def cramped(chaos: Chaos, tmp_path: Path) -> Iterator[Path]:
    """The hub at work on a disk of a few megabytes; the path of the file that fills it, where a test makes it."""
    folder = chaos.database.parent
    with chaos.stopped("hub"):
        copied = tmp_path / "hub"
        subprocess.run(["cp", "-a", str(folder), str(copied)], check=True)
        disk = small_disk(folder, 8 * 1024 * 1024)
        disk.__enter__()
        subprocess.run(["cp", "-a", f"{copied}/.", str(folder)], check=True)
        shutil.rmtree(copied)
    ballast = folder / "ballast"
    try:
        yield ballast
    finally:
        ballast.unlink(missing_ok=True)
        chaos.forget()
        with chaos.stopped("hub"):
            subprocess.run(["cp", "-a", str(folder), str(copied)], check=True)
            disk.__exit__(None, None, None)
            subprocess.run(["cp", "-a", f"{copied}/.", str(folder)], check=True)


def test_a_full_disk(hub: Hub, chaos: Chaos, cramped: Path, ada: str, ben: str, access: Mapping[str, Any]) -> None:
    """Sessions that run go on; who wants a new one, or is just getting one, is told; all is well once there is room."""
    hub.start(ben, LEARN)
    hub.ready(ben)
    running = hub.job(ben)
    with visitor(hub, access, ada):
        fill(cramped)
        refused = hub.start(ada, LEARN)
        assert refused.status_code == 503
        assert "disk" in refused.text
        assert "support" in refused.text
        assert hub.jobs(ada) == []
        assert httpx.get(f"{hub.url}user/{ben}/api", timeout=10).status_code == 200
        cramped.unlink()

        with chaos.mute("slurmctld"):
            assert hub.start(ada, LEARN).status_code in (201, 202)
            until("sbatch", lambda: any("sbatch" in line for line in hub.processes(ada)))
            fill(cramped)
        until("the end of the job that nobody could write down", lambda: hub.jobs(ada) == [])
        assert httpx.get(f"{hub.url}user/{ben}/api", timeout=10).status_code == 200
        cramped.unlink()

    assert hub.server(ben)["ready"]
    assert hub.jobs(ben) == [running]
    until("a hub that has tidied up", lambda: not hub.server(ada))
    assert hub.start(ada, LEARN).status_code in (201, 202)
    hub.ready(ada)
    job = hub.job(ada)
    for name in (ada, ben):
        hub.stop(name)
    chaos.no_trace(ada, job)
    chaos.no_trace(ben, running)
