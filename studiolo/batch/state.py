"""What is true of a run: its own word, the queue's and accounting's, put together. A plain function; asks nobody.

None of them alone is to be trusted: a killed run's own file says "running" for ever, the queue forgets, accounting lags, and a
full home keeps a run from saying that it is done. What could not be asked changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from studiolo.batch.progress import ENDED, Progress, Trouble
from studiolo.slurm.reasons import limit_words, never_starts, pending_words, read_reason
from studiolo.slurm.states import JobState
from studiolo.views import OVER, State

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """``state`` is one of :data:`studiolo.views.State`, ``why`` one sentence, empty where there is nothing to say.

    ``kind`` tells failures apart: ``"error"`` of the notebook, ``"memory"``, ``"time"``, ``"node"``, ``"preempted"``, ``"gone"``,
    ``"refused"``, ``"log"`` where only the log knows.
    """

    state: State
    why: str = ""
    kind: str = ""

    @property
    def is_over(self) -> bool:
        """It has ended and changes no more."""
        return self.state in OVER


MEMORY = "It ran out of memory{where}. Ask for more (memory=…), or hold less at once."
TIME = "Its time was over{where}. Ask for more (hours=…), or let it go on from a checkpoint (resume=True)."
PREEMPTED = "Slurm gave its place to somebody more urgent{where}. With resume=True it goes on by itself: run.again(resume=True)."
NODE = "Its node failed{where}. That is not your doing: run.again()."
GONE = (
    "Neither the queue nor accounting knows its job: somebody removed it, or Slurm lost it. Send it again: run.again()."
)
LOG = "Its job failed before the notebook could say why: look at run.log()."
UNWRITTEN = "Its last words could not be written: make room in your home."
REMOVED = "Its folder was removed, and with it all that was known of it."
REMOVED_ALIVE = "Its folder was removed: what it does is lost. run.cancel() ends it."
UNASKED = "Slurm has not told of it yet."
SILENT = "Slurm does not answer at the moment: this is what was known last."
NEVER = "It was never submitted."
CANCELLED = "It was cancelled{where}; what it had done until then is kept."
REHEARSAL = "Its rehearsal did not go well: see run.rehearsal."
LATER = "It goes on from its checkpoint once it has a place"


def judge(
    progress: Progress | None,
    slurm: JobState | None,
    *,
    submitted: bool = True,
    cancelled: bool = False,
    silent: bool = False,
    recent: bool = False,
    removed: bool = False,
) -> Verdict:
    """Put together what the run says and what Slurm says.

    ``submitted``: whether Slurm was given a job at all; ``cancelled``: whether its owner asked for its end; ``silent``: whether
    Slurm does not answer at the moment; ``recent``: whether it ended so short ago that its last words may not be seen here yet;
    ``removed``: whether somebody has removed its folder.
    """
    if removed:
        return _removed(slurm, submitted, cancelled)
    if progress is not None and progress.phase == "done":
        return Verdict("done", progress.note)
    if slurm is not None and slurm.is_over:
        unsaid = progress is None or progress.phase not in ENDED
        lags = recent and unsaid and slurm.state in ("COMPLETED", "FAILED")
        return Verdict("stopping") if lags else _ended(progress, slurm, cancelled)
    if progress is not None and progress.phase == "failed" and progress.trouble:
        # A kernel that died may have been short of memory: Slurm says so a moment later, and is waited for.
        waited_for = progress.trouble.name == "DeadKernelError" and slurm is not None and not silent
        words = trouble_words(progress.trouble, progress.cells)
        return Verdict("stopping", "Its kernel died.") if waited_for else Verdict("failed", words, "error")
    if slurm is None and progress is None and not submitted:
        return Verdict("failed", NEVER, "gone")
    return _alive(progress, slurm, cancelled, SILENT if silent else "")


def _removed(slurm: JobState | None, submitted: bool, cancelled: bool) -> Verdict:
    """What Slurm alone still knows of a run."""
    if slurm is None:
        return Verdict("unknown", REMOVED) if submitted else Verdict("failed", REMOVED, "gone")
    if slurm.is_over:
        ended = _ended(None, slurm, cancelled)
        return Verdict(ended.state, REMOVED, ended.kind)
    return Verdict("waiting" if slurm.is_pending else "running", REMOVED_ALIVE)


def _alive(progress: Progress | None, slurm: JobState | None, cancelled: bool, note: str) -> Verdict:
    if slurm is not None and slurm.is_pending:
        words = pending_words(slurm.reason)
        return Verdict("waiting", note or (LATER + f": {words}" if progress is not None else words))
    if progress is None:
        return Verdict("starting", note) if slurm is not None else Verdict("unknown", note or UNASKED)
    if cancelled or progress.phase == "stopped":
        return Verdict("stopping", note)
    if progress.phase == "requeued":
        return Verdict("waiting", note or f"{LATER}.")
    return (
        Verdict("starting", note) if progress.phase == "starting" else Verdict("running", note or cell_words(progress))
    )


_ENDS: Mapping[str, tuple[State, str, str]] = {
    "OUT_OF_MEMORY": ("failed", MEMORY, "memory"),
    "TIMEOUT": ("failed", TIME, "time"),
    "DEADLINE": ("failed", TIME, "time"),
    "PREEMPTED": ("failed", PREEMPTED, "preempted"),
    "NODE_FAIL": ("failed", NODE, "node"),
    "BOOT_FAIL": ("failed", NODE, "node"),
    "VANISHED": ("failed", GONE, "gone"),
    "COMPLETED": ("done", UNWRITTEN, ""),
    "CANCELLED": ("cancelled", CANCELLED, ""),
}


def _ended(progress: Progress | None, slurm: JobState, cancelled: bool) -> Verdict:
    told = progress.trouble if progress is not None and progress.phase == "failed" else None
    # Which of its processes was killed for memory is chance; where it was the kernel, that alone is what the run knows.
    killed = slurm.state == "OUT_OF_MEMORY" and told is not None and told.name == "DeadKernelError"
    if told is not None and progress is not None and not killed:
        return Verdict("failed", trouble_words(told, progress.cells), "error")
    if slurm.state == "CANCELLED" and slurm.reason.startswith("DependencyNeverSatisfied"):
        return Verdict("failed", REHEARSAL, "refused")
    other: tuple[State, str, str] = ("cancelled", CANCELLED, "") if cancelled else ("failed", LOG, "log")
    # Of a task of an array that is cancelled while it waits, Slurm keeps nothing at all.
    state, words, kind = other if cancelled and slurm.state == "VANISHED" else _ENDS.get(slurm.state, other)
    return Verdict(state, words.format(where=where_words(progress)), kind)


def cell_words(progress: Progress) -> str:
    """``"cell 3 of 9"``."""
    if not progress.current:
        return f"{progress.done} of {progress.cells} cells are done."
    return f"Cell {progress.current} of {progress.cells}."


def where_words(progress: Progress | None) -> str:
    """`` in cell 3 of 9``, or nothing."""
    if progress is None or not progress.current:
        return ""
    return f" in cell {progress.current} of {progress.cells}"


def trouble_words(trouble: Trouble, cells: int) -> str:
    """Which cell failed, of what, and what to do."""
    value = _words_of(trouble.value)
    value = value if len(value) <= 300 else value[:299] + "…"
    name = _words_of(trouble.name)
    error = f"{name}: {value}" if value else name
    if trouble.name == "DeadKernelError":
        return f"The kernel died in cell {trouble.cell} of {cells}: often that is memory (memory=…); run.log() may say more."
    if not trouble.cell and trouble.line:
        return f"{_words_of(trouble.line)} failed with {error.rstrip('.')}: run.log() has all of it."
    if not trouble.cell:
        return f"The notebook could not be run. {error}"
    hint = _HINTS.get(trouble.name, "mend the notebook and send it again")
    return f"Cell {trouble.cell} of {cells} failed with {error.rstrip('.')} - {hint}: run.notebook is what it did until then."


_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def _words_of(text: str) -> str:
    """What an error says as one line, without the colours and moves of a terminal that it may hold."""
    return "".join(each if each.isprintable() else " " for each in _COLOURS.sub("", text)).strip()


_HINTS = {
    "ModuleNotFoundError": "install it in the run's environment, or choose another one (environment=…)",
    "FileNotFoundError": "the run works in the notebook's own folder: mind the path",
    "NameError": "a batch run starts from an empty kernel, from the first cell to the last: mind the order of cells",
    "MemoryError": "ask for more (memory=…)",
    "OutOfMemoryError": "the GPU's memory was full: take a smaller batch",
}


_CLOSED = frozenset({"PartitionDown", "PartitionInactive"})


def hopeless(reason: str) -> bool:
    """Whether a job that waits for this does not start as it stands: a budget that is spent, a closed partition."""
    return never_starts(reason) or read_reason(reason).word in _CLOSED


def refusal_words(words: str) -> str:
    """The sentence for why Slurm refuses; empty where we have none."""
    return limit_words(words) or (pending_words(words) if hopeless(words) else "")
