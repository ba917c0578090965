"""Every error of Studiolo, sorted by who can mend it.

::

    StudioloError
    ├── SiteError            the operator: site.toml or what it points to
    ├── RequestError         the person who asked: a field, its value, what is allowed
    ├── OutsideSession       the person: this works inside a session of Studiolo's
    ├── RunsUnusable         the person: there is no room for a run's folder in their home
    ├── RunGone              the person: of a run nothing is left that could be read; somebody has removed or changed its folder
    ├── RunFailed            the person: their notebook, or what its run was given, failed
    ├── NoWorkers            the person: a Dask cluster has no workers, and why it gets none
    ├── NotAtHand            the person: no such data set or model; what there is instead
    ├── CardError            whoever keeps the data set or model: what its card says is wrong or not what lies there
    ├── NotKept              the person: why something was not added to, or not removed from, the catalogue
    ├── NotLoadable          the person: this can not become what was asked for; what it can become
    └── SlurmError           the cluster
        ├── LauncherFailed   the operator: sudo or the launcher did not do what site.toml promises
        ├── HomeUnusable     the operator: the person's home folder can not be entered
        ├── SlurmRefused     Slurm answered "no": its own words are kept
        └── SlurmUnavailable Slurm did not answer: nothing is known, nothing may be concluded
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from studiolo.language import _, later

__all__ = [
    "CardError",
    "Fault",
    "HomeUnusable",
    "LauncherFailed",
    "NoWorkers",
    "NotAtHand",
    "NotKept",
    "NotLoadable",
    "OutsideSession",
    "RequestError",
    "RunFailed",
    "RunGone",
    "RunsUnusable",
    "SiteError",
    "SlurmError",
    "SlurmRefused",
    "SlurmUnavailable",
    "StudioloError",
]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with an input.

    ``where`` names the key or field, ``value`` is what was given (already printable), ``allowed``
    says what would be accepted, ``line`` is the line of the file where it stands (1-based) if known.
    """

    where: str
    value: str
    allowed: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        if not self.value:
            return place + _("%(where)s: %(allowed)s", where=self.where, allowed=self.allowed)
        told = _("%(where)s = %(value)s: %(allowed)s", where=self.where, value=self.value, allowed=self.allowed)
        return place + told


def printable(text: str) -> str:
    """Text for a message, its control characters escaped."""
    return text if text and text.isprintable() else ascii(text)


def shown(value: object, limit: int = 80) -> str:
    """Print a value for a message: control characters escaped, long ones cut after ``limit`` characters."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except (ValueError, RecursionError):  # a number with thousands of digits, lists thousands deep
        text = _("something too long to print")
    return text if len(text) <= limit else text[: limit - 1] + "…"


class StudioloError(Exception):
    """Base of every error that Studiolo raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the sentence. Where in our code it was raised helps nobody there."""
        return [f"{type(self).__name__}: {self}"]


class _FaultsError(StudioloError):
    headline = ""

    def __init__(self, faults: Sequence[Fault], source: str = "") -> None:
        self.faults = tuple(faults)
        self.source = source
        head = _(self.headline, source=printable(source) if source else "", count=len(self.faults))
        super().__init__("\n  ".join([head, *map(str, self.faults)]))


class SiteError(_FaultsError):
    """The site file has faults; all of them are listed. The operator's move."""

    headline = "%(source)s: %(count)s fault(s) to mend"


class RequestError(_FaultsError):
    """A request for resources can not be granted as it stands; all faults are listed. The person's move."""

    headline = later("This request can not be granted as it stands:")


class OutsideSession(StudioloError):
    """Something was asked for that belongs to a session, by a process that is in none. The person's move."""

    def __init__(self) -> None:
        super().__init__("This works inside a session of Studiolo: start one in the browser.")


class RunsUnusable(StudioloError):
    """The folder of runs takes nothing: a full quota mostly. The person's move."""

    def __init__(self, folder: str, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        move = "Make room in your home" if full else "Mend that, or ask those who run this machine"
        super().__init__(f"Nothing can be kept in {folder}: {error.strerror or error}. {move}, and send it again.")


class RunGone(StudioloError):
    """What a run has kept is to be used again, and is not there, or makes no sense. ``run`` is its name. The person's move."""

    def __init__(self, run: str, file: str, words: str, instead: str) -> None:
        self.run = run
        super().__init__(f"Run {run} can not be repeated: {file} was removed or changed ({words}). {instead}")


class RunFailed(StudioloError):
    """A run that was waited for did not end well. ``run`` is the run, or the sweep that it belongs to. The person's move."""

    def __init__(self, run: object, words: str) -> None:
        self.run = run
        super().__init__(words)


class NoWorkers(StudioloError):
    """A Dask cluster has no workers and gets none, or has waited for the first as long as it was to. The person's move."""


class NotAtHand(StudioloError):
    """The catalogue has no data set or model of this name, as far as this person can see. The person's move."""


class CardError(_FaultsError):
    """A data set or model is not what it should be: all faults of its card. The move of whoever keeps it."""

    headline = "%(source)s: %(count)s fault(s) to mend"


class NotKept(_FaultsError):
    """Something was not added to the catalogue, or not removed; nothing has changed. The person's move."""

    headline = "%(source)s:"


class NotLoadable(StudioloError):
    """A data set can not be loaded into what was asked for. The person's move."""


class SlurmError(StudioloError):
    """Something about the cluster; see the kinds below. ``words`` are those of the program that failed, unchanged."""

    headline = "{action}: {words}"

    def __init__(self, action: str, words: str) -> None:
        self.action = action
        self.words = words.strip() or _("no reason given")
        super().__init__(self.headline.format(action=action, words=self.words))


class SlurmRefused(SlurmError):
    """Slurm answered and refused."""

    headline = "Slurm refused to {action}: {words}"


class SlurmUnavailable(SlurmError):
    """Slurm could not be asked. Says nothing about any job: whoever catches this keeps what it knew."""

    headline = "Slurm did not answer when asked to {action}: {words}"


class SlurmUnreachable(SlurmUnavailable):
    """Nobody listened: what was to be asked has not been sent."""


class LauncherFailed(SlurmError):
    """The hub may not act for this person, or the launcher is missing. The operator's move."""

    headline = "The hub was not able to {action} on your behalf: {words}"


class HomeUnusable(SlurmError):
    """The person's home folder can not be entered, so nothing can start in it. ``words`` name it. The operator's move."""

    headline = "To {action} is not possible: {words}"
