"""What a centre may set otherwise, on the running platform: a narrow range of ports, and plain http inside."""

from __future__ import annotations

import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hubclient import Hub, until

from slurmbox import box as slurmbox
from studiolo.site import load

Changes = Callable[[str, str], None]


@pytest.fixture
def changed(hub: Hub, box: Any, site_file: Path) -> Iterator[Changes]:
    """``changed(old, new)``: change a line of the site file and start hub and proxy with it; put back afterwards."""
    before = site_file.read_text(encoding="utf-8")
    boss = slurmbox.supervisor(box)

    def begin(text: str) -> None:
        site_file.write_text(text, encoding="utf-8")  # in place: owner and mode stay
        for program in ("proxy", "hub"):
            boss.restart(program)
        until("the hub", lambda: answers(hub))

    def change(old: str, new: str) -> None:
        text = site_file.read_text(encoding="utf-8")
        assert text.count(old) == 1
        begin(text.replace(old, new))

    yield change
    begin(before)


def answers(hub: Hub) -> bool:
    try:
        return hub.call("GET", "").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def free() -> int:
    """A port that nobody listens on now, outside of those that the system hands out."""
    for port in range(20_000, 30_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def test_a_session_listens_within_the_range_and_one_without_a_port_says_so(
    hub: Hub, ada: str, person: Callable[..., str], free: int, changed: Changes
) -> None:
    changed('listen = "127.0.0.1"', f'listen = "127.0.0.1"\nports = [{free}, {free}]')
    assert hub.start(ada, {"profile": "learn"}).status_code == 202
    hub.ready(ada)
    with socket.create_connection(("127.0.0.1", free), timeout=5):
        pass
    assert httpx.get(f"{hub.url}user/{ada}/api", timeout=20).status_code == 200

    other = person("company", 1)
    assert hub.start(other, {"profile": "learn"}).status_code == 202
    last = hub.events(other)[-1]
    assert last["failed"]
    assert f"no free port among {free}-{free} on this node" in last["message"]
    until("the end of that job", lambda: hub.jobs(other) == [])
    hub.stop(ada)


def test_inside_can_be_plain_http(hub: Hub, ada: str, changed: Changes) -> None:
    changed("internal_tls = true", "internal_tls = false")
    assert hub.start(ada, {"profile": "learn"}).status_code == 202
    hub.ready(ada)
    environment = hub.environment(ada, "spawners.singleuser")
    assert environment["STUDIOLO_HUB"].startswith("http://")
    assert not [name for name in environment if name.startswith("STUDIOLO_VISITOR")]
    assert httpx.get(f"{hub.url}user/{ada}/api", headers={"Host": "jupyter.example.org"}, timeout=20).status_code == 200
    assert not list(Path("/tmp").glob(f"studiolo-{hub.job(ada)}-*/tls"))
    hub.stop(ada)
    assert hub.jobs(ada) == []


def test_certificates_are_made_by_whoever_starts_first_where_there_are_none(
    hub: Hub, platform: Any, box: Any, site_file: Path, ada: str
) -> None:
    """As after an upgrade from plain http, without `make up`: hub and proxy start in the same moment and find nothing."""
    site = load(site_file)
    boss = slurmbox.supervisor(box)
    for program in ("hub", "proxy"):
        boss.stop(program)
    folder = Path(site.certificates)
    shutil.rmtree(folder)
    for program in ("hub", "proxy"):
        boss.restart(program)
    until("the hub", lambda: answers(hub))
    assert hub.start(ada, {"profile": "learn"}).status_code == 202
    hub.ready(ada)
    assert httpx.get(f"{hub.url}user/{ada}/api", timeout=20).status_code == 200
    keys = list(folder.rglob("*.key"))
    assert keys
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    hub.stop(ada)
    assert platform.up().returncode == 0  # notes down that these are the certificates now
