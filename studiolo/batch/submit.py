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
from studiolo.batch.parts import Arrays, Part, parts_of
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
from studiolo.slurm.reasons import limit_of
from studiolo.views import Amount, announce

__all__ = ["Preview", "made_of", "preview", "submit"]

REASON_SECONDS = 1.0
NO_ARRAYS = "this cluster takes no job arrays (MaxArraySize=0): send the runs one by one, with studiolo.run"


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
    parts = _parts(at, plan)
    place = folder.make(plan.files, plan.record, plan.tasks)
    arrays = Arrays()
    try:
        for part in parts:
            # At most so many at once: over several arrays that holds only where they run one after the other.
            behind = arrays.jobs[-1] if arrays.jobs and plan.record.at_once else 0
            job = plan.job(place, at.site, part, after=after, behind=behind)
            number = at.do(at.submit(plan.request, job, plan.environment(place)))
            arrays = Arrays((*arrays.jobs, number), part.size if part is not None else 0)
            with suppress(OSError):  # the run itself tells its number as well
                told = {"cluster": plan.request.cluster, "submitted": time.time()}
                folder.write_json(place.base / folder.JOB, {**arrays.as_json(), **told})
    except SlurmUnavailable as error:
        if not arrays.jobs:
            raise  # nobody knows whether Slurm has it: the folder stays, and the run shows itself if it begins
        sent = f"{len(arrays.jobs)} of its {len(parts)} job arrays are in the queue, as studiolo.runs() shows"
        raise SlurmUnavailable(error.action, f"{error.words} ({sent})") from error
    except StudioloError as error:
        _take_back(at, place, plan, arrays)
        if isinstance(error, SlurmRefused):
            words = refusal_words(error.words)
            if plan.tasks and limit_of(error.words) == ("mine", "jobs"):
                words = (
                    f"{plan.tasks} more jobs, as each of its runs is one, are more than you may have at once: send fewer "
                    "together, or wait until others of yours have ended."
                )
            raise SlurmRefused(error.action, f"{words} ({error.words})" if words else error.words) from None
        raise
    if not plan.tasks:
        at.loop.call_soon_threadsafe(at.watchers[plan.request.cluster].follow, arrays.jobs[0])
    if not after:
        _refuse_what_never_starts(at, place, plan, arrays)
    return place, plan.record


def _parts(at: Desk, plan: Plan) -> tuple[Part | None, ...]:
    """The job arrays of a sweep; for a single run, one job that is none."""
    if not plan.tasks:
        return (None,)
    most = at.do(at.slurm[plan.request.cluster].most_tasks())
    if most < 1:
        raise SlurmRefused("run a sweep", NO_ARRAYS)
    return parts_of(plan.tasks, most)


def _take_back(at: Desk, place: Place, plan: Plan, arrays: Arrays) -> None:
    """Leave nothing of what was not submitted as a whole, or will not run."""
    if arrays.jobs:
        at.do(at.cancel(plan.request.cluster, list(arrays.jobs)))
    folder.remove(place)


def _refuse_what_never_starts(at: Desk, place: Place, plan: Plan, arrays: Arrays) -> None:
    """Where Slurm has taken a job and says at once that it will not start as it stands, take it back and say so."""
    first = Follower(Place(place.base, 0) if plan.tasks else place, plan.record)
    slurm = first.slurm(first.number(), REASON_SECONDS)
    if slurm is not None and slurm.is_pending and hopeless(slurm.reason):
        _take_back(at, place, plan, arrays)
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
    parts = _parts(at, plan)
    script = render(plan.request, at.site, plan.job(place, at.site, parts[0])).text
    start, words = _expected(at, plan.request)
    if len(parts) > 1:
        words += f" Its runs are {len(parts)} job arrays, of which this is the first."
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
