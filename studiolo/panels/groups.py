"""Jobs in the queue as a person thinks of them: the tasks of a sweep are one run, workers are one Dask cluster. Pure.

They are known by their tags alone, so panels show what no kernel holds any more, and the hub what it never knew of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from studiolo.language import _, later
from studiolo.slurm.reasons import pending_words
from studiolo.slurm.states import JobState, Tagged
from studiolo.views import CANCEL, JobView, Kind, State

__all__ = ["Group", "group_view", "grouped", "in_order"]

NODES_SHOWN = 4

_KINDS: Mapping[str, tuple[Kind, str]] = {
    "session": ("session", "A session"),
    "run": ("run", later("Batch run")),
    "dask": ("cluster", later("Dask workers")),
}


@dataclass(frozen=True)
class Group:
    """Jobs in the queue with one tag: a session, a run's tasks, the workers of one Dask cluster."""

    cluster: str
    kind: str
    name: str
    jobs: tuple[int, ...]

    @property
    def identity(self) -> str:
        """What tells it from all others of its person's."""
        return f"{self.cluster}/{self.kind}/{self.name}"

    @property
    def names(self) -> set[str]:
        """By what it may be known to whom it belongs: a cluster's tag has its owner before its own name."""
        return {self.name, self.name.rpartition(".")[2]}


def grouped(cluster: str, tagged: Iterable[Tagged], without: Iterable[int] = ()) -> tuple[Group, ...]:
    """Put jobs together by their tags, those in ``without`` and kinds that nobody knows left out."""
    left_out = set(without)
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in tagged:
        if one.job not in left_out and one.kind in _KINDS:
            found[one.kind, one.name].append(one.job)
    return tuple(Group(cluster, kind, name, tuple(sorted(jobs))) for (kind, name), jobs in sorted(found.items()))


def group_view(group: Group, states: Sequence[JobState | None], asked: float | None = None) -> JobView | None:
    """What Slurm says of a group; ``None`` once all of it is over. ``asked`` is when the first of it was submitted."""
    kind, title = _KINDS[group.kind]
    known = [state for state in states if state is not None]
    if known and len(known) == len(states) and all(state.is_over for state in known):
        return None
    running = [state for state in known if state.runs_somewhere]
    waiting = [state for state in known if state.is_pending]
    state: State = "running" if running else "waiting" if waiting else "unknown"
    sentences = []
    if running:
        sentences.append(_("On %(nodes)s.", nodes=", ".join(sorted({one.node for one in running})[:NODES_SHOWN])))
    if waiting:
        sentences.append(_("The rest waits in the queue.") if running else pending_words(waiting[0].reason))
    return JobView(
        kind=kind,
        identity=group.identity,
        name=f"{_(title)} {group.name}" if group.kind == "run" else _(title),
        state=state,
        words=" ".join(sentences),
        jobs=group.jobs,
        cluster=group.cluster,
        asked=asked,
        started=min((one.start for one in running if one.start is not None), default=None),
        expected=min((one.start for one in waiting if one.start is not None), default=None) if not running else None,
        ends=max((one.end for one in running if one.end is not None), default=None),
        actions=(CANCEL,),
    )


def in_order(views: Iterable[JobView]) -> tuple[JobView, ...]:
    """What is not over first, the latest first."""
    return tuple(sorted(views, key=lambda view: (view.is_over, -(view.started or view.asked or 0.0), view.identity)))
