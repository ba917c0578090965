"""``%run_batch`` and ``%%run_batch``: the same as ``studiolo.run``, for those who like magics; by ``%load_ext studiolo``."""

from __future__ import annotations

import ast
import pickle
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from studiolo import jobs
from studiolo.batch.parameters import OURS
from studiolo.batch.plan import plan_run
from studiolo.batch.snapshot import working_folder
from studiolo.desk import desk
from studiolo.errors import Fault, RequestError, RunFailed, shown

__all__ = ["Line", "cell_notebook", "load_ipython_extension", "read_line", "run_batch"]

USAGE = "NOTEBOOK name=value … --gpus 1 --hours 2; %%run_batch sends off the rest of its cell"
FLAGS = ("rehearse", "resume", "dry-run")
INPUTS, OUTPUTS = "inputs.pkl", "outputs.pkl"


@dataclass(frozen=True)
class Line:
    """What stands behind the magic: the notebook (empty for a cell), parameters, resources, flags, and names of variables."""

    notebook: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def read_line(line: str) -> Line:
    """Read ``train.ipynb lr=0.01 --gpus 1 --hours 2 --rehearse`` or, for a cell, ``--gpus 1 -i data -o model``.

    A parameter's value is a Python literal, or else text. Raises :class:`~studiolo.errors.RequestError`.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise RequestError([Fault("%run_batch", shown(line), f"quotes that are closed ({error})")]) from error
    notebook, parameters, resources, flags = "", {}, {}, set()
    names: dict[str, list[str]] = {"-i": [], "-o": []}
    left = iter(words)
    for word in left:
        if word in names:
            names[word] += [name for name in next(left, "").split(",") if name]
        elif word.removeprefix("--") in FLAGS:
            flags.add(word.removeprefix("--").replace("-", "_"))
        elif word.startswith("--"):
            name, sign, value = word[2:].partition("=")
            resources[name.replace("-", "_")] = value if sign else next(left, "")
        elif "=" in word and word.partition("=")[0].isidentifier():
            name, _, value = word.partition("=")
            parameters[name] = _value(value)
        elif not notebook:
            notebook = word
        else:
            raise RequestError([Fault("%run_batch", shown(word), USAGE)])
    return Line(notebook, parameters, resources, frozenset(flags), tuple(names["-i"]), tuple(names["-o"]))


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def cell_notebook(source: str, inputs: bool, outputs: tuple[str, ...]) -> dict[str, Any]:
    """A notebook of one cell, with cells of ours around it that bring variables in and out."""

    def code(text: str, *tags: str) -> dict[str, Any]:
        metadata = {"tags": list(tags)}
        return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": text}

    load = (
        "import os, pickle\n"
        f"with open(os.path.join(os.environ['STUDIOLO_FOLDER'], {INPUTS!r}), 'rb') as _file:\n"
        "    globals().update(pickle.load(_file))"
    )
    keep = (
        "import os, cloudpickle\n"
        f"_kept = cloudpickle.dumps({{_name: globals()[_name] for _name in {list(outputs)!r}}})\n"
        f"with open(os.path.join(os.environ['STUDIOLO_FOLDER'], {OUTPUTS!r}), 'wb') as _file:\n"
        "    _file.write(_kept)"
    )
    cells = [*([code(load, OURS)] if inputs else []), code(source), *([code(keep, OURS)] if outputs else [])]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


def run_batch(line: str, cell: str | None, variables: Mapping[str, Any]) -> Any:
    """What the magics do; ``variables`` are the notebook's."""
    told = read_line(line)
    if cell is None:
        if not told.notebook:
            raise RequestError([Fault("%run_batch", "", USAGE)])
        options: dict[str, Any] = {**dict.fromkeys(told.flags, True), **told.resources}
        return jobs.run(told.notebook, told.parameters, **options)
    if told.notebook or told.parameters:
        allowed = "resources (--gpus 1), and names of variables that the cell needs (-i data) and gives (-o model)"
        raise RequestError([Fault("%%run_batch", told.notebook or ", ".join(told.parameters), allowed)])
    if missing := [name for name in told.inputs if name not in variables]:
        raise RequestError([Fault("-i", ", ".join(missing), "names of variables of this notebook")])
    source = cell_notebook(cell, bool(told.inputs), told.outputs)
    resume = "resume" in told.flags
    # The cell runs where this notebook does.
    here = working_folder() / "cell.ipynb"
    plan = plan_run(desk(), here, {}, told.resources, resume=resume, source=source, title=_title(cell))
    if told.inputs:
        import cloudpickle

        kept = cloudpickle.dumps({name: variables[name] for name in told.inputs})
        plan = replace(plan, files={**plan.files, INPUTS: kept})
    if "dry_run" in told.flags:
        return jobs.preview(plan)
    return CellRun.of(jobs.submit(plan, rehearse="rehearse" in told.flags))


class CellRun(jobs.Run):
    """One cell as a batch job."""

    @classmethod
    def of(cls, run: Any) -> CellRun:
        """The same run, as that of a cell."""
        return cls(run._place, run._record)

    def variables(self) -> dict[str, Any]:
        """The variables that were named by ``-o``; waits for the end: ``globals().update(run.variables())``.

        Raises :class:`~studiolo.errors.RunFailed` where it failed, named none, or they can not be read here.
        """
        self.wait()
        try:
            with open(self.folder / OUTPUTS, "rb") as file:
                return dict(pickle.load(file))  # noqa: S301 - from this person's own home
        except FileNotFoundError as error:
            told = "It gives no variables: -o names them (%%run_batch -o model), or its folder was removed."
            raise RunFailed(self, told) from error
        except Exception as error:  # whatever a class of theirs does that is not there, or another one now
            raise RunFailed(self, f"Its variables can not be read here ({type(error).__name__}: {error}).") from error


def _title(cell: str) -> str:
    """The first line of a cell."""
    first = next((line.strip() for line in cell.splitlines() if line.strip()), "a cell")
    return first if len(first) <= 40 else first[:39] + "…"


def load_ipython_extension(ipython: Any) -> None:
    """Make ``%run_batch`` and ``%%run_batch`` known; IPython calls it for ``%load_ext studiolo``."""

    def magic(line: str, cell: str | None = None) -> Any:
        return run_batch(line, cell, ipython.user_ns)

    ipython.register_magic_function(magic, "line_cell", "run_batch")
