"""Receipts: what one's session, runs and clusters came to, in hours, money and energy; for a screen or for the books."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from studiolo.cost import Measured, amount_words, energy_words, receipt, receipts_csv
from studiolo.desk import Desk, desk
from studiolo.errors import Fault, RequestError, SlurmError, shown
from studiolo.panels.board import this_session
from studiolo.slurm.usage import JobUsage
from studiolo.views import JobView, Live, ReceiptView, announced
from studiolo.wording import Clock, local, moment

__all__ = ["Receipts", "receipts"]

MOST_RUNS = 200
TITLES = ("What", "Ended", "Cost", "Energy", "Idle")


@dataclass(frozen=True)
class Receipts(Sequence[ReceiptView]):
    """Receipts, the latest first. ``csv`` is all of them as text for a spreadsheet, ``save(path)`` writes that to a file."""

    items: tuple[ReceiptView, ...]
    taken: float

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    @property
    def csv(self) -> str:
        """One line each under a line of names; times in UTC, what nobody knows is left empty."""
        return receipts_csv(self.items)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to a file, as CSV. Raises ``OSError`` where that can not be written."""
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(self.csv)

    def __repr__(self) -> str:
        return (
            "\n".join(": ".join((row[0], ", ".join(filter(None, row[1:])))) for row in self._rows()) or "Nothing yet."
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{title}</th>' for title in TITLES)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _rows(self, clock: Clock = local) -> Iterable[tuple[str, ...]]:
        for one in self.items:
            jobs = f" (job {one.jobs[0]})" if len(one.jobs) == 1 else f" ({len(one.jobs)} jobs)" if one.jobs else ""
            ended = "so far" if one.ended is None else f"ended {moment(one.ended, self.taken, clock)}"
            energy = "" if one.kwh is None else f"{energy_words(one.kwh)} {one.basis}"
            energy += "" if one.gco2e is None else f", {one.gco2e:.3g} g CO2e"
            idle = "" if one.idle is None else f"{one.idle:.0%} idle"
            yield f"{' '.join(one.name.split())}{jobs}", ended, amount_words(one.amount), energy, idle


def receipts(*things: Any) -> Receipts:
    """What this session, your latest batch runs and this kernel's clusters came to, or ``things`` of those alone.

    Hours are those that Slurm charges, money is the site's price times those, energy says whether it is measured. Asks Slurm's
    accounting once. Raises :class:`~studiolo.errors.OutsideSession` outside of a session,
    :class:`~studiolo.errors.RequestError` for anything that has no cost.
    """
    at, now = desk(), time.time()
    for thing in things:
        if not isinstance(thing, Live):
            raise RequestError([Fault("receipts", shown(thing), "runs, sweeps and clusters")])
    views = [thing.view() for thing in (things or _all())]
    if not things and (own := own_view(at, now)) is not None:
        views.append(own)
    views = [view for view in views if view.started is not None or view.spent is not None]
    used = _measured(at, views)
    made = [
        receipt(view, used.get((view.kind, view.identity)) or measured(view, {}, {}), at.site, now) for view in views
    ]
    return Receipts(tuple(sorted(made, key=lambda one: -(one.ended or now))), now)


def own_view(at: Desk, now: float) -> JobView | None:
    """This session as one of the things that cost."""
    told = this_session(at, now)
    if told is None:
        return None
    return JobView(
        "session",
        str(told.job),
        "This session",
        "running",
        "",
        jobs=(told.job,),
        started=told.started,
        resources=told.resources,
        spent=told.spent,
    )


def measured(view: JobView, books: Mapping[int, JobUsage], joules: Mapping[int, float]) -> Measured:
    """What is known of a thing's use: what it has seen itself, and where it has not, what accounting tells.

    Joules of accounting only where it knows those of all its jobs. It has a task of a job array under a number of its own, and
    one of them under the array's: no more of a sweep than how busy its runs were, if they are alike.
    """
    own = view.used or Measured()
    if "/" in view.identity:  # a single run of a sweep
        return own
    told = _told(view, books, joules)
    return replace(
        own,
        cpu=own.cpu if own.cpu is not None else told.cpu,
        gpu=own.gpu if own.gpu is not None else told.gpu,
        joules=None if view.kind == "sweep" else told.joules,
    )


def _told(view: JobView, books: Mapping[int, JobUsage], joules: Mapping[int, float]) -> Measured:
    known = [books[job] for job in view.jobs if job in books]
    seconds = sum(one.seconds for one in known)
    if not seconds or len(known) < len(view.jobs) or view.resources is None:
        return Measured()
    cpus = [one.cpu_seconds for one in known]
    gpus = [one.gpu for one in known]
    busy = None if None in cpus else sum(one or 0.0 for one in cpus) / (seconds * (view.resources.cpus or 1))
    gpu = None if None in gpus else sum((one.gpu or 0.0) * one.seconds for one in known) / seconds
    counted = [joules.get(job) for job in view.jobs]
    return Measured(
        cpu=None if busy is None else min(1.0, busy),
        gpu=gpu,
        joules=None if None in counted else sum(one or 0.0 for one in counted),
    )


def _all() -> list[Live]:
    from studiolo.jobs import runs  # reads folders

    found = [*runs(MOST_RUNS), *announced()]
    return list({(view.kind, view.identity): thing for thing in found for view in (thing.view(),)}.values())


def _measured(at: Desk, views: Sequence[JobView]) -> dict[tuple[str, str], Measured]:
    books: dict[int, JobUsage] = {}
    joules: dict[int, float] = {}
    over = [view for view in views if view.is_over and view.jobs]
    for cluster in {view.cluster for view in over if view.cluster in at.slurm}:
        numbers = [job for view in over if view.cluster == cluster for job in view.jobs]
        try:
            books |= at.do(at.slurm[cluster].used(numbers))
            # Slurm counts whole nodes: the figure is a job's own only where it has those to itself.
            joules |= at.do(at.slurm[cluster].energy(numbers)) if at.site.energy.slurm_counts else {}
        except SlurmError:  # then it is estimated, and says so
            continue
    return {(view.kind, view.identity): measured(view, books, joules) for view in over}
