"""What was prepared is submitted, or shown. The one place that makes a run's folder and its job."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record
from studiolo.batch.follow import Follower
from studiolo.batch.mapping import Calls
from studiolo.batch.parameters import declared
from studiolo.batch.plan import Plan, rehearsal_of
from studiolo.batch.run import Run
from studiolo.batch.state import hopeless, refusal_words
from studiolo.batch.sweep import Sweep
from studiolo.cost import amount_words, ceiling
from studiolo.desk import Desk, desk
from studiolo.errors import SlurmRefused, SlurmUnavailable, StudioloError
from studiolo.request import Request
from studiolo.script import render
from studiolo.slurm.estimate import question, waits
from studiolo.views import Amount, announce

__all__ = ["Preview", "made_of", "preview", "submit"]

REASON_SECONDS = 1.0
MANY = "A sweep of {runs} runs is more than one job array of this cluster may have (MaxArraySize): send it in parts."


def submit(plan: Plan, *, rehearse: bool = False) -> Run | Sweep:
    """Submit what was prepared; see :func:`studiolo.jobs.run` for what it raises."""
    at = desk()
    after, rehearsal = 0, None
    if rehearse and folder.SOURCE in plan.files:
        known = declared(json.loads(plan.files[folder.SOURCE]))
        rehearsal = Run(*_submit(at, rehearsal_of(plan, known)))
        plan = replace(plan, record=replace(plan.record, rehearsal=rehearsal.id))
        after = rehearsal.job or 0
    try:
        place, record = _submit(at, plan, after)
    except StudioloError:
        if rehearsal is not None:
            rehearsal.cancel()
        raise
    made = made_of(place, record)
    announce(made)
    return made


def made_of(place: Place, record: Record) -> Run | Sweep:
    """The run, the sweep or the calls that a folder holds."""
    if not record.points or place.index is not None:
        return Run(place, record)
    return Calls(place, record) if record.kind == "map" else Sweep(place, record)


def _submit(at: Desk, plan: Plan, after: int = 0) -> tuple[Place, Record]:
    place = folder.make(plan.files, plan.record, plan.tasks)
    try:
        job = at.do(at.submit(plan.request, plan.job(place, at.site, after), plan.environment(place)))
    except SlurmUnavailable:
        raise  # nobody knows whether Slurm has it: the folder stays, and the run shows itself if it begins
    except StudioloError as error:
        folder.remove(place)
        if isinstance(error, SlurmRefused):
            words = refusal_words(error.words) or (MANY.format(runs=plan.tasks) if "array" in error.words else "")
            raise SlurmRefused(error.action, f"{words} ({error.words})" if words else error.words) from None
        raise
    with suppress(OSError):  # the run itself tells its number as well
        folder.write_json(
            place.base / folder.JOB, {"job": job, "cluster": plan.request.cluster, "submitted": time.time()}
        )
    if not plan.tasks:
        at.loop.call_soon_threadsafe(at.watchers[plan.request.cluster].follow, job)
    if not after:
        _refuse_what_never_starts(at, place, plan, job)
    return place, plan.record


def _refuse_what_never_starts(at: Desk, place: Place, plan: Plan, job: int) -> None:
    """Where Slurm has taken a job and says at once that it will not start as it stands, take it back and say so."""
    first = Follower(Place(place.base, 0) if plan.tasks else place, plan.record)
    slurm = first.slurm(first.number(), REASON_SECONDS)
    if slurm is not None and slurm.is_pending and hopeless(slurm.reason):
        at.do(at.cancel(plan.request.cluster, [job]))
        folder.remove(place)
        raise SlurmRefused("run your notebook", refusal_words(slurm.reason) or slurm.reason)


@dataclass(frozen=True)
class Preview:
    """What a run would be: its ``script``, its price at most as a ``ceiling``, and when it would ``start`` (seconds since 1970;
    ``None`` where Slurm does not say), in ``words``."""

    script: str
    request: Request
    jobs: int
    ceiling: Amount
    start: float | None
    words: str

    def __repr__(self) -> str:
        return f"{self.script}\nAt most {amount_words(self.ceiling)}. {self.words}"


def preview(plan: Plan) -> Preview:
    """Script, price at most and expected start of what was prepared."""
    at = desk()
    place = Place(folder.root() / folder.new_id())
    script = render(plan.request, at.site, plan.job(place, at.site)).text
    start, words = _expected(at, plan.request)
    jobs = max(1, plan.tasks)
    return Preview(script, plan.request, jobs, ceiling(plan.request, at.site, jobs), start, words)


def _expected(at: Desk, request: Request) -> tuple[float | None, str]:
    slurm = at.slurm[request.cluster]
    try:
        start = at.do(slurm.estimate(slurm.person, question(request, at.site)))
    except SlurmRefused as refused:
        if waits(refused.words):
            return None, "It would wait; Slurm can not say for how long."
        return None, f"Slurm would refuse it: {refusal_words(refused.words) or refused.words}"
    except SlurmUnavailable as error:
        return None, str(error)
    if start is None or start <= time.time() + 60:
        return start, "It would start now."
    return start, f"It would start at about {time.strftime('%H:%M on %d %b', time.localtime(start))}."
