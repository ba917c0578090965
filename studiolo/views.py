"""What panels show: frozen values about a session, a Dask cluster, a batch run or a sweep. They hold facts, and no decision.

Whatever lives longer than one line of a notebook has a method ``view()`` that returns a :class:`JobView` and costs nothing: it
tells what is known, and asks nobody. :func:`announce` has it shown by every panel of this kernel as long as it lives.

Times are seconds since 1970, memory is in mebibytes, shares go from 0 to 1; ``None`` is "nobody knows", never zero.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

__all__ = [
    "CANCEL",
    "OVER",
    "Action",
    "Amount",
    "Basis",
    "BudgetView",
    "GaugeView",
    "JobView",
    "Kind",
    "Live",
    "Measured",
    "ReceiptView",
    "Resources",
    "SessionView",
    "State",
    "announce",
    "announced",
]

Kind = Literal["session", "run", "sweep", "cluster"]
State = Literal["waiting", "starting", "running", "stopping", "done", "failed", "cancelled", "unknown"]
"""``waiting`` for Slurm; ``starting``: has its resources, does not answer yet; ``unknown``: it could not be asked."""
Basis = Literal["measured", "partly measured", "estimated"]
"""Where a figure of energy is from: a node's or GPU's own counter, some of those, or the site's figures."""

OVER: frozenset[State] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True)
class Resources:
    """What one job has or asks for. ``gpus`` are whole, or ``shards`` of ``shards_per_gpu`` of one; ``gpu_type`` is Slurm's."""

    cpus: int
    memory: int
    gpus: int = 0
    shards: int = 0
    shards_per_gpu: int = 0
    gpu_type: str = ""

    @property
    def whole_gpus(self) -> float:
        """GPUs as a number, parts of one as what they are of it."""
        return self.gpus + (self.shards / self.shards_per_gpu if self.shards_per_gpu else 0.0)


@dataclass(frozen=True)
class Amount:
    """What something costs: hours of whole GPUs, hours of cores, ``money`` in ``currency`` where the site has prices."""

    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    money: float | None = None
    currency: str = ""

    def __add__(self, other: Amount) -> Amount:
        """Both together; money only where both have it."""
        known = self.money is not None and other.money is not None
        return Amount(
            self.gpu_hours + other.gpu_hours,
            self.cpu_hours + other.cpu_hours,
            (self.money or 0.0) + (other.money or 0.0) if known else None,
            self.currency or other.currency,
        )


@dataclass(frozen=True)
class Measured:
    """What is known of a job's use: mean shares from 0 to 1 of its CPUs and GPUs, and joules by counters of the machine.

    ``joules`` are those of the whole job (Slurm's, where the site gathers them); ``gpu_joules`` of its GPUs and ``cpu_joules``
    of its processors alone, each for the same time. ``idle`` is the share of the time in which its GPUs stood idle, ``most_gpu``
    their highest share at one look. ``None`` where nobody tells.
    """

    cpu: float | None = None
    gpu: float | None = None
    joules: float | None = None
    gpu_joules: float | None = None
    cpu_joules: float | None = None
    idle: float | None = None
    most_gpu: float | None = None


@dataclass(frozen=True)
class Action:
    """Something that a person can do with what is shown: ``name`` is given to :meth:`Live.act`, ``words`` stand on the button.

    What ``destroys`` something is drawn as such.
    """

    name: str
    words: str
    destroys: bool = False


CANCEL = Action("cancel", "Cancel", destroys=True)


@dataclass(frozen=True)
class JobView:
    """One thing of a person's on the cluster, whether it is one job or many.

    ``name`` is what people call it and may hold anything; ``identity`` tells it from all others of its ``kind``. ``words`` is
    one sentence: why it waits, what it does, how it ended. ``jobs`` are Slurm's numbers, on the cluster ``cluster``.
    ``expected`` is when it probably starts, ``ends`` when its walltime is over, ``ended`` when it was. ``done`` of ``of`` are
    counted in ``unit`` ("cells", "tasks", "workers"). ``resources`` are those of one job. ``spent`` so far, ``ceiling`` at most.
    ``used`` is what its jobs used by their own looks, ``kwh`` what that took (``basis`` says how it is known).
    ``link`` is an address (a dashboard, the notebook it runs), ``link_words`` what stands on it.
    """

    kind: Kind
    identity: str
    name: str
    state: State
    words: str
    jobs: tuple[int, ...] = ()
    cluster: str = ""
    asked: float | None = None
    started: float | None = None
    expected: float | None = None
    ends: float | None = None
    ended: float | None = None
    done: int | None = None
    of: int | None = None
    unit: str = ""
    resources: Resources | None = None
    spent: Amount | None = None
    ceiling: Amount | None = None
    used: Measured | None = None
    kwh: float | None = None
    basis: Basis = "estimated"
    link: str = ""
    link_words: str = ""
    actions: tuple[Action, ...] = ()

    @property
    def is_over(self) -> bool:
        """It has ended and changes no more."""
        return self.state in OVER


@dataclass(frozen=True)
class GaugeView:
    """One measure of this job at this moment: ``share`` of what it has, and the same in ``words`` ("1.4 of 4 cores")."""

    name: str
    share: float | None
    words: str


@dataclass(frozen=True)
class BudgetView:
    """What is left of a project: GPU-hours ``used`` of ``limit``; ``None`` where there is none, or nobody says."""

    account: str
    title: str
    used: float | None
    limit: float | None


@dataclass(frozen=True)
class SessionView:
    """The session that this kernel runs in; ``words`` is all of it in one sentence.

    ``price_per_hour`` is what it costs an hour. ``budget`` is that of its project, asked for every few minutes.
    """

    job: int
    node: str
    words: str
    resources: Resources
    started: float | None
    ends: float | None
    spent: Amount | None
    ceiling: Amount | None
    price_per_hour: Amount | None
    budget: BudgetView | None = None
    home: str = ""


@dataclass(frozen=True)
class ReceiptView:
    """What something came to. ``kwh`` and ``gco2e`` are ``None`` where the site gives no figures to tell them from.

    ``idle`` is the share of its GPUs' time in which they did nothing, ``None`` without GPUs or where nobody knows.
    """

    kind: Kind
    name: str
    jobs: tuple[int, ...]
    started: float | None
    ended: float | None
    amount: Amount
    kwh: float | None
    basis: Basis
    gco2e: float | None
    idle: float | None


@runtime_checkable
class Live(Protocol):
    """What panels show and act upon. ``view`` asks nobody; ``act`` may be called from any thread, and may block on Slurm."""

    def view(self) -> JobView:
        """What is known of it now."""
        ...

    def act(self, action: str) -> None:
        """Do one of the view's ``actions``, by its name. Raises ``StudioloError`` with a sentence for the person."""
        ...


_lock = threading.Lock()
_announced: weakref.WeakSet[Live] = weakref.WeakSet()


def announce(thing: Live) -> None:
    """Show ``thing`` in this kernel's panels as long as somebody holds it."""
    with _lock:
        _announced.add(thing)


def announced() -> list[Live]:
    """All that is announced and still there, in no order."""
    with _lock:
        return list(_announced)
