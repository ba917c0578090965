"""What a panel looks like: one pure function of what is known. Hostile names stay text, and no figure is colour alone."""

from __future__ import annotations

import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.panels.page import PARTS, PanelView, render, text
from studiolo.views import CANCEL, Amount, BudgetView, GaugeView, JobView, Resources, SessionView
from studiolo.wording import moment, resources_words, span

NOON = 1_795_348_800.0  # 22 November 2026, 12:00 UTC, a Sunday
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600
QUARTER = Resources(4, 16384, shards=1, shards_per_gpu=4, gpu_type="a100")
SESSION = SessionView(
    job=7,
    node="gpu2",
    words="One quarter of an A100 on gpu2, 4 cores, 16 GB until 17:40.",
    resources=QUARTER,
    started=NOON - HOUR,
    ends=NOON + 3 * HOUR,
    spent=Amount(0.25, 4.0, 0.9, "EUR"),
    ceiling=Amount(1.0, 16.0, 3.6, "EUR"),
    price_per_hour=Amount(0.25, 4.0, 0.9, "EUR"),
    budget=BudgetView("p1", "Project One", 60.0, 100.0),
    home="/hub/home",
)
RUN = JobView(
    "run",
    "1",
    "train.ipynb",
    "running",
    "In cell 3.",
    jobs=(12,),
    started=NOON - HOUR,
    ends=NOON + HOUR,
    done=2,
    of=9,
    unit="cells",
    resources=QUARTER,
    spent=Amount(0.25, 4.0, 0.9, "EUR"),
    ceiling=Amount(0.5, 8.0, 1.8, "EUR"),
    link="/user/ada/lab/tree/out.ipynb",
    link_words="Open the notebook",
    actions=(CANCEL,),
)
EVERYTHING = PanelView(
    PARTS,
    NOON,
    SESSION,
    (GaugeView("CPU", 0.35, "1.4 of 4 cores"), GaugeView("GPU", None, "not told on this node")),
    jobs=(
        replace(RUN, kind="session", name="A session", state="waiting", asked=NOON - 5 * MINUTE, expected=NOON + DAY),
    ),
    clusters=(replace(RUN, kind="cluster", name="Dask", unit="workers", jobs=(1, 2)),),
    runs=(RUN,),
)


class Seen(HTMLParser):
    """What a page holds: tags with their attributes, and all text of it that people read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        self.words += "" if tag == "time" else " "

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def seen(view: PanelView) -> Seen:
    return Seen(render(view, time.gmtime))


# --- What stands there -----------------------------------------------------------------------------------------------


def test_a_session_says_what_it_has_how_long_and_at_what_cost() -> None:
    words = seen(PanelView(("session",), NOON, SESSION)).words
    for expected in (
        "One quarter of an A100 on gpu2, 4 cores, 16 GB until 17:40.",
        "3 h left, until 15:00",
        "So far 0.25 GPU-hours, 4 CPU-hours, 0.90 EUR; 0.90 EUR an hour; at most 3.60 EUR to its end.",
        "Project One: 40 of 100 GPU-hours left.",
    ):
        assert expected in words


def test_every_share_is_a_meter_with_a_name_and_the_words_beside_it() -> None:
    page = seen(EVERYTHING)
    meters = page.all("meter")
    assert [meter["aria-label"] for meter in meters] == ["Time used", "Budget used", "CPU"]
    assert [meter["value"] for meter in meters] == ["0.250", "0.600", "0.350"]
    assert "1.4 of 4 cores" in page.words
    assert "not told on this node" in page.words, "what nobody knows is said, and is no bar at zero"


def test_progress_and_state_are_words_too() -> None:
    page = seen(PanelView(("batch",), NOON, runs=(RUN,)))
    assert page.all("progress") == [{"aria-label": "Progress", "max": "9", "value": "2"}]
    for expected in ("train.ipynb", "Running", "job 12", "2 of 9 cells", "until 13:00 at most", "at most 1.80 EUR"):
        assert expected in page.words
    (link,) = page.all("a")
    assert link["href"] == "/user/ada/lab/tree/out.ipynb"


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (replace(RUN, state="waiting", asked=NOON - 90 * MINUTE, started=None), "waiting for 1 h 30 min"),
        (replace(RUN, state="waiting", expected=NOON + HOUR, started=None), "expected to start 13:00"),
        (replace(RUN, state="failed", words="Out of memory at 15.9 of 16 GB.", ended=NOON - DAY), "ended Sat 12:00"),
        (replace(RUN, jobs=(1, 2, 3)), "3 jobs"),
        (replace(RUN, done=12), "9 of 9 cells"),
    ],
)
def test_a_run_tells_what_matters_in_its_state(view: JobView, words: str) -> None:
    assert words in seen(PanelView(("batch",), NOON, runs=(view,))).words


def test_empty_lists_say_how_to_fill_them() -> None:
    words = seen(PanelView(("jobs", "dask", "batch"), NOON)).words
    assert "studiolo.cluster(workers=4)" in words
    assert 'studiolo.run("notebook.ipynb")' in words


def test_what_is_not_live_says_of_when_it_is() -> None:
    assert "As of 12:00." in seen(EVERYTHING).words
    assert "As of" not in seen(replace(EVERYTHING, live=True)).words
    assert "Paused" in seen(replace(EVERYTHING, paused=True)).words


def test_the_stop_that_needs_no_kernel_is_named() -> None:
    page = seen(PanelView(("session",), NOON, SESSION))
    assert {"href": "/hub/home", "target": "_blank", "rel": "noopener"} in page.all("a")
    assert "even where this kernel does not answer" in page.words


def test_trouble_and_answers_are_said() -> None:
    page = seen(replace(EVERYTHING, trouble="Slurm has not answered since 11:58.", told="Cancel train.ipynb: done."))
    assert "Slurm has not answered since 11:58." in page.words
    assert "Cancel train.ipynb: done." in page.words


def test_thousands_of_runs_are_not_thousands_of_lines() -> None:
    page = seen(PanelView(("batch",), NOON, runs=tuple(replace(RUN, identity=str(number)) for number in range(1000))))
    assert len(page.all("li")) == 50
    assert "and 950 more" in page.words


# --- From anybody ----------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><b>",
    "a\nb\r\x00\x1b[31m\u202eevil",
    "&lt;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_anybody_stay_text(name: str) -> None:
    plain = {tag for tag, _attributes in seen(EVERYTHING).tags}
    view = replace(
        EVERYTHING,
        session=replace(SESSION, words=name, budget=BudgetView(name, name, 1.0, 2.0), home=name),
        gauges=(GaugeView(name, 0.5, name),),
        runs=(
            replace(RUN, name=name, words=name, unit=name, link_words=name, resources=replace(QUARTER, gpu_type=name)),
        ),
        trouble=name,
        told=name,
    )
    page = seen(view)
    assert {tag for tag, _attributes in page.tags} <= plain
    assert not any(key.startswith("on") for _tag, attributes in page.tags for key in attributes)
    assert "\x1b" not in text(view)
    assert len(text(view).splitlines()) == len(text(replace(view, trouble="x", told="x")).splitlines())


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "//evil.example", "data:text/html,x", "file:///etc/passwd", "x"]
)
def test_links_go_to_pages_only(address: str) -> None:
    assert not seen(PanelView(("batch",), NOON, runs=(replace(RUN, link=address),))).all("a")


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_name_at_all_gives_a_page_that_is_whole(name: str, words: str) -> None:
    page = seen(PanelView(("batch",), NOON, runs=(replace(RUN, name=name, words=words),)))
    assert len(page.all("li")) == 1


# --- Plain text ------------------------------------------------------------------------------------------------------


def test_the_same_is_there_as_plain_lines() -> None:
    assert text(EVERYTHING, time.gmtime).splitlines() == [
        SESSION.words,
        "So far 0.25 GPU-hours, 4 CPU-hours, 0.90 EUR; 0.90 EUR an hour; at most 3.60 EUR to its end.",
        "Project One: 40 of 100 GPU-hours left.",
        "CPU: 1.4 of 4 cores",
        "GPU: not told on this node",
        "A session · job 12: Waiting. 2 of 9 cells In cell 3.",
        "Dask · 2 jobs: Running. 2 of 9 workers In cell 3.",
        "train.ipynb · job 12: Running. 2 of 9 cells In cell 3.",
        "As of 12:00.",
    ]


# --- Words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (QUARTER, "one quarter of an A100 on gpu2, 4 cores, 16 GB"),
        (Resources(8, 65536, gpus=2, gpu_type="h100"), "two H100 GPUs on gpu2, 8 cores, 64 GB"),
        (Resources(1, 512), "1 core on gpu2, 512 MB"),
        (Resources(2, 0, gpus=12), "12 GPUs on gpu2, 2 cores"),
        (Resources(2, 0, shards=2, shards_per_gpu=4, gpu_type="h100"), "half of an H100 on gpu2, 2 cores"),
        (Resources(2, 0, shards=4, shards_per_gpu=4, gpu_type="v100"), "one V100 GPU on gpu2, 2 cores"),
        (Resources(2, 0, shards=3, shards_per_gpu=7), "3/7 of a GPU on gpu2, 2 cores"),
        (Resources(2, 0, shards=3, gpu_type="l4"), "a part of an L4 on gpu2, 2 cores"),
        (Resources(0, 0), "resources that nobody tells on gpu2"),
    ],
)
def test_resources_as_people_say_them(resources: Resources, words: str) -> None:
    assert resources_words(resources, "gpu2") == words


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (NOON + 5 * HOUR + 40 * MINUTE, "17:40"),
        (NOON + 20 * HOUR, "Mon 08:00"),
        (NOON - DAY, "Sat 12:00"),
        (NOON + 6.5 * DAY, "29 Nov 00:00"),
        (NOON + 300 * DAY, "18 Sep 12:00"),
    ],
)
def test_moments_as_people_say_them(at: float, words: str) -> None:
    assert moment(at, NOON, time.gmtime) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3 * HOUR, "3 h"),
        (3 * HOUR + 61, "3 h 1 min"),
        (2 * DAY + HOUR, "2 d 1 h"),
    ],
)
def test_spans_as_people_say_them(seconds: float, words: str) -> None:
    assert span(seconds) == words
