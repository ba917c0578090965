"""The page of a failure: what it is made of, whose a cancellation was, and a report without secrets."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Coroutine, Iterable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners.explain import WhoCancelled, explain, without_secrets
from spawners.failure import RequestRefused, SessionFailed, ended, not_submitted, silent
from studiolo.errors import Fault, RequestError, SlurmRefused, SlurmUnavailable
from studiolo.site import Site
from studiolo.slurm.budgets import Allowance, Budgets
from studiolo.slurm.states import JobState

ME = pwd.getpwuid(os.getuid()).pw_name


class Accounting:
    """Tells who cancelled which job, or does not answer."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        self.asked = 0

    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]:
        self.asked += 1
        if self.reason is None:
            raise SlurmUnavailable("look up finished jobs", "no answer")
        return {job: JobState(job, "CANCELLED", self.reason) for job in jobs}


def spawner(site: Site, accounting: Accounting | None = None, **facts: Any) -> Any:
    found = {
        "engine": SimpleNamespace(
            site=site,
            slurm={"main": accounting or Accounting("None")},
            choosing=SimpleNamespace(accounting=lambda cluster: None),
        ),
        "user_options": {},
        "user": SimpleNamespace(name="ada", escaped_name="ada", spawners={}),
        "hub": SimpleNamespace(base_url="/hub/"),
        "name": "",
        "last_cluster": "main",
        "last_end": {},
        "has_listened": False,
        "waited_for": "",
        "who_cancelled": WhoCancelled(),
        "log_tail": lambda session, log: [f"line of {session} {log}"],
    }
    return SimpleNamespace(**{**found, **facts})


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_nothing_is_explained_where_nothing_ended(site: Site) -> None:
    assert run(explain(spawner(site), None)) is None


def test_a_session_that_ended_is_told_with_its_log(site: Site) -> None:
    end = {"job": 7, "state": "OUT_OF_MEMORY", "node": "gpu1", "cluster": "main", "session": "s", "log": "l"}
    told = run(explain(spawner(site, last_end=end), None))
    assert told.failure.kind == "out-of-memory"
    assert told.failure.lines == ("line of s l",)
    assert "Job: 7" in told.report
    assert "Node: gpu1" in told.report
    assert "line of s l" in told.report


def test_an_end_that_an_older_hub_wrote_down_is_told_as_well(site: Site) -> None:
    told = run(explain(spawner(site, last_end={"job": 7, "state": "TIMEOUT", "node": ""}), None))
    assert told.failure.kind == "time-over"
    assert told.failure.lines == ()


@pytest.mark.parametrize(("served", "kind"), [(True, "shut-down"), (False, "completed")])
def test_a_start_that_failed_is_no_session_that_ended_though_its_page_is_opened_later(
    site: Site, served: bool, kind: str
) -> None:
    end = {"job": 7, "state": "COMPLETED", "node": "gpu1", "cluster": "main", "served": served}
    assert run(explain(spawner(site, last_end=end), None)).failure.kind == kind


def test_a_released_session_says_after_how_long(site: Site) -> None:
    end = {"job": 7, "state": "COMPLETED", "node": "gpu1", "cluster": "main", "unattended": 15}
    assert "15 min" in run(explain(spawner(site, last_end=end), None)).failure.what


def test_changed_options_are_handed_over_by_a_link_that_starts_nothing(site: Site) -> None:
    end = {"job": 7, "state": "OUT_OF_MEMORY", "node": "", "cluster": "main"}
    facts = {"user_options": {"memory": "1G", "workdir": "a&b=<c>"}, "name": "my-run", "last_end": end}
    told = run(explain(spawner(site, **facts), None))
    parts = urlsplit(told.link)
    assert parts.path == told.page == "/hub/spawn/ada/my-run"
    assert parse_qs(parts.query) == {"memory": ["2048M"], "workdir": ["a&b=<c>"]}


def test_a_retry_sends_what_was_asked_for(site: Site) -> None:
    error = ended(JobState(7, "NODE_FAIL", node="gpu1"), ["x"], "")
    told = run(explain(spawner(site, user_options={"cpus": 1, "features": ["a", "b"], "qos": ""}), error))
    assert told.failure.action.kind == "retry"
    assert told.fields == (("cpus", "1"), ("features", "a"), ("features", "b"))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("by 0", "cancelled-by-system"),
        ("by root", "cancelled-by-system"),
        ("by slurm", "cancelled-by-system"),
        ("by ada", "cancelled-by-you"),
        ("by eve", "cancelled-by"),
        ("by 987654321", "cancelled-by"),
        ("None", "cancelled"),
        (None, "cancelled"),
    ],
)
def test_a_cancelled_job_is_told_with_whose_doing_it_was(site: Site, reason: str | None, kind: str) -> None:
    error = ended(JobState(7, "CANCELLED"), [], "")
    assert run(explain(spawner(site, Accounting(reason)), error)).failure.kind == kind


def test_accounting_is_asked_once_however_often_the_page_is_opened(site: Site) -> None:
    accounting = Accounting("by eve")
    person = spawner(site, accounting)
    for _n in range(5):
        run(explain(person, ended(JobState(7, "CANCELLED"), [], "")))
    assert accounting.asked == 1


def test_accounting_that_does_not_answer_is_left_in_peace_for_a_while() -> None:
    now = [0.0]
    who, accounting = WhoCancelled(lambda: now[0]), Accounting(None)
    for _n in range(5):
        assert run(who.find(accounting, 7)) == ""
    assert accounting.asked == 1
    now[0] += 60
    accounting.reason = "by eve"
    assert run(who.find(accounting, 7)) == "eve"


def test_another_kind_of_failure_asks_nobody(site: Site) -> None:
    accounting = Accounting("by eve")
    run(explain(spawner(site, accounting), ended(JobState(7, "FAILED"), [], "")))
    assert accounting.asked == 0


@pytest.mark.parametrize(
    ("error", "listened", "kind"),
    [
        (asyncio.TimeoutError(), False, "waited"),
        (asyncio.TimeoutError(), True, "unreachable"),
        (ZeroDivisionError("secret details"), False, "bug"),
        (silent(7, "gpu1", 5, [], ""), False, "silent"),
    ],
)
def test_what_jupyterhub_itself_gave_up_is_told_too(site: Site, error: Exception, listened: bool, kind: str) -> None:
    told = run(explain(spawner(site, has_listened=listened), error))
    assert told.failure.kind == kind
    assert "secret details" not in told.report


def test_a_refusal_without_a_cause_keeps_its_words(site: Site) -> None:
    told = run(explain(spawner(site), SessionFailed("No room.", "Wait.", reason="room")))
    assert (told.failure.what, told.failure.advice) == ("No room.", "Wait.")


def test_a_request_that_the_site_no_longer_allows_shows_its_own_list_of_faults(site: Site) -> None:
    refused = RequestRefused(RequestError([Fault("partition", "gone", "one of: cpu")]))
    assert run(explain(spawner(site), refused)) is None


def test_the_longest_line_is_looked_through_at_once(site: Site) -> None:
    line = "token" * 100_000
    assert without_secrets(line)


def test_the_report_names_what_the_support_asks_for_first(site: Site) -> None:
    error = not_submitted(SlurmRefused("submit your session", "Invalid qos"), "")
    report = run(explain(spawner(site, user_options={"cpus": 2}), error)).report
    for row in (
        "Time: ",
        "Hub: ",
        "Person: ada",
        "Session: ",
        "Job: none",
        "Cluster: main",
        "Request: cpus=2",
        "Log:",
    ):
        assert row in report


@pytest.mark.parametrize(
    "line",
    [
        "http://127.0.0.1:8888/lab?token=SESAME",
        "Authorization: Bearer SESAME",
        "authorization: token SESAME",
        'JUPYTERHUB_API_TOKEN="SESAME"',
        "password=SESAME",
        "api-key: SESAME",
        "my_secret = SESAME",
        "export AWS_SECRET_ACCESS_KEY SESAME",
    ],
)
def test_no_secret_of_a_log_is_in_the_report(line: str) -> None:
    assert "SESAME" not in without_secrets(line).replace("SECRET_ACCESS_KEY", "")


def test_a_long_random_word_is_taken_for_a_secret() -> None:
    assert "0123456789abcdef" not in without_secrets("handed out 0123456789abcdef0123456789abcdef now")


def test_a_plain_line_stays_as_it_is() -> None:
    line = "OSError: [Errno 28] No space left on device: '/home/ada/x.ipynb'"
    assert without_secrets(line) == line


@given(st.text(max_size=300))
def test_any_line_can_be_looked_at(line: str) -> None:
    without_secrets(line)


def test_a_limit_is_told_with_what_the_person_has_and_may_pay(site: Site) -> None:
    budgets = Budgets(
        0.0,
        {"p1": Allowance({"gres/gpu": 0}, {}), "p2": Allowance({"gres/gpu": 6000}, {})},
        {"ada": frozenset({"p1", "p2"})},
        {"ada": "p1"},
    )
    one = spawner(site, user_options={"profile": "one"})
    one.engine.choosing = SimpleNamespace(accounting=lambda cluster: budgets)
    spent = not_submitted(
        SlurmRefused("submit", "sbatch: error: AssocGrpGRESMinutes: violates accounting/QOS policy"), ""
    )
    told = run(explain(one, spent))
    assert told.failure.action.kind == "other-account"
    assert parse_qs(urlsplit(told.link).query)["account"] == ["p2"]
    full = not_submitted(SlurmRefused("submit", "QOSMaxJobsPerUserLimit: violates accounting/QOS policy"), "")
    one.user.spawners = {"": one, "other": SimpleNamespace(active=True), "old": SimpleNamespace(active=False)}
    assert run(explain(one, full)).failure.action.kind == "home"


def test_a_start_that_waited_too_long_says_what_it_waited_for(site: Site) -> None:
    one = spawner(site, waited_for="AssocGrpGRES")
    told = run(explain(one, asyncio.TimeoutError()))
    assert (told.failure.kind, "as many GPUs as it may" in told.failure.why) == ("waited", True)
