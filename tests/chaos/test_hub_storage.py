"""The hub can not write what it has to remember: its database is locked, its disk is full."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from chaos import Chaos, fill, small_disk
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
    with ExitStack() as lock:
        with chaos.mute("slurmctld"):
            hub.start(ada, LEARN)
            chaos.await_submission(ada)
            lock.enter_context(locked(chaos.database))
        job = hub.job(ada)
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{hub.url}hub/api/", timeout=SQLITE_GIVES_UP_SECONDS + 3)
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert httpx.get(f"{hub.url}user/{ada}/api", timeout=10).status_code == 200
    hub.stop(ada)
    chaos.no_trace(ada, job)


@pytest.fixture(scope="module")
def cramped(hub: Hub, box: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the hub's own files on a disk of a few megabytes."""
    chaos = Chaos(hub, box)
    folder = chaos.database.parent
    moved = tmp_path_factory.mktemp("hub")
    with ExitStack() as disk:
        with chaos.stopped("hub"):
            put_back(folder, moved)
            disk.enter_context(small_disk(folder, 8 * 1024 * 1024))
            put_back(moved, folder)
        try:
            yield folder
        finally:
            with chaos.stopped("hub"):
                put_back(folder, moved)
                disk.close()
                put_back(moved, folder)


@pytest.fixture
def ballast(cramped: Path, chaos: Chaos) -> Iterator[Path]:
    """The file that fills the hub's disk, where a test makes it."""
    file = cramped / "ballast"
    yield file
    file.unlink(missing_ok=True)
    chaos.await_hub()


def cram(chaos: Chaos, ballast: Path) -> None:
    """Fill the hub's disk, and leave it no room within the database's own log either."""
    with closing(sqlite3.connect(chaos.database, timeout=30)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fill(ballast)


def put_back(source: Path, target: Path) -> None:
    """Copy the content of a folder, with owners and modes."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def test_a_full_disk_refuses_a_start_in_words(hub: Hub, chaos: Chaos, ballast: Path, ada: str, ben: str) -> None:
    """Sessions that run go on."""
    hub.start(ben, LEARN)
    hub.ready(ben)
    running = hub.job(ben)
    cram(chaos, ballast)
    refused = hub.start(ada, LEARN)
    assert refused.status_code == 503
    for words in ("can not write down", "Nothing was started", "Tell the support", "disk"):
        assert words in refused.text
    assert hub.jobs(ada) == []
    assert httpx.get(f"{hub.url}user/{ben}/api", timeout=10).status_code == 200
    ballast.unlink()
    until("a hub that answers", lambda: hub.call("GET", f"users/{ben}").status_code == 200)
    assert hub.server(ben)["ready"]
    assert hub.jobs(ben) == [running]
    hub.stop(ben)
    chaos.no_trace(ben, running)


def test_a_disk_that_fills_up_as_sessions_begin_and_end(
    hub: Hub, chaos: Chaos, ballast: Path, ada: str, ben: str
) -> None:
    """The job that nobody could write down is ended, its owner told; all is tidied up once there is room."""
    hub.start(ben, LEARN)
    hub.ready(ben)
    ended = hub.job(ben)
    log = chaos.logged("hub")
    with chaos.mute("slurmctld"):
        assert hub.start(ada, LEARN).status_code in (201, 202)
        chaos.await_submission(ada)
        cram(chaos, ballast)
    until("the end of the job that nobody could write down", lambda: hub.jobs(ada) == [])
    hub.slurm("scancel", str(ended))
    until("vain tries to tidy up", lambda: log.text().count("the hub could not write down its end") >= 2)
    ballast.unlink()
    for name, job in ((ada, None), (ben, ended)):
        until("the end of the session", lambda name=name: hub.call("GET", f"users/{name}").json().get("servers") == {})
        chaos.no_trace(name, *([job] if job else []))
    told = hub.events(ada)[-1]
    assert told["failed"]
    assert "can not write down" in told["message"]
    assert hub.start(ada, LEARN).status_code in (201, 202)
    hub.ready(ada)
    job = hub.job(ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)
