"""Slurm through slurmrestd, with a fake one: what is asked, in whose name, and what its answers mean."""

from __future__ import annotations

import asyncio
import json
import pwd
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web

from studiolo.errors import LauncherFailed, SlurmError, SlurmRefused, SlurmUnavailable
from studiolo.script import Batch, Directives
from studiolo.site import Cluster, Site, parse
from studiolo.slurm import people, rest
from studiolo.slurm.client import connect
from studiolo.slurm.commands import CommandSlurm
from studiolo.slurm.people import member
from studiolo.slurm.rest import RestSlurm
from studiolo.slurm.rest_parse import VERSIONS, submission
from studiolo.slurm.states import JobState, Tagged

KEY = bytes(range(64, 96))
MARK = "0a1b2c3d"
HUB = "studiolo-hub"
BATCH = Batch(
    Directives(
        name="studiolo",
        comment=f"studiolo:{MARK}:session:1",
        partition="gpu",
        account="p1",
        qos="short",
        reservation="course",
        constraint="nvme&ib",
        cpus=8,
        memory=65536,
        minutes=90,
        gres="gpu:a100:1",
        output="/dev/null",
    ),
    "#!/bin/bash",
    "exec true\n",
)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    person: str
    token: str
    body: Any


@dataclass
class Fake:
    """A slurmrestd that offers ``versions`` and answers each path, its version left out, with a status and a body."""

    versions: tuple[str, ...] = ("v0.0.38",)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    wait: float = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.asked.append(
            Asked(
                request.method,
                request.raw_path,
                request.headers["X-SLURM-USER-NAME"],
                request.headers["X-SLURM-USER-TOKEN"],
                json.loads(text) if text else None,
            )
        )
        await asyncio.sleep(self.wait)
        _, _, version, rest_of_path = request.path.split("/", 3)
        if version not in self.versions:
            return web.Response(status=404, text="Unable find requested URL.")
        status, body = self.answers.get(f"{request.method} {rest_of_path}", (200, {"errors": []}))
        if isinstance(body, dict):
            return web.json_response(body, status=status)
        return web.Response(status=status, body=body)

    @property
    def paths(self) -> list[str]:
        """What was asked for, the search for a version left out."""
        return [f"{asked.method} {asked.path}" for asked in self.asked if not asked.path.endswith("/ping")]

    @asynccontextmanager
    async def up(self, address: Path | int = 0) -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        at_socket = isinstance(address, Path)
        site = web.UnixSite(runner, str(address)) if at_socket else web.TCPSite(runner, "127.0.0.1", int(str(address)))
        await site.start()
        try:
            yield f"unix://{address}" if at_socket else f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path / "key"


@pytest.fixture(autouse=True)
def everybody_may(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The people of these tests are no accounts of this host."""

    def account(cluster: Cluster, person: str, action: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((person, "x", 20001, 20001, "", f"/home/{person}", "/bin/zsh"))

    monkeypatch.setattr(rest, "member", account)
    return iter([None])


Ask = Callable[[RestSlurm], Awaitable[Any]]


def ask(fake: Fake, key: Path, *questions: Ask, timeout: float = 5.0, address: Path | int = 0) -> list[Any]:
    """Put questions to the fake, one after the other; errors of ours are answers too."""

    async def run() -> list[Any]:
        async with fake.up(address) as url:
            slurm = RestSlurm(Cluster(via="slurmrestd", rest_url=url), MARK, HUB, key, timeout=timeout)
            answers: list[Any] = []
            for question in questions:
                try:
                    answers.append(await question(slurm))
                except SlurmError as error:
                    answers.append(error)
            return answers

    return asyncio.run(run())


def submit(slurm: RestSlurm) -> Awaitable[int]:
    return slurm.submit("ada", BATCH, {"STUDIOLO_X": 'a="b" é'})


def cancel(slurm: RestSlurm) -> Awaitable[None]:
    return slurm.cancel("ada", [1])


def queue(slurm: RestSlurm) -> Awaitable[dict[int, JobState]]:
    return slurm.queue([1, 2])


SUBMITTED = {"errors": [], "job_id": 4711, "step_id": "BATCH", "job_submit_user_msg": ""}
ERROR = {"error_number": -1, "error": "Unspecified error", "description": "Failed while looking for jobs"}


# --- In whose name ---------------------------------------------------------------------------------------------------


def test_what_is_done_for_a_person_is_done_in_their_name_and_the_hubs_questions_in_its_own(
    fake: Fake, key: Path
) -> None:
    fake.answers = {"POST job/submit": (200, SUBMITTED), "GET jobs": (200, {"jobs": []})}
    assert ask(fake, key, submit, cancel, queue, lambda slurm: slurm.finished([1]))[:3] == [4711, None, {}]
    whose = {f"{asked.method} {asked.path.partition('?')[0]}": asked.person for asked in fake.asked}
    assert whose["POST /slurm/v0.0.38/job/submit"] == "ada"
    assert whose["DELETE /slurm/v0.0.38/job/1"] == "ada"
    assert whose["GET /slurm/v0.0.38/jobs"] == HUB
    assert whose["GET /slurmdb/v0.0.38/jobs"] == HUB
    for asked in fake.asked:
        claims = jwt.decode(asked.token, KEY, algorithms=["HS256"])
        assert claims["sun"] == asked.person
        assert claims["exp"] - claims["iat"] <= 300


def test_the_environment_of_a_job_is_small_and_known(fake: Fake, key: Path) -> None:
    fake.answers = {"POST job/submit": (200, SUBMITTED)}
    ask(fake, key, submit)
    (job,) = [asked.body["job"] for asked in fake.asked if asked.body]
    assert job["environment"] == {
        "HOME": "/home/ada",
        "LANG": "C.UTF-8",
        "LOGNAME": "ada",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SHELL": "/bin/zsh",
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_SUBMIT_DIR": "/home/ada",
        "SLURM_UMASK": "0027",
        "USER": "ada",
        "STUDIOLO_X": 'a="b" é',
    }
    assert job["current_working_directory"] == "/home/ada"


def test_a_proxy_of_the_hubs_environment_sees_nothing(fake: Fake, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    fake.answers = {"GET jobs": (200, {"jobs": []})}
    assert ask(fake, key, queue) == [{}]


def test_a_socket_will_do_as_well(fake: Fake, key: Path, tmp_path: Path) -> None:
    fake.answers = {"GET jobs": (200, {"jobs": []})}
    assert ask(fake, key, queue, address=tmp_path / "rest.socket") == [{}]


class TestMembers:
    """For whom the hub may act where no sudoers rule says so: the real check."""

    @pytest.fixture
    def cluster(self, monkeypatch: pytest.MonkeyPatch) -> Cluster:
        accounts = {"ada": 20001, "eve": 20002, "toor": 0, "root": 0}

        def account(name: str) -> pwd.struct_passwd:
            return pwd.struct_passwd((name, "x", accounts[name], accounts[name], "", f"/home/{name}", "/bin/sh"))

        group = type("Group", (), {"gr_gid": 500})
        monkeypatch.setattr(people.pwd, "getpwnam", account)
        monkeypatch.setattr(people.grp, "getgrnam", lambda name: group)
        monkeypatch.setattr(people.os, "getgrouplist", lambda name, gid: [gid] if name == "eve" else [gid, 500])
        return Cluster()

    def test_a_member_of_the_group_is_one(self, cluster: Cluster) -> None:
        assert member(cluster, "ada", "submit").pw_dir == "/home/ada"

    @pytest.mark.parametrize(
        ("person", "why"),
        [
            ("eve", "not in the group"),
            ("root", "never for root"),
            ("toor", "never for root"),
            ("nobody-knows", "no such account"),
            ("", "not the name of an account"),
            ("#0", "not the name of an account"),
            ("ada\n", "not the name of an account"),
            ("Ada", "not the name of an account"),
        ],
    )
    def test_nobody_else_is(self, cluster: Cluster, person: str, why: str) -> None:
        with pytest.raises(LauncherFailed, match=why):
            member(cluster, person, "submit your session")


# --- Versions --------------------------------------------------------------------------------------------------------


def test_the_newest_version_that_both_speak_is_taken_and_remembered(fake: Fake, key: Path) -> None:
    fake.versions = ("v0.0.37", "v0.0.40", "v0.0.41", "v0.0.99")
    fake.answers = {"GET jobs": (200, {"jobs": []})}
    assert ask(fake, key, queue, queue) == [{}, {}]
    asked = [asked.path for asked in fake.asked]
    assert asked[-3:] == ["/slurm/v0.0.41/ping", "/slurm/v0.0.41/jobs", "/slurm/v0.0.41/jobs"]
    assert asked[0] == f"/slurm/{VERSIONS[0]}/ping"


def test_a_renewed_slurmrestd_is_asked_for_its_versions_anew(fake: Fake, key: Path) -> None:
    fake.answers = {"GET jobs": (200, {"jobs": []})}

    async def renew(slurm: RestSlurm) -> dict[int, JobState]:
        await slurm.queue([1, 2])
        fake.versions = ("v0.0.41", "v0.0.42")
        return await slurm.queue([1, 2])

    assert ask(fake, key, renew) == [{}]
    assert fake.paths == [
        "GET /slurm/v0.0.38/jobs",
        "GET /slurm/v0.0.38/jobs",
        "GET /slurm/v0.0.42/jobs",
    ]


@pytest.mark.parametrize("versions", [(), ("v0.0.36", "v0.0.37"), ("v0.0.45",)])
def test_a_slurmrestd_that_speaks_none_of_ours_is_the_operators_to_mend(
    fake: Fake, key: Path, versions: tuple[str, ...]
) -> None:
    fake.versions = versions
    (error,) = ask(fake, key, queue)
    assert type(error) is LauncherFailed
    assert "v0.0.38 to v0.0.44" in str(error)


def test_a_version_without_its_accounting_is_the_operators_to_mend_and_asked_for_no_end(fake: Fake, key: Path) -> None:
    fake.answers = {"GET jobs": (404, b"Unable find requested URL.")}
    (error,) = ask(fake, key, lambda slurm: slurm.finished([1]))
    assert type(error) is LauncherFailed
    assert "/slurmdb/v0.0.38/jobs: check its plugins" in str(error)


def test_sixty_who_come_at_once_look_for_the_version_once(fake: Fake, key: Path) -> None:
    fake.answers = {"POST job/submit": (200, SUBMITTED)}

    async def class_start(slurm: RestSlurm) -> list[int]:
        return await asyncio.gather(*(slurm.submit(f"learner{n}", BATCH, {}) for n in range(60)))

    assert ask(fake, key, class_start) == [[4711] * 60]
    assert len([asked for asked in fake.asked if asked.path.endswith("/ping")]) == len(VERSIONS)


# --- Submissions: the facts are those of Slurm's sources -----------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_submission_says_in_data_what_the_script_says_in_lines(version: str) -> None:
    body = submission(BATCH, {"A": "b=c"}, "/home/ada", version)
    job = body["job"]
    for key, value in {
        "name": "studiolo",
        "comment": f"studiolo:{MARK}:session:1",
        "partition": "gpu",
        "account": "p1",
        "qos": "short",
        "reservation": "course",
        "constraints": "nvme&ib",
        "tasks": 1,
        "cpus_per_task": 8,
        "standard_output": "/dev/null",
        "current_working_directory": "/home/ada",
    }.items():
        assert job[key] == value
    number = (lambda n: n) if version == "v0.0.38" else (lambda n: {"set": True, "infinite": False, "number": n})
    assert (job["memory_per_node"], job["time_limit"]) == (number(65536), number(90))


@pytest.mark.parametrize(
    ("version", "differs"),
    [
        ("v0.0.38", {"environment": {"A": "b=c"}, "gres": "gpu:a100:1", "nodes": [1, 1], "no_requeue": True}),
        ("v0.0.39", {"environment": ["A=b=c"], "tres_per_node": "gres:gpu:a100:1", "requeue": False}),
        ("v0.0.40", {"environment": ["A=b=c"], "tres_per_node": "gres/gpu:a100:1", "requeue": False}),
        (
            "v0.0.44",
            {"environment": ["A=b=c"], "tres_per_node": "gres/gpu:a100:1", "minimum_nodes": 1, "maximum_nodes": 1},
        ),
    ],
)
def test_a_submission_is_written_as_its_version_wants_it(version: str, differs: dict[str, Any]) -> None:
    body = submission(BATCH, {"A": "b=c"}, "/home/ada", version)
    assert {key: body["job"][key] for key in differs} == differs
    in_job = version >= "v0.0.40"
    assert (body["job"] if in_job else body)["script"] == BATCH.text
    assert ("script" in body) != in_job


def test_what_is_not_asked_for_is_not_mentioned() -> None:
    bare = replace(BATCH.directives, account="", qos="", reservation="", constraint="", gres="")
    job = submission(replace(BATCH, directives=bare), {}, "/", "v0.0.42")["job"]
    assert not {"account", "qos", "reservation", "constraints", "tres_per_node"} & set(job)


# --- Questions -------------------------------------------------------------------------------------------------------


def test_one_job_is_asked_for_alone_and_many_at_once(fake: Fake, key: Path) -> None:
    job = {"job_state": "RUNNING", "state_reason": "None", "batch_host": "cpu1", "start_time": 10, "end_time": 20}
    one, other = {"job_id": 1, **job}, {"job_id": 9, **job}
    fake.answers = {"GET job/1": (200, {"jobs": [one]}), "GET jobs": (200, {"jobs": [one, other]})}
    told = ask(fake, key, lambda slurm: slurm.queue([1]), lambda slurm: slurm.queue(range(1, 8)))
    assert told == [{1: JobState(1, "RUNNING", "None", "cpu1", 10, 20)}] * 2
    assert fake.paths == ["GET /slurm/v0.0.38/job/1", "GET /slurm/v0.0.38/jobs"]


@pytest.mark.parametrize(
    ("version", "query"),
    [("v0.0.38", "step=1%2C2%2C3"), ("v0.0.39", "step=1%2C2%2C3"), ("v0.0.40", "step=1&step=2&step=3")],
)
def test_accounting_is_asked_once_for_all_in_letters_that_slurmrestd_reads(
    fake: Fake, key: Path, version: str, query: str
) -> None:
    fake.versions = (version,)
    fake.answers = {"GET jobs": (200, {"jobs": [], "errors": [{"error_number": 9003, "error": "Nothing found"}]})}
    assert ask(fake, key, lambda slurm: slurm.finished([3, 1, 2])) == [{}]
    assert fake.paths == [f"GET /slurmdb/{version}/jobs?skip_steps=true&{query}"]


def test_nodes_are_asked_for_once_and_the_sites_pattern_comes_first(fake: Fake, key: Path) -> None:
    fake.answers = {"GET nodes": (200, {"nodes": [{"name": "a", "address": "10.0.0.1"}]})}
    told = ask(fake, key, *[lambda slurm: slurm.node_address("a")] * 2, lambda slurm: slurm.node_address("cloud7"))
    assert told == ["10.0.0.1", "10.0.0.1", "cloud7"]
    assert fake.paths == ["GET /slurm/v0.0.38/nodes"] * 2
    patterned = RestSlurm(Cluster(node_address="{node}-ib0"), MARK, HUB, key)
    assert asyncio.run(patterned.node_address("a")) == "a-ib0"


def test_a_comment_with_line_breaks_is_one_comment(fake: Fake, key: Path) -> None:
    jobs = [
        {"job_id": 1, "user_name": "ada", "job_state": ["PENDING"], "comment": f"studiolo:{MARK}:session:1"},
        {"job_id": 2, "user_name": "eve", "job_state": ["RUNNING"], "comment": f"x\nstudiolo:{MARK}:session:1"},
        {"job_id": 3, "user_name": "ada", "job_state": ["CANCELLED"], "comment": f"studiolo:{MARK}:session:3"},
        {"job_id": 4, "user_name": "ada", "job_state": ["RUNNING"], "comment": "studiolo:ffffffff:session:4"},
        {"job_id": 5, "user_name": "ada", "job_state": ["RUNNING"], "comment": ""},
    ]
    fake.answers = {"GET jobs": (200, {"jobs": jobs})}
    assert ask(fake, key, lambda slurm: slurm.tagged()) == [(Tagged(1, "ada", "session", "1"),)]


def test_requests_are_counted_by_kind(fake: Fake, key: Path) -> None:
    fake.answers = {"POST job/submit": (200, SUBMITTED), "GET jobs": (200, {"jobs": []})}
    seen: list[dict[str, int]] = []

    async def look(slurm: RestSlurm) -> None:
        await asyncio.gather(submit(slurm), queue(slurm), slurm.cancel("ada", [1, 2]))
        seen.append(slurm.calls)

    ask(fake, key, look)
    assert seen == [{"ping": len(VERSIONS), "submit": 1, "jobs": 1, "cancel": 2}]


# --- What failures mean ----------------------------------------------------------------------------------------------


def refusal(number: int, error: str, **more: Any) -> dict[str, Any]:
    return {"errors": [{"error_number": number, "error": error, **more}]}


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (500, {"errors": [{"error_code": 2045, "error": "Invalid account"}]}, SlurmRefused, "Invalid account"),
        (200, refusal(2066, "Invalid qos specification"), SlurmRefused, "Invalid qos specification"),
        (200, {"result": {"error_code": 2051, "error": "Time limit"}}, SlurmRefused, "Time limit"),
        (
            500,
            refusal(2045, "Invalid account", description="Unable to submit: Invalid account"),
            SlurmRefused,
            "Unable to submit: Invalid account",
        ),
        (500, refusal(-1, "Unspecified error") | {"job_submit_user_msg": "No budget"}, SlurmRefused, "No budget"),
        (
            500,
            {"errors": [{"error_code": 1800, "error": "Unable to contact slurm controller"}]},
            SlurmUnavailable,
            "contact",
        ),
        (
            500,
            {"errors": [{"error_code": 5005, "error": "Zero Bytes were transmitted"}]},
            SlurmUnavailable,
            "Zero Bytes",
        ),
        (502, {"errors": [{"error_number": 5004, "error": "Socket timed out"}]}, SlurmUnavailable, "timed out"),
        (511, refusal(1007, "Protocol authentication error"), SlurmUnavailable, "Protocol authentication error"),
        (401, b"Authentication failure", LauncherFailed, "Authentication failure"),
        (400, refusal(9001, "Failure during parsing"), LauncherFailed, "does not understand the hub"),
        (400, b"Unable to parse query.", LauncherFailed, "Unable to parse"),
        (500, b"<html>Bad gateway</html>", SlurmUnavailable, "Bad gateway"),
        (503, {}, SlurmUnavailable, "503"),
        (200, {}, SlurmUnavailable, "no list|half an answer"),
        (200, {"errors": [], "job_id": 0}, SlurmUnavailable, "half an answer"),
        (200, {"errors": [], "job_id": "12; rm"}, SlurmUnavailable, "half an answer"),
        (200, b"[]", SlurmUnavailable, r"\[\]"),
        (200, b'{"job_id": 4', SlurmUnavailable, "job_id"),
        (200, b"\xff\xfe", SlurmUnavailable, "."),
        (302, b"", SlurmUnavailable, "."),
    ],
)
def test_a_failed_submission_is_refused_unanswered_or_the_operators_by_its_numbers(
    fake: Fake,
    key: Path,
    status: int,
    body: Any,
    kind: type[SlurmError],
    words: str,
    assert_harmless: Callable[[str], None],
) -> None:
    fake.answers = {"POST job/submit": (status, body)}
    (error,) = ask(fake, key, submit)
    assert type(error) is kind, error
    assert re.search(words, str(error)), error
    assert_harmless(str(error))


@pytest.mark.parametrize("number", [2017, 2021])
def test_cancelling_a_job_that_is_over_already_is_no_error(fake: Fake, key: Path, number: int) -> None:
    fake.answers = {"DELETE job/1": (500, refusal(number, "over"))}
    assert ask(fake, key, cancel) == [None]


def test_what_becomes_of_each_cancelled_job_is_read_where_the_status_is_good(fake: Fake, key: Path) -> None:
    entry = {"job_id": "1", "error": {"string": "denied", "code": 2002, "message": "Access/permission denied"}}
    fake.answers = {"DELETE job/1": (200, {"status": [entry], "errors": []})}
    (error,) = ask(fake, key, cancel)
    assert type(error) is SlurmRefused
    assert error.words == "Access/permission denied"


def test_each_job_is_cancelled_though_one_of_them_can_not_be(fake: Fake, key: Path) -> None:
    fake.answers = {"DELETE job/1": (500, refusal(2002, "denied")), "DELETE job/2": (500, refusal(1800, "no contact"))}
    (error,) = ask(fake, key, lambda slurm: slurm.cancel("ada", [1, 2, 3]))
    assert type(error) is SlurmUnavailable
    assert [path.rpartition("/")[2] for path in fake.paths] == ["1", "2", "3"]


QUESTIONS: list[tuple[str, Ask]] = [
    ("GET jobs", queue),
    ("GET job/1", lambda slurm: slurm.queue([1])),
    ("GET jobs", lambda slurm: slurm.finished([1])),
    ("GET jobs", lambda slurm: slurm.tagged()),
    ("GET nodes", lambda slurm: slurm.node_address("a")),
]


@pytest.mark.parametrize(("path", "question"), QUESTIONS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, refusal(-1, "Unspecified error") | {"jobs": [], "nodes": []}),
        (200, refusal(7000, "Unable to connect to database") | {"jobs": [], "nodes": []}),
        (200, refusal(1007, "Protocol authentication error") | {"jobs": [], "nodes": []}),
        (200, {"errors": []}),
        (200, {"jobs": None, "nodes": None}),
        (200, {"jobs": [{}], "nodes": [{}]}),
        (200, {"jobs": [1], "nodes": [1]}),
        (200, {"jobs": [{"job_id": 1}], "nodes": [{"name": ""}]}),
        (200, {"errors": [5], "jobs": [], "nodes": []}),
        (503, {"jobs": [], "nodes": []}),
        (500, {"jobs": [], "nodes": []}),
        (401, b"Authentication failure"),
        (200, b""),
        (200, b"[" * 100_000),
        (200, b'{"jobs": [], "nodes": ['),
        (204, b""),
    ],
)
def test_a_question_that_fails_is_no_answer_and_never_an_empty_one(
    fake: Fake, key: Path, path: str, question: Ask, status: int, body: Any, assert_harmless: Callable[[str], None]
) -> None:
    fake.answers = {path: (status, body)}
    (error,) = ask(fake, key, question)
    assert type(error) is SlurmUnavailable, error
    assert_harmless(str(error))


@pytest.mark.parametrize("question", [submit, cancel, queue])
def test_a_slurmrestd_that_is_not_there_is_no_answer_and_named(key: Path, question: Ask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        slurm = RestSlurm(Cluster(rest_url=url), MARK, HUB, key)
        with pytest.raises(SlurmUnavailable, match=f"slurmrestd at {url}"):
            asyncio.run(_await(question(slurm)))


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def test_a_slurmrestd_that_takes_too_long_is_no_answer(fake: Fake, key: Path) -> None:
    fake.wait = 0.5
    (error,) = ask(fake, key, queue, timeout=0.02)
    assert type(error) is SlurmUnavailable
    assert "no answer within 0.02 s" in str(error)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (400, r"slurmctld's clock is (399|40\d) s ahead of the hub's"),
        (-7200, r"clock is 7(199|20\d) s behind the hub's"),
    ],
)
def test_a_refused_token_is_explained_by_the_clocks_where_they_differ(
    fake: Fake, key: Path, ahead: int, words: str
) -> None:
    fake.answers = {
        "GET jobs": (500, {"errors": [ERROR]}),
        "GET diag": (200, {"statistics": {"req_time": int(time.time()) + ahead}}),
    }
    (error,) = ask(fake, key, queue)
    assert re.search(words, str(error)), error
    (probe,) = [asked for asked in fake.asked if asked.path.endswith("/diag")]
    assert probe.person == HUB


def test_a_refused_token_is_explained_by_the_key_where_even_a_patient_one_is_refused_once_a_minute(
    fake: Fake, key: Path
) -> None:
    fake.answers = {"GET jobs": (500, {"errors": [ERROR]}), "GET diag": (500, {"errors": [ERROR]})}
    for error in ask(fake, key, queue, queue, queue):
        assert f"its jwt_key is not {key}" in str(error)
    assert len([path for path in fake.paths if path.endswith("/diag")]) == 1


def test_no_error_and_nothing_printed_holds_a_token(fake: Fake, key: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    fake.answers = {"GET jobs": (500, {"errors": [ERROR]}), "POST job/submit": (401, b"Authentication failure")}
    slurms: list[RestSlurm] = []

    async def both(slurm: RestSlurm) -> None:
        slurms.append(slurm)
        await asyncio.gather(queue(slurm), submit(slurm))

    errors = ask(fake, key, both, queue, submit)
    told = " ".join([*map(str, errors), *map(repr, errors), repr(slurms), repr(vars(slurms[0])), caplog.text])
    for token in {asked.token for asked in fake.asked}:
        assert token.rpartition(".")[2] not in told


# --- The choice ------------------------------------------------------------------------------------------------------


def test_the_site_file_chooses_the_way(edited: Callable[..., str]) -> None:
    conf = 'conf = "/etc/slurm/slurm.conf"'
    by_rest: Site = parse(edited((conf, f'{conf}\nvia = "slurmrestd"\nrest_url = "http://127.0.0.1:6820"')))
    assert type(connect(parse(edited()), "main")) is CommandSlurm
    slurm = connect(by_rest, "main")
    assert type(slurm) is RestSlurm
    assert str(slurm.tokens.key_file) == "/var/lib/studiolo/secrets/slurm_jwt_key_main"
    assert slurm.account == by_rest.hub.account
