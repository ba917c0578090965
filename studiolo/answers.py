"""Answers in words: what this session has, why something of one's own waits or failed, and what would do instead.

:func:`explain` and :func:`why` are what people type. What they decide is in plain functions, and what they say is what is
known: a question that Slurm does not answer is said to be open.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from studiolo.alternatives import WORTH_SECONDS, Alternative, alternatives, words
from studiolo.desk import Desk, desk
from studiolo.errors import Fault, OutsideSession, RequestError, SlurmError, SlurmRefused, shown
from studiolo.panels.board import this_session
from studiolo.request import FIELDS, Request, check
from studiolo.rightsize import advice, smaller
from studiolo.site import Site
from studiolo.slurm.estimate import question
from studiolo.slurm.reasons import pending_words
from studiolo.slurm.states import JobState
from studiolo.slurm.usage import JobUsage
from studiolo.units import memory_words, minutes_words
from studiolo.views import JobView, Live, Measured, Resources
from studiolo.wording import Clock, cores_words, local, moment, span

__all__ = ["Answer", "explain", "why"]

NOW_SECONDS = 60.0
SETTLED_SECONDS = 10.0
MOST_ASKED = 6
"""How many proposals Slurm is asked about for one answer."""
LAST_RUNS = 12


@dataclass(frozen=True)
class Answer:
    """An answer as sentences: ``words`` say how it is and why, ``fix`` what to do, ``sooner`` what would start sooner, ``less``
    what would have done. Those that there is nothing to say in are empty; printed, the others are a line each."""

    words: str
    fix: str = ""
    sooner: str = ""
    less: str = ""

    @property
    def lines(self) -> list[str]:
        """The sentences that there are."""
        return [line for line in (self.words, self.fix, self.sooner, self.less) if line]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in self.lines)


# --- What people type ------------------------------------------------------------------------------------------------


def explain(notebook: str = "") -> Answer:
    """Say what this session has: ``"One quarter of an A100 on gpu2, 4 cores, 16 GB until 17:40."``

    With the name of a ``notebook``, say what its last batch runs used, and what would have done for them. Raises
    :class:`~studiolo.errors.OutsideSession` outside of a session,
    :class:`~studiolo.errors.RequestError` for a notebook without a run that is done.
    """
    at = desk()
    if notebook:
        return _right_size(at, notebook)
    now = time.time()
    told = this_session(at, now)
    if told is None:
        raise OutsideSession
    left = f"{span(told.ends - now)} are left." if told.ends is not None else ""
    return Answer(told.words, left)


def why(thing: Any) -> Answer:
    """Say why something waits or failed, what mends it, and what would start sooner.

    ``thing`` is a run, a sweep, a Dask cluster, or the number of a job of yours. Asks Slurm: a second or two where it is busy.
    Raises :class:`~studiolo.errors.RequestError` for anything else and for a job that nobody knows.
    """
    at = desk()
    if isinstance(thing, int) and not isinstance(thing, bool):
        return _job(at, thing)
    if not isinstance(thing, Live):
        allowed = "a run, a sweep, a cluster, or the number of a job of yours"
        raise RequestError([Fault("why", shown(thing), allowed)])
    view = thing.view()
    answer = told(view, time.time())
    if view.state != "waiting" or (options := asked_for(thing)) is None:
        return answer
    if view.asked is not None and time.time() - view.asked < SETTLED_SECONDS:
        return answer  # Slurm has hardly looked at it: perhaps it starts at once as it is
    return Answer(answer.words, answer.fix, _sooner(at, options, view.expected))


# --- Plain decisions -------------------------------------------------------------------------------------------------


def told(view: JobView, now: float, clock: Clock = local) -> Answer:
    """What a view says of why it is as it is."""
    if view.state == "waiting":
        waited = f" It has waited for {span(now - view.asked)}." if view.asked is not None else ""
        return Answer(f"{view.words}{waited}".strip(), foretold(view.expected, now, clock))
    if view.words:
        return Answer(view.words)
    usual = {
        "running": "It runs.",
        "starting": "It has its resources, and begins.",
        "stopping": "It is being stopped.",
        "done": "It is done.",
        "cancelled": "It was cancelled.",
        "failed": "It failed, and nobody knows why.",
        "unknown": "Slurm has not told of it yet.",
    }
    return Answer(usual[view.state])


def foretold(expected: float | None, now: float, clock: Clock = local) -> str:
    """When it starts by Slurm's word."""
    if expected is None:
        return "Slurm does not say yet when it starts."
    return f"Slurm expects it to start at {moment(expected, now, clock)}, or sooner where others end early."


_ENDS: Mapping[str, tuple[str, str]] = {
    "COMPLETED": ("It has ended as it should.", ""),
    "CANCELLED": ("It was cancelled.", ""),
    "TIMEOUT": (
        "Its time was over.",
        "Ask for more hours, or save what it has done now and then and go on from there.",
    ),
    "DEADLINE": ("Its deadline came before its end.", "Ask for a later one."),
    "OUT_OF_MEMORY": ("It needed more memory than it had.", "Ask for more memory, or hold less at once."),
    "NODE_FAIL": ("Its node failed, which is not your doing.", "Send it again."),
    "BOOT_FAIL": ("Its node did not begin, which is not your doing.", "Send it again."),
    "PREEMPTED": ("Slurm gave its place to somebody more urgent.", "Send it again."),
    "VANISHED": ("Neither the queue nor accounting knows it.", "Send it again."),
    "FAILED": ("Its program ended with an error.", "Its log says which."),
}


def of_state(state: JobState, now: float, clock: Clock = local) -> Answer:
    """What Slurm's last word of a job means."""
    if state.is_pending:
        return Answer(pending_words(state.reason), foretold(state.start, now, clock))
    if not state.is_over:
        where = f" on {state.node}" if state.node else ""
        until = f" until {moment(state.end, now, clock)} at most" if state.end is not None else ""
        return Answer(f"It runs{where}{until}.")
    sentence, fix = _ENDS.get(state.state, ("It did not end as it should.", "Its log may say why."))
    return Answer(f"{sentence} (Slurm says: {state.state})", fix)


def asked_for(thing: Live) -> dict[str, Any] | None:
    """What a thing asked for, as options of another request; ``None`` where it does not tell."""
    asked = getattr(thing, "request", None)
    if isinstance(asked, Request):
        asked = {name: getattr(asked, name) for name in FIELDS if hasattr(asked, name)}
    if not isinstance(asked, Mapping):
        return None
    return {name: value for name, value in asked.items() if name in FIELDS and value not in (None, "", [], ())}


def choose(
    judged: Iterable[tuple[Alternative, float]], expected: float | None, now: float
) -> tuple[Alternative, float | None] | None:
    """The proposal that gives up least of those that start now, else the one that starts soonest where that is worth it.

    ``judged`` are proposals with their starts, ``expected`` that of what was asked for. The second is the seconds until it
    starts, ``None`` for now.
    """
    later: list[tuple[float, Alternative]] = []
    for proposal, start in judged:
        if start <= now + NOW_SECONDS:
            return proposal, None
        later.append((start, proposal))
    if not later or expected is None:
        return None  # perhaps what was asked for begins sooner than any of these
    start, proposal = min(later, key=lambda found: found[0])
    return (proposal, start - now) if expected - start >= max(WORTH_SECONDS, (expected - now) / 2) else None


@dataclass(frozen=True)
class Past:
    """One run that is done: what it asked for, how long it ran, and what it used (mebibytes, cores, GPUs from 0 to 1).

    ``most_gpu`` is the highest use of its GPUs at one look of its own.
    """

    asked: Resources
    minutes: int
    seconds: float
    memory: int | None = None
    cores: float | None = None
    gpu: float | None = None
    most_gpu: float | None = None


def right_size(past: Sequence[Past], name: str) -> Answer:
    """What the last runs of a notebook used at most, and what would have done for all of them; the latest stands first."""
    asked, minutes = past[0].asked, past[0].minutes
    memory = max((one.memory for one in past if one.memory is not None), default=None)
    cores = max((one.cores for one in past if one.cores is not None), default=None)
    gpu = max((one.gpu for one in past if one.gpu is not None), default=None)
    highest = [one.most_gpu for one in past]
    most = None if None in highest else max(one or 0.0 for one in highest)
    seconds = max(one.seconds for one in past)
    used = [f"{span(seconds)} of {minutes_words(minutes)}"]
    if memory is not None:
        used.append(f"{memory_words(memory)} of {memory_words(asked.memory)}")
    if cores is not None:
        used.append(f"{cores:.2g} of {cores_words(asked.cpus)} in the mean")
    if gpu is not None:
        used.append(f"{gpu:.0%} of its GPU")
    count = f"The last {len(past)} runs" if len(past) > 1 else "The last run"
    less = smaller(
        {"cpus": asked.cpus, "memory_mb": asked.memory, "gpus": asked.gpus, "minutes": minutes},
        {
            "seconds": seconds,
            "cpus": cores,
            "most_cpus": None,
            "memory_mb": memory,
            # What some of them do not tell is not known of all. Of many looks the highest says more than their mean.
            "mean_gpu": gpu if most is None and all(one.gpu is not None for one in past) else None,
            "most_gpu": most,
        },
    )
    fitting = "" if less else "What you asked for fits."
    return Answer(f"{count} of {name} used at most {', '.join(used)}.", fitting, less=advice(less))


# --- Those who ask ---------------------------------------------------------------------------------------------------


def _job(at: Desk, number: int) -> Answer:
    trouble: SlurmError | None = None
    for slurm in at.slurm.values():
        try:
            found = at.do(slurm.queue([number])) or at.do(slurm.finished([number]))
        except SlurmError as error:
            trouble = error
            continue
        if number in found:
            return of_state(found[number], time.time())
    if trouble is not None:
        raise trouble
    raise RequestError([Fault("job", str(number), "the number of a job of yours")])


def _sooner(at: Desk, options: Mapping[str, Any], expected: float | None) -> str:
    """What would start sooner, by asking Slurm about some proposals; it is the same gate that each has passed."""
    try:
        request = check(options, at.site)
    except RequestError:  # the site has changed since
        return ""
    now = time.time()
    judged: list[tuple[Alternative, float]] = []
    for proposal in alternatives(options, request, at.site)[:MOST_ASKED]:
        try:
            start = at.do(_start(at, proposal.request, at.site))
        except SlurmRefused:  # that would never start
            continue
        except SlurmError:
            return ""
        if start is not None:
            judged.append((proposal, start))
            if start <= now + NOW_SECONDS:
                break
    found = choose(judged, expected, now)
    return "" if found is None else words(found[0], request, at.site, seconds=found[1])


async def _start(at: Desk, request: Request, site: Site) -> int | None:
    slurm = at.slurm[request.cluster]
    return await slurm.estimate(slurm.person, question(request, site))


def _right_size(at: Desk, notebook: str) -> Answer:
    from studiolo.jobs import runs  # reads folders

    name = PurePath(notebook).name
    # Of a run that failed nobody knows what it would have needed.
    done = [(one, one.view()) for one in runs() if one.view().kind == "run"]
    done = [(one, view) for one, view in done if view.state == "done" and PurePath(view.name).name == name][:LAST_RUNS]
    past = _pasts(at, done)
    if not past:
        raise RequestError([Fault("notebook", shown(notebook), "the name of a notebook with a run that is done")])
    return right_size(past, name)


def _pasts(at: Desk, done: Sequence[tuple[Any, JobView]]) -> list[Past]:
    books: dict[int, JobUsage] = {}
    for cluster in {view.cluster for _run, view in done if view.cluster in at.slurm}:
        numbers = [job for _run, view in done if view.cluster == cluster for job in view.jobs]
        try:
            books |= at.do(at.slurm[cluster].used(numbers)) if numbers else {}
        except SlurmError:  # what the runs themselves say will do
            continue
    found = []
    for run, view in done:
        minutes = (asked_for(run) or {}).get("minutes")
        if view.resources is None or view.started is None or view.ended is None or not isinstance(minutes, int):
            continue
        book = books.get(view.jobs[0]) if view.jobs else None
        peak = getattr(run.progress, "peak", 0) or 0
        memory = max([held for held in (peak, book.memory if book else None) if held], default=None)
        cores = book.cpu_seconds / book.seconds if book and book.cpu_seconds is not None and book.seconds else None
        own = view.used or Measured()
        if cores is None and own.cpu is not None:
            cores = own.cpu * view.resources.cpus
        gpu = own.gpu if own.gpu is not None else book.gpu if book else None
        found.append(Past(view.resources, minutes, view.ended - view.started, memory, cores, gpu, own.most_gpu))
    return found
