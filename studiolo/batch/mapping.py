"""A function called for many items, each call a run of one job array."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterable
from typing import Any

from studiolo.batch import folder
from studiolo.batch.follow import ANSWER_SECONDS
from studiolo.batch.plan import MOST_POINTS, Plan, plan_calls
from studiolo.batch.sweep import Sweep
from studiolo.desk import desk
from studiolo.errors import Fault, RequestError, RunFailed, shown

__all__ = ["Calls", "plan_map"]


class Calls(Sweep):
    """The calls of one :func:`studiolo.map`; its items are their runs, in the order of the items."""

    def results(self, timeout: float | None = None) -> list[Any]:
        """What all calls returned, in order; waits until they are over, ``timeout`` seconds at most.

        Raises :class:`~studiolo.errors.RunFailed` for the first one that failed, ``TimeoutError``.
        """
        self.wait(timeout)
        return [self._value(index) for index in range(len(self))]

    def _value(self, index: int) -> Any:
        run = self[index]
        verdict = run._follower.verdict(ANSWER_SECONDS)
        if verdict.state != "done":
            raise RunFailed(run, f"Call {index + 1} of {len(self)}: {verdict.why or verdict.state}")
        try:
            kind, value = pickle.loads((run.folder / folder.RETURNED).read_bytes())  # noqa: S301 - from this person's own home
        except Exception as error:  # whatever a class of theirs does that is not there, or another one now
            told = f"its result can not be read ({type(error).__name__}: {error})"
            raise RunFailed(run, f"Call {index + 1} of {len(self)}: {told}") from error
        if kind != "success":
            raise RunFailed(run, f"Call {index + 1} of {len(self)}: {value}")
        return value


def plan_map(
    function: Callable[[Any], Any], items: Iterable[Any], at_once: object, resume: bool, resources: Any
) -> Plan:
    """Check what :func:`studiolo.map` would submit."""
    import cloudpickle
    from submitit.core.utils import DelayedSubmission

    if not callable(function):
        raise RequestError([Fault("function", shown(function), "a function of one item")])
    if not isinstance(items, Iterable):
        raise RequestError(
            [Fault("items", shown(items), "a list, a range or anything else with one item after the other")]
        )
    chosen = list(itertools.islice(items, MOST_POINTS + 1))  # there may be no end to them
    if len(chosen) > MOST_POINTS:
        raise RequestError([Fault("items", f"more than {MOST_POINTS}", f"at most {MOST_POINTS} items at a time")])
    if not chosen:
        raise RequestError([Fault("items", "", "at least one item")])
    files = {}
    for index, item in enumerate(chosen):
        try:
            files[f"{index}/{folder.CALL}"] = cloudpickle.dumps(DelayedSubmission(function, item))
        except Exception as error:
            told = f"a function and items that can be sent to another process ({type(error).__name__}: {error})"
            raise RequestError([Fault(f"items[{index}]", shown(item), told)]) from error
    title = str(getattr(function, "__qualname__", "") or type(function).__name__)
    points = [{"item": shown(item, 200)} for item in chosen]
    return plan_calls(desk(), title, points, files, resources, at_once=at_once, resume=resume)
