"""What panels show is put together from what is known; who looks, and how long, is the poller's."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from studiolo.desk import Desk
from studiolo.errors import SlurmUnavailable
from studiolo.panels.board import Board, Found, budget_of, described
from studiolo.panels.groups import Group, group_view, grouped
from studiolo.panels.page import PanelView
from studiolo.panels.poller import LOOK_SECONDS, QUIET_SECONDS, TROUBLE_SECONDS, Poller, interval
from studiolo.session import Session
from studiolo.site import Prices, Site
from studiolo.slurm.budgets import Allowance, Budgets
from studiolo.slurm.states import JobState, Tagged
from studiolo.views import CANCEL, Amount, BudgetView, JobView, announce

if TYPE_CHECKING:
    from conftest import FakePrograms

NOW = 1_795_348_800.0
HOUR = 3600
ASKED = {"minutes": 240}
HERE = Session(7, "gpu2", "gpu", "p1", 4, 16384, 1, 1, int(NOW) + 3 * HOUR, owner="0123456789abcdef", asked=ASKED)


# --- This session ----------------------------------------------------------------------------------------------------


def test_a_session_is_told_from_its_own_environment(site: Site) -> None:
    priced = site.model_copy(update={"prices": Prices(gpu_hour=2.0)})
    told = described(HERE, priced, None, NOW, time.gmtime)
    assert told.words == "One quarter of an A100 on gpu2, 4 cores, 16 GB until 15:00."
    assert told.spent == Amount(0.25, 4.0, 0.5, "EUR")
    assert told.ceiling == Amount(1.0, 16.0, 2.0, "EUR")
    assert told.home == "/hub/home"


def test_slurms_word_of_its_end_counts_more_an_extension_has_moved_it(site: Site) -> None:
    state = JobState(7, "RUNNING", node="gpu2", start=int(NOW) - HOUR, end=int(NOW) + 9 * HOUR)
    told = described(HERE, site, state, NOW, time.gmtime)
    assert told.ends == NOW + 9 * HOUR
    assert told.words.endswith("until 21:00.")
    assert told.ceiling == Amount(2.5, 40.0)


def test_a_session_whose_end_nobody_knows_has_no_made_up_cost(site: Site) -> None:
    told = described(Session(7, "", "elsewhere", "", 4, 0, 0, 0, None), site, None, NOW, time.gmtime)
    assert (told.words, told.spent, told.ceiling) == ("4 cores.", None, None)


def test_a_budget_is_that_of_the_account_that_is_charged(site: Site) -> None:
    accounts = {"p1": Allowance({"gres/gpu": 6000}, {"gres/gpu": 3600}), "p2": Allowance({}, {"gres/gpu": 60})}
    budgets = Budgets(NOW, accounts, {}, {})
    assert budget_of(budgets, "ada", "P1", site) == BudgetView("P1", "", 60.0, 100.0)
    assert budget_of(budgets, "ada", "p2", site) == BudgetView("p2", "", 1.0, None)
    assert budget_of(budgets, "ada", "secret", site) is None


# --- Jobs that nothing here holds ------------------------------------------------------------------------------------


def test_jobs_of_one_tag_are_one_thing_and_unknown_kinds_none() -> None:
    tagged = [
        Tagged(1, "ada", "dask", "s.c"),
        Tagged(2, "ada", "dask", "s.c"),
        Tagged(3, "ada", "run", "r"),
        Tagged(9, "a", "x", "y"),
    ]
    assert grouped("main", tagged, without=[3]) == (Group("main", "dask", "s.c", (1, 2)),)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([None, None], ("unknown", "")),
        ([JobState(1, "PENDING", "Priority", start=99), None], ("waiting", "Others are ahead of you in the queue.")),
        (
            [JobState(1, "RUNNING", node="n1"), JobState(2, "PENDING", "Priority")],
            ("running", "On n1. The rest waits in the queue."),
        ),
        ([JobState(1, "RUNNING", node="n1"), JobState(2, "COMPLETED")], ("running", "On n1.")),
        ([JobState(1, "CANCELLED"), JobState(2, "COMPLETED")], None),
    ],
)
def test_a_group_is_what_slurm_says_of_its_jobs(
    states: list[JobState | None], expected: tuple[str, str] | None
) -> None:
    view = group_view(Group("main", "dask", "s.c", (1, 2)), states)
    assert (view and (view.state, view.words.partition(" (Slurm")[0])) == expected


# --- The board -------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(site: Site, programs: FakePrograms) -> Iterator[Desk]:
    for name in ("squeue", "sacct", "sbatch"):
        programs.add(name)
    programs.add("scontrol", err="Socket timed out", status=1)
    clusters = {
        name: cluster.model_copy(update={"commands": str(programs.folder)}) for name, cluster in site.clusters.items()
    }
    made = Desk(site.model_copy(update={"clusters": clusters}), HERE)
    yield made
    made.do(_end(made))
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


async def _end(desk: Desk) -> None:
    for watcher in desk.watchers.values():
        watcher.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        # asyncio's own are left to end with those that they are for: one that connects a program's pipes would leave them open.
        if os.path.dirname(asyncio.__file__) not in task.get_coro().cr_code.co_filename:
            task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Thing:
    def __init__(self, name: str, job: int = 5) -> None:
        self.name, self.job = name, job

    def view(self) -> JobView:
        if self.name == "broken":
            raise RuntimeError("a bug")
        return JobView("run", self.name, self.name, "running", "", jobs=(self.job,), cluster="main")

    def act(self, action: str) -> None:
        raise AssertionError(action)


def test_one_thing_that_can_not_be_shown_hides_no_other(desk: Desk) -> None:
    good, broken = Thing("good"), Thing("broken")
    announce(good)
    announce(broken)
    view = desk.do(Board(desk, {}).look(["batch"]))
    assert "good" in [one.name for one in view.runs]


def test_what_is_held_here_is_shown_once_and_knows_most(desk: Desk) -> None:
    held = Thing("same")
    announce(held)
    board = Board(desk, {}, runs=lambda: [Thing("same"), Thing("old")])
    view = desk.do(board.look(["batch"], patience=30))
    assert sorted(one.name for one in view.runs) == ["old", "same"]
    assert board.live["run", "same"] is held


def test_a_silent_slurm_is_said_and_what_was_known_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm, now, tagged = desk.slurm["main"], [NOW], [Tagged(21, "ada", "run", "far")]

    async def answer() -> tuple[Tagged, ...]:
        if tagged:
            return tuple(tagged)
        raise SlurmUnavailable("list jobs", "Socket timed out")

    monkeypatch.setattr(slurm, "tagged", answer)
    board = Board(desk, {}, clock=lambda: now[0])
    assert [one.name for one in desk.do(board.look(["jobs"], patience=30)).jobs] == ["Batch run far"]
    tagged.clear()
    now[0] += 3600
    view = desk.do(board.look(["jobs"], patience=30))
    assert "Slurm has not answered since" in view.trouble
    assert [one.name for one in view.jobs] == ["Batch run far"]


def test_questions_of_the_panels_own_are_seldom(desk: Desk, programs: FakePrograms) -> None:
    board = Board(desk, {}, clock=lambda: NOW)
    for _again in range(3):
        desk.do(board.look(["session", "jobs"], patience=30))
        board.find_again()
    assert len([call for call in programs.called("scontrol") if "assoc_mgr" in call.argv]) == 1
    assert len([call for call in programs.called("squeue") if any("|%k|" in word for word in call.argv)]) == 1


# --- The poller ------------------------------------------------------------------------------------------------------


@dataclass
class FakeBoard:
    looked: list[set[str]] = field(default_factory=list)
    fail: bool = False

    async def look(self, parts: Any) -> PanelView:
        self.looked.append(set(parts))
        if self.fail:
            raise RuntimeError("a bug")
        return PanelView((), NOW)

    def find_again(self) -> None: ...


class FakePanel:
    def __init__(self, *parts: str) -> None:
        self.parts = parts
        self.is_shown = True
        self.seen: list[PanelView] = []

    def update(self, view: PanelView) -> None:
        self.seen.append(view)


def until(found: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline
        os.sched_yield()


def poller(desk: Desk, board: FakeBoard, clock: Callable[[], float] = time.monotonic) -> Poller:
    return Poller(desk, board, clock)  # type: ignore[arg-type]


def test_one_look_serves_all_panels_each_with_its_parts(desk: Desk) -> None:
    board, one, other = FakeBoard(), FakePanel("jobs"), FakePanel("gauges", "dask")
    looking = poller(desk, board)
    looking.add(one)
    looking.add(other)
    until(lambda: one.seen and other.seen)
    looking.touch()
    until(lambda: {"jobs", "gauges", "dask"} in board.looked)
    assert one.seen[-1].parts == ("jobs",)
    assert other.seen[-1].parts == ("gauges", "dask")
    assert one.seen[-1].live


def test_nothing_is_looked_at_for_nobody(desk: Desk) -> None:
    board, panel = FakeBoard(), FakePanel("jobs")
    looking = poller(desk, board)
    looking.add(panel)
    until(lambda: panel.seen)
    panel.is_shown = False
    looking.touch()
    until(lambda: looking._task and looking._task.done())
    looks = len(board.looked)
    panel.is_shown = True
    looking.touch()
    until(lambda: len(board.looked) > looks)


def test_an_idle_kernel_is_left_in_peace_until_somebody_does_something(desk: Desk) -> None:
    board, panel, now = FakeBoard(), FakePanel("jobs"), [0.0]
    looking = poller(desk, board, lambda: now[0])
    looking.add(panel)
    until(lambda: panel.seen)
    now[0] = QUIET_SECONDS + 1
    until(lambda: looking._task and looking._task.done())
    assert panel.seen[-1].paused
    assert not panel.seen[-1].live
    looking.cell_begins()
    until(lambda: panel.seen[-1].live)
    now[0] = 9 * QUIET_SECONDS
    looks = len(board.looked)
    until(lambda: len(board.looked) > looks + 1)
    assert panel.seen[-1].live, "a cell runs"
    looking.cell_ends()


def test_a_look_that_fails_is_tried_again_less_and_less_often(desk: Desk) -> None:
    board, panel = FakeBoard(fail=True), FakePanel("jobs")
    looking = poller(desk, board)
    looking.add(panel)
    until(lambda: board.looked)
    board.fail = False
    looking.touch()
    until(lambda: panel.seen)
    assert [interval(failures) for failures in (0, 1, 99)] == [LOOK_SECONDS, 2 * LOOK_SECONDS, TROUBLE_SECONDS]


def test_who_cancels_workers_in_a_panel_tells_their_cluster_before(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    async def cancel(_cluster: str, jobs: list[int]) -> None:
        done.append(jobs)

    monkeypatch.setattr(desk, "cancel", cancel)
    monkeypatch.setattr("studiolo.panels.board.tell_to_end", lambda _root, name: done.append(name))
    cluster = next(iter(desk.slurm))
    Found(desk, Group(cluster, "dask", "s.0a1b2c3d", (1, 2))).act(CANCEL.name)
    Found(desk, Group(cluster, "run", "r", (3,))).act(CANCEL.name)
    assert done == ["s.0a1b2c3d", [1, 2], [3]]
