"""What the job of one call of ``studiolo.map`` executes: a function with one item, as submitit pickles them.

Started as ``python -I -m studiolo.batch.calls FOLDER``. The call lies in ``submitted.pkl`` (submitit's ``DelayedSubmission``),
what came of it in ``result.pkl`` (``("success", value)`` or ``("error", traceback)``, as submitit has it). submitit's own program
is not used: it takes a cancellation for something to sit out, until it is killed half a minute later.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from studiolo.batch import folder
from studiolo.batch.attempt import DONE, FAILED, LAST_SECONDS, LONGEST_TEXT, attempt, begun, put_back, say
from studiolo.batch.folder import Place, Record
from studiolo.batch.inside import ASKED, FLAGS, FOLDER, GoesOnLater
from studiolo.batch.progress import Progress, Trouble
from studiolo.batch.sampler import Sampler

LOOK_AT_END_SECONDS = 5.0


def main() -> None:
    """Make the call that the folder on the command line holds."""
    attempt(one_call)


def one_call(place: Place, record: Record, scratch: Path) -> int:
    """Make the call as a job that is told when its time is nearly over."""
    os.environ[FOLDER] = str(place.own)
    signal.signal(signal.SIGUSR1, lambda *_signal: (Path(os.environ[FLAGS]) / ASKED).touch())
    return call(place, record)


def call(place: Place, record: Record) -> int:
    """Make the call and keep what comes of it; returns the exit status."""
    progress = replace(begun(place), phase="running")
    keep(place, progress)
    sampler = Sampler(progress, told=lambda: beat(place, replace(progress, **sampler.seen)))
    sampler.start()

    def last() -> Progress:
        sampler.finish(LOOK_AT_END_SECONDS)  # nothing is written beside what comes now
        return replace(progress, **sampler.seen)

    try:
        os.chdir(record.folder or "/")
        sys.path.insert(0, record.folder)  # as in the notebook, whose folder may hold modules of its own
        import cloudpickle
        from submitit.core.utils import DelayedSubmission

        outcome = cloudpickle.dumps(("success", DelayedSubmission.load(place.own / folder.CALL).result()))
    except GoesOnLater:
        keep(place, replace(last(), phase="requeued"))
        if words := put_back(record, progress):
            return failed(place, last(), record, RuntimeError(words))
        time.sleep(LAST_SECONDS)  # Slurm ends this job now
        return DONE
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the function does
        return failed(place, last(), record, error)
    keep(place, replace(last(), phase="done", ended=time.time()), outcome)
    return DONE


def failed(place: Place, progress: Progress, record: Record, error: BaseException) -> int:
    """Keep why it failed."""
    import cloudpickle

    words = "".join(traceback.format_exception(error))
    say(words)
    trouble = Trouble(type(error).__name__, str(error)[:LONGEST_TEXT], 0, record.title)
    keep(
        place,
        replace(progress, phase="failed", ended=time.time(), trouble=trouble),
        cloudpickle.dumps(("error", words)),
    )
    return FAILED


def beat(place: Place, progress: Progress) -> None:
    """Write what it uses at the moment; the next time, where the home takes nothing."""
    with suppress(OSError):
        folder.write_json(place.own / folder.STATE, replace(progress, updated=time.time()).as_json())


def keep(place: Place, progress: Progress, outcome: bytes = b"") -> None:
    """Write what came of it, then the state; where the home takes nothing, for some time again and again."""
    deadline = time.monotonic() + (LAST_SECONDS if outcome else 0)
    while True:
        try:
            if outcome:
                folder.write_whole(place.own / folder.RETURNED, outcome)
            changed: dict[str, Any] = replace(progress, updated=time.time()).as_json()
            folder.write_json(place.own / folder.STATE, changed)
        except OSError as error:
            if time.monotonic() > deadline:
                say(f"studiolo: what came of it can not be written ({error.strerror}): make room in your home")
                return
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    main()
