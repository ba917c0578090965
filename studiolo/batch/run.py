"""One run, for whoever sent it: how it is, what it gave, and what can be done with it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record, read_record
from studiolo.batch.follow import ANSWER_SECONDS, Follower, here
from studiolo.batch.plan import changed, plan_run
from studiolo.batch.progress import Progress
from studiolo.batch.shown import held, lab_link, measured, resources_of, view_html, view_of
from studiolo.batch.snapshot import kept_notebook
from studiolo.cost import amount, use_words
from studiolo.desk import desk
from studiolo.errors import RunFailed
from studiolo.slurm.arrays import split
from studiolo.slurm.usage import JobUsage
from studiolo.views import CANCEL, JobView

__all__ = ["Run", "Text"]

LOG_BYTES = 256 << 10


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
        self._last: JobView | None = None

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
    def request(self) -> Mapping[str, Any]:
        """The resources of its job, by the fields of :class:`studiolo.request.Request`."""
        return self._record.request

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
        return executed if os.path.exists(executed) else self._place.base / folder.SOURCE

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

    @property
    def used(self) -> str:
        """What it has used so far by its own looks, in words: CPUs, memory, GPUs, energy ("measured" or "estimated").

        Empty before it has looked. The figures are ``run.progress.used``.
        """
        progress = self.progress
        return Text(use_words(self.view(), progress.peak if progress is not None else 0))

    # --- What can be done --------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End it, or take it out of the queue; its outputs so far are kept. What is over already stays as it is."""
        if not self._follower.verdict().is_over and (number := self._follower.number()) is not None:
            self._follower.cancel([number])

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
        """Run the same notebook, as it was kept, once more; ``parameters`` and resources named here are changed.

        Raises :class:`~studiolo.errors.RunGone` where nothing of it is left, and what :func:`studiolo.run` raises.
        """
        from studiolo.batch.submit import submit  # which makes runs

        plan = plan_run(
            desk(),
            self._record.notebook,
            {**self.parameters, **(parameters or {})},
            changed(self._record.options, changes),
            resume=bool(changes.get("resume", self._record.resume)),
            source=kept_notebook(self._place),
            title=self._record.title,
        )
        return submit(plan, rehearse=rehearse)

    # --- How it is shown ---------------------------------------------------------------------------------------------

    def view(self) -> JobView:
        """What panels show: what is known already. Asks nobody; what is over is looked at once."""
        if self._last is None or not self._last.is_over:
            self._last = self._look()
        return self._last

    def _look(self) -> JobView:
        verdict, progress = self._follower.verdict(), self._follower.progress()
        at = here()
        slurm = self._follower.slurm(self._follower.number(progress)) if not verdict.is_over else self._follower._end
        had = held(progress, verdict, slurm, time.time())
        resources = resources_of(self._record.request, at.site if at else None)
        number = self.job
        return view_of(
            "run",
            self.id,
            self._record,
            verdict,
            at,
            jobs=(number,) if number else (),
            started=had.started,
            expected=float(slurm.start) if slurm is not None and slurm.is_pending and slurm.start else None,
            ends=had.started + 60 * self._record.minutes
            if had.started and self._record.minutes and not had.ended
            else None,
            ended=had.ended,
            done=progress.done if progress else None,
            of=progress.cells if progress else None,
            unit="cells",
            spent=amount(resources, had.seconds, at.site.prices) if at and had.started and resources else None,
            used=measured(progress.used, had.seconds) if progress else None,
            link=self.link,
            link_words=("Open the executed notebook" if had.started else "Open the notebook") if self.link else "",
        )

    def act(self, action: str) -> None:
        """What a panel's button does."""
        if action == CANCEL.name:
            self.cancel()

    def __repr__(self) -> str:
        verdict = self._follower.verdict(ANSWER_SECONDS)
        return " ".join(filter(None, [f"Run {self.id} of {self._record.file}: {verdict.state}.", verdict.why]))

    def _repr_html_(self) -> str:
        self._follower.verdict(ANSWER_SECONDS)  # just sent off, it is not known to be in the queue yet
        return view_html(self.view())
