"""What is the same for every job of a run, be it a notebook or a call of a function: how it begins, goes back and ends.

Exit status: 0 done, 1 the notebook (or function) failed, 66 there is nothing to run, 143 stopped from outside. It holds where
nothing could be written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from studiolo.batch import folder
from studiolo.batch.folder import Place, Record
from studiolo.batch.inside import FLAGS
from studiolo.batch.progress import Progress, read_progress

__all__ = ["attempt", "begun", "make_scratch", "place_of", "put_back", "say"]

DONE, FAILED, NOTHING, STOPPED = 0, 1, 66, 143
LAST_SECONDS = 20.0  # how long the last words are tried
MOST_ATTEMPTS = 100
SCONTROL_SECONDS = 60
LONGEST_TEXT = 4000


def attempt(work: Callable[[Place, Record, Path], int]) -> None:
    """Do ``work`` for the run that the command line names, in a folder of its own on this node; ends this process."""
    place = place_of(sys.argv[1:])
    record = folder.read_record(place)
    if record is None:
        say(f"studiolo: {place.base / folder.RUN} can not be read: there is nothing to run")
        sys.exit(NOTHING)
    scratch = make_scratch(record)
    try:
        status = work(place, record, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)  # threads of libraries, or of the function, may wait for ever


def place_of(arguments: list[str]) -> Place:
    """The run that ``FOLDER`` names or, in a job array, ``FOLDER [FIRST]``: with the task's number, counted from ``FIRST`` on."""
    task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    first = int(arguments[1]) if len(arguments) > 1 else 0
    return Place(Path(arguments[0]), first + int(task) if task.isdigit() else None)


def begun(place: Place) -> Progress:
    """How far it is at its beginning; what earlier attempts have held and used is carried on."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    now = Progress(
        attempt=1 + (int(restarts) if restarts.isdigit() else 0),
        job=int(os.environ.get("SLURM_JOB_ID", "0") or 0),
        node=os.environ.get("SLURMD_NODENAME", ""),
        started=time.time(),
    )
    last = read_progress(folder.read_json(place.own / folder.STATE))
    if last is None or last.attempt >= now.attempt:
        return now
    return replace(now, earlier=last.earlier + max(0.0, last.updated - last.started), used=last.used, peak=last.peak)


def put_back(record: Record, progress: Progress) -> str:
    """Put this job back into the queue, to go on later; returns why that is not possible, or nothing."""
    if not record.resume:
        return "this run was not asked to go on later: send it with resume=True"
    if progress.attempt >= MOST_ATTEMPTS:
        return f"it was interrupted {MOST_ATTEMPTS} times and is not done"
    argv = [f"{record.commands}/scontrol", "requeue", str(progress.job)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SCONTROL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Slurm did not put it back into the queue: {error}"
    return f"Slurm did not put it back into the queue: {done.stderr.strip()}" if done.returncode else ""


def say(text: str) -> None:
    """Write to the log; a full home must not be the end of a computing notebook."""
    with suppress(OSError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def make_scratch(record: Record) -> Path:
    """This job's own folder on its node, and what the kernel is told of it."""
    name = f"studiolo-{os.environ.get('SLURM_JOB_ID', 'none')}-"
    try:
        made = tempfile.mkdtemp(prefix=name, dir=record.scratch)
    except OSError:
        made = tempfile.mkdtemp(prefix=name)
    runtime, flags = Path(made) / "runtime", Path(made) / "flags"
    runtime.mkdir(mode=0o700)
    flags.mkdir(mode=0o700)
    bin_ = str(Path(sys.executable).parent)
    os.environ.update(
        {
            "TMPDIR": made,
            "JUPYTER_RUNTIME_DIR": str(runtime),
            FLAGS: str(flags),
            # `!python` and `!pip` are those of the environment.
            "PATH": f"{bin_}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        }
    )
    if record.minutes:
        os.environ["STUDIOLO_ENDS"] = str(int(time.time()) + 60 * record.minutes)
    return Path(made)
