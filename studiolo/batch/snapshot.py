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
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise refused("a notebook of format 4: open it in JupyterLab and save it again")
    if not all(isinstance(cell, dict) for cell in notebook["cells"]):
        raise refused("a notebook: its cells are none")
    language = _language(notebook)
    if language != "python":
        raise refused(f"a Python notebook: this one is for {shown(language)}")
    return notebook


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
