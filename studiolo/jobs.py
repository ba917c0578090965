"""Notebooks as batch jobs: one line sends a notebook off, and its run outlives the session that sent it.

::

    run = studiolo.run("train.ipynb", {"epochs": 20}, gpus=2, hours=1)
    run.state, run.why          # "running", "Cell 3 of 9."
    run.wait()
    run.result                  # what the notebook passed to studiolo.record(accuracy=0.93)

    sweep = studiolo.sweep("train.ipynb", {"lr": [1e-4, 1e-3], "seed": range(5)}, gpus=1, at_once=4)
    sweep.table()

Resources that are not named are those of the running session. All that is known of a run lies in a folder of its own
(:mod:`studiolo.batch.folder`), so it is found again after a log-out: ``studiolo.runs()``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast, overload

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record, read_record
from studiolo.batch.inside import Checkpoint, checkpoint, record
from studiolo.batch.mapping import Calls, plan_map
from studiolo.batch.parameters import Parameter, declared
from studiolo.batch.plan import Plan, plan_run, points_of
from studiolo.batch.run import Run
from studiolo.batch.shown import view_html
from studiolo.batch.snapshot import notebook_path, read_notebook
from studiolo.batch.submit import Preview, made_of, preview, submit
from studiolo.batch.sweep import Sweep
from studiolo.desk import desk
from studiolo.errors import Fault, RequestError, shown

__all__ = [
    "Calls",
    "Checkpoint",
    "Plan",
    "Preview",
    "Run",
    "Runs",
    "Sweep",
    "checkpoint",
    "find_run",
    "map",
    "parameters_of",
    "prepare",
    "preview",
    "record",
    "run",
    "runs",
    "submit",
    "sweep",
]

SHOWN_RUNS = 50
MOST_KEPT = 512

# --- Sending off -----------------------------------------------------------------------------------------------------


def run(
    notebook: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    dry_run: bool = False,
    rehearse: bool = False,
    resume: bool = False,
    **resources: Any,
) -> Run | Preview:
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
    return preview(plan) if dry_run else cast(Run, submit(plan, rehearse=rehearse))


def sweep(
    notebook: str | os.PathLike[str],
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    at_once: int | None = None,
    dry_run: bool = False,
    rehearse: bool = False,
    resume: bool = False,
    **resources: Any,
) -> Sweep | Preview:
    """Run a notebook many times with different parameters, as one job array; returns its :class:`Sweep` at once.

    ``parameters`` is a dict of names and lists of values, of which every combination is run (a single value is the same in all
    of them), or a list of dicts, one for each run. ``at_once`` is how many run at the same time at most. ``resources`` are those
    of one run; all else is as in :func:`run`.
    """
    points = points_of(parameters)
    plan = plan_run(desk(), notebook, {}, resources, points=points, at_once=at_once, resume=resume)
    return preview(plan) if dry_run else cast(Sweep, submit(plan, rehearse=rehearse))


def map(  # noqa: A001 - what it is, for many jobs
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    at_once: int | None = None,
    resume: bool = False,
    **resources: Any,
) -> Calls:
    """Call a function once for each item, each call a batch job of its own; returns its :class:`Calls` at once.

    ``calls.results()`` waits and gives what they returned, in order. Function, items and results are pickled (by cloudpickle, as
    submitit does it), so functions of the notebook itself will do. ``resources`` are those of one call; all else as in
    :func:`sweep`.
    """
    return cast(Calls, submit(plan_map(function, items, at_once, resume, resources)))


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


# --- All of them -----------------------------------------------------------------------------------------------------


class Runs(Sequence[Run | Sweep]):
    """Runs and sweeps, newest first. Their folders are read when they are looked at."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._known: dict[int, Run | Sweep] = {}

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Run | Sweep: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Sweep | Runs:
        if isinstance(index, slice):
            return Runs(self._places[index])
        number = range(len(self._places))[index]
        if number not in self._known:
            self._known[number] = found(self._places[number])
        return self._known[number]

    def __iter__(self) -> Iterator[Run | Sweep]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        if not self._places:
            return "No runs yet: studiolo.run('notebook.ipynb') sends one off."
        lines = [repr(one) for one in self[:SHOWN_RUNS]]
        more = len(self) - SHOWN_RUNS
        return "\n".join([*lines, *([f"… and {more} older ones: studiolo.runs()[{SHOWN_RUNS}:]"] if more > 0 else [])])

    def _repr_html_(self) -> str:
        return "".join(view_html(one.view()) for one in self[:SHOWN_RUNS])


def found(place: Place) -> Run | Sweep:
    """The run or sweep whose folder this is; one of which nothing can be read is a run all the same."""
    try:
        return _kept(place)
    except LookupError:
        return made_of(place, Record(title="(its folder says nothing of it)"))


@lru_cache(maxsize=MOST_KEPT)
def _kept(place: Place) -> Run | Sweep:
    """The same object each time, so that one that is over is read once; what was asked for never changes."""
    known = read_record(place)
    if known is None:
        raise LookupError(place)  # not kept: it may be there the next time
    return made_of(place, known)


def runs(limit: int | None = None) -> Runs:
    """All your runs and sweeps, newest first, whoever sent them and from which session; ``limit`` of them at most."""
    return Runs(tuple(folder.newest(limit)))


def find_run(name: str) -> Run | Sweep:
    """The run of this name (``run.id``). Raises :class:`~studiolo.errors.RequestError`."""
    place = folder.find(name) if isinstance(name, str) else None
    one = None if place is None else found(place)
    if place is None or one is None or (place.index is not None and place.index >= len(one._record.points)):
        raise RequestError([Fault("run", shown(name), "the name of a run, as in studiolo.runs()")])
    return one
