"""What a notebook knows of its site, and how what it asks for reaches Slurm: checked, as oneself, with nothing of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from studiolo import desk as desks
from studiolo.desk import Desk, desk
from studiolo.errors import OutsideSession, RequestError, SiteError
from studiolo.outline import VARIABLE, outline, read_outline
from studiolo.request import carried, check
from studiolo.script import Job
from studiolo.session import Session, session
from studiolo.site import Site
from studiolo.slurm import launcher
from studiolo.slurm.own import OwnSlurm, here

if TYPE_CHECKING:
    from conftest import FakePrograms

ME = pwd.getpwuid(os.getuid()).pw_name
HERE = Session(1, "gpu1", "gpu", "p1", 8, 65536, 1, 0, None, owner="0123456789abcdef")


@pytest.fixture
def told(site: Site, tmp_path: Path) -> dict[str, str]:
    """The environment of a session whose hub has told it of the test site."""
    path = tmp_path / "site.json"
    path.write_text(outline(site), encoding="utf-8")
    return {VARIABLE: str(path)}


# --- The outline -----------------------------------------------------------------------------------------------------


def test_an_outline_reads_back_as_a_site_with_the_same_gate(site: Site, told: dict[str, str]) -> None:
    known = read_outline(told)
    assert known.mark == site.mark
    for name in site.profiles:
        assert check({"profile": name}, known) == check({"profile": name}, site)
    with pytest.raises(RequestError):
        check({"cpus": 10**6}, known)


def test_an_outline_holds_nothing_that_is_the_hubs_own(site: Site) -> None:
    secret = site.model_copy(
        update={
            "paths": site.paths.model_copy(
                update={"secrets": "/secret-place", "state": "/state-place", "logs": "/logs-place"}
            ),
            "hub": site.hub.model_copy(
                update={"database": "postgresql://u@h/n", "admins": ("admin-name",), "tls_key": "/key"}
            ),
        }
    )
    text = outline(secret)
    for hidden in (
        "secret-place",
        "state-place",
        "logs-place",
        "postgresql",
        "admin-name",
        "/key",
        "authentication",
        "launcher",
    ):
        assert hidden not in text


def test_outside_of_a_session_it_is_said_where_one_begins() -> None:
    with pytest.raises(OutsideSession, match="start one in the browser"):
        read_outline({})


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"clusters": {}}', b"\xff"])
def test_a_file_that_is_not_the_hubs_names_itself_and_the_way_out(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "site.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SiteError, match="start a new session") as caught:
        read_outline({VARIABLE: str(path)})
    assert str(path) in str(caught.value)


# --- What a session says of itself -----------------------------------------------------------------------------------


def test_a_session_knows_what_it_asked_for_and_others_can_ask_for_the_same(site: Site) -> None:
    request = check({"profile": next(iter(site.profiles)), "minutes": 30}, site)
    found = session({"SLURM_JOB_ID": "7", "STUDIOLO_SESSION": "abc", "STUDIOLO_REQUEST": carried(request)})
    assert found
    assert found.owner == "abc"
    assert (
        check(found.like("profile", "partition", "cpus", "memory", "minutes", "gpus", "shards", "qos"), site) == request
    )


def test_a_batch_run_owns_what_it_submits_and_not_the_session_that_sent_it() -> None:
    found = session({"SLURM_JOB_ID": "7", "STUDIOLO_SESSION": "abc", "STUDIOLO_RUN": "run-1"})
    assert found
    assert found.owner == "run-1"


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null"])
def test_a_session_that_can_not_read_what_it_asked_for_goes_without(text: str) -> None:
    found = session({"SLURM_JOB_ID": "7", "STUDIOLO_REQUEST": text})
    assert found
    assert found.like("profile") == {}


# --- Slurm for oneself -----------------------------------------------------------------------------------------------


@pytest.fixture
def own(site: Site, programs: FakePrograms) -> OwnSlurm:
    cluster = next(iter(site.clusters.values())).model_copy(update={"commands": str(programs.folder)})
    return OwnSlurm(cluster, site.mark)


def test_a_job_of_ones_own_goes_to_the_launchers_program_without_sudo(own: OwnSlurm) -> None:
    argv = own._as(ME, "submit")
    assert argv[1:4] == ["-IS", launcher.__file__, "submit"]
    assert "sudo" not in " ".join(argv)


def test_nobody_else_can_be_acted_for(own: OwnSlurm) -> None:
    with pytest.raises(ValueError, match="somebody else"):
        asyncio.run(own.cancel("somebody", [1]))


def test_a_nodes_own_configuration_of_slurm_counts_before_the_hubs(site: Site, programs: FakePrograms) -> None:
    cluster = next(iter(site.clusters.values())).model_copy(update={"commands": str(programs.folder)})
    assert here(cluster, {"SLURM_CONF": "/run/slurm/conf/slurm.conf"}).conf == "/run/slurm/conf/slurm.conf"
    assert here(cluster, {}).conf == cluster.conf


# --- The desk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_desk(site: Site) -> Iterator[Desk]:
    made = Desk(site, HERE)
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


def test_work_is_done_on_a_thread_of_its_own_while_the_caller_waits(at_desk: Desk) -> None:
    async def where() -> str:
        return threading.current_thread().name

    assert at_desk.do(where()) == "studiolo"


def test_the_desks_own_thread_never_waits_for_itself(at_desk: Desk) -> None:
    async def nothing() -> None: ...

    async def wait_here() -> None:
        at_desk.do(nothing())

    with pytest.raises(RuntimeError, match="use await"):
        at_desk.do(wait_here())


def test_an_interrupted_cell_cancels_what_it_waited_for(at_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    class Interrupted:
        def __init__(self, future: object) -> None:
            self.future = future

        def result(self) -> None:
            raise KeyboardInterrupt

        def cancel(self) -> None:
            self.future.cancel()  # type: ignore[attr-defined]

    begun = at_desk.begin
    monkeypatch.setattr(at_desk, "begin", lambda work: Interrupted(begun(work)))
    with pytest.raises(KeyboardInterrupt):
        at_desk.do(long())
    assert cancelled.wait(10)


def test_what_is_asked_for_passes_the_sites_gate(at_desk: Desk) -> None:
    with pytest.raises(RequestError, match="cpus"):
        at_desk.check({"cpus": "many"})


def test_outside_of_a_session_there_is_no_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(OutsideSession):
        desk()


def test_a_process_has_one_desk_and_a_forked_child_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    monkeypatch.setenv(VARIABLE, told[VARIABLE])
    monkeypatch.setattr(desks, "_desk", None)
    first = desk()
    assert desk() is first
    desks._forget()
    second = desk()
    assert second is not first
    for made in (first, second):
        made.loop.call_soon_threadsafe(made.loop.stop)
        made.thread.join()
        made.loop.close()
    monkeypatch.setattr(desks, "_desk", None)


def test_a_job_that_belongs_to_no_session_is_refused(site: Site, at_desk: Desk) -> None:
    assert at_desk.owner == HERE.owner
    at_desk.session = None
    with pytest.raises(OutsideSession):
        _ = at_desk.owner


def test_an_error_in_a_notebook_is_its_sentence() -> None:
    assert OutsideSession()._render_traceback_() == [
        "OutsideSession: This works inside a session of Studiolo: start one in the browser."
    ]


def test_what_a_job_is_given_names_no_variable_of_this_process(at_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []

    class Client:
        person = ME

        async def submit(self, person: str, batch: object, environment: dict[str, str]) -> int:
            sent.append((person, json.dumps(environment)))
            return 5

    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "the-token")
    monkeypatch.setattr(at_desk, "slurm", dict.fromkeys(at_desk.slurm, Client()))
    request = at_desk.check({})
    job = Job("dask", at_desk.site.tag("dask", "a.b"), "x.log", ["/bin/true"])
    assert at_desk.do(at_desk.submit(request, job, {"STUDIOLO_RUN": "r"})) == 5
    assert sent == [(ME, '{"STUDIOLO_RUN": "r"}')]
