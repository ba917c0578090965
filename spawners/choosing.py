"""What the hub knows when somebody chooses: one view a snapshot for everybody, Slurm's estimates, people's budgets.

Decisions are in :mod:`spawners.verdict` and :mod:`spawners.alternatives`; here is what they decide on, kept for as long as
it holds. Nothing here waits for Slurm but what says so.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from functools import lru_cache, partial

from spawners.alternatives import best
from spawners.estimates import EstimatePace, Estimates
from spawners.verdict import Payer, Verdict, View, is_open_question, judge, payer
from studiolo.alternatives import Alternative, alternatives
from studiolo.errors import RequestError
from studiolo.request import Request, check
from studiolo.script import Directives
from studiolo.site import Site
from studiolo.slurm.budgets import Budgets
from studiolo.slurm.client import Slurm
from studiolo.slurm.estimate import question
from studiolo.slurm.facts import ClusterFacts
from studiolo.slurm.snapshot import Cache, FactsCache, SnapshotPace
from studiolo.slurm.watcher import QueueWatcher

__all__ = ["Choosing", "Proposal"]

Proposal = tuple[Alternative, Verdict]

# Who is in which account changes by the day, hours used by the minute, and jobs that count against a limit in a moment. With
# slurmrestd it is accounting's database that is asked, and jobs are not told.
BUDGET_PACE = SnapshotPace(fresh=30.0, silent=900.0)
DATABASE_PACE = SnapshotPace(fresh=180.0, silent=900.0)
# A view of one snapshot is made anew after so long.
VIEW_SECONDS = 60
# Of those, so many are asked about for somebody who waits for the answer.
ASKED_PROPOSALS = 2


class Choosing:
    """One for each hub process; ``facts`` and ``watchers`` are those of the engine."""

    def __init__(
        self,
        site: Site,
        slurm: Mapping[str, Slurm],
        facts: Mapping[str, FactsCache],
        watchers: Mapping[str, QueueWatcher],
        pace: EstimatePace | None = None,
    ) -> None:
        self.site = site
        self.facts = facts
        self.estimates = {name: Estimates(client, pace) for name, client in slurm.items()}
        paces = {name: DATABASE_PACE if site.clusters[name].via == "slurmrestd" else BUDGET_PACE for name in slurm}
        self.budgets = {name: Cache(client.budgets, "list accounts", paces[name]) for name, client in slurm.items()}
        self._watchers = watchers
        self._views: dict[str, View] = {}
        self._prepared: dict[str, View] = {}
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._requests = {name: check({"profile": name}, site) for name in site.profiles}
        self._proposals = {
            name: alternatives({"profile": name}, request, site) for name, request in self._requests.items()
        }
        self.question = lru_cache(maxsize=1000)(self._question)
        self._checked = lru_cache(maxsize=1000)(self._check)
        for name, cache in facts.items():
            cache.prepare = partial(self._prepare, name)

    # --- What is known -----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Have snapshots and budgets renewed where they are old. Waits for first ones alone, as long as they may take."""
        self.renew()
        unknown = [facts.get() for facts in self.facts.values() if facts.is_new]
        if unknown:
            await asyncio.gather(*unknown, *(budgets.get() for budgets in self.budgets.values() if budgets.is_new))

    def renew(self) -> None:
        """Have snapshots and budgets renewed where they are old, beside everything else."""
        for cluster, facts in self.facts.items():
            self.budgets[cluster].renew()
            facts.renew()
            view = self._views.get(cluster)
            if view and time.time() - view.now >= VIEW_SECONDS and cluster not in self._renewing:
                self._renewing[cluster] = asyncio.get_running_loop().create_task(self._look_again(cluster, view.facts))

    async def _look_again(self, cluster: str, facts: ClusterFacts) -> None:
        """Reservations begin and sessions would end later while a snapshot stands, because Slurm is silent."""
        try:
            view = await asyncio.to_thread(self._prepared_view, cluster, facts)
            if self._views[cluster].facts is facts:
                self._views[cluster] = view
        finally:
            del self._renewing[cluster]

    def edition(self) -> tuple[object, ...]:
        """What changes whenever something else might be told."""
        return tuple(
            (
                facts.last.facts and facts.last.facts.taken,
                (accounting := self.accounting(cluster)) and accounting.taken,
                self.silent_since(cluster),
                self.estimates[cluster].answers,
            )
            for cluster, facts in self.facts.items()
        )

    def silent_since(self, cluster: str) -> float | None:
        """Since when a scheduler has not answered (seconds since 1970), by whoever asked it last; ``None`` if it does."""
        watcher, reading = self._watchers[cluster], self.facts[cluster].last
        heard = max(watcher.heard, reading.facts.taken if reading.facts else 0.0)
        silent = (watcher.silent_since, reading.silent_since)
        return min((since for since in silent if since is not None and since > heard), default=None)

    def answers(self, cluster: str) -> bool:
        """Whether a scheduler answers."""
        return self.facts[cluster].last.facts is not None and self.silent_since(cluster) is None

    def view(self, cluster: str, now: float) -> View | None:
        """The last snapshot, prepared once for everybody; ``None`` before the first."""
        facts = self.facts[cluster].last.facts
        if facts is None:
            return None
        known = self._views.get(cluster)
        if known is None or known.facts is not facts:
            prepared = self._prepared.pop(cluster, None)
            known = prepared if prepared and prepared.facts is facts else View(self.site, cluster, facts, now)
            self._views[cluster] = known
        return known

    def _prepare(self, cluster: str, facts: ClusterFacts) -> None:
        self._prepared[cluster] = self._prepared_view(cluster, facts)

    def _prepared_view(self, cluster: str, facts: ClusterFacts) -> View:
        """Look at a new snapshot before anybody else does. In a thread of its own: some tens of milliseconds for thousands
        of nodes, which no reader waits for."""
        view = View(self.site, cluster, facts, time.time())
        proposed = (found.request for proposals in self._proposals.values() for found in proposals)
        requests = [request for request in (*self._requests.values(), *proposed) if request.cluster == cluster]
        view.prepare(requests, self.site)
        return view

    def payer(self, cluster: str, person: str) -> Payer:
        """What Slurm tells of a person's accounts; nothing for nobody."""
        return payer(person, self.accounting(cluster) if person else None)

    def accounting(self, cluster: str) -> Budgets | None:
        """The accounts of a cluster; ``None`` where nothing is known."""
        return self.budgets[cluster].last.facts

    # --- Verdicts ----------------------------------------------------------------------------------------------------

    def verdict(self, request: Request, person: str, now: float) -> Verdict:
        """Decide on a request with what is known now."""
        told = self.estimates[request.cluster].peek(self.question(request), person)
        view, who = self.view(request.cluster, now), self.payer(request.cluster, person)
        return judge(request, self.site, view, who, told, answers=self.answers(request.cluster))

    def profile(self, name: str, person: str, now: float, *, may_ask: bool) -> tuple[Request, Verdict, Proposal | None]:
        """Decide on a profile and what to take in its place. Slurm is asked beside, if it has to be."""
        request = self._requests[name]
        verdict = self.verdict(request, person, now)
        if may_ask:
            self._want(request, verdict, person, now)
        if verdict.starts == "now":
            return request, verdict, None
        judged = [(proposal, self.verdict(proposal.request, person, now)) for proposal in self._proposals[name]]
        if may_ask:
            for proposal, found in judged:
                self._want(proposal.request, found, person, now)
        return request, verdict, best(verdict, judged, now)

    def kept(
        self, options: Mapping[str, object], person: str, now: float, *, may_ask: bool
    ) -> tuple[Request, Verdict] | None:
        """Decide on a choice that somebody has kept; ``None`` where the site does not allow it now."""
        request = self._checked(json.dumps(options, sort_keys=True, default=str))
        if request is None:
            return None
        verdict = self.verdict(request, person, now)
        is_open = is_open_question(request, self.view(request.cluster, now), verdict)
        if may_ask and is_open and self.answers(request.cluster):
            self.estimates[request.cluster].want(self.question(request), person, spare=True)
        return request, verdict

    def _check(self, options: str) -> Request | None:
        try:
            return check(json.loads(options), self.site)
        except RequestError:
            return None

    async def asked(
        self, options: Mapping[str, object], person: str, now: float
    ) -> tuple[Request, Verdict, Proposal | None]:
        """Decide on options, and ask Slurm about them where only it knows more. Raises ``RequestError``."""
        request = check(options, self.site)
        verdict = self.verdict(request, person, now)
        estimates, view = self.estimates[request.cluster], self.view(request.cluster, now)
        if is_open_question(request, view, verdict) and self.answers(request.cluster):
            await estimates.get(self.question(request), person)
            verdict = self.verdict(request, person, now)
        if verdict.starts == "now":
            return request, verdict, None
        judged = [
            (found, self.verdict(found.request, person, now)) for found in alternatives(options, request, self.site)
        ]
        if not any(found.starts == "now" for _proposal, found in judged):
            judged = await self._ask_about(judged, person, now)
        return request, verdict, best(verdict, judged, now)

    def expected(self, request: Request, person: str) -> float | None:
        """When a session would begin by what its owner has been told; ``None`` where that was nothing."""
        now = time.time()
        verdict = self.verdict(request, person, now)
        return now if verdict.starts == "now" else verdict.expected

    async def _ask_about(self, judged: list[Proposal], person: str, now: float) -> list[Proposal]:
        open_ones = [
            found
            for found, verdict in judged
            if is_open_question(found.request, self.view(found.request.cluster, now), verdict)
            and self.answers(found.request.cluster)
        ][:ASKED_PROPOSALS]
        questions = [
            self.estimates[found.request.cluster].get(self.question(found.request), person) for found in open_ones
        ]
        await asyncio.gather(*questions)
        return [(found, self.verdict(found.request, person, now)) for found, _verdict in judged]

    def _want(self, request: Request, verdict: Verdict, person: str, now: float) -> None:
        view = self.view(request.cluster, now)
        if is_open_question(request, view, verdict) and self.answers(request.cluster):
            self.estimates[request.cluster].want(self.question(request), person, shared=True)

    def _question(self, request: Request) -> Directives:
        return question(request, self.site)
