"""How a run or a sweep is shown: what is known of it as a view, and that in words. Plain functions of what is known already."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studiolo.batch import folder
from studiolo.batch.folder import Record
from studiolo.batch.progress import Progress, Used
from studiolo.batch.state import Verdict
from studiolo.cost import HOUR, amount, energy, use_words
from studiolo.desk import Desk
from studiolo.site import Site
from studiolo.slurm.states import JobState
from studiolo.views import CANCEL, JobView, Kind, Measured, Resources

__all__ = ["Held", "held", "lab_link", "measured", "resources_of", "together", "view_html", "view_of"]

# A counter tells of the time in which it was looked at: it counts for the whole where that was nearly all of it.
NEARLY_ALL = 0.9


def view_of(
    kind: Kind, identity: str, record: Record, verdict: Verdict, at: Desk | None, *, runs: int = 1, **known: Any
) -> JobView:
    """A run, or a sweep of so many ``runs``, as panels show it; ``known`` are the other fields of :class:`JobView`.

    What it took in energy is that of the hours in ``spent``; prices and ceiling need the site, which a desk knows.
    """
    resources = resources_of(record.request, at.site if at else None)
    spent, used = known.get("spent"), known.get("used")
    if at is not None and resources is not None:
        known["ceiling"] = amount(resources, 60 * record.minutes * runs, at.site.prices)
        if spent is not None and used is not None and resources.cpus:
            seconds = spent.cpu_hours * HOUR / resources.cpus
            known["kwh"], known["basis"] = energy(resources, seconds, used, at.site.energy)
    return JobView(
        kind=kind,
        identity=identity,
        name=record.file,
        state=verdict.state,
        words=verdict.why,
        cluster=record.cluster,
        asked=record.submitted or None,
        resources=resources,
        actions=() if verdict.is_over else (CANCEL,),
        **known,
    )


def resources_of(request: Mapping[str, Any], site: Site | None) -> Resources | None:
    """What a job of this request holds, as its folder has kept it."""
    numbers = {name: request.get(name) for name in ("cpus", "memory", "gpus", "shards")}
    if not all(isinstance(value, int) and folder.plausible(value) for value in numbers.values()):
        return None
    partition = site.partitions.get(str(request.get("partition"))) if site is not None else None
    of = partition.shards_per_gpu if partition is not None else 0
    return Resources(**numbers, shards_per_gpu=of, gpu_type=partition.gpu_type if partition is not None else "")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Held:
    """When a run had its resources: seconds since 1970, ``None`` where nobody knows; ``seconds`` in all its attempts."""

    started: float | None
    ended: float | None
    seconds: float


def held(progress: Progress | None, verdict: Verdict, slurm: JobState | None, now: float) -> Held:
    """From when to when a run has held its resources, by its own word and Slurm's. One that waits to go on holds none."""
    end = float(slurm.end) if slurm is not None and slurm.is_over and slurm.end is not None else None
    if progress is None or not progress.started:
        return Held(None, end, 0.0)
    ended = (progress.ended or end or progress.updated or None) if verdict.is_over else end
    until = ended or (progress.updated if verdict.state == "waiting" else now)
    return Held(progress.started, ended, progress.earlier + max(0.0, until - progress.started))


# --- What was used ---------------------------------------------------------------------------------------------------


def measured(used: Used | None, seconds: float) -> Measured | None:
    """What a run that has held its resources for ``seconds`` has used; ``None`` where it has not looked yet."""
    if used is None or not used.seconds:
        return None
    whole = used.seconds >= NEARLY_ALL * seconds
    return Measured(
        cpu=used.cpu,
        gpu=used.gpu,
        gpu_joules=used.gpu_joules if whole else None,
        cpu_joules=used.cpu_joules if whole else None,
        idle=used.gpu_idle,
        most_gpu=used.gpu_most,
    )


def together(views: Iterable[JobView]) -> Measured | None:
    """What the runs of a sweep have used in all; what is known of a part of their time alone is not told of all."""
    hours = [(view.spent.cpu_hours, view.used) for view in views if view.spent is not None and view.spent.cpu_hours]
    known = [(time, used) for time, used in hours if used is not None]
    total = sum(time for time, _used in hours)
    if not known or sum(time for time, _used in known) < NEARLY_ALL * total:
        return None

    def mean(name: str) -> float | None:
        told = [(time, value) for time, used in known if (value := getattr(used, name)) is not None]
        enough = sum(time for time, _value in told)
        return sum(time * value for time, value in told) / enough if told and enough >= NEARLY_ALL * total else None

    def summed(name: str) -> float | None:
        told = [getattr(used, name) for _time, used in known]
        return None if None in told or len(known) < len(hours) else sum(told)

    most = [used.most_gpu for _time, used in known if used.most_gpu is not None]
    return Measured(
        cpu=mean("cpu"),
        gpu=mean("gpu"),
        gpu_joules=summed("gpu_joules"),
        cpu_joules=summed("cpu_joules"),
        idle=mean("idle"),
        most_gpu=max(most, default=None),
    )


# --- On a page -------------------------------------------------------------------------------------------------------


def lab_link(path: Path) -> str:
    """The address of a file in this session's JupyterLab; empty where it lies outside of what that shows."""
    top, prefix = os.environ.get("JUPYTER_SERVER_ROOT", ""), os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    if not top or not prefix or not path.is_relative_to(top):
        return ""
    from urllib.parse import quote

    return f"{prefix}lab/tree/{quote(str(path.relative_to(top)))}"


def view_html(view: JobView) -> str:
    """One thing in a line: what it is, how it is, how far, what it used."""
    bar = (
        f' <progress value="{view.done}" max="{view.of}"></progress> {view.done} of {view.of} {view.unit}'
        if view.of
        else ""
    )
    link = (
        f' <a href="{html.escape(view.link)}" target="_blank">{html.escape(view.link_words)}</a>' if view.link else ""
    )
    told = use_words(view)
    used = f"<br><small>Used {html.escape(told)}.</small>" if told else ""
    return (
        f"<div><b>{html.escape(view.name)}</b> {html.escape(view.identity)}: <b>{view.state}</b>. "
        f"{html.escape(view.words)}{bar}{link}{used}</div>"
    )
