"""What a notebook calls while it runs as a batch job: it records results, and saves a checkpoint before its time is over.

All of it also works in a session, where nothing is kept: the same notebook runs in both.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any, NoReturn

from studiolo.batch import folder
from studiolo.batch.parameters import plain
from studiolo.errors import Fault, RequestError, RunsUnusable, StudioloError, shown

__all__ = ["FLAGS", "FOLDER", "Checkpoint", "GoesOnLater", "checkpoint", "record"]

FOLDER, FLAGS = "STUDIOLO_FOLDER", "STUDIOLO_FLAGS"
"""The environment variables that name a run's own folder, and one on its node for what it and its notebook tell each other."""
ASKED, HEARD = "asked", "heard"

_lock = threading.Lock()
_unkept: dict[str, Any] = {}
_elsewhere: Path | None = None


def record(**values: object) -> None:
    """Keep results of this run: ``studiolo.record(accuracy=0.93, best="model-7.pt")``.

    They are ``run.result`` and columns of ``sweep.table()`` at once. A later value of the same name takes the place of the
    earlier. Values are numbers, text, ``True``, ``False``, ``None``, and lists and dicts of them; NumPy's count as numbers.
    Raises :class:`~studiolo.errors.RequestError` for others. A full home is a warning, and tried again with the next one.
    """
    kept, faults = {}, []
    for name, value in values.items():
        try:
            kept[name] = plain(value)
        except ValueError as error:
            faults.append(Fault(name, shown(value), str(error)))
    if faults:
        raise RequestError(faults)
    own = os.environ.get(FOLDER, "")
    if not own:
        return
    path = Path(own) / folder.RESULT
    with _lock:
        _unkept.update(kept)
        try:
            folder.write_json(path, {**folder.read_json(path), **_unkept})
        except OSError as error:
            warnings.warn(f"studiolo.record: {error.strerror}; tried again with the next one", stacklevel=2)
        else:
            _unkept.clear()


class GoesOnLater(StudioloError):
    """What :meth:`Checkpoint.leave` ends the notebook with: it is no failure."""


class Checkpoint:
    """Where a run keeps what it needs to go on, and whether it is time to do so; get it with :func:`checkpoint`.

    ``folder`` is a folder of this run's own that outlives its job; ``resumed`` is whether an earlier attempt was interrupted,
    so that something may lie there.
    """

    def __init__(self, place: Path, flags: Path | None, *, resumed: bool) -> None:
        self.folder = place
        self.resumed = resumed
        self._flags = flags

    def __repr__(self) -> str:
        return f"Checkpoint(folder={str(self.folder)!r}, resumed={self.resumed}, requested={self.requested})"

    @property
    def requested(self) -> bool:
        """Whether this run's time is nearly over: save now. Cheap; ask once in every step of a long loop."""
        if self._flags is None or not (self._flags / ASKED).exists():
            return False
        # So that the run knows that its notebook has one: only then is it worth going on in another job.
        (self._flags / HEARD).touch()
        return True

    def leave(self) -> NoReturn:
        """End here, everything saved: the run goes back into the queue and begins again with ``resumed`` true."""
        raise GoesOnLater("The checkpoint is saved; the run goes on later.")


def checkpoint() -> Checkpoint:
    """This run's checkpoint, for ``studiolo.run(..., resume=True)``.

    ::

        saved = studiolo.checkpoint()
        epoch = load(saved.folder) if saved.resumed else 0
        while epoch < 100:
            train(epoch); epoch += 1
            if saved.requested:
                save(saved.folder, epoch)
                saved.leave()

    Raises :class:`~studiolo.errors.RunsUnusable` where the home takes no folder.
    """
    global _elsewhere  # noqa: PLW0603 - one folder for a whole session
    own, flags = os.environ.get(FOLDER, ""), os.environ.get(FLAGS, "")
    if own:
        place = Path(own) / folder.CHECKPOINT
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Something lies there only where an earlier attempt has saved it.
            resumed = os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0") and any(place.iterdir())
        except OSError as error:
            raise RunsUnusable(str(place), error) from error
        return Checkpoint(place, Path(flags) if flags else None, resumed=resumed)
    with _lock:
        if _elsewhere is None:
            _elsewhere = Path(tempfile.mkdtemp(prefix="studiolo-checkpoint-"))
    return Checkpoint(_elsewhere, None, resumed=False)
