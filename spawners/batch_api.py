"""In a session's own server: "Run as batch job" of JupyterLab's menu. The page's part is ``labextension/static/batch.js``.

``GET BASE/studiolo/batch?path=NOTEBOOK`` tells what a form asks for: the notebook's parameters, and the resources that the
session has. ``POST`` sends it off, or tells with ``dry_run`` what it would cost and when it would start; ``GET …/batch/RUN``
tells how a run is. All of it is :mod:`studiolo.jobs`, which asks for nothing but this person's own.
"""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ApiPath, to_os_path, url_path_join
from tornado import web

from studiolo.errors import Fault, RequestError, StudioloError, shown
from studiolo.units import memory_words, minutes_words

if TYPE_CHECKING:
    from studiolo.batch.parameters import Parameter
    from studiolo.desk import Desk
    from studiolo.site import Site

__all__ = ["BatchHandler", "RunHandler", "form_of", "read_values"]

MAX_BODY = 1 << 20
RESOURCES = ("gpus", "shards", "cpus", "memory", "minutes")
LITERALS = "a Python value, such as 3, 0.1, [1, 2], True or 'text'"


def form_of(at: Desk, notebook: str) -> dict[str, Any]:
    """What a form asks for: ``{"parameters": […], "resources": […]}``, each with its name, its value and what is allowed."""
    from studiolo.jobs import parameters_of

    parameters = [
        {"name": each.name, "kind": each.kind, "value": each.written, "help": each.help}
        for each in parameters_of(notebook)
    ]
    request = at.check(at.session.like("profile", "partition", *RESOURCES) if at.session else {})
    partition = at.site.partitions[request.partition]
    values = {
        "gpus": (str(request.gpus), str(partition.max_gpus or _gpus_elsewhere(at.site))),
        "shards": (str(request.shards), str(partition.max_shards)),
        "cpus": (str(request.cpus), str(partition.max_cpus)),
        "memory": (memory_words(request.memory), memory_words(partition.max_memory)),
        "minutes": (minutes_words(request.minutes), minutes_words(partition.max_time)),
    }
    # A part of a GPU, or whole ones: as the session has it.
    left_out = {"gpus" if request.shards else "shards"} | {name for name, (_now, most) in values.items() if most == "0"}
    resources = [
        {"name": name, "value": now, "most": most} for name, (now, most) in values.items() if name not in left_out
    ]
    return {"parameters": parameters, "resources": resources}


def _gpus_elsewhere(site: Site) -> int:
    """How many GPUs a run may have that leaves a partition without any; 0 where there are none."""
    profiles = [profile for profile in site.profiles.values() if profile.gpus]
    return max((site.partitions[profile.partition].max_gpus for profile in profiles), default=0)


def read_values(parameters: tuple[Parameter, ...], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that somebody has changed, as values: text for those that are text, Python literals for all others.

    Raises :class:`~studiolo.errors.RequestError` with each field that can not be read.
    """
    known = {each.name: each for each in parameters}
    values: dict[str, Any] = {}
    faults = []
    for name, text in typed.items():
        parameter = known.get(name)
        if not isinstance(text, str) or (parameter is not None and text.strip() == parameter.written.strip()):
            continue
        try:
            values[name] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            if parameter is None or parameter.kind != "str":
                faults.append(Fault(name, shown(text), LITERALS))
            else:
                values[name] = text
        else:
            if parameter is not None and parameter.kind == "str" and not isinstance(values[name], str):
                values[name] = text  # somebody who types 2024 for a name means the text
    if faults:
        raise RequestError(faults)
    return values


class _Batch(APIHandler):
    _track_activity = False

    def notebook(self, path: object) -> str:
        """The file of a notebook that the page names as its file browser does."""
        if not isinstance(path, str) or not path:
            raise web.HTTPError(400, "path must name a notebook")
        return str(Path(to_os_path(ApiPath(path), self.contents_manager.root_dir)))

    async def answered(self, work: Any, *arguments: Any) -> None:
        """Do it beside the event loop, and tell what came of it; whatever is wrong is 400 with a sentence, and the names of the
        fields that it is about."""
        try:
            told = await asyncio.to_thread(work, *arguments)
        except StudioloError as error:
            self.set_status(400)
            faults = error.faults if isinstance(error, RequestError) else ()
            told = {"message": str(error), "fields": [fault.where for fault in faults]}
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(told))


class BatchHandler(_Batch):
    """``BASE/studiolo/batch``: a form's fields, and what it sends."""

    @web.authenticated
    async def get(self) -> None:
        """The fields for the notebook ``path``."""
        from studiolo.desk import desk

        notebook = self.notebook(self.get_argument("path", ""))
        await self.answered(lambda: form_of(desk(), notebook))

    @web.authenticated
    async def post(self) -> None:
        """Take ``{"path", "parameters", "resources", "rehearse", "dry_run"}``, all values as they were typed."""
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413, "the form is too long")
        body = self.get_json_body()
        if not isinstance(body, dict) or not all(
            isinstance(body.get(part), dict) for part in ("parameters", "resources")
        ):
            raise web.HTTPError(400, "the body must be an object with path, parameters and resources")
        notebook = self.notebook(body.get("path"))
        await self.answered(self.send, notebook, body)

    def send(self, notebook: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send it off, or say what that would mean."""
        from studiolo import jobs
        from studiolo.cost import amount_words

        resources = {str(name): text for name, text in body["resources"].items() if text not in ("", None)}
        if unknown := set(resources) - set(RESOURCES):
            raise RequestError([Fault(name, "", f"one of {', '.join(RESOURCES)}") for name in sorted(unknown)])
        values = read_values(jobs.parameters_of(notebook), body["parameters"])
        plan = jobs.prepare(notebook, values, **resources)
        if body.get("dry_run"):
            preview = jobs.preview(plan)
            return {"price": amount_words(preview.ceiling), "words": preview.words}
        return told_of(jobs.submit(plan, rehearse=body.get("rehearse") is True), self.contents_manager.root_dir)


class RunHandler(_Batch):
    """``BASE/studiolo/batch/RUN``: how a run is."""

    @web.authenticated
    async def get(self, name: str) -> None:
        """State, a sentence and where the executed notebook is."""
        from studiolo.jobs import find_run

        await self.answered(lambda: told_of(find_run(name), self.contents_manager.root_dir))


def told_of(run: Any, root: str) -> dict[str, Any]:
    """A run for the page; ``path`` of its notebook as the file browser names it, empty where that does not reach it."""
    view = run.view()
    notebook = Path(run.notebook)
    path = str(notebook.relative_to(root)) if notebook.is_relative_to(root) else ""
    return {
        "id": run.id,
        "name": view.name,
        "state": view.state,
        "words": view.words,
        "over": view.is_over,
        "done": view.done,
        "of": view.of,
        "path": path,
    }


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "spawners.batch_api"}]


def _load_jupyter_server_extension(server: Any) -> None:
    base = url_path_join(server.web_app.settings["base_url"], "studiolo", "batch")
    server.web_app.add_handlers(".*$", [(base, BatchHandler), (base + r"/([0-9a-z-]{1,40})", RunHandler)])
