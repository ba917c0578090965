"""Where a notebook came from: its text as it is now, and the state of the git repository around it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from studiolo.errors import Fault, RequestError, shown

__all__ = ["git_state", "notebook_path", "read_notebook"]

GIT_SECONDS = 5
LARGEST = 100 << 20


def notebook_path(notebook: object) -> Path:
    """The notebook's absolute path. Raises :class:`~studiolo.errors.RequestError`."""
    if isinstance(notebook, (str, os.PathLike)) and "\0" not in os.fsdecode(notebook):
        return Path(os.path.abspath(os.path.expanduser(os.fsdecode(notebook))))
    raise RequestError([Fault("notebook", shown(notebook), "the path of a notebook")])


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook's JSON. Raises :class:`~studiolo.errors.RequestError` where there is none that can be run."""

    def refused(allowed: str) -> RequestError:
        return RequestError([Fault("notebook", shown(str(path), 300), allowed)])

    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise refused(f"the path of a notebook ({error.strerror}): save it first, and mind the folder") from error
    if len(text) > LARGEST:
        raise refused(f"at most {LARGEST >> 20} MB: clear its outputs")
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused("a notebook (.ipynb): this file holds something else") from error
    if not isinstance(notebook, dict) or not _is_format_4(notebook):
        raise refused("a notebook of format 4: open it in JupyterLab and save it again")
    notebook.setdefault("metadata", {})
    for number, cell in enumerate(notebook["cells"], 1):
        if wrong := _wrong_with(cell):
            raise refused(
                f"a notebook: {wrong} cell {number} is none; open it in JupyterLab, mend it and save it again"
            )
        cell.setdefault("metadata", {})  # as JupyterLab does
    language = _language(notebook)
    if language != "python":
        raise refused(f"a Python notebook: this one is for {shown(language)}")
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


def git_state(folder: Path) -> dict[str, Any]:
    """The commit of the repository around ``folder`` and the files that differ from it; empty where there is none, or it does not
    answer at once."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    remote = _git(folder, "rev-parse", "--show-toplevel")
    return {
        "commit": commit.strip(),
        "folder": (remote or "").strip(),
        "changed": changed is None or bool(changed.strip()),
        "files": [line[3:] for line in (changed or "").splitlines()[:100]],
    }


def _git(folder: Path, *arguments: str) -> str | None:
    # A repository's own settings may name programs that git would run: not those that it asks for changed files.
    argv = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
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
