"""The hub on a real PostgreSQL: sessions start and survive restarts of the hub and of the database."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hubclient import Hub, until
from postgres import Cluster
from reconfigured import reconfigured, restart

from slurmbox import box as slurmbox
from studiolo.doctor import ask_database, database_findings
from studiolo.site import load

ONE_BACK = """
import subprocess, sys
from hub_config.database import address
from jupyterhub.dbutil import _temp_alembic_ini
from studiolo.site import load
url = address(load(sys.argv[1])).render_as_string(hide_password=False)
with _temp_alembic_ini(url) as settings:
    subprocess.run(["alembic", "-c", settings, "downgrade", "-1"], check=True)
"""


@pytest.fixture(scope="module")
def cluster(box: Any) -> Iterator[Cluster]:
    """A PostgreSQL of this test's own. Not in pytest's folder, which is closed to other accounts."""
    with tempfile.TemporaryDirectory(prefix="studiolo-postgresql-") as folder:
        made = Cluster(Path(folder), box.db_user, box.hub_user)
        made.create()
        yield made
        made.stop("immediate")


@pytest.fixture(scope="module")
def on_postgresql(hub: Hub, box: Any, cluster: Cluster) -> Iterator[Cluster]:
    """The hub, with its password for PostgreSQL in its secrets."""
    secret = hub.state / "secrets" / "database_password"
    write_secret(hub, cluster.password)
    try:
        with reconfigured(hub, box, database=cluster.by_network):
            yield cluster
    finally:
        secret.unlink()


def write_secret(hub: Hub, text: str) -> None:
    """Put the database's password where the hub looks for it."""
    token, secret = hub.state / "secrets" / "api_token", hub.state / "secrets" / "database_password"
    secret.write_text(text + "\n")
    secret.chmod(0o640)
    os.chown(secret, token.stat().st_uid, token.stat().st_gid)


@pytest.fixture
def clara(hub: Hub, on_postgresql: Cluster, person: Callable[..., str]) -> Iterator[str]:
    """Somebody without a session before and after."""
    name = person("company", 2)
    yield name
    if hub.server(name):
        hub.stop(name)


def works(hub: Hub, user: str) -> bool:
    """Whether the user's server answers through the proxy."""
    return httpx.get(f"{hub.url}user/{user}/api", timeout=10).status_code == 200


def test_a_session_lives_in_postgresql_and_survives_the_hub(
    hub: Hub, box: Any, on_postgresql: Cluster, clara: str
) -> None:
    assert hub.start(clara, {"profile": "learn"}).status_code == 202
    hub.ready(clara)
    job = hub.job(clara)
    query = f"SELECT spawners.state::json->>'job_id' FROM spawners JOIN users ON users.id = user_id WHERE users.name = '{clara}'"
    assert on_postgresql.sql(query, "studiolo") == str(job)
    restart(hub, box)
    hub.ready(clara)
    assert hub.jobs(clara) == [job]
    assert works(hub, clara)
    hub.stop(clara)
    assert hub.jobs(clara) == []


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_session_and_the_hub_survive_a_restart_of_postgresql(
    hub: Hub, on_postgresql: Cluster, clara: str, how: str
) -> None:
    hub.start(clara, {"profile": "learn"})
    hub.ready(clara)
    job = hub.job(clara)
    on_postgresql.stop(how)
    assert works(hub, clara), "nobody who works notices that the hub's database is down"
    on_postgresql.start()
    assert hub.call("GET", f"users/{clara}").status_code == 200, "the first to come is told no lie"
    assert hub.server(clara)["ready"]
    assert hub.jobs(clara) == [job]
    hub.stop(clara)
    assert hub.jobs(clara) == []
    assert hub.start(clara, {"profile": "learn"}).status_code == 202
    hub.ready(clara)


def test_a_start_survives_a_restart_of_postgresql(hub: Hub, on_postgresql: Cluster, clara: str) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(clara, {"profile": "learn"})
        job = hub.job(clara)
        on_postgresql.stop()
        on_postgresql.start()
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    until("the hub", lambda: hub.call("GET", f"users/{clara}").status_code == 200, seconds=15)
    hub.ready(clara)
    assert hub.jobs(clara) == [job]


def test_while_postgresql_is_down_nothing_is_started_that_the_hub_would_forget(
    hub: Hub, on_postgresql: Cluster, clara: str
) -> None:
    on_postgresql.stop()
    try:
        # 403: JupyterHub calls a login that it can not look up an invalid one.
        assert hub.start(clara, {"profile": "learn"}).status_code in (403, 500, 503)
        assert hub.jobs(clara) == []
    finally:
        on_postgresql.start()
    until("the hub", lambda: hub.call("GET", f"users/{clara}").status_code == 200, seconds=15)
    assert hub.start(clara, {"profile": "learn"}).status_code == 202
    hub.ready(clara)


def test_the_password_is_in_no_log_and_on_no_command_line(hub: Hub, box: Any, on_postgresql: Cluster) -> None:
    logs = [path for path in (hub.state / "supervisor" / "log").iterdir() if path.is_file()]
    assert logs
    assert [path for path in logs if on_postgresql.password in path.read_text(errors="replace")] == []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert on_postgresql.password not in line.read_text(errors="replace")
        except OSError:
            continue


def findings(hub: Hub) -> list[str]:
    """What the doctor says of the database."""
    file = hub.state / "site.toml"
    site = load(file)
    return [str(finding) for finding in database_findings(site, ask_database(site, file))]


def test_the_doctor_finds_a_good_database(hub: Hub, on_postgresql: Cluster) -> None:
    (found,) = findings(hub)
    assert "ok" in found
    assert "answers, its tables are up to date" in found


def test_the_doctor_tells_a_wrong_password_without_repeating_it(hub: Hub, on_postgresql: Cluster) -> None:
    write_secret(hub, "another-password")
    try:
        (found,) = findings(hub)
    finally:
        write_secret(hub, on_postgresql.password)
    assert "FAULT" in found
    assert "password authentication failed" in found
    assert "database_password" in found
    assert "another-password" not in found


def test_the_doctor_tells_a_database_that_is_down(hub: Hub, on_postgresql: Cluster) -> None:
    on_postgresql.stop()
    try:
        (found,) = findings(hub)
    finally:
        on_postgresql.start()
    assert "FAULT" in found
    assert "onnection refused" in found


def test_tables_of_an_older_jupyterhub_are_told_and_brought_up_to_date(
    hub: Hub, box: Any, on_postgresql: Cluster
) -> None:
    boss = slurmbox.supervisor(box)
    boss.stop("hub")
    try:
        as_hub(hub, box, "-c", ONE_BACK, str(hub.state / "site.toml"))
        (found,) = findings(hub)
        assert "FAULT" in found
        assert "tables of another JupyterHub" in found
        assert "upgrade-db" in found
        as_hub(hub, box, "-m", "jupyterhub", "upgrade-db", "--config", configuration(box))
        (found,) = findings(hub)
        assert "up to date" in found
    finally:
        restart(hub, box)


def configuration(box: Any) -> str:
    (found,) = Path(box.prefix).glob("venv/lib/python3*/site-packages/hub_config/jupyterhub_config.py")
    return str(found)


def as_hub(hub: Hub, box: Any, *arguments: str) -> None:
    """Run Python as the hub's account, as the how-to says."""
    done = subprocess.run(
        [f"{box.prefix}/venv/bin/python", *arguments],
        user=box.hub_user,
        group=box.hub_user,
        cwd=hub.state / "hub",
        env={"STUDIOLO_SITE": str(hub.state / "site.toml"), "PATH": f"{box.prefix}/venv/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_socket_may_know_the_hub_by_its_account(hub: Hub, box: Any, on_postgresql: Cluster, clara: str) -> None:
    (hub.state / "secrets" / "database_password").unlink()
    with reconfigured(hub, box, database=on_postgresql.by_socket):
        try:
            assert hub.start(clara, {"profile": "learn"}).status_code == 202
            hub.ready(clara)
            hub.stop(clara)
            assert "up to date" in findings(hub)[0]
        finally:
            write_secret(hub, on_postgresql.password)
