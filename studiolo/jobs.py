"""Notebooks as batch jobs: one line sends a notebook off, and its run outlives the session that sent it.

::

    run = studiolo.run("train.ipynb", {"epochs": 20}, gpus=2, hours=1)
    run.state, run.why          # "running", "Cell 3 of 9."
    run.wait()
    run.result                  # what the notebook passed to studiolo.record(accuracy=0.93)

Resources that are not named are those of the running session. All that is known of a run lies in a folder of its own
(:mod:`studiolo.batch.folder`), so it is found again after a log-out: ``studiolo.runs()``.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record, read_record
from studiolo.batch.follow import ANSWER_SECONDS, Follower, here
from studiolo.batch.inside import Checkpoint, checkpoint, record
from studiolo.batch.parameters import Parameter, declared
from studiolo.batch.plan import Plan, plan_run, rehearsal_of
from studiolo.batch.progress import Progress
from studiolo.batch.snapshot import notebook_path, read_notebook
from studiolo.batch.state import hopeless, refusal_words
from studiolo.cost import amount, amount_words, ceiling
from studiolo.desk import Desk, desk
from studiolo.errors import Fault, RequestError, RunFailed, SlurmRefused, SlurmUnavailable, StudioloError, shown
from studiolo.request import Request
from studiolo.script import render
from studiolo.site import Site
from studiolo.slurm.arrays import split
from studiolo.slurm.estimate import question, waits
from studiolo.slurm.usage import JobUsage
from studiolo.views import CANCEL, Amount, JobView, Resources, announce

__all__ = [
    "Checkpoint",
    "Preview",
    "Run",
    "Runs",
    "checkpoint",
    "parameters_of",
    "prepare",
    "record",
    "run",
    "runs",
    "submit",
]

REASON_SECONDS = 1.0
LOG_BYTES = 256 << 10
SHOWN_RUNS = 50


# --- Sending off -----------------------------------------------------------------------------------------------------


def run(
    notebook: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    dry_run: bool = False,
    rehearse: bool = False,
    resume: bool = False,
    **resources: Any,
) -> Any:
    """Run a notebook as a batch job; returns its :class:`Run` at once.

    ``parameters`` set the variables of the notebook's cell tagged ``parameters``. ``resources`` are those of a session's form:
    ``gpus``, ``cpus``, ``memory`` ("16G"), ``hours`` (a number, or "90m"), ``profile``, ``partition``, ``account``,
    ``environment`` …; what is left out is as in the running session.

    ``dry_run`` submits nothing and returns a :class:`Preview`: script, price at most, expected start. ``rehearse`` runs it on
    tiny resources for minutes first, and the run itself only if that goes well. ``resume`` lets it go on in another job after a
    preemption or at the end of its time, from what it saves by :func:`checkpoint`.

    Raises :class:`~studiolo.errors.RequestError` for what can not be asked for, :class:`~studiolo.errors.SlurmRefused` with
    Slurm's reason where it would never start, :class:`~studiolo.errors.RunsUnusable` where the home has no room.
    """
    plan = prepare(notebook, parameters, resume=resume, **resources)
    if dry_run:
        return preview(plan)
    return submit(plan, rehearse=rehearse)


def prepare(
    notebook: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    **resources: Any,
) -> Plan:
    """Check what :func:`run` would submit, and submit nothing. For forms and extensions."""
    return plan_run(desk(), notebook, parameters, resources, resume=resume)


def parameters_of(notebook: str | os.PathLike[str]) -> tuple[Parameter, ...]:
    """What a notebook's cell tagged ``parameters`` declares, in its order; for a form."""
    return declared(read_notebook(notebook_path(notebook))) or ()


def submit(plan: Plan, *, rehearse: bool = False) -> Any:
    """Submit what was prepared; see :func:`run`."""
    at = desk()
    after, rehearsal = 0, None
    if rehearse:
        known = declared(json.loads(plan.files[folder.SOURCE]))
        rehearsal = Run(*_submit(at, rehearsal_of(plan, at, known)))
        _refuse_what_never_starts(rehearsal)
        plan = replace(plan, record=replace(plan.record, rehearsal=rehearsal.id))
        after = rehearsal.job or 0
    try:
        made = Run(*_submit(at, plan, after))
        if not rehearse:
            _refuse_what_never_starts(made)
    except StudioloError:
        if rehearsal is not None:
            rehearsal.cancel()
        raise
    announce(made)
    return made


def _submit(at: Desk, plan: Plan, after: int = 0) -> tuple[Place, Record]:
    place = folder.make(plan.files, plan.record, plan.tasks)
    try:
        job = at.do(at.submit(plan.request, plan.job(place, at.site, after), plan.environment(place)))
    except SlurmUnavailable:
        raise  # nobody knows whether Slurm has it: the folder stays, and the run shows itself if it begins
    except StudioloError as error:
        folder.remove(place)
        if isinstance(error, SlurmRefused) and (words := refusal_words(error.words)):
            raise SlurmRefused(error.action, f"{words} ({error.words})") from None
        raise
    with suppress(OSError):  # the run itself tells its number as well
        folder.write_json(
            place.base / folder.JOB, {"job": job, "cluster": plan.request.cluster, "submitted": time.time()}
        )
    at.loop.call_soon_threadsafe(at.watchers[plan.request.cluster].follow, job)
    return place, plan.record


def _refuse_what_never_starts(made: Run) -> None:
    """Where Slurm has taken a job and says at once that it will not start as it stands, take it back and say so."""
    slurm = made._follower.slurm(made._follower.number(), REASON_SECONDS)
    if slurm is not None and slurm.is_pending and hopeless(slurm.reason):
        made.cancel()
        folder.remove(made._place)
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


# --- One run ---------------------------------------------------------------------------------------------------------


class Text(str):
    """Text that a notebook shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Run:
    """One notebook as a batch job. Get one from :func:`run` or :func:`runs`; it is the same in every kernel."""

    def __init__(self, place: Place, record: Record) -> None:
        self._place, self._record = place, record
        self._follower = Follower(place, record)

    # --- What it is --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its name, such as ``"20261122-154501-k3f9"``; runs of a sweep have their number behind it."""
        return self._place.id if self._place.index is None else f"{self._place.id}/{self._place.index}"

    @property
    def folder(self) -> Path:
        """Where all that is known of it lies."""
        return self._place.own

    @property
    def parameters(self) -> dict[str, Any]:
        """What its notebook was given."""
        index, points = self._place.index, self._record.points
        return {**self._record.parameters, **(points[index] if index is not None and index < len(points) else {})}

    @property
    def job(self) -> int | None:
        """Slurm's number of its job (of the job array, for a run of a sweep); ``None`` where nobody knows it."""
        number = self._follower.number()
        return None if number is None else split(number)[0]

    @property
    def rehearsal(self) -> Run | None:
        """The rehearsal that it waits or waited for; ``None`` where there is none."""
        place = folder.find(self._record.rehearsal)
        known = read_record(place) if place is not None else None
        return Run(place, known) if place is not None and known is not None else None

    # --- How it is ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of :data:`studiolo.views.State`: "waiting", "starting", "running", "stopping", "done", "failed", "cancelled", or
        "unknown" while Slurm has not told of it."""
        return self._follower.verdict(ANSWER_SECONDS).state

    @property
    def why(self) -> str:
        """One sentence: why it waits, which cell it is in, how it failed and what to do."""
        return self._follower.verdict(ANSWER_SECONDS).why

    @property
    def progress(self) -> Progress | None:
        """How far it is by its own word: cells done, the one at work, memory and cores in use; ``None`` before it begins."""
        return self._follower.progress()

    @property
    def notebook(self) -> Path:
        """The executed copy of the notebook: its outputs so far while it runs, the notebook as it was sent before."""
        executed = self._place.own / folder.OUTPUT
        return executed if executed.exists() else self._place.base / folder.SOURCE

    @property
    def link(self) -> str:
        """The address of the executed copy in JupyterLab; empty where its file browser does not reach it."""
        return lab_link(self.notebook)

    @property
    def result(self) -> dict[str, Any]:
        """What the notebook passed to ``studiolo.record`` so far."""
        return folder.read_json(self._place.own / folder.RESULT)

    def log(self, lines: int = 50) -> str:
        """The last lines of what it printed."""
        try:
            with open(self._place.own / folder.LOG, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return Text("")
        return Text("\n".join(text.splitlines()[-lines:]))

    @property
    def usage(self) -> JobUsage | None:
        """What it used, by Slurm's accounting (memory in mebibytes); ``None`` while it runs, or where Slurm does not tell.

        What it uses at the moment is ``run.progress``.
        """
        at, number = here(), self._follower.number()
        if at is None or number is None or self._record.cluster not in at.slurm or self._place.index is not None:
            return None
        return at.do(at.slurm[self._record.cluster].used([number])).get(number)

    # --- What can be done --------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End it, or take it out of the queue; its outputs so far are kept. What is over already stays as it is."""
        if not self._follower.verdict().is_over:
            self._follower.cancel(self._follower.number())

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until it is over, ``timeout`` seconds at most; interrupting the cell ends the waiting, not the run.

        Raises :class:`~studiolo.errors.RunFailed` where it failed or was cancelled, ``TimeoutError``.
        """
        at = desk()
        try:
            at.do(self._follower.until_over(at, timeout))
        except (TimeoutError, asyncio.TimeoutError):
            raise TimeoutError(f"The run is not over after {timeout:g} s: it is {self.state}. {self.why}") from None
        return self._outcome()

    def __await__(self) -> Generator[Any, None, Run]:
        return self._awaited().__await__()

    async def _awaited(self) -> Run:
        at = desk()
        await asyncio.wrap_future(at.begin(self._follower.until_over(at, None)))
        return self._outcome()

    def _outcome(self) -> Run:
        verdict = self._follower.verdict()
        if verdict.state != "done":
            raise RunFailed(self, verdict.why or f"The run is {verdict.state}.")
        return self

    def again(self, parameters: Mapping[str, Any] | None = None, *, rehearse: bool = False, **changes: Any) -> Any:
        """Run the same notebook, as it was kept, once more; ``parameters`` and resources named here are changed."""
        source = json.loads((self._place.base / folder.SOURCE).read_bytes())
        resume = bool(changes.pop("resume", self._record.resume))
        options = {**self._record.options, **changes}
        for one, other in (("gpus", "shards"), ("shards", "gpus"), ("hours", "minutes"), ("minutes", "hours")):
            if one in changes and other not in changes:
                options.pop(other, None)
        given = {**self.parameters, **(parameters or {})}
        plan = plan_run(
            desk(), self._record.notebook, given, options, resume=resume, source=source, title=self._record.title
        )
        return submit(plan, rehearse=rehearse)

    # --- How it is shown ---------------------------------------------------------------------------------------------

    def view(self) -> JobView:
        """What panels show: what is known already. Asks nobody."""
        verdict, progress = self._follower.verdict(), self._follower.progress()
        at = here()
        request = self._record.request
        resources = _resources(request, at.site if at else None)
        slurm = self._follower.slurm(self._follower.number(progress)) if not verdict.is_over else self._follower._end
        started = (progress.started or None) if progress else None
        ended = (progress.ended or None) if progress and verdict.is_over else None
        ended = ended or (slurm.end if slurm is not None and slurm.is_over else None)
        spent = None
        if at is not None and started and resources is not None:
            spent = amount(resources, (ended or time.time()) - started, at.site.prices)
        number = self.job
        return JobView(
            kind="run",
            identity=self.id,
            name=self._record.file,
            state=verdict.state,
            words=verdict.why,
            jobs=(number,) if number else (),
            cluster=self._record.cluster,
            asked=self._record.submitted or None,
            started=started,
            expected=float(slurm.start) if slurm is not None and slurm.is_pending and slurm.start else None,
            ends=started + 60 * self._record.minutes if started and self._record.minutes and not ended else None,
            ended=ended,
            done=progress.done if progress else None,
            of=progress.cells if progress else None,
            unit="cells",
            resources=resources,
            spent=spent,
            ceiling=amount(resources, 60 * self._record.minutes, at.site.prices) if at and resources else None,
            link=self.link,
            link_words="Open the executed notebook" if self.link else "",
            actions=() if verdict.is_over else (CANCEL,),
        )

    def act(self, action: str) -> None:
        """What a panel's button does."""
        if action == CANCEL.name:
            self.cancel()

    def __repr__(self) -> str:
        verdict = self._follower.verdict(ANSWER_SECONDS)
        return " ".join(filter(None, [f"Run {self.id} of {self._record.file}: {verdict.state}.", verdict.why]))

    def _repr_html_(self) -> str:
        return view_html(self.view())


def _resources(request: Mapping[str, Any], site: Site | None) -> Resources | None:
    """What a job of this request holds, as its folder has kept it."""
    numbers = {name: request.get(name) for name in ("cpus", "memory", "gpus", "shards")}
    if not all(isinstance(value, int) for value in numbers.values()):
        return None
    partition = site.partitions.get(str(request.get("partition"))) if site is not None else None
    of = partition.shards_per_gpu if partition is not None else 0
    return Resources(**numbers, shards_per_gpu=of, gpu_type=partition.gpu_type if partition is not None else "")  # type: ignore[arg-type]


def lab_link(path: Path) -> str:
    """The address of a file in this session's JupyterLab; empty where it lies outside of what that shows."""
    top, prefix = os.environ.get("JUPYTER_SERVER_ROOT", ""), os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    if not top or not prefix or not path.is_relative_to(top):
        return ""
    from urllib.parse import quote

    return f"{prefix}lab/tree/{quote(str(path.relative_to(top)))}"


def view_html(view: JobView) -> str:
    """One thing in a line: what it is, how it is, how far."""
    bar = (
        f' <progress value="{view.done}" max="{view.of}"></progress> {view.done} of {view.of} {view.unit}'
        if view.of
        else ""
    )
    link = (
        f' <a href="{html.escape(view.link)}" target="_blank">{html.escape(view.link_words)}</a>' if view.link else ""
    )
    return (
        f"<div><b>{html.escape(view.name)}</b> {html.escape(view.identity)}: <b>{view.state}</b>. "
        f"{html.escape(view.words)}{bar}{link}</div>"
    )


# --- All of them -----------------------------------------------------------------------------------------------------


class Runs(Sequence[Any]):
    """Runs and sweeps, newest first. Their folders are read when they are looked at."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._known: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Runs(self._places[index])
        number = range(len(self._places))[index]
        if number not in self._known:
            self._known[number] = found(self._places[number])
        return self._known[number]

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        if not self._places:
            return "No runs yet: studiolo.run('notebook.ipynb') sends one off."
        lines = [repr(one) for one in self[:SHOWN_RUNS]]
        more = len(self) - SHOWN_RUNS
        return "\n".join([*lines, *([f"… and {more} older ones: studiolo.runs()[{SHOWN_RUNS}:]"] if more > 0 else [])])

    def _repr_html_(self) -> str:
        return "".join(view_html(one.view()) for one in self[:SHOWN_RUNS])


def found(place: Place) -> Any:
    """The run whose folder this is; one of which nothing can be read is a run all the same."""
    known = read_record(place) or Record(title="(its folder says nothing of it)")
    return Run(place, known)


def runs(limit: int | None = None) -> Runs:
    """All your runs and sweeps, newest first, whoever sent them and from which session; ``limit`` of them at most."""
    return Runs(tuple(folder.newest(limit)))


def find_run(name: str) -> Any:
    """The run of this name (``run.id``). Raises :class:`~studiolo.errors.RequestError`."""
    place = folder.find(name) if isinstance(name, str) else None
    if place is None:
        raise RequestError([Fault("run", shown(name), "the name of a run, as in studiolo.runs()")])
    return found(place)
