"""Slurm through slurmrestd: the same questions as :mod:`studiolo.slurm.commands`, over HTTP, without a privilege of sudo.

The hub's own questions are asked as its own account; what is done for people is done with a token of theirs, which the
hub makes from slurmctld's key. slurmrestd checks nothing itself: it hands the token on to slurmctld.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from studiolo.errors import LauncherFailed, SlurmError, SlurmRefused, SlurmUnavailable, SlurmUnreachable, printable
from studiolo.script import Batch, Directives
from studiolo.site import Cluster
from studiolo.slurm.budgets import Budgets
from studiolo.slurm.facts import ClusterFacts, assemble
from studiolo.slurm.parse import SILENT
from studiolo.slurm.people import member
from studiolo.slurm.rest_budgets import SHARES_SINCE, rest_budgets, rest_usage
from studiolo.slurm.rest_facts import rest_nodes, rest_partitions, rest_pending, rest_reservations
from studiolo.slurm.rest_parse import (
    INVALID_JOB_ID,
    VERSIONS,
    RestError,
    accounting_query,
    errors,
    extension,
    is_submitted,
    parse_accounting_jobs,
    parse_addresses,
    parse_jobs,
    parse_owned_jobs,
    parse_server_time,
    parse_submitted,
    parse_tagged_jobs,
    submission,
)
from studiolo.slurm.states import JobState, Owned, Tagged
from studiolo.slurm.tokens import Tokens
from studiolo.slurm.usage import JobUsage, parse_rest_usage

__all__ = ["RestSlurm"]

_Value = TypeVar("_Value")

# Between slurmctld's clock and the hub's: beyond it a token may be refused, or live longer than it should.
SKEW_SECONDS = 30
EXPLAIN_SECONDS = 60
# What slurmrestd says of a token that slurmctld does not take. 22.05 has no words for it: its connection just ends.
_UNAUTHENTICATED = frozenset({401, 403, 511})
_ENDED = 5005
_AUTHENTICATION = 1007
_UNSPECIFIED = -1
# No number of Slurm's: what came back was no answer of its, so the job may have been submitted all the same.
_UNREADABLE = 0


@dataclass(frozen=True)
class _Answer:
    """What came back: ``fields`` is the JSON object, ``None`` where it was something else."""

    status: int
    fields: Mapping[str, Any] | None
    text: str
    errors: tuple[RestError, ...]


@dataclass(frozen=True)
class _Question:
    """One request: ``{}`` in its ``path`` is the API version, ``kind`` what it is counted as, ``action`` for messages.

    Asked as the hub's own account where there is no ``person``; ``body`` gives the JSON for a version. ``patient`` brings
    a token that a clock hours ahead takes too.
    """

    kind: str
    action: str
    path: str
    method: str = "GET"
    person: str = ""
    body: Callable[[str], dict[str, Any]] | None = None
    patient: bool = False
    query: Callable[[str], str] = lambda version: ""

    def at(self, version: str) -> str:
        """Path and query for a version."""
        return self.path.format(version) + self.query(version)


class RestSlurm:
    """One cluster, asked through slurmrestd.

    ``account`` is the hub's own, ``key`` the file of slurmctld's JWT key, ``mark`` that of the hub. ``timeout`` is in
    seconds; a longer question counts as no answer. ``calls`` counts the requests sent, by kind.
    """

    def __init__(
        self,
        cluster: Cluster,
        mark: str,
        account: str,
        key: Path,
        *,
        timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cluster = cluster
        self.mark = mark
        self.account = account
        self.tokens = Tokens(key, clock)
        self.timeout = timeout
        self._clock = clock
        self.calls: dict[str, int] = {}
        self._version = ""
        self._negotiating = asyncio.Lock()
        self._addresses: dict[str, str] = {}
        self._explained: tuple[float, str] = (-EXPLAIN_SECONDS, "")

    # --- As a person -------------------------------------------------------------------------------------------------

    async def submit(self, person: str, batch: Batch, environment: Mapping[str, str]) -> int:
        """Submit a batch job as ``person`` and return its number."""
        action = "submit your session"
        account = await asyncio.to_thread(member, self.cluster, person, action)
        known = {
            "HOME": account.pw_dir,
            "LANG": "C.UTF-8",
            "LOGNAME": person,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "SHELL": account.pw_shell or "/bin/sh",
            "SLURM_CONF": self.cluster.conf,
            "USER": person,
            # What sbatch adds, and programs in the job look at.
            "SLURM_CPUS_PER_TASK": str(batch.directives.cpus),
            "SLURM_SUBMIT_DIR": account.pw_dir,
            "SLURM_UMASK": "0027",
        }

        def body(version: str) -> dict[str, Any]:
            return submission(batch, {**known, **environment}, account.pw_dir, version)

        answer = await self._call(_Question("submit", action, "/slurm/{}/job/submit", "POST", person, body))
        if answer.errors and not is_submitted(answer.fields):
            raise await self._refusal(answer, action)
        return self._parsed(parse_submitted, answer, action)

    async def estimate(self, person: str, directives: Directives) -> int | None:
        """``None``: slurmrestd has no question for when a job would start. Asks nothing."""
        return None

    async def cancel(self, person: str, jobs: Iterable[int]) -> None:
        """Cancel jobs of ``person``; one that is over already is no error."""
        action = "cancel the job"
        await asyncio.to_thread(member, self.cluster, person, action)
        failed: list[SlurmError] = []
        for job in jobs:
            answer = await self._call(_Question("cancel", action, f"/slurm/{{}}/job/{int(job)}", "DELETE", person))
            left = tuple(error for error in answer.errors if not error.is_over)
            if left:
                failed.append(await self._refusal(_Answer(answer.status, answer.fields, answer.text, left), action))
        if failed:
            # That somebody must try again counts more than a refusal.
            raise next((error for error in failed if isinstance(error, SlurmUnavailable)), failed[0])

    # --- As the hub --------------------------------------------------------------------------------------------------

    async def queue(self, jobs: Iterable[int]) -> dict[int, JobState]:
        """Ask once for all ``jobs``; those that slurmctld no longer holds are missing in the answer."""
        wanted = set(jobs)
        if len(wanted) == 1:
            answer = await self._call(_Question("job", "list jobs", f"/slurm/{{}}/job/{int(next(iter(wanted)))}"))
            if any(error.number == INVALID_JOB_ID for error in answer.errors):
                return {}
        else:
            answer = await self._call(_Question("jobs", "list jobs", "/slurm/{}/jobs"))
        found = await self._answered(parse_jobs, answer, "list jobs")
        return {job: state for job, state in found.items() if job in wanted}

    async def tagged(self) -> tuple[Tagged, ...]:
        """Ask once for all jobs of this hub that are not over, whoever knows of them; also those that people tagged so."""
        answer = await self._call(_Question("jobs", "list jobs", "/slurm/{}/jobs"))
        return await self._answered(lambda fields: parse_tagged_jobs(fields, self.mark), answer, "list jobs")

    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]:
        """Ask accounting for all ``jobs``."""
        wanted = sorted(jobs)
        path = "/slurmdb/{}/jobs?"
        question = _Question("accounting", "look up finished jobs", path, query=lambda v: accounting_query(wanted, v))
        answer = await self._call(question)
        return await self._answered(parse_accounting_jobs, answer, "look up finished jobs")

    async def owner(self, job: int) -> Owned | None:
        """Whose job this is, what it is for and under which terms, by Slurm's word; ``None`` where it is over or none of
        this hub's."""
        answer = await self._call(_Question("job", "look up a job", f"/slurm/{{}}/job/{int(job)}"))
        if any(error.number == INVALID_JOB_ID for error in answer.errors):
            return None
        found = await self._answered(lambda fields: parse_owned_jobs(fields, self.mark), answer, "look up a job")
        return next((owned for owned in found if owned.job == job), None)

    async def used(self, jobs: Iterable[int]) -> dict[int, JobUsage]:
        """Ask accounting once what all ``jobs`` used; those that are not over in its books are missing."""
        wanted, action = sorted(jobs), "look up what jobs used"
        question = _Question(
            "accounting", action, "/slurmdb/{}/jobs?", query=lambda v: accounting_query(wanted, v, steps=True)
        )
        return await self._answered(parse_rest_usage, await self._call(question), action)

    async def extend(self, job: int, minutes: int) -> None:
        """Set a job's walltime to ``minutes`` in all. As the hub, which must be an operator of Slurm's for it."""
        action = "extend your session"
        path = f"/slurm/{{}}/job/{int(job)}"
        answer = await self._call(_Question("update", action, path, "POST", body=lambda v: extension(minutes, v)))
        if answer.errors:
            raise await self._refusal(answer, action)

    async def node_address(self, node: str) -> str:
        """Return the address under which the hub reaches ``node``: the site's pattern, or Slurm's own NodeAddr."""
        if self.cluster.node_address:
            return self.cluster.node_address.format(node=node)
        if node not in self._addresses:
            answer = await self._call(_Question("nodes", "list nodes", "/slurm/{}/nodes"))
            self._addresses = await self._answered(parse_addresses, answer, "list nodes")
        return self._addresses.get(node, node)

    async def facts(self) -> ClusterFacts:
        """Ask for nodes, partitions, reservations and the line of waiting jobs: four questions, one after the other."""
        taken = self._clock()
        nodes = await self._list("nodes", rest_nodes)
        partitions = await self._list("partitions", rest_partitions)
        reservations = await self._list("reservations", rest_reservations)
        pending = await self._list("jobs", rest_pending)
        return await asyncio.to_thread(assemble, taken, nodes, partitions, reservations, pending)

    async def budgets(self) -> Budgets:
        """Ask accounting for all accounts, who is in them and their limits; slurmctld for their use, where it tells."""
        taken, action = self._clock(), "list accounts"
        answer = await self._call(_Question("associations", action, "/slurmdb/{}/associations"))
        usage = await self._list("shares", rest_usage) if await self.version() >= SHARES_SINCE else None
        return await self._answered(lambda fields: rest_budgets(fields, taken, usage), answer, action)

    async def _list(self, what: str, parse: Callable[[object], _Value]) -> _Value:
        answer = await self._call(_Question(what, f"list {what}", f"/slurm/{{}}/{what}"))
        return await self._answered(parse, answer, f"list {what}")

    async def version(self) -> str:
        """The newest API version that slurmrestd and we speak."""
        return self._version or await self._negotiate("")

    async def skew(self, *, patient: bool = False) -> float:
        """Seconds by which slurmctld's clock is ahead of the hub's; ``patient`` also where it refuses usual tokens."""
        action = "read slurmctld's clock"
        answer = await self._call(_Question("diag", action, "/slurm/{}/diag", patient=patient))
        now = self._clock()
        if answer.errors or answer.fields is None:
            raise SlurmUnavailable(action, _words(answer))
        return self._parsed(parse_server_time, answer, action) - now

    # --- Answers -----------------------------------------------------------------------------------------------------

    async def _answered(self, parse: Callable[[object], _Value], answer: _Answer, action: str) -> _Value:
        if answer.errors or answer.fields is None or answer.status != 200:
            words = _words(answer)
            if _may_be_the_token(answer) or any(error.number == _UNSPECIFIED for error in answer.errors):
                words = await self._explain(words)
            raise SlurmUnavailable(action, words)
        # Thousands of entries are read beside: meanwhile everybody else is served.
        return await asyncio.to_thread(self._parsed, parse, answer, action)

    def _parsed(self, parse: Callable[[object], _Value], answer: _Answer, action: str) -> _Value:
        try:
            return parse(answer.fields)
        except ValueError as error:
            raise SlurmUnavailable(action, f"half an answer: {printable(str(error))}") from error

    async def _refusal(self, answer: _Answer, action: str) -> SlurmError:
        words = _words(answer)
        if _may_be_the_token(answer):
            words = await self._explain(words)
            known_key = answer.status in _UNAUTHENTICATED and answer.status != 511
            return (LauncherFailed if known_key else SlurmUnavailable)(action, words)
        if SILENT.search(words):
            return SlurmUnavailable(action, words)
        if all(error.is_refusal for error in answer.errors):
            return SlurmRefused(action, words)
        if answer.status == 400:
            return LauncherFailed(action, f"slurmrestd does not understand the hub ({self._version}): {words}")
        return SlurmUnavailable(action, words)

    async def _explain(self, words: str) -> str:
        """Add what is behind an answer that may mean a refused token, asking for it once a minute at most."""
        now = time.monotonic()
        if now - self._explained[0] >= EXPLAIN_SECONDS:
            self._explained = (now, await self._explanation())
        return f"{words} ({self._explained[1]})" if self._explained[1] else words

    async def _explanation(self) -> str:
        try:
            skew = await self.skew(patient=True)
        except SlurmError:
            return f"slurmctld is down, or its jwt_key is not {self.tokens.key_file}"
        if abs(skew) < SKEW_SECONDS:
            return ""
        way = "ahead of" if skew > 0 else "behind"
        return f"slurmctld's clock is {abs(skew):.0f} s {way} the hub's: an operator has to set them right"

    # --- Requests ----------------------------------------------------------------------------------------------------

    async def _call(self, question: _Question) -> _Answer:
        """Send a question; where slurmrestd has no such version any longer (it was renewed), once more with another."""
        version = await self.version()
        while True:
            answer = await self._send(question, version)
            if answer.status != 404 or answer.errors:
                return answer
            newer = await self._negotiate(version)
            if newer == version:
                where = question.at(version).partition("?")[0]
                words = f"slurmrestd at {self.cluster.rest_url} has no {where}: check its plugins (-s)"
                raise LauncherFailed(question.action, words)
            version = newer

    async def _negotiate(self, outdated: str) -> str:
        """Find the newest version that slurmrestd offers by asking for each; remembered until one turns out missing."""
        async with self._negotiating:
            if self._version != outdated:
                return self._version  # somebody else has asked meanwhile
            self._version = ""
            for version in VERSIONS:
                answer = await self._send(_Question("ping", "talk to slurmrestd", "/slurm/{}/ping"), version)
                if answer.status != 404:
                    self._version = version
                    return version
        offered = f"{VERSIONS[-1]} to {VERSIONS[0]}"
        raise LauncherFailed("talk to slurmrestd", f"{self.cluster.rest_url} offers none of {offered}")

    async def _send(self, question: _Question, version: str) -> _Answer:
        self.calls[question.kind] = self.calls.get(question.kind, 0) + 1
        person = question.person or self.account
        token = self.tokens.probe(person) if question.patient else self.tokens.token(person)
        headers = {"X-SLURM-USER-NAME": person, "X-SLURM-USER-TOKEN": token}
        body = None if question.body is None else question.body(version)
        socket = self.cluster.rest_url.removeprefix("unix://") if self.cluster.rest_url.startswith("unix://") else ""
        url = URL(("http://slurmrestd" if socket else self.cluster.rest_url) + question.at(version), encoded=True)
        try:
            # A connection a question: slurmrestd ends its own after every error, and a broken one must not be reused. It must
            # not be asked to end it (force_close): 22.05 then writes "Connection: Close" after the body.
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(socket) if socket else aiohttp.TCPConnector(),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=self.timeout),
                ) as session,
                session.request(question.method, url, headers=headers, json=body, allow_redirects=False) as response,
            ):
                return _read(response.status, await response.read())
        except asyncio.TimeoutError:
            words = f"slurmrestd at {self.cluster.rest_url} gave no answer within {self.timeout:g} s"
            raise SlurmUnavailable(question.action, words) from None
        except (aiohttp.ClientError, OSError) as error:
            words = f"slurmrestd at {self.cluster.rest_url}: {printable(str(error) or type(error).__name__)}"
            unsent = isinstance(error, aiohttp.ClientConnectorError)
            raise (SlurmUnreachable if unsent else SlurmUnavailable)(question.action, words) from None


def _read(status: int, content: bytes) -> _Answer:
    text = content.decode(errors="replace")
    try:
        fields = json.loads(text, strict=False)
        if not isinstance(fields, dict):
            raise ValueError("no object")
        found = errors(fields)
    except (ValueError, RecursionError):
        return _Answer(status, None, text, () if status == 404 else (RestError(_UNREADABLE, _short(text)),))
    if not found and status not in (200, 404):
        found = (RestError(status, f"status {status}"),)
    return _Answer(status, fields, "", found)


def _short(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300] or "an empty answer"


def _words(answer: _Answer) -> str:
    return "\n".join(error.words for error in answer.errors) or _short(answer.text) or f"status {answer.status}"


def _may_be_the_token(answer: _Answer) -> bool:
    numbers = {error.number for error in answer.errors}
    return answer.status in _UNAUTHENTICATED or bool(numbers & {_ENDED, _AUTHENTICATION})
