"""A failed start, told to its owner: every word escaped, every line there."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.spawner import SpawnException
from tornado.web import HTTPError

from spawners.causes import Cause, cancelled_by, ended_cause
from spawners.failure import (
    RequestRefused,
    SessionFailed,
    ended,
    not_saved,
    not_submitted,
    sentences,
    silent,
    slurms_word,
    tell,
)
from spawners.kinds import KINDS
from spawners.remedies import Action, Asked
from spawners.verdict import Payer, payer
from studiolo.errors import (
    Fault,
    HomeUnusable,
    LauncherFailed,
    RequestError,
    SlurmError,
    SlurmRefused,
    SlurmUnavailable,
)
from studiolo.request import check
from studiolo.site import Site
from studiolo.slurm.budgets import Allowance, Budgets
from studiolo.slurm.states import OVER_STATES, JobState

HOSTILE = "<script>alert('x')</script><img src=x onerror=\"y\">&lt;b&gt;</pre></p>{{ 7*7 }}"
TEXT = st.text() | st.just(HOSTILE)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def failed(**changes: object) -> SessionFailed:
    facts: dict[str, object] = {"what": "It failed.", "advice": "Start again.", "reason": "failed", **changes}
    return SessionFailed(facts.pop("what"), facts.pop("advice"), **facts)  # type: ignore[arg-type]


def test_a_failure_is_a_refusal_and_never_counts_as_the_hubs_own() -> None:
    # JupyterHub exits after so many failures of its own; a SpawnException is none.
    assert isinstance(failed(), SpawnException)
    assert isinstance(RequestRefused(RequestError([Fault("a", "1", "2")])), SpawnException)


def test_a_failure_tells_what_advice_log_and_support() -> None:
    error = failed(log=["first line", "second line"], support="Ask support@example.org.")
    page = Page(error.jupyterhub_html_message)
    for part in ("It failed.", "Start again.", "first line\nsecond line", "Ask support@example.org."):
        assert part in page.text
    assert error.jupyterhub_message == "It failed. Start again.\nfirst line\nsecond line"
    assert [tag for tag, _ in page.tags] == ["p", "p", "p", "pre", "p"]


def test_without_log_and_support_there_are_no_empty_parts() -> None:
    assert [tag for tag, _ in Page(failed().jupyterhub_html_message).tags] == ["p", "p"]


def test_the_reason_and_status_are_jupyterhubs() -> None:
    error = failed(reason="out_of_memory", status=503)
    assert isinstance(error, HTTPError)
    assert error.reason == "out_of_memory"
    assert error.status_code == 503
    assert failed().status_code == 500


@given(what=TEXT, advice=TEXT, log=st.lists(TEXT), support=TEXT)
def test_no_word_of_log_slurm_or_site_becomes_a_tag(what: str, advice: str, log: list[str], support: str) -> None:
    html = failed(what=what, advice=advice, log=log, support=support).jupyterhub_html_message
    expected = ["p", "p", *(["p", "pre"] if log else []), *(["p"] if support else [])]
    page = Page(html)
    assert [tag for tag, _ in page.tags] == expected
    assert all(set(attributes) <= {"class", "tabindex"} for _, attributes in page.tags)
    assert "<script" not in html


def test_a_hostile_log_is_shown_as_it_is() -> None:
    html = failed(log=[HOSTILE]).jupyterhub_html_message
    assert HOSTILE in unescape(html)
    assert HOSTILE not in html


def test_the_log_can_be_reached_by_keyboard() -> None:
    page = Page(failed(log=["x"]).jupyterhub_html_message)
    assert dict(page.tags)["pre"].get("tabindex") == "0"


def test_a_refused_request_lists_every_fault_and_is_status_400() -> None:
    error = RequestRefused(RequestError([Fault("cpus", "99", "at most 16"), Fault("gpus", "9", "at most 4")]))
    page = Page(error.jupyterhub_html_message)
    assert error.status_code == 400
    assert [tag for tag, _ in page.tags] == ["p", "ul", "li", "li"]
    assert "cpus = 99: at most 16" in page.text
    assert "gpus = 9: at most 4" in error.jupyterhub_message


@given(st.lists(st.builds(Fault, where=TEXT, value=TEXT, allowed=TEXT), min_size=1))
def test_no_word_of_a_refused_request_becomes_a_tag(faults: list[Fault]) -> None:
    page = Page(RequestRefused(RequestError(faults)).jupyterhub_html_message)
    assert [tag for tag, _ in page.tags] == ["p", "ul", *["li"] * len(faults)]
    assert not any(attributes for _, attributes in page.tags)


@pytest.mark.parametrize("text", ["100 %", "%s %d %(x)s", "{0} {x}", "100%\n"])
def test_a_percent_sign_or_brace_in_slurms_words_breaks_no_message(text: str) -> None:
    # tornado formats an HTTPError's log_message with its arguments when it is printed.
    error = failed(what=text)
    assert text.strip() in str(error.jupyterhub_message)
    assert str(error)
    assert str(RequestRefused(RequestError([Fault("a", text, text)])))


# --- What went wrong, in words ---------------------------------------------------------------------------------------

ACTION = "submit your session"
SUPPORT = "Ask support@example.org."


@pytest.mark.parametrize(
    ("error", "reason", "status", "what"),
    [
        (SlurmRefused(ACTION, "Invalid qos"), "refused", 400, "Slurm refused this session: Invalid qos"),
        (
            LauncherFailed(ACTION, "sudo: a password is required"),
            "launcher",
            500,
            "Studiolo may not start sessions for your account on this machine.",
        ),
        (HomeUnusable(ACTION, "/home/ada: Permission denied"), "home", 500, "/home/ada: Permission denied."),
        (HomeUnusable(ACTION, "the home folder hangs"), "home", 500, "The home folder hangs."),
        (
            SlurmUnavailable(ACTION, "Connection refused"),
            "scheduler",
            503,
            "The machine's scheduler does not answer at the moment.",
        ),
        (SlurmError(ACTION, "?"), "scheduler", 503, "The machine's scheduler does not answer at the moment."),
    ],
)
def test_why_a_job_was_not_submitted_is_told_with_whose_move_it_is(
    error: SlurmError, reason: str, status: int, what: str
) -> None:
    failure = not_submitted(error, SUPPORT)
    page = Page(failure.jupyterhub_html_message)
    assert (failure.reason, failure.status_code) == (reason, status)
    assert str(failure.jupyterhub_message).startswith(what)
    assert page.text == f"{failure.what}{failure.advice}{SUPPORT}"


def test_the_operators_own_words_are_not_for_people() -> None:
    failure = not_submitted(LauncherFailed(ACTION, "sudo: ada is not in the sudoers file"), SUPPORT)
    assert "sudo" not in failure.jupyterhub_html_message
    assert "support" in failure.advice


def test_nothing_is_said_to_be_lost_where_slurm_did_not_answer() -> None:
    assert "Try again" in not_submitted(SlurmUnavailable(ACTION, "x"), SUPPORT).advice


def test_a_database_that_can_not_be_written_is_the_supports_move() -> None:
    failure = not_saved(SUPPORT)
    assert (failure.reason, failure.status_code) == ("database", 503)
    assert "support" in failure.advice
    assert SUPPORT in Page(failure.jupyterhub_html_message).text


@pytest.mark.parametrize("state", sorted(OVER_STATES))
def test_every_end_is_told_in_words_with_slurms_own_and_the_log(state: str) -> None:
    job = JobState(7, state, node="gpu1")
    failure = ended(job, ["last line"], SUPPORT)
    what, why, advice, slurm = sentences(ended_cause(job))
    assert slurm == f"Slurm's word for it is {state} (job 7 on gpu1)."
    told = " ".join(part for part in (what, why, slurm, advice) if part)
    assert failure.jupyterhub_message == f"{told}\nlast line"
    assert failure.reason == state.lower()
    assert failure.status_code == 500
    assert SUPPORT in Page(failure.jupyterhub_html_message).text


@pytest.mark.parametrize(
    ("node", "minutes", "what"),
    [
        ("gpu1", 5, "Job 7 runs on gpu1, but its notebook server did not answer within 5 min."),
        ("", 90, "Job 7 runs, but its notebook server did not answer within 1 h 30 min."),
    ],
)
def test_a_server_that_stays_silent_is_told_with_its_node_and_its_time(node: str, minutes: int, what: str) -> None:
    failure = silent(7, node, minutes, ["last line"], SUPPORT)
    assert str(failure.jupyterhub_message).startswith(what)
    assert str(failure.jupyterhub_message).endswith(f"{failure.advice}\nlast line")
    assert failure.reason == "silent"
    assert SUPPORT in Page(failure.jupyterhub_html_message).text


def test_slurms_word_names_job_and_node_where_there_is_one() -> None:
    assert slurms_word(JobState(7, "CANCELLED")) == "Slurm's word for it is CANCELLED (job 7)."
    assert slurms_word(JobState(7, "NODE_FAIL", node="gpu1")) == "Slurm's word for it is NODE_FAIL (job 7 on gpu1)."


@pytest.mark.parametrize("kind", [SlurmRefused, LauncherFailed, HomeUnusable, SlurmUnavailable])
@given(words=TEXT)
def test_no_word_of_slurm_or_a_node_becomes_a_tag(kind: type[SlurmError], words: str) -> None:
    job = JobState(7, words, words, node=words)
    for failure, tags in (
        (not_submitted(kind(ACTION, words), words), ["p", "p"]),
        (ended(job, [words], words), ["p", "p", "p", "pre"]),
        (silent(7, words, 5, [words], words), ["p", "p", "p", "pre"]),
    ):
        page = Page(failure.jupyterhub_html_message)
        assert [tag for tag, _ in page.tags] == [*tags, *(["p"] if words else [])]
        assert str(failure)


# --- Why, and the next thing to do -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_sentences_and_one_next_action(kind: str, site: Site) -> None:
    told = tell(Cause(kind, JobState(7, "FAILED", node="gpu1"), "Its words.", 15, "eve"), Asked({}, site), ["a line"])
    assert told.kind == kind
    assert told.what.endswith((".", ")."))
    assert told.advice.endswith(".")
    assert not told.why or told.why.endswith(".")
    assert "%(" not in told.what + told.why + told.advice
    assert told.action.label
    assert told.action.kind in {
        "retry", "report", "choose", "smaller", "more-memory", "more-time", "other-partition", "make-room", "home",
    }  # fmt: skip
    assert told.lines == ("a line",)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_next_action_asks_for_is_granted(kind: str, site: Site) -> None:
    for name in site.profiles:
        action = tell(Cause(kind), Asked({"profile": name}, site)).action
        assert action.kind == "report" or check(action.options, site)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_site_grants_no_more_still_has_a_next_action(kind: str, site: Site) -> None:
    assert tell(Cause(kind), Asked({"profile": "gone"}, site)).action.label


def test_out_of_memory_offers_twice_as_much_as_far_as_it_goes(site: Site) -> None:
    asked = Asked({"memory": "1G"}, site)
    action = tell(Cause("out-of-memory"), asked).action
    assert action.kind == "more-memory"
    assert check(action.options, site).memory == 2048
    request = check({}, site)
    most = site.partitions[request.partition].max_memory
    full = tell(Cause("out-of-memory"), Asked({"memory": f"{most}M"}, site)).action
    assert full.kind in {"other-partition", "choose"}


def test_at_the_end_of_its_time_twice_as_much_is_offered_and_what_was_asked_for_stays(site: Site) -> None:
    action = tell(Cause("time-over"), Asked({"hours": "1", "cpus": 1}, site)).action
    assert action.kind == "more-time"
    assert dict(action.options) == {"cpus": 1, "minutes": 120}


def test_a_folder_that_can_not_be_opened_is_left_out_of_the_next_request(site: Site) -> None:
    action = tell(Cause("folder"), Asked({"workdir": "no/such", "cpus": 1}, site)).action
    assert dict(action.options) == {"cpus": 1}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("OSError: [Errno 122] Disk quota exceeded: '/home/ada/x'", "quota"),
        ("No space left on device", "quota"),
        (
            "studiolo: the folder /home/ada/no can not be opened (No such file or directory): choose another one",
            "folder",
        ),
        ("studiolo: the hub at http://x can not be reached from this node (timed out): tell the support", "hub-away"),
        ("ModuleNotFoundError: No module named 'spawners'", "environment"),
        ("Lmod has detected the following error: The following module(s) are unknown", "environment"),
        ("/bin/bash: line 9: exec: /opt/x/bin/python: cannot execute: required file not found", "environment"),
        ("FATAL:   could not open image /x.sif", "environment"),
        ("something else", "failed"),
    ],
)
def test_the_log_of_a_failed_job_says_what_kind_of_failure_it_was(line: str, kind: str) -> None:
    assert ended_cause(JobState(7, "FAILED"), ["before", line, "after"]).kind == kind


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Batch job submission failed: Job violates accounting/QOS policy (job submit limit)", "limit"),
        ("Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)", "too-long"),
        ("Batch job submission failed: Requested node configuration is not available", "too-large"),
        ("Batch job submission failed: Requested reservation is invalid", "reservation"),
        ("Batch job submission failed: Invalid account or account/partition combination specified", "account"),
        ("Batch job submission failed: Invalid qos specification", "account"),
        ("Something that nobody has heard of", "refused"),
    ],
)
def test_a_refusal_is_sorted_by_slurms_own_words(words: str, kind: str) -> None:
    failure = not_submitted(SlurmRefused(ACTION, words), SUPPORT)
    assert failure.cause is not None
    assert failure.cause.kind == kind
    assert failure.what.startswith(f"Slurm refused this session: {words}")


def test_who_has_worked_in_a_session_is_told_other_things_than_who_waited_for_one() -> None:
    ends = {
        state: (ended_cause(JobState(7, state)), ended_cause(JobState(7, state), served=True)) for state in OVER_STATES
    }
    for state in ("COMPLETED", "FAILED", "TIMEOUT"):
        before, after = ends[state]
        assert before.kind != after.kind
    for _before, after in ends.values():
        assert "log below" not in " ".join(sentences(after))


def test_a_session_that_nobody_came_to_says_so() -> None:
    cause = ended_cause(JobState(7, "COMPLETED"), served=True, unattended=15)
    assert sentences(cause)[0] == "Nobody came within 15 min, so it was released."


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"is_owner": True, "is_system": False}, "cancelled by yourself"),
        ({"is_owner": False, "is_system": True}, "by an operator or by the system"),
        ({"is_owner": False, "is_system": False}, "cancelled by the account eve"),
    ],
)
def test_a_cancellation_says_whose_it_was(facts: dict[str, bool], words: str) -> None:
    cause = cancelled_by(ended_cause(JobState(7, "CANCELLED")), "eve", **facts)
    assert words in sentences(cause)[0]


def test_an_end_that_nobody_has_heard_of_is_told_in_slurms_word() -> None:
    assert "RECONFIG_FAIL" in sentences(ended_cause(JobState(1, "RECONFIG_FAIL")))[0]


# --- Limits: what helps against each ---------------------------------------------------------------------------------


def spending(site: Site, left: float | None, *, member: tuple[str, ...] = ("p1", "p2"), other: float = 1000) -> Payer:
    """Ada in these projects, with so many GPU-hours left in the first and ``other`` in the second."""

    def allowance(hours: float | None) -> Allowance:
        limits = {} if hours is None else {"gres/gpu": hours * 60}
        return Allowance(parent="", limits=limits, used={})

    budgets = Budgets(0.0, {"p1": allowance(left), "p2": allowance(other)}, {"ada": frozenset(member)}, {"ada": "p1"})
    return payer("ada", budgets)


def against(site: Site, word: str, options: dict[str, object], **more: object) -> Action:
    """The next action where Slurm refused a session with this word."""
    words = f"sbatch: error: {word}\nsbatch: error: Batch job submission failed: {GENERAL}"
    asked = Asked(options, site, **more)  # type: ignore[arg-type]
    return tell(Cause("limit", words=words), asked).action


GENERAL = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
GPUS = {"profile": "one", "gpus": 4, "minutes": 240}


@pytest.mark.parametrize(
    ("word", "more", "kind"),
    [
        ("QOSMaxSubmitJobPerUserLimit", {}, "home"),
        ("AssocMaxSubmitJobLimit", {"running": 1}, "home"),
        ("QOSMaxGRESPerUser", {"running": 1}, "home"),
        ("AssocGrpSubmitJobsLimit", {"running": 1}, "home"),
        ("AssocGrpSubmitJobsLimit", {}, "retry"),
        ("AssocMaxWallDurationPerJobLimit", {}, "smaller"),
        ("QOSMinGRES", {}, "choose"),
        ("", {"running": 1}, "home"),
    ],
)
def test_against_a_limit_the_button_does_what_helps(site: Site, word: str, more: dict[str, object], kind: str) -> None:
    assert against(site, word, GPUS, **more).kind == kind


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("QOSMaxGRESPerUser", "gpus"),
        ("AssocGrpGRES", "gpus"),
        ("QOSMaxGRESPerJob", "gpus"),
        ("QOSMaxCpuPerUserLimit", "cpus"),
        ("AssocGrpCpuLimit", "cpus"),
        ("AssocMaxMemPerJob", "memory"),
        ("QOSMaxWallDurationPerJobLimit", "minutes"),
        ("", "gpus"),
    ],
)
def test_what_the_limit_counts_is_what_gets_less_and_nothing_else(site: Site, word: str, changed: str) -> None:
    before, after = check(GPUS, site), check(against(site, word, GPUS).options, site)
    differing = {f for f in ("gpus", "cpus", "memory", "minutes") if getattr(before, f) != getattr(after, f)}
    assert differing == {changed}


def test_a_spent_gpu_budget_offers_another_project_that_can_pay(site: Site) -> None:
    action = against(site, "AssocGrpGRESMinutes", GPUS | {"account": "p1", "qos": "long"}, payer=spending(site, 0))
    assert (action.kind, action.options["account"]) == ("other-account", "p2")
    assert check(action.options, site).account == "p2"


@pytest.mark.parametrize("more", [{"other": 1}, {"member": ("p1",)}])
def test_without_one_it_offers_the_time_that_can_still_be_paid(site: Site, more: dict[str, object]) -> None:
    action = against(site, "AssocGrpGRESMinutes", GPUS, payer=spending(site, 6, **more))  # type: ignore[arg-type]
    assert action.kind == "smaller"
    assert check(action.options, site).minutes == 90, "4 GPUs for 6 GPU-hours"


def test_where_nothing_is_left_nothing_smaller_is_offered(site: Site) -> None:
    assert against(site, "AssocGrpGRESMinutes", GPUS, payer=spending(site, 0, member=("p1",))).kind == "choose"
    assert against(site, "AssocGrpGRESMinutes", GPUS).kind == "choose", "and of unknown projects none is named"


def test_general_words_are_read_with_what_is_known_of_the_budget(site: Site) -> None:
    action = against(site, "", GPUS, payer=spending(site, 6), running=1)
    assert check(action.options, site).minutes == 90


def test_who_waited_for_a_limit_is_told_of_it_and_not_to_ask_for_less(site: Site) -> None:
    asked = Asked(GPUS, site, running=1)
    told = tell(Cause("waited", words="QOSMaxJobsPerUserLimit"), asked)
    assert told.action.kind == "home"
    assert told.why == "You have as many sessions and jobs as you may: stop one to start this."
    assert told.advice == "Start again once that has changed."
    busy = tell(Cause("waited", words="Priority"), asked)
    assert (busy.action.kind, "too busy" in busy.why) == ("smaller", True)


@pytest.mark.parametrize(
    ("reason", "kind", "changed", "advice"),
    [
        ("PartitionTimeLimit", "smaller", {"minutes"}, "Ask for less"),
        ("QOSMaxGRESPerJob", "smaller", {"gpus"}, "Ask for less"),
        ("PartitionDown", "retry", set(), "Start again once"),
        ("JobHeldAdmin", "retry", set(), "Start again once"),
    ],
)
def test_who_waited_in_vain_is_told_of_what_and_offered_what_helps_against_it(
    site: Site, reason: str, kind: str, changed: set[str], advice: str
) -> None:
    told = tell(Cause("waited", words=reason), Asked(GPUS, site))
    before, after = check(GPUS, site), check(told.action.options, site)
    assert (told.action.kind, told.advice.startswith(advice), "too busy" in told.why) == (kind, True, False)
    assert {f for f in ("gpus", "cpus", "memory", "minutes") if getattr(before, f) != getattr(after, f)} == changed


def test_a_session_of_one_gpu_that_may_have_none_is_not_given_fewer_processors(site: Site) -> None:
    assert tell(Cause("waited", words="QOSMaxGRESPerJob"), Asked(GPUS | {"gpus": 1}, site)).action.kind == "choose"


def test_where_a_partition_has_no_more_memory_another_is_offered_with_more(site: Site) -> None:
    most = {name: partition.max_memory for name, partition in site.partitions.items()}
    here, there = min(most, key=lambda name: most[name]), max(most, key=lambda name: most[name])
    asked = Asked({"partition": here, "memory": f"{most[here]}M"}, site)
    action = tell(Cause("out-of-memory"), asked).action
    assert action.kind == "other-partition"
    assert check(action.options, site).memory == min(2 * most[here], most[there])


# --- Room, environments, logs ----------------------------------------------------------------------------------------


def test_a_full_disk_leads_to_making_room_and_then_to_the_same_again(site: Site) -> None:
    action = tell(Cause("quota"), Asked({"cpus": 1}, site)).action
    assert (action.kind, dict(action.options)) == ("make-room", {"cpus": 1})


@pytest.mark.parametrize("kind", ["silent", "completed", "failed", "environment"])
def test_another_environment_is_advised_only_where_there_is_one(site: Site, kind: str) -> None:
    base = {site.default_environment: site.environments[site.default_environment]}
    profiles = {site.default_profile: site.profiles[site.default_profile]}
    alone = site.model_copy(update={"environments": base, "profiles": profiles})
    cause = Cause(kind, JobState(7, "FAILED", node="gpu1"))
    assert "nvironment" in tell(cause, Asked({}, site)).advice
    told = tell(cause, Asked({}, alone))
    assert "hoose another environment" not in told.advice
    assert "Another environment" not in told.advice
    assert told.action.kind == ("report" if kind == "environment" else "retry")


@pytest.mark.parametrize("kind", ["failed", "completed"])
def test_where_the_hub_keeps_no_logs_it_says_where_the_log_is(site: Site, kind: str) -> None:
    unkept = site.model_copy(update={"paths": site.paths.model_copy(update={"logs": ""})})
    advice = tell(Cause(kind, JobState(7, "FAILED")), Asked({}, unkept)).advice
    assert "in your home folder" in advice
    assert "below" not in advice
