"""From what somebody asks for to what is submitted: decided here, done elsewhere. Works in a kernel and in a server alike."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record
from studiolo.batch.parameters import Parameter, check_parameters, declared
from studiolo.batch.parts import Part
from studiolo.batch.snapshot import git_state, notebook_path, read_notebook, working_folder
from studiolo.desk import Desk
from studiolo.errors import Fault, RequestError, shown
from studiolo.outline import VARIABLE, outline
from studiolo.request import Request, carried
from studiolo.script import Job
from studiolo.session import REQUEST, Session
from studiolo.site import Site
from studiolo.units import parse_minutes

__all__ = ["Plan", "changed", "like_session", "plan_run", "points_of", "rehearsal_of"]

LIKE = (
    "profile",
    "partition",
    "gpus",
    "shards",
    "cpus",
    "memory",
    "minutes",
    "account",
    "qos",
    "reservation",
    "features",
    "environment",
)
MOST_POINTS = 10_000
COUNTED = 10**9
WARNING_SECONDS = 120
REHEARSAL = {"minutes": 10, "cpus": 2, "memory": 16 * 1024}


_PROGRAMS = {"map": "studiolo.batch.calls"}
"""What a job executes, where it is no notebook."""


@dataclass(frozen=True)
class Plan:
    """A run or a sweep, checked, and nothing of it done yet."""

    record: Record
    request: Request
    files: Mapping[str, bytes]

    @property
    def tasks(self) -> int:
        """How many runs a sweep has; 0 for a single run."""
        return len(self.record.points)

    def job(self, place: Place, site: Site, part: Part | None = None, *, after: int = 0, behind: int = 0) -> Job:
        """What is submitted for the folder ``place``: ``part`` is which job array of a sweep."""
        python = site.environments[self.request.environment].python or site.python
        program, array, first = _PROGRAMS.get(self.record.kind, "studiolo.batch.runner"), "", list[str]()
        if part is not None:
            array = f"0-{part.count - 1}" + (f"%{self.record.at_once}" if self.record.at_once else "")
            first = [str(part.first)] if part.first else []
        # Below the home, where Slurm starts jobs, so that an attempt that goes on later writes on in the same log.
        log = f".studiolo/runs/{place.id}/" + (f"{part.folder}/{folder.LOG}" if part is not None else folder.LOG)
        # A quarter of the time at most: who asked for four minutes is not warned after two.
        warning = min(WARNING_SECONDS, self.request.minutes * 15)
        return Job(
            name="studiolo-run",
            comment=site.tag("run", place.id),
            log=log,
            command=[python, "-I", "-m", program, str(place.base), *first],
            array=array,
            requeue=self.record.resume,
            signal=f"B:USR1@{warning}" if self.record.resume or self.record.kind == "rehearsal" else "",
            after=after,
            behind=behind,
        )

    def environment(self, place: Place) -> dict[str, str]:
        """What the job is told: who it is, what it asked for, what it may know of its site."""
        return {
            "STUDIOLO_RUN": place.id,
            REQUEST: carried(self.request),
            VARIABLE: str(place.base / folder.SITE),
        }


def like_session(given: Mapping[str, Any], own: Session | None, site: Site) -> dict[str, Any]:
    """The options of a job: those given, and what they leave open as the session has it.

    Another profile stands for itself: of the session, its project and its environment are kept then, where they fit. Who asks
    for GPUs where the session's partition has none, and names no other place, gets the site's first profile with them.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if _in_words(options):
        with suppress(ValueError):  # of what is no time, the gate says so by the name that was written
            options["minutes"] = parse_minutes(options["hours"])  # hours="90m" is plain enough
            del options["hours"]
    if (elsewhere := _elsewhere(options, own, site)) is not None:
        options["profile"] = elsewhere
    if own is None:
        return options
    profile = options.get("profile")
    moved = profile is not None or options.get("partition", own.asked.get("partition")) != own.asked.get("partition")
    fields = ("account", "environment") if profile is not None else LIKE
    kept = own.like(*fields)
    if moved:
        for name in ("qos", "reservation", "features"):
            kept.pop(name, None)
        _keep_account(kept, options, site)
    if profile is None and not kept.get("shards") and kept:
        kept.setdefault("gpus", 0)  # the session may have fewer than its profile
    if "gpus" in options or "shards" in options:
        kept.pop("gpus", None)
        kept.pop("shards", None)
    if "hours" in options or "minutes" in options:
        kept.pop("minutes", None)
    if options.get("account", kept.get("account")) != kept.get("account"):
        kept.pop("qos", None)
    return {**kept, **options}


def _in_words(options: Mapping[str, Any]) -> bool:
    """Whether its time is ``hours="90m"``, in words that ``minutes`` would have."""
    hours = options.get("hours")
    return isinstance(hours, str) and options.get("minutes") is None and bool(re.search(r"[a-zA-Z:]", hours))


def _checked(desk: Desk, given: Mapping[str, Any]) -> tuple[dict[str, Any], Request]:
    """The options of a job, and what the gate makes of them. Raises :class:`~studiolo.errors.RequestError` that names what was
    given as it was written."""
    asked = like_session(given, desk.session, desk.site)
    try:
        return asked, desk.check(asked)
    except RequestError as error:
        if not _in_words(given):
            raise
        written = shown(given["hours"])
        told = [
            replace(each, where="hours", value=written) if each.where == "minutes" else each for each in error.faults
        ]
        raise RequestError(told) from None


def _gpu_profile(site: Site, kind: str, count: int) -> str | None:
    """The site's first profile with whole ``"gpus"`` or with ``"shards"``: one where so many can be had, or else any."""
    having = [name for name, profile in site.profiles.items() if getattr(profile, kind)]
    enough = (n for n in having if getattr(site.partitions[site.profiles[n].partition], f"max_{kind}") >= count)
    return next(enough, having[0] if having else None)


def _elsewhere(options: Mapping[str, Any], own: Session | None, site: Site) -> str | None:
    """The profile for GPUs that the session's own partition does not have; ``None`` where it has, or where a place is named."""
    if "profile" in options or "partition" in options:
        return None
    here = own.asked.get("partition") if own is not None else None
    partition = site.partitions.get(str(here or site.profiles[site.default_profile].partition))
    for kind in ("gpus", "shards"):
        asked = str(options.get(kind, "")).strip()  # as a form or a magic has it
        if asked.isascii() and asked.isdigit() and int(asked[:10]) and not getattr(partition, f"max_{kind}", 0):
            return _gpu_profile(site, kind, int(asked[:10]))
    return None


def _keep_account(kept: dict[str, Any], options: Mapping[str, Any], site: Site) -> None:
    """Drop the session's project where the other place has one of its own or does not take it."""
    profile = site.profiles.get(str(options.get("profile")))
    partition = site.partitions.get(str(options.get("partition") or (profile.partition if profile else "")))
    refused = partition is not None and partition.accounts and kept.get("account") not in partition.accounts
    if (profile is not None and profile.account) or refused:
        kept.pop("account", None)


def plan_run(
    desk: Desk,
    notebook: object,
    parameters: object,
    options: Mapping[str, Any],
    *,
    points: Sequence[Mapping[str, Any]] = (),
    at_once: object = None,
    resume: bool = False,
    source: Mapping[str, Any] | None = None,
    title: str = "",
    kind: str = "",
) -> Plan:
    """Check all of it. Raises :class:`~studiolo.errors.RequestError` with all that is wrong.

    ``points`` are the parameters of each run of a sweep, ``source`` the notebook as it was kept where an earlier run is repeated.
    """
    path = notebook_path(notebook)
    text = dict(source) if source is not None else read_notebook(path)
    known = declared(text)
    faults: list[Fault] = []
    kept, found = check_parameters(parameters, known)
    faults += found
    checked_points = []
    for point in points:
        values, found = check_parameters(point, known)
        checked_points.append(values)
        faults += [fault for fault in found if fault not in faults]
    faults += _at_once_faults(at_once)
    try:
        asked, request = _checked(desk, options)
    except RequestError as error:
        raise RequestError([*faults, *error.faults]) from None
    if faults:
        raise RequestError(faults)
    record = replace(
        _record(desk, asked, request, at_once=at_once, resume=resume),
        kind=kind or ("sweep" if points else "run"),
        title=title,
        notebook=str(path),
        folder=str(path.parent),
        parameters=kept,
        points=tuple(checked_points),
        git=git_state(path.parent),
    )
    return Plan(record, request, _files(desk.site, text))


def plan_calls(
    desk: Desk,
    title: str,
    points: Sequence[Mapping[str, Any]],
    files: Mapping[str, bytes],
    options: Mapping[str, Any],
    *,
    at_once: object = None,
    resume: bool = False,
) -> Plan:
    """The same for calls of a function that are pickled in ``files``."""
    if faults := _at_once_faults(at_once):
        raise RequestError(faults)
    asked, request = _checked(desk, options)
    folder_ = str(working_folder())
    record = replace(
        _record(desk, asked, request, at_once=at_once, resume=resume),
        kind="map",
        title=title,
        folder=folder_,
        points=tuple(points),
        git=git_state(Path(folder_)),
    )
    return Plan(record, request, {**files, folder.SITE: outline(desk.site).encode()})


def _record(desk: Desk, asked: Mapping[str, Any], request: Request, *, at_once: object, resume: bool) -> Record:
    """What is kept of any request."""
    return Record(
        options={name: value for name, value in asked.items() if isinstance(value, (str, int, float, list, tuple))},
        request={name: value for name, value in asdict(request).items() if name != "workdir"},
        cluster=request.cluster,
        submitted=time.time(),
        session=desk.session.owner if desk.session else "",
        resume=bool(resume),
        at_once=int(at_once) if isinstance(at_once, int) else 0,
        commands=desk.slurm[request.cluster].cluster.commands,
        scratch=desk.site.paths.scratch,
    )


def _at_once_faults(at_once: object) -> list[Fault]:
    if at_once is None or (isinstance(at_once, int) and not isinstance(at_once, bool) and at_once > 0):
        return []
    return [Fault("at_once", shown(at_once), "how many may run at the same time: a whole number, 1 or more")]


def _files(site: Site, notebook: Mapping[str, Any]) -> dict[str, bytes]:
    text = json.dumps(notebook, ensure_ascii=False, indent=1)
    return {folder.SOURCE: text.encode(errors="replace"), folder.SITE: outline(site).encode()}


def rehearsal_of(plan: Plan, known: Sequence[Parameter] | None) -> Plan:
    """The same on tiny resources and for minutes: what is missing shows there, before a long wait in the queue.

    A notebook that declares a parameter ``rehearsal`` is told with it, so that it can take a tenth of its data.
    """
    request = plan.request
    tiny = replace(
        request,
        minutes=min(request.minutes, REHEARSAL["minutes"]),
        cpus=min(request.cpus, REHEARSAL["cpus"]),
        memory=min(request.memory, REHEARSAL["memory"]),
        gpus=min(request.gpus, 1),
        shards=min(request.shards, 1),
    )
    parameters = {**plan.record.parameters, **(plan.record.points[0] if plan.record.points else {})}
    if any(parameter.name == "rehearsal" for parameter in known or ()):
        parameters["rehearsal"] = True
    record = replace(
        plan.record,
        kind="rehearsal",
        title=f"{plan.record.file} (rehearsal)",
        parameters=parameters,
        points=(),
        at_once=0,
        resume=False,
        request={name: value for name, value in asdict(tiny).items() if name != "workdir"},
    )
    return Plan(record, tiny, plan.files)


def changed(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an earlier run with these changes; what names the same thing in another way goes."""
    kept = dict(options)
    for one, other in (("gpus", "shards"), ("hours", "minutes")):
        if one in changes or other in changes:
            kept.pop(one, None)
            kept.pop(other, None)
    return {**kept, **{name: value for name, value in changes.items() if name != "resume"}}


def points_of(grid: object) -> list[dict[str, Any]]:
    """The parameters of each run of a sweep: every combination of a dict of lists, or a list of dicts as it stands.

    A single value (or text) of a dict is the same in every run. Raises :class:`~studiolo.errors.RequestError`.
    """
    if isinstance(grid, Mapping):
        names, axes = [], []
        for name, values in grid.items():
            # NumPy's single numbers have a list form too, and no length.
            several = isinstance(values, (list, tuple, range, set, frozenset)) or (
                hasattr(values, "tolist") and getattr(values, "ndim", 0) > 0
            )
            if several and not _length(values):
                raise RequestError([Fault(f"parameters.{name}", "[]", "at least one value")])
            names.append(name)
            axes.append(values if several else [values])
        # Counted before any of it is written out: a range of a billion is small until then.
        if (count := math.prod(map(_length, axes))) > MOST_POINTS:
            raise RequestError([_too_many(count)])
        points = [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]
    elif isinstance(grid, (list, tuple)) and all(isinstance(point, Mapping) for point in grid):
        if len(grid) > MOST_POINTS:
            raise RequestError([_too_many(len(grid))])
        points = [dict(point) for point in grid]
    else:
        raise RequestError(
            [Fault("parameters", shown(grid), "a dict of names and lists of values, or a list of dicts")]
        )
    if not points:
        raise RequestError([Fault("parameters", shown(grid), "at least one run")])
    return points


def _length(values: Sized) -> int:
    try:
        return len(values)
    except OverflowError:  # of a range that no machine could count
        return sys.maxsize


def _too_many(count: int) -> Fault:
    """What is told of more runs than one may send off at a time."""
    told = f"{count} runs" if count <= COUNTED else f"more than {COUNTED} runs"
    return Fault("parameters", told, f"at most {MOST_POINTS} runs at a time")
