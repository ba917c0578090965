"""What a waiting person is told, from what is known at the moment: plain decisions, asked again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studiolo.slurm.states import JobState, pending_words
from studiolo.units import minutes_words

__all__ = ["Moment", "news"]

SILENT = "The machine's scheduler does not answer at the moment. Nothing is lost, and it is asked again and again."


@dataclass(frozen=True)
class Moment:
    """One moment of a start.

    ``submitting`` until the scheduler has the request, with ``ahead`` people before this one at the door; then ``job``,
    its ``state`` once the watcher knows it, its ``place`` in line and the line's length, and whether the scheduler
    ``answers``. ``now`` in seconds since 1970.
    """

    submitting: bool
    now: float
    ahead: int = 0
    job: int | None = None
    state: JobState | None = None
    place: tuple[int, int] | None = None
    answers: bool = True


def news(moment: Moment) -> dict[str, Any] | None:
    """The event to send to the person's page; ``None`` once the start is over, one way or the other.

    Beside JupyterHub's ``progress`` (per cent) and ``message``, an event of a job holds ``job``, ``state``, ``reason``
    and, where known, ``node``, ``place``, ``line`` and ``expected`` (seconds since 1970) for pages that show more.
    """
    if moment.submitting:
        before = f" {moment.ahead} before you." if moment.ahead else ""
        return {"progress": 5, "message": f"Handing your request to the machine's scheduler.{before}"}
    state = moment.state
    if moment.job is None or (state is not None and state.is_over):
        return None
    if state is None:
        event: dict[str, Any] = {"progress": 10, "message": f"In the queue as job {moment.job}.", "job": moment.job}
    elif state.is_pending:
        event = _waiting(moment, state)
    else:
        where = f" on {state.node}" if state.node else ""
        message = f"Running{where}: your notebook server is starting."
        event = {"progress": 60, "message": message, "job": state.job, "state": state.state, "node": state.node}
    return event if moment.answers else {**event, "message": f"{SILENT} {event['message']}"}


def _waiting(moment: Moment, state: JobState) -> dict[str, Any]:
    event: dict[str, Any] = {"progress": 20, "job": state.job, "state": state.state, "reason": state.reason}
    words = [pending_words(state.reason)]
    if moment.place:
        event["place"], event["line"] = moment.place
        words.append(f"You are number {event['place']} of {event['line']} in the line.")
    if state.start and state.start > moment.now:
        event["expected"] = state.start
        minutes = max(1, round((state.start - moment.now) / 60))
        words.append(f"Slurm expects it to start in about {minutes_words(minutes)}.")
    return {**event, "message": " ".join(words)}
