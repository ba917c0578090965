"""Where a notebook came from: its text as it is now, and the state of the git repository around it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from studiolo.batch import folder
from studiolo.batch.folder import Place
from studiolo.errors import Fault, RequestError, RunGone, shown

__all__ = ["git_state", "kept_notebook", "notebook_path", "read_notebook", "working_folder"]

GIT_SECONDS = 5
LARGEST = 100 << 20


def notebook_path(notebook: object) -> Path:
    """The notebook's absolute path. Raises :class:`~studiolo.errors.RequestError`."""
    if isinstance(notebook, (str, os.PathLike)) and "\0" not in os.fsdecode(notebook):
        path = Path(os.path.expanduser(os.fsdecode(notebook)))
        return Path(os.path.normpath(path if path.is_absolute() else working_folder() / path))
    raise RequestError([Fault("notebook", shown(notebook), "the path of a notebook")])


def working_folder() -> Path:
    """The folder that this notebook works in. Raises :class:`~studiolo.errors.RequestError` where it is gone."""
    try:
        return Path.cwd()
    except OSError as error:
        allowed = f"one that is there ({error.strerror}): it was removed or renamed; os.chdir(…) goes to another one"
        raise RequestError([Fault("this notebook's folder", "", allowed)]) from error


def kept_notebook(place: Place) -> dict[str, Any]:
    """The notebook that a run has kept, to run it once more. Raises :class:`~studiolo.errors.RunGone`."""
    path = place.base / folder.SOURCE
    try:
        return _parsed(_read(path))
    except (OSError, ValueError) as error:
        words = (isinstance(error, OSError) and error.strerror) or "it is no notebook any more"
        raise RunGone(place.id, str(path), words, "Send the notebook itself off again, with studiolo.run.") from error


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook's JSON. Raises :class:`~studiolo.errors.RequestError` where there is none that can be run."""

    try:
        return _parsed(_read(path))
    except OSError as error:
        allowed = f"the path of a notebook ({error.strerror}): save it first, and mind the folder"
    except ValueError as error:
        allowed = str(error)
    raise RequestError([Fault("notebook", shown(str(path), 300), allowed)])


def _read(path: Path) -> bytes:
    # Not to wait for whoever writes into a pipe; of a plain file it changes nothing.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        return file.read(LARGEST + 1)


def _parsed(text: bytes) -> dict[str, Any]:
    """A notebook's JSON. Raises ``ValueError`` that says what it should be."""
    if len(text) > LARGEST:
        raise ValueError(f"at most {LARGEST >> 20} MB: clear its outputs")
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("a notebook (.ipynb): this file holds something else") from error
    if not isinstance(notebook, dict) or not _is_format_4(notebook):
        raise ValueError("a notebook of format 4: open it in JupyterLab and save it again")
    notebook.setdefault("metadata", {})
    for number, cell in enumerate(notebook["cells"], 1):
        if wrong := _wrong_with(cell):
            told = f"a notebook: {wrong} cell {number} is none; open it in JupyterLab, mend it and save it again"
            raise ValueError(told)
        cell.setdefault("metadata", {})  # as JupyterLab does
    language = _language(notebook)
    if language != "python":
        raise ValueError(f"a Python notebook: this one is for {shown(language)}")
    return notebook


def _is_format_4(notebook: dict[str, Any]) -> bool:
    kinds = {"nbformat_minor": int, "cells": list, "metadata": dict}
    usual = {"nbformat_minor": 0, "metadata": {}}
    return notebook.get("nbformat") == 4 and all(
        isinstance(notebook.get(name, usual.get(name)), kind) for name, kind in kinds.items()
    )


def _wrong_with(cell: object) -> str:
    """What of a cell can not be run; empty where it can. Outputs and tags that the format does not know harm nobody."""
    if not isinstance(cell, dict):
        return "the whole of"
    if cell.get("cell_type") not in ("code", "markdown", "raw"):
        return "the type of"
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    if not all(isinstance(line, str) for line in lines):
        return "the text of"
    return "" if isinstance(cell.get("metadata", {}), dict) else "the metadata of"


def _language(notebook: dict[str, Any]) -> str:
    """The notebook's language, Python where it says nothing."""
    metadata = notebook.get("metadata")
    for section, key in (("kernelspec", "language"), ("language_info", "name")):
        said = metadata.get(section) if isinstance(metadata, dict) else None
        if isinstance(said, dict) and isinstance(said.get(key), str) and said[key]:
            return str(said[key]).lower()
    return "python"


def git_state(inner: Path) -> dict[str, Any]:
    """The commit of the repository around ``inner`` and the files that differ from it; empty where there is none, or it does not
    answer at once."""
    commit = _git(inner, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(inner, "status", "--porcelain", "--untracked-files=no")
    remote = _git(inner, "rev-parse", "--show-toplevel")
    return {
        "commit": commit.strip(),
        "folder": (remote or "").strip(),
        "changed": changed is None or bool(changed.strip()),
        "files": [line[3:] for line in (changed or "").splitlines()[:100]],
    }


def _git(inner: Path, *arguments: str) -> str | None:
    # A repository's own settings may name programs that git would run: not those that it asks for changed files.
    argv = ["git", "-C", str(inner), "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
