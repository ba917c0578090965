"""In a session's own server: the backend of jupyter-scheduler, so that JupyterLab's "Jobs" shows batch runs and sends them off.

A job of jupyter-scheduler is a run of :mod:`studiolo.jobs`, and its folder is all there is to know of it: nothing is kept in a
database of jupyter-scheduler's own. A notebook runs once; schedules are refused with a sentence. Folders are read and Slurm is
asked beside the server's event loop. Loaded once the server serves (:mod:`spawners.later`).
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from jupyter_scheduler.environments import EnvironmentManager, EnvironmentRetrievalError
from jupyter_scheduler.exceptions import SchedulerError
from jupyter_scheduler.extension import SchedulerApp
from jupyter_scheduler.job_files_manager import JobFilesManager
from jupyter_scheduler.models import (
    CountJobsQuery,
    CreateJob,
    DescribeJob,
    JobFeature,
    JobFile,
    ListJobDefinitionsResponse,
    ListJobsQuery,
    ListJobsResponse,
    RuntimeEnvironment,
    SortDirection,
    SortField,
    Status,
    UpdateJob,
)
from jupyter_scheduler.scheduler import BaseScheduler
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.utils import ApiPath, to_os_path

from spawners.batch_api import RESOURCES, read_values
from studiolo import jobs
from studiolo.batch import folder
from studiolo.batch.folder import Place, Record
from studiolo.batch.follow import here
from studiolo.batch.run import Run
from studiolo.batch.sweep import Sweep
from studiolo.desk import Desk, desk
from studiolo.errors import Fault, RequestError, RunFailed, StudioloError, shown
from studiolo.views import JobView, State

__all__ = ["Environments", "Files", "StudioloScheduler", "StudioloSchedulerApp", "compute_types"]

ONCE = "Studiolo runs a notebook once, now: it has no schedules. Choose “Run now”."
UNCHANGED = "A run stays as it was sent off: stop it, and send the notebook off once more."
ENDING = "Run {run} is being stopped; delete it once it has ended."
LIKE_SESSION = "As in this session"
NOTEBOOK = "ipynb"
END_SECONDS = 20.0
"""How long the deletion of a run waits for its end: what still runs would write on into a folder that is gone."""

STATUS: dict[State, Status] = {
    "waiting": Status.QUEUED,
    "starting": Status.IN_PROGRESS,
    "running": Status.IN_PROGRESS,
    "stopping": Status.STOPPING,
    "done": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.STOPPED,
    "unknown": Status.CREATED,  # the only one that claims nothing
}
WRONG: frozenset[State] = frozenset({"failed", "cancelled"})
BY_TIME = [SortField(name="create_time", direction=SortDirection.desc)]

_Value = TypeVar("_Value")


def beside(work: Callable[..., _Value]) -> Callable[..., Coroutine[Any, Any, _Value]]:
    """Do it beside the event loop; what Studiolo refuses is shown by the page with its sentence."""

    @functools.wraps(work)
    async def done(*arguments: Any, **named: Any) -> _Value:
        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except StudioloError as error:
            raise SchedulerError(str(error)) from error

    return done


def compute_types(at: Desk) -> dict[str, dict[str, str]]:
    """What the page offers as compute type, and the options that each stands for: the session's resources, or a card's."""
    titles: dict[str, dict[str, str]] = {LIKE_SESSION: {}}
    for name, profile in at.site.profiles.items():
        title = profile.title if profile.title not in titles else f"{profile.title} ({name})"
        titles[title] = {"profile": name}
    return titles


class Environments(EnvironmentManager):  # type: ignore[misc]  # jupyter-scheduler has no types
    """The site's environments, this session's first."""

    async def list_environments(self) -> list[RuntimeEnvironment]:
        """What a notebook can run in, with the resources that it can ask for."""
        try:
            at = await asyncio.to_thread(desk)
        except StudioloError as error:
            raise EnvironmentRetrievalError(str(error)) from error
        own = at.session.like("environment").get("environment") if at.session else None
        return [
            RuntimeEnvironment(
                name=name,
                label=environment.title or name,
                description=environment.title or name,
                file_extensions=[NOTEBOOK],
                output_formats=[NOTEBOOK],
                compute_types=list(compute_types(at)),
                default_compute_type=LIKE_SESSION,
            )
            for name, environment in sorted(at.site.environments.items(), key=lambda item: item[0] != own)
        ]

    def manage_environments_command(self) -> str:
        """None: environments are the site's."""
        return ""

    def output_formats_mapping(self) -> dict[str, str]:
        """What comes of a run, in words."""
        return {NOTEBOOK: "Notebook"}


class Features:
    """What the page may offer; jupyter-scheduler asks its execution manager for it, of which this is all that is needed."""

    def supported_features(self) -> dict[JobFeature, bool]:
        """Names, parameters, stopping and deleting."""
        wanted = {JobFeature.job_name, JobFeature.parameters, JobFeature.stop_job, JobFeature.delete_job}
        return {feature: feature in wanted for feature in JobFeature}


@dataclass(frozen=True)
class Known:
    """One folder, and what is made of it."""

    place: Place
    record: Record
    made: Run | Sweep

    @property
    def file(self) -> str:
        """The notebook's name; that of its functions where there is none."""
        return os.path.basename(self.record.notebook) or self.record.title or "functions"

    @property
    def output(self) -> Path | None:
        """The executed copy; a sweep has one for each of its runs, and none of its own."""
        return self.place.own / folder.OUTPUT if isinstance(self.made, Run) else None


class StudioloScheduler(BaseScheduler):  # type: ignore[misc]  # jupyter-scheduler has no types
    """Batch runs as jobs of jupyter-scheduler."""

    execution_manager_class = Features

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # What is over is not looked for again, as long as its folder is there.
        self._kept: dict[str, Known] = {}

    # --- What there is -----------------------------------------------------------------------------------------------

    @beside
    def list_jobs(self, query: ListJobsQuery) -> ListJobsResponse:
        """A page of the runs that a query asks for; ``next_token`` is how many came before."""
        begin = _offset(query.next_token)
        most = len(places) if (places := self._places()) and query.max_items is None else query.max_items or 0
        if _wants_all(query) and query.sort_by == BY_TIME:
            # As folders are named: nothing is read but what is shown.
            found, total = self._described(places[begin : begin + most]), len(places)
        else:
            chosen = _sorted([job for job in self._described(places) if _chosen(job, query)], query.sort_by)
            found, total = chosen[begin : begin + most], len(chosen)
        more = str(begin + len(found)) if found and begin + len(found) < total else None
        return ListJobsResponse(jobs=found, total_count=total, next_token=more)

    @beside
    def count_jobs(self, query: CountJobsQuery) -> int:
        """How many runs have a status."""
        return sum(job.status == query.status for job in self._described(self._places()))

    @beside
    def get_job(self, job_id: str, job_files: bool | None = True) -> DescribeJob:
        """One run; waits some seconds at most for a first answer of Slurm."""
        known = self._find(job_id)
        _ = known.made.state
        return self._describe(known, known.made.view(), files=bool(job_files))

    def _places(self) -> list[Place]:
        places = list(folder.newest())
        there = {place.id for place in places}
        for gone in set(self._kept) - there:
            self._kept.pop(gone, None)
        return places

    def _known(self, place: Place) -> Known:
        known = self._kept.get(place.id)
        if known is None:
            record = folder.read_record(place)
            known = Known(place, record or Record(), jobs.found(place))
            if record is not None:  # a folder that is just being made says nothing yet
                self._kept[place.id] = known
        return known

    def _find(self, job_id: str) -> Known:
        place = folder.find(job_id)
        if place is None:
            raise RequestError([Fault("run", shown(job_id), "the name of a run that is still there: reload the list")])
        return self._known(place)

    def _described(self, places: Sequence[Place]) -> list[DescribeJob]:
        described, waited = [], False
        for known in map(self._known, places):
            view = known.made.view()
            if view.state == "unknown" and not waited:
                # One answer tells of all of them: only the first one waits for it.
                _, waited = known.made.state, True
                view = known.made.view()
            described.append(self._describe(known, view))
        return described

    def _describe(self, known: Known, view: JobView, *, files: bool = True) -> DescribeJob:
        request, record = known.record.request, known.record
        asked = _milliseconds(view.asked) or 0
        parameters = known.made.parameters if isinstance(known.made, Run) else record.parameters
        job = DescribeJob(
            job_id=known.place.id,
            url=f"/jobs/{known.place.id}",
            name=view.name,
            input_filename=known.file,
            runtime_environment_name=str(request.get("environment", "")),
            output_formats=[NOTEBOOK] if known.output is not None else [],
            parameters={name: value if isinstance(value, str) else repr(value) for name, value in parameters.items()},
            compute_type=_card(record),
            create_time=asked,
            update_time=_milliseconds(view.ended) or _milliseconds(view.started) or asked,
            start_time=_milliseconds(view.started),
            end_time=_milliseconds(view.ended),
            status=STATUS[view.state],
            # The page shows it in red, whatever it says.
            status_message=view.words if view.state in WRONG and view.words else None,
        )
        if files:
            self.add_job_files(job)
        job.package_input_folder = True  # "ran with input folder": in the very folder, of which nothing is packed
        return job

    # --- Files -------------------------------------------------------------------------------------------------------

    def get_staging_paths(self, model: DescribeJob) -> dict[str, str]:
        """Where a run's own files are: the executed copy, and the notebook as it was sent."""
        base = folder.root() / model.job_id
        return {
            **{output: str(base / folder.OUTPUT) for output in model.output_formats},
            "input": str(base / folder.SOURCE),
        }

    def add_job_files(self, model: DescribeJob) -> None:
        """Say where the file browser finds them: a downloaded copy, or the run's own file where the browser reaches it."""
        names = self.get_job_filenames(model)
        local = Path(self.get_local_output_path(model))
        model.job_files = [
            JobFile(
                display_name="Input" if kind == "input" else "Notebook",
                file_format=kind,
                file_path=self._reached(local / names[kind], Path(path)),
            )
            for kind, path in self.get_staging_paths(model).items()
        ]
        model.downloaded = all(file.file_path for file in model.job_files)

    def _reached(self, *paths: Path) -> str | None:
        root = os.path.realpath(self.root_dir)
        for path in paths:
            real = Path(os.path.realpath(path))
            if real.is_relative_to(root) and real.is_file():
                return str(real.relative_to(root))
        return None

    @beside
    def bring(self, job_id: str, again: bool) -> None:
        """Copy a run's files to where the file browser shows them, those that are there already only ``again``."""
        model = self._describe(known := self._find(job_id), known.made.view())
        names, local = self.get_job_filenames(model), Path(self.get_local_output_path(model))
        try:
            local.mkdir(mode=0o700, parents=True, exist_ok=True)
            for kind, path in self.get_staging_paths(model).items():
                target = local / names[kind]
                if os.path.exists(path) and (again or not target.exists()):
                    folder.write_whole(target, Path(path).read_bytes())
        except OSError as error:
            words = f"The files of run {job_id} can not be copied to {local}: {error.strerror}."
            raise SchedulerError(words) from error

    # --- What can be done --------------------------------------------------------------------------------------------

    @beside
    def create_job(self, model: CreateJob) -> str:
        """Send a notebook off; returns the name of its run. It runs in its own folder: no files are packed for it."""
        if model.job_definition_id:
            raise SchedulerError(ONCE)
        if faults := _unkept(model):
            raise RequestError(faults)
        at = desk()
        notebook = str(Path(to_os_path(ApiPath(model.input_uri), self.root_dir)))
        values = read_values(jobs.parameters_of(notebook), model.parameters or {})
        plan = jobs.prepare(notebook, values, **self._resources(at, model))
        return jobs.submit(replace(plan, record=replace(plan.record, title=model.name.strip()))).id

    def _resources(self, at: Desk, model: CreateJob) -> dict[str, Any]:
        offered = compute_types(at)
        chosen = model.compute_type or LIKE_SESSION
        if chosen not in offered:
            raise RequestError([Fault("compute_type", shown(chosen), f"one of {', '.join(offered)}")])
        more = model.runtime_environment_parameters or {}
        if unknown := set(more) - set(RESOURCES):
            raise RequestError([Fault(name, "", f"one of {', '.join(RESOURCES)}") for name in sorted(unknown)])
        environment = model.runtime_environment_name
        return {**offered[chosen], **({"environment": environment} if environment else {}), **more}

    @beside
    def stop_job(self, job_id: str) -> None:
        """End a run, or take it out of the queue; its outputs so far are kept."""
        self._find(job_id).made.cancel()

    @beside
    def delete_job(self, job_id: str) -> None:
        """End a run if it is not over, and remove its folder."""
        known = self._find(job_id)
        made = known.made
        if not made.view().is_over:
            made.cancel()
            with suppress(RunFailed):  # which a cancelled one counts as: it is over
                try:
                    made.wait(END_SECONDS)
                except TimeoutError as error:
                    raise SchedulerError(ENDING.format(run=job_id)) from error
        folder.remove(known.place)
        if known.place.base.exists():
            raise SchedulerError(f"The folder of run {job_id} can not be removed: {known.place.base}")
        self._kept.pop(job_id, None)

    async def update_job(self, job_id: str, model: UpdateJob) -> None:
        """Stop it, where that is what is asked for; nothing else of a run changes."""
        if model.status != Status.STOPPED or model.name or model.compute_type:
            raise SchedulerError(UNCHANGED)
        await self.stop_job(job_id)

    # --- Schedules, of which there are none --------------------------------------------------------------------------

    def list_job_definitions(self, query: object) -> ListJobDefinitionsResponse:
        """None."""
        return ListJobDefinitionsResponse()

    def create_job_definition(self, model: object) -> str:
        """Refused."""
        raise SchedulerError(ONCE)

    def update_job_definition(self, job_definition_id: str, model: object) -> None:
        """Refused."""
        raise SchedulerError(ONCE)

    def delete_job_definition(self, job_definition_id: str) -> None:
        """Refused."""
        raise SchedulerError(ONCE)

    def get_job_definition(self, job_definition_id: str) -> None:
        """Refused."""
        raise SchedulerError(ONCE)

    def create_job_from_definition(self, job_definition_id: str, model: object) -> None:
        """Refused."""
        raise SchedulerError(ONCE)


def _unkept(model: CreateJob) -> list[Fault]:
    """What the page's form has and a run has not: better refused than forgotten."""
    faults = []
    if unknown := set(model.output_formats or ()) - {NOTEBOOK}:
        faults.append(Fault("output_formats", shown(", ".join(sorted(unknown))), NOTEBOOK))
    if model.tags:
        faults.append(Fault("tags", shown(", ".join(model.tags)), "none: give the job a name"))
    if model.idempotency_token:
        faults.append(Fault("idempotency_token", shown(model.idempotency_token), "none: each job is one of its own"))
    return faults


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


def _card(record: Record) -> str | None:
    """The compute type of a run: the title of the card that it was sent with, or that of its session."""
    at = here()
    offered = compute_types(at) if at is not None else {}
    profile = record.options.get("profile")
    return next((title for title, options in offered.items() if options and options["profile"] == profile), None)


def _offset(token: str | None) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) < 10):
        raise RequestError([Fault("next_token", shown(token), "what the page before has told")])
    return int(token)


def _wants_all(query: ListJobsQuery) -> bool:
    return not (query.job_definition_id or query.status or query.name or query.tags or query.start_time)


def _chosen(job: DescribeJob, query: ListJobsQuery) -> bool:
    """Whether a query asks for this run. None has a schedule, and none has tags."""
    return (
        not query.job_definition_id
        and not query.tags
        and (not query.status or job.status == query.status)
        and (not query.name or job.name.startswith(query.name))
        and (not query.start_time or (job.start_time is not None and job.start_time >= query.start_time))
    )


def _sorted(found: list[DescribeJob], by: Sequence[SortField]) -> list[DescribeJob]:
    sortable = ("name", "input_filename", "create_time", "update_time", "start_time", "end_time", "status")
    for field in reversed(by):
        if field.name not in sortable:
            raise RequestError([Fault("sort_by", shown(field.name), f"one of {', '.join(sortable)}")])
        # What has not begun has no time: it stands before the others, or behind them all.
        found = sorted(
            found,
            key=lambda job, name=field.name: (getattr(job, name) is not None, getattr(job, name) or ""),  # type: ignore[misc]
            reverse=field.direction == SortDirection.desc,
        )
    return found


# --- The extension ---------------------------------------------------------------------------------------------------


class Files(JobFilesManager):  # type: ignore[misc]  # jupyter-scheduler has no types
    """Copies a run's files when they are downloaded, and says so where that fails."""

    async def copy_from_staging(self, job_id: str, redownload: object = False) -> None:
        """Copy them; the page sends ``redownload`` as text."""
        await self.scheduler.bring(job_id, redownload in (True, "true"))


class StudioloSchedulerApp(SchedulerApp):  # type: ignore[misc]  # jupyter-scheduler has no types
    """jupyter-scheduler's REST API with this backend, and without its database."""

    def initialize_settings(self) -> None:
        """Put this backend where jupyter-scheduler's handlers look for one."""
        ExtensionApp.initialize_settings(self)  # type: ignore[no-untyped-call]  # SchedulerApp's own makes the database
        environments = Environments()
        scheduler = StudioloScheduler(
            root_dir=self.serverapp.root_dir, environments_manager=environments, config=self.config
        )
        self.settings.update(
            environments_manager=environments, scheduler=scheduler, job_files_manager=Files(scheduler=scheduler)
        )


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "spawners.scheduler_api", "app": StudioloSchedulerApp}]
