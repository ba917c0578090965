"""What each kernel of a session loads by itself: a word after cells that failed for the lack of a model.

Loaded through ``etc/ipython`` of the environment; ``%load_ext studiolo.ipython`` does the same elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from studiolo.errors import NotAtHand, OutsideSession, StudioloError

__all__ = ["load_ipython_extension", "missing_model"]

# What Hugging Face's libraries raise where a file is not in their cache and the internet not to be asked.
_KINDS = ("LocalEntryNotFoundError", "OfflineModeIsEnabled")
_NAMES = ("repo_id", "path_or_repo_id", "pretrained_model_name_or_path")
_LIBRARIES = ("huggingface_hub", "transformers", "sentence_transformers", "diffusers")


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython once for each kernel."""
    shell.events.register("post_run_cell", _after)


def _after(result: Any) -> None:
    name = missing_model(result.error_in_exec)
    if name is not None:
        try:
            word = _word(name)
        except OutsideSession:
            return
        except StudioloError as error:  # it is there, and broken, or the home is full
            word = str(error)
        print(word, file=sys.stderr)


def _word(name: str) -> str:
    from studiolo import models  # only where it is needed: every kernel loads this module

    try:
        models.get(name)
    except NotAtHand as missing:
        return f"Nothing is wrong with your connection: nodes have no internet. {missing}"
    return f"{name} is at hand: run the cell again. Should it fail again, a file of it is missing there."


def missing_model(error: BaseException | None) -> str | None:
    """The model that a library did not find in its cache, by an error of its; ``None`` where it is another error."""
    for one in _chain(error):
        if type(one).__name__ in _KINDS and type(one).__module__.startswith("huggingface_hub"):
            return _asked_for(one.__traceback__)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _asked_for(trace: TracebackType | None) -> str | None:
    # Their messages do not name the model; the calls that led to them do.
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _LIBRARIES:
            for name in _NAMES:
                value = frame.f_locals.get(name)
                if isinstance(value, str) and value:
                    return value
        trace = trace.tb_next
    return None
