"""Answers in words: why something waits or failed, what mends it, what starts sooner, and what would have done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from studiolo import answers
from studiolo.alternatives import alternatives
from studiolo.answers import Answer, Past, asked_for, choose, explain, of_state, right_size, told, why
from studiolo.desk import Desk
from studiolo.errors import OutsideSession, RequestError, SlurmRefused, SlurmUnavailable
from studiolo.request import check
from studiolo.script import Directives
from studiolo.session import Session
from studiolo.site import Site
from studiolo.slurm.states import OVER_STATES, JobState
from studiolo.views import JobView, Resources

if TYPE_CHECKING:
    from conftest import FakePrograms

NOW = 1_795_348_800.0  # 12:00 UTC
HOUR = 3600
HERE = Session(7, "gpu2", "gpu", "p1", 4, 16384, 1, 1, int(time.time()) + 3 * HOUR, owner="0123456789abcdef")
WAITS = JobView("run", "1", "train", "waiting", "Others are ahead of you.", asked=NOW - 600, expected=NOW + HOUR)


# --- From what is known ----------------------------------------------------------------------------------------------


def test_what_waits_says_why_how_long_and_when_it_starts() -> None:
    assert told(WAITS, NOW, time.gmtime) == Answer(
        "Others are ahead of you. It has waited for 10 min.",
        "Slurm expects it to start at 13:00, or sooner where others end early.",
    )
    assert told(replace(WAITS, expected=None), NOW).fix == "Slurm does not say yet when it starts."


def test_every_state_has_something_to_say() -> None:
    for state in ("waiting", "starting", "running", "stopping", "done", "failed", "cancelled", "unknown"):
        assert told(JobView("run", "1", "x", state, ""), NOW).lines  # type: ignore[arg-type]


@pytest.mark.parametrize("state", sorted(OVER_STATES))
def test_every_end_of_slurms_is_a_sentence_with_its_word(state: str) -> None:
    answer = of_state(JobState(5, state), NOW)
    assert answer.words.endswith(f"(Slurm says: {state})")
    if state not in ("COMPLETED", "CANCELLED"):
        assert answer.fix, "what to do"


def test_a_job_that_waits_or_runs_is_told_by_slurms_word() -> None:
    waiting = of_state(JobState(5, "PENDING", "QOSMaxGRESPerUser", start=int(NOW) + HOUR), NOW, time.gmtime)
    assert (
        waiting.words
        == "You use as many GPUs as you may: stop a session to start this. (Slurm says: QOSMaxGRESPerUser)"
    )
    assert "13:00" in waiting.fix
    assert of_state(JobState(5, "RUNNING", node="n1", end=int(NOW) + HOUR), NOW, time.gmtime).words == (
        "It runs on n1 until 13:00 at most."
    )


def test_an_answer_prints_its_lines_and_escapes_them_on_a_page() -> None:
    answer = Answer("<b>waits</b>", "", "2 h instead of 8 h starts now.")
    assert repr(answer) == "<b>waits</b>\n2 h instead of 8 h starts now."
    assert answer._repr_html_() == "<p>&lt;b&gt;waits&lt;/b&gt;</p><p>2 h instead of 8 h starts now.</p>"


# --- Sooner ----------------------------------------------------------------------------------------------------------


def test_what_gives_up_least_of_those_that_start_now_is_proposed(site: Site) -> None:
    options: Mapping[str, object] = {"profile": "learn"}
    found = alternatives(options, check(options, site), site)
    first, second, third = found[:3]
    assert choose([(first, NOW + 9000), (second, NOW), (third, NOW)], NOW + HOUR, NOW) == (second, None)


@pytest.mark.parametrize(
    ("start", "expected", "proposed"),
    [
        (NOW + 600, NOW + 2 * HOUR, True),
        (NOW + 600, NOW + 700, False),  # less than five minutes
        (NOW + 2 * HOUR, NOW + 3 * HOUR, False),  # less than half of the wait
        (NOW + 600, None, False),  # perhaps it starts sooner than that
    ],
)
def test_what_starts_later_is_proposed_where_it_is_worth_it(
    site: Site, start: float, expected: float | None, proposed: bool
) -> None:
    options: Mapping[str, object] = {"profile": "learn"}
    proposal = alternatives(options, check(options, site), site)[0]
    assert (choose([(proposal, start)], expected, NOW) is not None) is proposed
    assert choose([], expected, NOW) is None


# --- What would have done --------------------------------------------------------------------------------------------

PAST = Past(Resources(8, 65536, gpus=1), 240, 35 * 60, memory=7 * 1024, cores=1.2, gpu=0.4)


def test_the_last_runs_are_looked_at_together() -> None:
    answer = right_size([PAST, replace(PAST, memory=1024, seconds=20 * 60)], "train.ipynb")
    assert answer.words == (
        "The last 2 runs of train.ipynb used at most 35 min of 4 h, 7 GB of 64 GB, 1.2 of 8 cores in the mean, 40% of its GPU."
    )
    assert answer.less == (
        "Less would have done (CPUs: 2, memory: 10 GB, time: 1 h): it starts sooner, and costs less."
    )
    assert not answer.fix


def test_what_one_of_them_does_not_tell_of_gpus_is_known_of_none() -> None:
    assert "no GPU" in right_size([replace(PAST, gpu=0.0)], "x").less
    assert "no GPU" not in right_size([replace(PAST, gpu=0.0), replace(PAST, gpu=None)], "x").less


def test_gpus_that_were_idle_at_every_look_were_not_needed() -> None:
    seen = replace(PAST, gpu=0.004, most_gpu=0.02)
    assert "no GPU" in right_size([seen, seen], "x").less
    assert "no GPU" not in right_size([seen, replace(seen, most_gpu=0.5)], "x").less
    assert "no GPU" not in right_size([seen, replace(seen, most_gpu=None)], "x").less


def test_what_fits_is_said_to_fit() -> None:
    answer = right_size([Past(Resources(2, 8192), 60, 50 * 60, memory=6000, cores=1.9)], "x")
    assert (answer.fix, answer.less) == ("What you asked for fits.", "")


# --- Asking ----------------------------------------------------------------------------------------------------------


class Thing:
    def __init__(self, view: JobView, request: object = None) -> None:
        self._view, self.request = view, request

    def view(self) -> JobView:
        return self._view

    def act(self, action: str) -> None:
        raise AssertionError(action)


@pytest.fixture
def at(site: Site, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("squeue", "sacct", "sbatch"):
        programs.add(name)
    clusters = {
        name: cluster.model_copy(update={"commands": str(programs.folder)}) for name, cluster in site.clusters.items()
    }
    made = Desk(site.model_copy(update={"clusters": clusters}), HERE)
    monkeypatch.setattr(answers, "desk", lambda: made)
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


def test_a_session_is_explained_in_one_sentence(at: Desk) -> None:
    answer = explain()
    assert answer.words.startswith("One quarter of an A100 on gpu2, 4 cores, 16 GB until ")
    assert answer.fix.endswith("are left.")


def test_a_waiting_run_is_told_what_starts_sooner_by_slurms_own_word(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def foretell(person: str, directives: Directives) -> int:
        asked.append(directives.minutes)
        if directives.minutes > 60:
            raise SlurmRefused("say when", "Requested nodes are busy")
        return int(time.time())

    monkeypatch.setattr(at.slurm["main"], "estimate", foretell)
    view = replace(WAITS, asked=time.time() - 60, expected=time.time() + HOUR)
    just = replace(view, asked=time.time())
    assert why(Thing(just, {"profile": "learn", "cluster": "main"})).sooner == "", "it may start at once as it is"
    assert asked == []
    assert why(Thing(view, {"profile": "learn", "cluster": "main"})).sooner == "1 h instead of 2 h starts now."
    assert len(asked) == 1, "nothing more is asked than is needed"
    assert why(Thing(view)).sooner == "", "it does not tell what it asked for"

    async def silent(person: str, directives: Directives) -> int:
        raise SlurmUnavailable("say when", "Unable to contact slurm controller")

    monkeypatch.setattr(at.slurm["main"], "estimate", silent)
    assert why(Thing(view, {"profile": "learn"})).sooner == "", "what Slurm does not say is not made up"


def test_a_job_is_looked_up_by_its_number(at: Desk, programs: FakePrograms) -> None:
    programs.add("squeue", out="31|PENDING|Priority|n/a|N/A|N/A\n")
    assert why(31).words.startswith("Others are ahead of you")
    programs.add("squeue")
    programs.add("sacct", out="31|TIMEOUT|0:15|n1|1795348800|1795349400\n")
    assert why(31).words == "Its time was over. (Slurm says: TIMEOUT)"
    programs.add("sacct")
    with pytest.raises(RequestError, match="the number of a job of yours"):
        why(31)


@pytest.mark.parametrize("thing", [None, "31", 1.5, True, object()])
def test_anything_else_is_refused_and_said_what_is_allowed(at: Desk, thing: Any) -> None:
    with pytest.raises(RequestError, match="a run, a sweep, a cluster, or the number"):
        why(thing)


def test_a_notebook_that_never_ran_is_said(at: Desk, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RequestError, match="with a run that is done"):
        explain("none.ipynb")


def test_what_a_thing_asked_for_can_be_asked_for_again(site: Site) -> None:
    request = check({"profile": "learn"}, site)
    options = asked_for(Thing(WAITS, request))
    assert options is not None
    assert check(options, site) == request
    assert asked_for(Thing(WAITS)) is None


def test_outside_of_a_session_there_is_nothing_to_explain(at: Desk) -> None:
    at.session = None
    with pytest.raises(OutsideSession):
        explain()
