"""One pure function from what is known to what is seen: the same HTML in a widget, in a saved notebook, on the hub's home page
and in tests.

Whatever people or Slurm have named is escaped. Colours are JupyterLab's, so that light and dark are right, and never tell
anything that no word tells; the hub's stylesheet gives those names its own. ``<meter>`` and ``<progress>`` say their figures to
who can not see them. No script is needed. What the hub shows too, lists, is told in the language that is spoken.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from studiolo.cost import amount_words, money_words, use_words
from studiolo.language import _, later, plural
from studiolo.views import Amount, BudgetView, GaugeView, JobView, SessionView, State
from studiolo.wording import Clock, local, moment, resources_words, span

__all__ = ["PARTS", "PanelView", "render", "text"]

PARTS = ("session", "gauges", "jobs", "dask", "batch")
"""The parts of a panel, in their order."""

TITLES = {
    "session": "This session",
    "gauges": "In use",
    "jobs": "My other jobs",
    "dask": "Dask",
    "batch": later("Batch runs"),
}
NOTHING = {
    "jobs": "Nothing else of yours is in the queue.",
    "dask": "No Dask cluster: studiolo.cluster(workers=4) starts one.",
    "batch": 'No batch run: studiolo.run("notebook.ipynb") starts one.',
}
WORDS: dict[State, str] = {
    "waiting": later("Waiting"),
    "starting": later("Starting"),
    "running": later("Running"),
    "stopping": later("Stopping"),
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "unknown": later("Not known"),
}
MOST_SHOWN = 50
LONGEST_NAME = 80

Buttons = Callable[[JobView], str]
"""The HTML of what can be done with one thing, behind all that is said of it."""


@dataclass(frozen=True)
class PanelView:
    """All that a panel shows at the moment ``taken``; of its ``parts`` alone. ``trouble`` and ``told`` are sentences.

    ``live``: it is being kept up to date; else it says when it was taken. ``paused``: it was, and is not for now.
    """

    parts: tuple[str, ...]
    taken: float
    session: SessionView | None = None
    gauges: tuple[GaugeView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    clusters: tuple[JobView, ...] = ()
    runs: tuple[JobView, ...] = ()
    trouble: str = ""
    told: str = ""
    live: bool = False
    paused: bool = False

    def things(self, part: str) -> tuple[JobView, ...]:
        """What a part lists."""
        return {"jobs": self.jobs, "dask": self.clusters, "batch": self.runs}.get(part, ())


# --- HTML ------------------------------------------------------------------------------------------------------------

STYLE = """
.studiolo-panel{color:var(--jp-ui-font-color1,CanvasText);font-family:var(--jp-ui-font-family,system-ui,sans-serif);
font-size:var(--jp-ui-font-size1,13px);line-height:1.45;max-width:60rem;overflow-wrap:anywhere}
.studiolo-panel h3{font-size:1em;margin:.9em 0 .3em;color:inherit}
.studiolo-panel p{margin:.15em 0}
.studiolo-panel ul{list-style:none;margin:0;padding:0}
.studiolo-panel li{margin:0 0 .5em;padding:.15em 0 .15em .6em;border-left:4px solid var(--jp-border-color1,GrayText)}
.studiolo-panel .gauges li{border:0;padding:0;min-width:0}
.studiolo-panel li.running,.studiolo-panel li.done{border-color:var(--jp-success-color1,green)}
.studiolo-panel li.waiting,.studiolo-panel li.starting{border-color:var(--jp-info-color1,blue)}
.studiolo-panel li.failed{border-color:var(--jp-error-color1,red)}
.studiolo-panel li.stopping,.studiolo-panel li.cancelled,.studiolo-panel li.unknown{border-color:var(--jp-warn-color1,orange)}
.studiolo-panel .gauges{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,12rem),1fr));gap:.4em 1.2em}
.studiolo-panel meter,.studiolo-panel progress{width:100%;max-width:16rem;height:.8em;display:block}
.studiolo-panel .aside{color:var(--jp-ui-font-color1,CanvasText);font-size:.92em}
.studiolo-panel .trouble{border-left:4px solid var(--jp-warn-color1,orange);padding-left:.6em}
.studiolo-panel a{color:var(--jp-content-link-color,LinkText);text-decoration:underline}
"""


def no_buttons(_view: JobView) -> str:
    """None: a widget's are widgets."""
    return ""


def render(view: PanelView, clock: Clock = local, buttons: Buttons = no_buttons) -> str:
    """The panel as HTML; what ``buttons`` gives is taken as it is."""
    body = "".join(_blocks(view, clock, buttons))
    return f'<div class="studiolo-panel"><style>{STYLE}</style>{body}</div>'


def _blocks(view: PanelView, clock: Clock, buttons: Buttons) -> Iterator[str]:
    if view.trouble:
        yield f'<p class="trouble">{_safe(view.trouble)}</p>'
    for part in view.parts:
        title = _safe(_(TITLES[part]))
        yield f'<section aria-label="{title}"><h3>{title}</h3>'
        if part == "session":
            yield _session(view.session, view.taken, clock)
        elif part == "gauges":
            yield _gauges(view.gauges)
        else:
            yield _list(view.things(part), NOTHING[part], view.taken, clock, buttons)
        yield "</section>"
    if view.told:
        yield f'<p role="status">{_safe(view.told)}</p>'
    if stamp := _stamp(view, clock):
        yield f'<p class="aside">{_safe(stamp)}</p>'


def _stamp(view: PanelView, clock: Clock) -> str:
    if view.live:
        return ""
    stamp = f"As of {moment(view.taken, view.taken, clock)}."
    return f"{stamp} Paused, as nothing was run for a while: run a cell, or press Refresh." if view.paused else stamp


def _session(session: SessionView | None, now: float, clock: Clock) -> str:
    if session is None:
        return "<p>This kernel runs in no session of Studiolo.</p>"
    lines = [f"<p><strong>{_safe(session.words)}</strong></p>"]
    if session.ends is not None:
        share = _passed(session.started, session.ends, now)
        left = f"{span(session.ends - now)} left, until {moment(session.ends, now, clock)}"
        lines.append(f"{_meter('Time used', share)}<p>{left}</p>" if share is not None else f"<p>{left}</p>")
    if session.spent is not None:
        lines.append(f"<p>{_safe(spending(session))}</p>")
    if session.budget is not None:
        lines.append(_budget(session.budget))
    if session.home:
        # The only way that works without a kernel: its page has a button for each session, and one for everything.
        lines.append(
            f'<p class="aside">{_link(session.home, "Studiolo’s home page")} stops this session, or all that is yours, '
            "even where this kernel does not answer.</p>"
        )
    return "".join(lines)


def spending(session: SessionView) -> str:
    """What a session has cost, costs an hour and costs at most."""
    words = [f"So far {amount_words(session.spent or Amount())}"]
    if session.price_per_hour is not None and (money := money_words(session.price_per_hour)):
        words.append(f"{money} an hour")
    if session.ceiling is not None:
        words.append(f"at most {money_words(session.ceiling) or amount_words(session.ceiling)} to its end")
    return "; ".join(words) + "."


def budget_words(budget: BudgetView) -> str:
    """What is left of a project."""
    name = budget.title or budget.account or "The project"
    if budget.limit is None:
        used = "" if budget.used is None else f": {budget.used:.3g} GPU-hours used"
        return f"{name}{used}, no limit."
    if budget.used is None:
        return f"{name}: {budget.limit:.4g} GPU-hours in all; how many are used is not told."
    return f"{name}: {max(0.0, budget.limit - budget.used):.4g} of {budget.limit:.4g} GPU-hours left."


def _budget(budget: BudgetView) -> str:
    share = None if budget.used is None or not budget.limit else min(1.0, budget.used / budget.limit)
    return f"{_meter('Budget used', share)}<p>{_safe(budget_words(budget))}</p>"


def _passed(start: float | None, end: float, now: float) -> float | None:
    return None if start is None or end <= start else min(1.0, max(0.0, (now - start) / (end - start)))


def _gauges(gauges: Sequence[GaugeView]) -> str:
    if not gauges:
        return "<p>Nothing is measured here.</p>"
    each = (
        f"<li><strong>{_safe(one.name)}</strong>{_meter(one.name, one.share)}<p>{_safe(one.words)}</p></li>"
        for one in gauges
    )
    return f'<ul class="gauges">{"".join(each)}</ul>'


def _meter(name: str, share: float | None) -> str:
    if share is None:
        return ""
    return f'<meter aria-label="{_safe(name)}" min="0" max="1" value="{share:.3f}">{share:.0%}</meter>'


def _list(things: Sequence[JobView], nothing: str, now: float, clock: Clock, buttons: Buttons) -> str:
    if not things:
        return f"<p>{_safe(nothing)}</p>"
    items = "".join(_item(thing, now, clock, buttons) for thing in things[:MOST_SHOWN])
    more = _("and %(count)s more.", count=len(things) - MOST_SHOWN) if len(things) > MOST_SHOWN else ""
    return f"<ul>{items}</ul>" + (f"<p>{_safe(more)}</p>" if more else "")


def _item(view: JobView, now: float, clock: Clock, buttons: Buttons) -> str:
    state = f"{_(WORDS[view.state])}{numbers(view.jobs)}"
    head = f"<p><strong>{_safe(short(view.name))}</strong> · {_safe(state)}</p>"
    words = f"<p>{_safe(view.words)}</p>" if view.words else ""
    progress = ""
    if view.of:
        done = min(view.done or 0, view.of)
        unit = f" {_safe(view.unit)}" if view.unit else ""
        bar = f'<progress aria-label="Progress" max="{view.of}" value="{done}"></progress>'
        progress = f"{bar}<p>{done} of {view.of}{unit}</p>"
    aside = " · ".join(_facts(view, now, clock))
    link = f" {_link(view.link, view.link_words or 'Open')}" if view.link else ""
    last = f'<p class="aside">{aside}{link}</p>' if aside or link else ""
    return f'<li class="{view.state}">{head}{words}{progress}{last}{buttons(view)}</li>'


def short(name: str) -> str:
    """A name on one line, not too long for one."""
    line = " ".join(name.split()) or "without a name"
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def numbers(jobs: Sequence[int]) -> str:
    """Such as ``" · job 7"``, or how many there are where they are many."""
    if not jobs:
        return ""
    told = (
        _("job %(number)s", number=jobs[0]) if len(jobs) == 1 else plural("%(count)s job", "%(count)s jobs", len(jobs))
    )
    return f" · {told}"


def _facts(view: JobView, now: float, clock: Clock) -> Iterator[str]:
    """Times, resources and cost of one thing, a few words each, as HTML."""
    if view.state == "waiting":
        if view.asked is not None:
            yield _safe(_("waiting for %(span)s", span=span(now - view.asked)))
        if view.expected is not None:
            yield _safe(_("expected to start %(moment)s")) % {"moment": _time(view.expected, now, clock)}
    elif view.is_over:
        if view.ended is not None:
            yield f"ended {_time(view.ended, now, clock)}"
    elif view.ends is not None:
        yield _safe(_("until %(moment)s at most")) % {"moment": _time(view.ends, now, clock)}
    if view.resources is not None:
        each = " each" if len(view.jobs) > 1 else ""
        yield _safe(f"{resources_words(view.resources)}{each}")
    if view.spent is not None and (view.started is not None or view.is_over):
        yield _safe(amount_words(view.spent))
    if used := use_words(view):
        yield _safe(f"used {used}")
    if view.ceiling is not None and not view.is_over:
        yield _safe(f"at most {money_words(view.ceiling) or amount_words(view.ceiling)}")


def _time(at: float, now: float, clock: Clock) -> str:
    # A page with a script can tell it by its reader's clock: the hub does not know in which zone people sit.
    stamp = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
    return f'<time datetime="{stamp}">{_safe(moment(at, now, clock))}</time>'


def _link(address: str, words: str) -> str:
    # Only to pages: an address may come from a file in somebody's folder.
    if not address.startswith(("/", "http://", "https://")) or address.startswith("//"):
        return ""
    return f'<a href="{_safe(address)}" target="_blank" rel="noopener">{_safe(words)}</a>'


def _safe(words: str) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in words)
    return html.escape(printable)


# --- Plain text ------------------------------------------------------------------------------------------------------


def text(view: PanelView, clock: Clock = local) -> str:
    """The same as plain lines, for terminals, and for whoever reads a notebook as a file."""
    lines = [view.trouble] if view.trouble else []
    for part in view.parts:
        if part == "session" and view.session is not None:
            lines += [f"{view.session.words}", *([spending(view.session)] if view.session.spent is not None else [])]
            lines += [budget_words(view.session.budget)] if view.session.budget is not None else []
        elif part == "gauges":
            lines += [f"{one.name}: {one.words}" for one in view.gauges]
        elif part in NOTHING:
            things = view.things(part)
            lines += [_line(thing) for thing in things[:MOST_SHOWN]] or [NOTHING[part]]
    lines.append(_stamp(view, clock))
    return "\n".join(_one_line(line) for line in lines if line)


def _line(view: JobView) -> str:
    progress = f" {view.done or 0} of {view.of} {view.unit}".rstrip() if view.of else ""
    return f"{short(view.name)}{numbers(view.jobs)}: {_(WORDS[view.state])}.{progress} {view.words}".rstrip()


def _one_line(line: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in line)
