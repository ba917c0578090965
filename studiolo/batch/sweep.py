"""Many runs of one notebook, one job array or a few: how they are all together, and what they gave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record
from studiolo.batch.follow import ANSWER_SECONDS, Follower, here
from studiolo.batch.plan import changed, plan_calls, plan_run
from studiolo.batch.run import Run, Text
from studiolo.batch.shown import held, resources_of, together, view_html, view_of
from studiolo.batch.snapshot import kept_notebook
from studiolo.batch.state import Verdict
from studiolo.batch.table import plotted, row, tabled
from studiolo.cost import use_words
from studiolo.desk import desk
from studiolo.errors import Fault, RequestError, RunGone
from studiolo.views import CANCEL, OVER, JobView, State

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Sweep", "summary"]

VIEW_SECONDS = 1.0
VIEW_SHARE = 10.0
_ORDER: tuple[State, ...] = ("running", "starting", "stopping", "waiting", "unknown", "done", "failed", "cancelled")


def summary(verdicts: Iterable[Verdict]) -> Verdict:
    """How many runs are all together: their state, and a sentence with how many of each, and why the first one failed."""
    known = list(verdicts)
    counts = Counter(verdict.state for verdict in known)
    words = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    failed = next((f" Run {n}: {v.why}" for n, v in enumerate(known) if v.state == "failed"), "")
    waits = next((f" {v.why}" for v in known if v.state == "waiting"), "") if counts["waiting"] == len(known) else ""
    alive: list[State] = [state for state in _ORDER if counts[state] and state not in OVER]
    if alive:
        state: State = "running" if counts["done"] + counts["failed"] else alive[0]
    else:
        state = "failed" if counts["failed"] else "cancelled" if counts["cancelled"] else "done"
    return Verdict(state, f"{words}.{waits}{failed}")


class Sweep(Sequence[Run]):
    """One notebook run with many parameters; its items are its runs. Get one from ``studiolo.sweep`` or ``studiolo.runs``."""

    def __init__(self, place: Place, record: Record) -> None:
        self._place, self._record = place, record
        self._runs = [Run(Place(place.base, index), record) for index in range(len(record.points))]
        self._all = Follower(place, record)
        self._view: JobView | None = None
        self._view_until = 0.0
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """Its name, such as ``"20261122-154501-k3f9"``."""
        return self._place.id

    @property
    def folder(self) -> Path:
        """Where all that is known of it lies; each run has a folder of its number in it."""
        return self._place.base

    @property
    def notebook(self) -> Path:
        """The notebook as it was sent; the executed copies are its runs'."""
        return self._place.base / folder.SOURCE

    @property
    def request(self) -> Mapping[str, Any]:
        """The resources of each of its runs, by the fields of :class:`studiolo.request.Request`."""
        return self._record.request

    @property
    def job(self) -> int | None:
        """Slurm's number of its job array, of the first one where it is several; ``None`` where nobody knows it."""
        return next(iter(self.jobs), None)

    @property
    def jobs(self) -> tuple[int, ...]:
        """Slurm's numbers of its job arrays: one, or several where it has more runs than Slurm takes in one."""
        return self._all.arrays().jobs

    @property
    def rehearsal(self) -> Run | None:
        """The rehearsal that it waits or waited for."""
        return Run(self._place, self._record).rehearsal

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        return self._runs[index]

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    # --- How it is ---------------------------------------------------------------------------------------------------

    def _verdicts(self, wait: float = 0.0) -> list[Verdict]:
        """What is true of each of its runs, waiting ``wait`` seconds at most in all for a first answer of Slurm's."""
        verdicts = [run._follower.verdict() for run in self._runs]
        unheard = [index for index, verdict in enumerate(verdicts) if verdict.state == "unknown"]
        asked = next((index for index in reversed(unheard) if self._runs[index]._follower.number() is not None), None)
        if wait and asked is not None:
            # All of them are followed by now, this one last: the answer that tells of it tells of the others as well.
            self._runs[asked]._follower.verdict(wait)
            for index in unheard:
                verdicts[index] = self._runs[index]._follower.verdict()
        return verdicts

    def _verdict(self, wait: float = 0.0) -> Verdict:
        return summary(self._verdicts(wait))

    @property
    def state(self) -> str:
        """That of all runs together: "running" while some run or wait and others are over, "failed" where all are over and one
        failed."""
        return self._verdict(ANSWER_SECONDS).state

    @property
    def why(self) -> str:
        """How many runs are in which state, and why the first one failed or all of them wait."""
        return self._verdict(ANSWER_SECONDS).why

    @property
    def used(self) -> str:
        """What its runs have used so far by their own looks, in words, as :attr:`Run.used`; empty before they have looked."""
        return Text(use_words(self.view()))

    def table(self) -> pd.DataFrame:
        """One row for each run: its parameters, what it recorded, its state and why, hours, GPU-hours, and its notebook."""
        return tabled(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        at = here()
        resources = resources_of(self._record.request, at.site if at else None)
        rows = []
        for run, verdict in zip(self._runs, self._verdicts(ANSWER_SECONDS), strict=True):
            progress = run.progress
            had = held(progress, verdict, run._follower._end, time.time())
            seconds = None if had.started is None else had.seconds
            gpus = resources.whole_gpus if resources else 0.0
            link = run.link or str(run.notebook)
            rows.append(row(run.parameters, run.result, verdict, seconds=seconds, gpus=gpus, link=link))
        return rows

    def plot(self, y: str | None = None, x: str | None = None, by: str | None = None, ax: Any = None) -> Axes:
        """Draw the result ``y`` over the parameter ``x``, one line for each value of ``by``; left out, the first that vary.

        Returns Matplotlib's axes.
        """
        results = dict.fromkeys(name for run in self._runs for name in run.result)
        parameters = dict.fromkeys(name for run in self._runs for name in run.parameters)
        return plotted(self.table(), parameters, results, x=x, y=y, by=by, ax=ax)

    # --- What can be done --------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End all runs of it that are not over; what they have done is kept."""
        if self._verdict().is_over:
            return
        alive = [run._follower.number() for run in self._runs if not run._follower.verdict().is_over]
        followed = [number for number in alive if number is not None]
        # Where the number of an array is not known, its runs that have begun tell theirs.
        told = self._all.arrays()
        self._all.cancel(told.jobs if told.holds(len(self)) else [*told.jobs, *followed], followed)

    def wait(self, timeout: float | None = None) -> Sweep:
        """Wait until all runs are over, ``timeout`` seconds at most; how they went is in the table. Raises ``TimeoutError``."""
        at = desk()
        try:
            at.do(asyncio.wait_for(self._until_over(), timeout))
        except (TimeoutError, asyncio.TimeoutError):
            raise TimeoutError(f"The sweep is not over after {timeout:g} s: {self.why}") from None
        return self

    async def _until_over(self) -> None:
        at = desk()
        # One after the other: while one is waited for, others end as well.
        for run in self._runs:
            await run._follower.until_over(at, None)

    def __await__(self) -> Generator[Any, None, Sweep]:
        return self._awaited().__await__()

    async def _awaited(self) -> Sweep:
        await asyncio.wrap_future(desk().begin(self._until_over()))
        return self

    def again(
        self, *, failed: bool = False, at_once: int | None = None, rehearse: bool = False, **changes: Any
    ) -> Sweep:
        """Run it once more as it was kept, resources named here changed; with ``failed``, those runs only that failed or were
        cancelled. Raises :class:`~studiolo.errors.RequestError` where there are none, and what :meth:`Run.again` raises."""
        from studiolo.batch.submit import submit  # which makes sweeps

        runs = [run for run in self._runs if not failed or run.state in ("failed", "cancelled")]
        if not runs:
            raise RequestError([Fault("failed", "True", f"no run of {self.id} has failed: {self.why}")])
        options = changed(self._record.options, changes)
        at_once = at_once or self._record.at_once or None
        resume = bool(changes.get("resume", self._record.resume))
        points = [run.parameters for run in runs]
        if self._record.kind == "map":
            files = {f"{n}/{folder.CALL}": self._call(run) for n, run in enumerate(runs)}
            plan = plan_calls(desk(), self._record.title, points, files, options, at_once=at_once, resume=resume)
        else:
            source = kept_notebook(self._place)
            notebook, title = self._record.notebook, self._record.title
            more: dict[str, Any] = {"at_once": at_once, "resume": resume, "source": source, "title": title}
            plan = plan_run(desk(), notebook, {}, options, points=points, **more)
        made = submit(plan, rehearse=rehearse)
        assert isinstance(made, Sweep)
        return made

    def _call(self, run: Run) -> bytes:
        try:
            return (run.folder / folder.CALL).read_bytes()
        except OSError as error:
            file, words = str(run.folder / folder.CALL), error.strerror or str(error)
            raise RunGone(run.id, file, words, "Send function and items off again, with studiolo.map.") from error

    # --- How it is shown ---------------------------------------------------------------------------------------------

    def view(self) -> JobView:
        """What panels show: what is known already. Asks nobody; many runs are looked at seldom."""
        with self._lock:
            if self._view is None or (time.monotonic() >= self._view_until and not self._view.is_over):
                before = time.monotonic()
                self._view = self._look()
                self._view_until = before + max(VIEW_SECONDS, VIEW_SHARE * (time.monotonic() - before))
            return self._view

    def _look(self) -> JobView:
        verdict, views = self._verdict(), [run.view() for run in self._runs]
        spent = [view.spent for view in views if view.spent is not None]
        return view_of(
            "sweep",
            self.id,
            self._record,
            verdict,
            here(),
            runs=len(self),
            jobs=self.jobs,
            started=min((view.started for view in views if view.started), default=None),
            expected=min((view.expected for view in views if view.expected), default=None),
            ended=max((view.ended for view in views if view.ended), default=None) if verdict.is_over else None,
            done=sum(view.state == "done" for view in views),
            of=len(views),
            unit="runs",
            spent=sum(spent[1:], spent[0]) if spent else None,
            used=together(views),
        )

    def act(self, action: str) -> None:
        """What a panel's button does."""
        if action == CANCEL.name:
            self.cancel()

    def __repr__(self) -> str:
        verdict = self._verdict(ANSWER_SECONDS)
        return f"Sweep {self.id} of {self._record.file}, {len(self)} runs: {verdict.state}. {verdict.why}"

    def _repr_html_(self) -> str:
        self._verdict(ANSWER_SECONDS)
        with suppress(ImportError):
            return view_html(self.view()) + str(self.table().to_html(escape=True))
        return view_html(self.view())
