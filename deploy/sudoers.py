"""The hub's rule in /etc/sudoers.d: checked by visudo before it counts, and marked as this instance's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deploy.errors import CommandFailed, DeployError
from slurmbox.files import write_atomic

FOLDER = Path("/etc/sudoers.d")
MAIN_FILE = Path("/etc/sudoers")
VISUDO = Path("/usr/sbin/visudo")


def file_for(tag: str, folder: Path = FOLDER) -> Path:
    """The instance's file; sudo skips names with a dot, and this has none."""
    return folder / (f"studiolo-{tag}" if tag else "studiolo")


def of_benchmarks(tag: str) -> str:
    """The tag of a second file, which the benchmarks' stock hub has for its time."""
    return f"{tag}-bench" if tag else "bench"


def mark(state: Path) -> str:
    """The line by which an instance knows its own file again."""
    return f"# Made by `make up` for {state}; `make clean` removes it.\n"


def is_ours(file: Path, state: Path) -> bool:
    """Whether this instance has written the file."""
    try:
        return file.read_text(errors="replace").startswith(mark(state))
    except FileNotFoundError:
        return False


def includes_folder(text: str, folder: Path = FOLDER) -> bool:
    """Whether the main sudoers file reads the folder."""
    lines = (line.split() for line in text.splitlines())
    return any(words[:1] in (["@includedir"], ["#includedir"]) and words[1:] == [str(folder)] for words in lines)


def install(rules: str, tag: str, state: Path, folder: Path = FOLDER) -> bool:
    """Put the rules in place; returns whether they have changed. Raises before sudo sees a broken file."""
    if not includes_folder(MAIN_FILE.read_text()):
        raise DeployError(f"{MAIN_FILE} does not read {folder}: add the line `@includedir {folder}` with visudo.")
    target = file_for(tag, folder)
    if target.exists() and not is_ours(target, state):
        raise DeployError(f"{target} is not ours and would be overwritten: move it away first.")
    text = mark(state) + rules
    if target.exists() and target.read_text() == text:
        return False
    # A dot in the name: sudo does not read it while it is being checked.
    trial = folder / f".{target.name}.trial"
    try:
        write_atomic(trial, text, mode=0o440)
        checked = subprocess.run(
            [str(VISUDO), "--check", "--file", str(trial)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if checked.returncode != 0:
            said = (checked.stdout + checked.stderr).splitlines()
            raise CommandFailed("visudo refuses the rule for the hub.", said)
        os.replace(trial, target)
    finally:
        trial.unlink(missing_ok=True)
    return True


def remove(tag: str, state: Path, folder: Path = FOLDER) -> None:
    """Remove the instance's file, if it is there and ours."""
    target = file_for(tag, folder)
    if is_ours(target, state):
        target.unlink()
