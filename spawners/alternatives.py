"""Which of the things that somebody could ask for instead (:mod:`studiolo.alternatives`) is proposed, by what each would get."""

from __future__ import annotations

from collections.abc import Iterable

from spawners.verdict import Verdict
from studiolo import alternatives as proposals
from studiolo.alternatives import WORTH_SECONDS, Alternative
from studiolo.request import Request
from studiolo.site import Site

__all__ = ["best", "words"]


def best(
    asked: Verdict, judged: Iterable[tuple[Alternative, Verdict]], now: float
) -> tuple[Alternative, Verdict] | None:
    """Choose: the first that begins now; else the one that begins soonest, where that is worth it."""
    if asked.starts == "now":
        return None
    later: list[tuple[float, Alternative, Verdict]] = []
    for proposal, verdict in judged:
        if verdict.starts == "now":
            return proposal, verdict
        if verdict.starts == "later" and verdict.expected is not None:
            later.append((verdict.start, proposal, verdict))
    if not later:
        return None
    start, proposal, verdict = min(later, key=lambda found: found[0])
    wait, saved = asked.start - now, asked.start - start
    if asked.starts == "unknown" or (asked.starts == "later" and asked.expected is None):
        return None  # perhaps it begins sooner than this
    return (proposal, verdict) if saved >= max(WORTH_SECONDS, wait / 2) else None


def words(proposal: Alternative, verdict: Verdict, asked: Request, site: Site, now: float) -> str:
    """The sentence of a proposal, such as "2 h instead of 8 h starts now."."""
    return proposals.words(proposal, asked, site, seconds=None if verdict.starts == "now" else verdict.start - now)
