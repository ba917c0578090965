"""What a waiting person is told, from what is known at the moment: plain decisions, asked again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studiolo.language import _, language, later, plural
from studiolo.request import Request
from studiolo.site import Site
from studiolo.slurm.reasons import pending_words
from studiolo.slurm.states import JobState
from studiolo.units import memory_words, minutes_words

__all__ = ["STEPS", "Forecast", "Moment", "asked_words", "news", "ordinal"]

SILENT = later(
    "The machine's scheduler does not answer at the moment. Nothing is lost, and it is asked again and again."
)
MOVED_SECONDS = 120  # Slurm's forecast is made anew all the time: less than this is no news

STEPS = {
    "asked": later("Asked"),
    "line": later("In line"),
    "node": later("A node is found"),
    "server": later("Your server starts"),
    "ready": later("Ready"),
}
"""The way of a start, in its order."""


@dataclass(frozen=True)
class Forecast:
    """When Slurm expects a job to start, and what it had expected before that; in seconds since 1970."""

    expected: int | None = None
    was: int | None = None

    def heard(self, start: int | None, now: float) -> Forecast:
        """What is to be told after another forecast; a ``start`` that is over or unknown is none."""
        if start is None or start <= now:
            return Forecast(None, self.expected or self.was)
        if self.expected is not None and abs(start - self.expected) < MOVED_SECONDS:
            return self
        before = self.expected or self.was
        return Forecast(start, before if before is not None and abs(start - before) >= MOVED_SECONDS else None)


@dataclass(frozen=True)
class Moment:
    """One moment of a start.

    ``submitting`` until the scheduler has the request, with ``ahead`` people before this one at the door; then ``job``,
    its ``state`` once the watcher knows it, its ``place`` in line and the line's length, the ``forecast`` of its start, and
    whether the scheduler ``answers``. ``now`` in seconds since 1970.
    """

    submitting: bool
    now: float
    ahead: int = 0
    job: int | None = None
    state: JobState | None = None
    place: tuple[int, int] | None = None
    answers: bool = True
    forecast: Forecast = Forecast()


def news(moment: Moment) -> dict[str, Any] | None:
    """The event to send to the person's page; ``None`` once the start is over, one way or the other.

    Beside JupyterHub's ``progress`` (per cent) and ``message``, an event holds the ``step`` of :data:`STEPS`, a short
    ``title`` for the page's tab, whether the scheduler ``answers`` and what is ``told`` apart from times; that of a job
    also ``job``, ``state``, ``reason`` and, where known, ``node``, ``place``, ``line``, ``expected`` and ``was`` (seconds
    since 1970).
    """
    event = _event(moment)
    if event is None:
        return None
    answers = moment.answers or moment.submitting
    event = {**event, "answers": answers, "told": event.get("told", event["message"])}
    return event if answers else {**event, "message": f"{_(SILENT)} {event['message']}"}


def _event(moment: Moment) -> dict[str, Any] | None:
    state = moment.state
    if moment.submitting:
        words = [_("Handing your request to the machine's scheduler.")]
        if moment.ahead:
            words.append(plural("%(count)s before you.", "%(count)s before you.", moment.ahead))
        return {"progress": 5, "step": "asked", "title": _("Asking"), "message": " ".join(words)}
    if moment.job is None or (state is not None and state.is_over):
        return None
    if state is None:
        message = _("In the queue as job %(job)s.", job=moment.job)
        return {"progress": 10, "step": "line", "title": _("In line"), "message": message, "job": moment.job}
    if state.is_pending:
        return _waiting(moment, state)
    message = (
        _("Running on %(node)s: your notebook server is starting.", node=state.node)
        if state.node
        else _("Running: your notebook server is starting.")
    )
    event = {"progress": 60, "step": "server", "title": _("Starting"), "message": message, "job": state.job}
    return {**event, "state": state.state, "node": state.node}


def _waiting(moment: Moment, state: JobState) -> dict[str, Any]:
    event: dict[str, Any] = {"progress": 20, "step": "line", "title": _("In line"), "job": state.job}
    if state.state == "CONFIGURING":  # Slurm has chosen a node, and is waking it
        event |= {"step": "node", "title": _("Starting")}
    event |= {"state": state.state, "reason": state.reason}
    words = [pending_words(state.reason)]
    if moment.place:
        place, line = event["place"], event["line"] = moment.place
        event["title"] = _("%(place)s in line", place=ordinal(place))
        words.append(_("You are number %(place)s of %(line)s in the line.", place=place, line=line))
    event["told"] = " ".join(words)
    expected = moment.forecast.expected
    if expected and expected > moment.now:
        event["expected"] = expected
        if moment.forecast.was:
            event["was"] = moment.forecast.was
        minutes = max(1, round((expected - moment.now) / 60))
        words.append(_("Slurm expects it to start in about %(time)s.", time=minutes_words(minutes)))
    return {**event, "message": " ".join(words)}


def ordinal(number: int) -> str:
    """``3rd``, in the language that is spoken now."""
    if language() == "de":
        return f"{number}."
    if language() == "fr":
        return "1er" if number == 1 else f"{number}e"
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def asked_words(request: Request, site: Site) -> list[str]:
    """What somebody asked for, each part a few words, most telling first."""
    partition = site.partitions[request.partition]
    parts = [site.profiles[request.profile].title]
    if request.gpus:
        parts.append(plural("%(count)s GPU", "%(count)s GPUs", request.gpus))
    if request.shards:
        parts.append(_("%(part)s/%(whole)s of a GPU", part=request.shards, whole=partition.shards_per_gpu))
    parts.append(plural("%(count)s CPU", "%(count)s CPUs", request.cpus))
    parts.append(_("%(memory)s of memory", memory=memory_words(request.memory)))
    parts.append(_("up to %(time)s", time=minutes_words(request.minutes)))
    parts.append(partition.title or request.partition)
    if request.account:
        parts.append(site.accounts[request.account].title or request.account)
    return parts
