"""What the panels of one kernel show, put together: its session, its gauges, and all of a person's that is on the cluster.

Everything comes from what the desk follows anyway. Two questions are the panels' own, and both are asked beside, seldom, and
only while somebody looks: which jobs of this person there are (once a minute) and what is left of the project (every five).
Where Slurm does not answer, what was known stays, and the panel says since when.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

from studiolo.cost import amount, price_per_hour
from studiolo.dask_folder import folders, tell_to_end
from studiolo.desk import Desk
from studiolo.errors import SlurmError
from studiolo.gauges import Gauges
from studiolo.looks import joules_of_node
from studiolo.meter import Meter
from studiolo.nvml import Gpus
from studiolo.panels.groups import Group, group_view, grouped, in_order
from studiolo.panels.page import PanelView
from studiolo.session import Session
from studiolo.site import Site
from studiolo.slurm.budgets import Budgets
from studiolo.slurm.states import JobState
from studiolo.views import CANCEL, BudgetView, JobView, Live, Resources, SessionView, announced
from studiolo.wording import Clock, local, moment, resources_words

__all__ = ["Board", "Found", "budget_of", "described", "resources_of", "this_session"]

log = logging.getLogger(__name__)

FIND_SECONDS = 60.0
BUDGET_SECONDS = 300.0
AGAIN_SECONDS = 5.0

# --- Plain decisions -------------------------------------------------------------------------------------------------


def resources_of(session: Session, site: Site) -> Resources:
    """What this session has, by its own environment."""
    partition = site.partitions.get(session.partition)
    return Resources(
        cpus=session.cpus,
        memory=session.memory,
        gpus=0 if session.shards else session.gpus,
        shards=session.shards,
        shards_per_gpu=partition.shards_per_gpu if partition else 0,
        gpu_type=partition.gpu_type if partition else "",
    )


def described(session: Session, site: Site, state: JobState | None, now: float, clock: Clock = local) -> SessionView:
    """This session; ``state`` is Slurm's last word of its job, which knows of extensions."""
    resources = resources_of(session, site)
    ends = (state.end if state and state.runs_somewhere else None) or session.ends
    minutes = session.asked.get("minutes")
    started = state.start if state and state.runs_somewhere else None
    if started is None and session.ends is not None and isinstance(minutes, int):
        started = session.ends - 60 * minutes
    until = f" until {moment(ends, now, clock)}" if ends is not None else ""
    words = resources_words(resources, session.node)
    return SessionView(
        job=session.job,
        node=session.node,
        words=f"{words[:1].upper()}{words[1:]}{until}.",
        resources=resources,
        started=started,
        ends=ends,
        spent=None if started is None else amount(resources, now - started, site.prices),
        ceiling=None if started is None or ends is None else amount(resources, ends - started, site.prices),
        price_per_hour=price_per_hour(resources, site.prices),
        home=f"{site.hub.base_url}hub/home",
    )


def budget_of(budgets: Budgets, person: str, account: str, site: Site) -> BudgetView | None:
    """What is left of the account that a session charges; ``None`` where Slurm does not tell this person."""
    name = account.lower()
    if name not in budgets.accounts:
        return None
    hours = budgets.gpu_hours(person, name)
    title = site.accounts[account].title if account in site.accounts else ""
    return BudgetView(account, title, hours.used, hours.limit)


def this_session(desk: Desk, now: float) -> SessionView | None:
    """This session by what the desk knows, Slurm's last word included; asks nobody. ``None`` outside of one."""
    session, state = desk.session, None
    if session is None:
        return None
    if session.partition in desk.site.partitions:
        state = desk.watchers[desk.site.cluster_of(session.partition)].state(session.job)
    return described(session, desk.site, state, now)


# --- Those who act and ask -------------------------------------------------------------------------------------------


class Found:
    """Jobs of this person that nothing in this kernel holds: found by their tags, and to be cancelled."""

    def __init__(self, desk: Desk, group: Group) -> None:
        self._desk = desk
        self._group = group

    def view(self) -> JobView:
        """What is known of it."""
        view = self.look()
        return view or JobView("session", self._group.name, self._group.kind, "done", "It has ended.")

    def look(self) -> JobView | None:
        """The same; ``None`` once it is over."""
        watcher = self._desk.watchers[self._group.cluster]
        return group_view(self._group, [watcher.state(job) for job in self._group.jobs])

    def act(self, action: str) -> None:
        """Cancel it."""
        if action != CANCEL.name:
            raise ValueError(action)
        if self._group.kind == "dask":
            tell_to_end(folders(), self._group.name)  # else other workers would come in place of these
        self._desk.do(self._desk.cancel(self._group.cluster, list(self._group.jobs)))


class Board:
    """For one desk. Its coroutines run on the desk's thread; ``live`` are the things behind the last view's rows."""

    def __init__(
        self,
        desk: Desk,
        environ: Mapping[str, str] = os.environ,
        runs: Callable[[], Iterable[Live]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.desk = desk
        self.live: dict[tuple[str, str], Live] = {}
        self._runs = runs
        self._now = clock
        self._gauges: Gauges | None = None
        self._kept: tuple[Live, ...] = ()
        self._groups: dict[str, tuple[Group, ...]] = {}
        self._budget: BudgetView | None = None
        self._asked: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._silent_since: dict[str, float] = {}
        if desk.session is not None:
            self._gauges = Gauges(
                resources_of(desk.session, desk.site),
                desk.site.energy,
                Meter(environ),
                Gpus(environ),
                lambda: joules_of_node(cpus=desk.session.cpus if desk.session else 0),
            )

    async def look(self, parts: Iterable[str], patience: float = 0.0) -> PanelView:
        """What there is to be seen now, waiting ``patience`` seconds at most for questions that were never answered."""
        wanted = set(parts)
        self._ask(wanted)
        if patience and self._asking:
            await asyncio.wait(self._asking.values(), timeout=patience)
        now = self._now()
        gauges = await asyncio.to_thread(self._gauges.look) if self._gauges and "gauges" in wanted else ()
        # What this kernel holds itself knows more than what was read of it.
        seen = [(thing, view) for thing in (*self._kept, *announced()) if (view := _seen(thing)) is not None]
        things = list({(view.kind, view.identity): (thing, view) for thing, view in seen}.values())
        held = {(view.cluster, job) for _thing, view in things for job in view.jobs}
        names = {view.identity for _thing, view in things}
        others: list[tuple[Live, JobView]] = []
        for group in (group for groups in self._groups.values() for group in groups):
            if not (group.names & names or any((group.cluster, job) in held for job in group.jobs)):
                found = Found(self.desk, group)
                if (view := found.look()) is not None:
                    others.append((found, view))
        self.live = {(view.kind, view.identity): thing for thing, view in [*things, *others]}
        return PanelView(
            parts=(),
            taken=now,
            session=self._session(now),
            gauges=tuple(gauges),
            jobs=in_order(view for _found, view in others),
            clusters=in_order(view for _thing, view in things if view.kind == "cluster"),
            runs=in_order(view for _thing, view in things if view.kind in ("run", "sweep")),
            trouble=self._trouble(now),
        )

    def find_again(self) -> None:
        """Look for new jobs at the next look, unless that was done just now."""
        for what, asked in list(self._asked.items()):
            if what != "budget" and self._now() - asked > AGAIN_SECONDS:
                del self._asked[what]

    # --- Questions ---------------------------------------------------------------------------------------------------

    def _ask(self, wanted: set[str]) -> None:
        """Begin the questions whose answers are old; nobody waits for them."""
        session = self.desk.session
        if session is not None and "session" in wanted and session.partition in self.desk.site.partitions:
            self._begin("budget", BUDGET_SECONDS, self._ask_budget(session))
            self.desk.watchers[self.desk.site.cluster_of(session.partition)].follow_quietly(session.job)
        if "jobs" in wanted:
            for name in self.desk.slurm:
                self._begin(name, FIND_SECONDS, self._find(name))
        if "batch" in wanted:
            self._begin("runs", FIND_SECONDS, self._read_runs())

    def _begin(self, what: str, seconds: float, work: Coroutine[Any, Any, None]) -> None:
        task = self._asking.get(what)
        if (task is not None and not task.done()) or self._now() < self._asked.get(what, 0.0) + seconds:
            work.close()
            return
        self._asked[what] = self._now()
        self._asking[what] = asyncio.get_running_loop().create_task(self._answered(what, work))

    async def _answered(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            self._silent_since.pop(what, None)
        except SlurmError as error:
            self._silent_since.setdefault(what, self._now())
            log.debug("%s (what was known is shown)", error)
        except Exception:  # one odd answer must not end what is shown
            log.exception("the panel did not understand an answer")
        finally:
            self._asking.pop(what, None)

    async def _ask_budget(self, session: Session) -> None:
        slurm = self.desk.slurm[self.desk.site.cluster_of(session.partition)]
        self._budget = budget_of(await slurm.budgets(), slurm.person, session.account, self.desk.site)

    async def _find(self, cluster: str) -> None:
        own = [self.desk.session.job] if self.desk.session else []
        groups = grouped(cluster, await self.desk.slurm[cluster].tagged(), own)
        watcher = self.desk.watchers[cluster]
        for group in groups:
            for job in group.jobs:
                watcher.follow_quietly(job)
        # Nobody looks at those any more that are gone from the queue, unless something of this kernel's holds them.
        gone = {job for group in self._groups.get(cluster, ()) for job in group.jobs}
        gone -= {job for group in groups for job in group.jobs}
        gone -= {job for thing in announced() if (view := _seen(thing)) is not None for job in view.jobs}
        for job in gone:
            if (state := watcher.state(job)) is None or state.is_over:
                watcher.forget(job)
        self._groups[cluster] = groups

    async def _read_runs(self) -> None:
        self._kept = tuple(await asyncio.to_thread(self._runs))

    # --- What is known -----------------------------------------------------------------------------------------------

    def _session(self, now: float) -> SessionView | None:
        told = this_session(self.desk, now)
        return None if told is None else replace(told, budget=self._budget)

    def _trouble(self, now: float) -> str:
        silent = [at for name, at in self._silent_since.items() if name != "runs"]
        silent += [watcher.silent_since for watcher in self.desk.watchers.values() if watcher.silent_since]
        if not silent:
            return ""
        since = moment(min(silent), now)
        return f"Slurm has not answered since {since}: what is shown was known then, and nothing of yours is lost."


def _seen(thing: Live) -> JobView | None:
    try:
        return thing.view()
    except Exception:  # one that can not be shown must not hide all others
        log.exception("the panel can not show %r", type(thing))
        return None
