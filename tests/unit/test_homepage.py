"""The home page as it is written: cards, gauges, the smaller request; and texts that would like to be more than text."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader, Environment, FileSystemLoader, StrictUndefined
from tornado.web import HTTPError

from hub_config.assets import ASSETS
from spawners import sessions
from spawners.everything import in_queue
from spawners.home import HomePage, hours_words, jobs_page, share_words, steps
from spawners.rightsize import Used, record
from spawners.sessions import Seen, described, last_use
from spawners.usage import Usage
from studiolo.language import _, language, plural, speak
from studiolo.request import check
from studiolo.site import Site
from studiolo.slurm.states import JobState, Tagged
from studiolo.units import memory_words, minutes_words, number_words
from studiolo.views import JobView

NOW, HOUR = 1_000_000, 3600
NOTHING: dict[str, Any] = {
    "now": NOW,
    "answers": True,
    "sessions": [],
    "others": {"runs": 0, "workers": 0, "others": 0},
    "jobs": [],
    "ended": [],
    "last": None,
}
HOSTILE = "\"'></script><script>alert(1)</script><img src=x onerror=y>{{ 7*7 }}"
TEMPLATES = Path(sessions.__file__).resolve().parent.parent / "hub_config" / "templates"
BARE = "{% block title %}{% endblock %}{% block stylesheet %}{% endblock %}{% block main %}{% endblock %}{% block script %}{% endblock %}"


def html(*cards: dict[str, Any], **more: Any) -> str:
    loader = ChoiceLoader([DictLoader({"page.html": BARE}), FileSystemLoader(TEMPLATES)])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, enable_async=True)
    values: dict[str, Any] = {
        "_": _, "plural": plural, "language": language, "studiolo_title": "S", "base_url": "/hub/", "xsrf_token": "X",
        "user": SimpleNamespace(name="ada", escaped_name="ada"), "allow_named_servers": True, "studiolo_sessions": 3, "jobs_page": lambda button: jobs_page((), NOW, button),
        "overview": NOTHING | {"sessions": list(cards)}, "trouble": "", "kept": [],
        "default_active": False, "last_choice": "", "last_link": "", "steps": steps, "minutes_words": minutes_words,
        "memory_words": memory_words, "number_words": number_words, "hours_words": hours_words, "share_words": share_words, "longest_title": 60, "announcement_home": None,
    }  # fmt: skip
    return environment.get_template("home.html").render(**(values | more))


def card(site: Site, title: str = "My session", **facts: Any) -> dict[str, Any]:
    ready: dict[str, Any] = {
        "ready": True,
        "job": 7,
        "state": JobState(7, "RUNNING", node="gpu1", start=NOW - HOUR, end=NOW + HOUR),
        "request": check({}, site),
    }
    return described(Seen("", title, "/user/ada/", "/hub/spawn-pending/ada", **(ready | facts)), site, NOW)


def test_texts_stay_texts(site: Site) -> None:
    kept = [{"name": "x", "title": HOSTILE, "last_activity": None}]
    waiting = {"ready": False, "pending": "spawn", "state": JobState(7, "PENDING", HOSTILE)}
    page = html(card(site, HOSTILE), card(site, HOSTILE, **waiting), kept=kept, trouble=HOSTILE, last_choice=HOSTILE)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "49" not in page.replace("&#34;", "").replace("&#39;", "")


def test_a_card_has_its_figures_and_its_forms(site: Site) -> None:
    page = html(card(site, usage=Usage(NOW, 0.25, 512, None), may_extend_minutes=90))
    assert 'value="0.25"' in page
    assert "25%" in page
    assert "512 MB of " in page
    assert [*re.findall(r'<option value="(\d+)"', page)] == ["30", "60", "90"]
    assert len(re.findall(r'name="_xsrf" value="X"', page)) == 4  # extend, stop, stop everything, and a new session


def test_what_is_not_known_is_said_and_draws_no_bar(site: Site) -> None:
    page = html(card(site))
    assert page.count("no figure") >= 2
    assert len(re.findall(r"<meter [^>]* hidden>", page)) == page.count("<meter ")
    assert 'value="extend"' not in page


def test_a_silent_scheduler_is_told(site: Site) -> None:
    silent = NOTHING | {"answers": False, "sessions": [card(site)]}
    assert "scheduler does not answer" in html(overview=silent)
    assert "scheduler does not answer" not in html(card(site))


def test_the_smaller_request_is_one_click_from_the_start_page(site: Site) -> None:
    request = check({"profile": site.default_profile}, site)
    used = Used(8 * HOUR, cpus=0.1, memory_mb=100)
    kept = record("run", {"profile": request.profile}, request, used, NOW)
    last = last_use(iter([kept]), site, NOW)
    assert last
    handler = SimpleNamespace(_start_page=lambda user, name: f"/hub/spawn/{user.escaped_name}/{name}")
    link = HomePage.last_link(handler, SimpleNamespace(escaped_name="ada"), last)
    page = html(overview=NOTHING | {"last": last}, last_link=link)
    assert link.startswith(f"/hub/spawn/ada/run?opt-profile={request.profile}&")
    assert "opt-memory=1G" in link
    assert link.replace("&", "&amp;") in page
    assert last["advice"] in page


@pytest.mark.parametrize(
    ("action", "scope"),
    [
        ("new", "servers!server=ada/run"),
        ("stop", "delete:servers!server=ada/run"),
        ("extend", "servers!server=ada/run"),
        ("delete", "delete:servers!server=ada/run"),
        ("stop-everything", "delete:servers!user=ada"),
        ("stop-job", "delete:servers!user=ada"),
    ],
)
def test_a_form_needs_the_scope_that_the_same_needs_over_rest(action: str, scope: str) -> None:
    """A site may give its people less than JupyterHub does: their browsers' cookies are worth no more than a token."""
    asked: list[str] = []
    done: list[str] = []

    async def act(_user: Any, name: str) -> str:
        done.append(name)
        return "/hub/home"

    def page(*, allowed: bool) -> Any:
        sent = {"action": action, "name": "run"}
        return SimpleNamespace(
            current_user=SimpleNamespace(name="ada"),
            request=SimpleNamespace(body=b""),
            get_body_argument=sent.get,
            has_scope=lambda scope: asked.append(scope) or allowed,
            redirect=lambda where, status: None,
            trouble="",
            **dict.fromkeys(("new", "stop", "extend", "delete_name", "stop_everything", "stop_job"), act),
        )

    with pytest.raises(HTTPError, match="403"):
        asyncio.run(HomePage.post(page(allowed=False)))
    assert done == []
    asyncio.run(HomePage.post(page(allowed=True)))
    assert done == ["run"]
    assert asked == [scope] * 2


@pytest.mark.parametrize(("failed", "words"), [(True, "did not start."), (False, "has ended.")])
def test_the_last_failure_is_a_line_with_a_way_to_the_whole(failed: bool, words: str) -> None:
    end = {"name": "run", "title": HOSTILE, "failed": failed, "what": HOSTILE, "at": NOW, "url": "/user/ada/run/"}
    page = html(overview=NOTHING | {"ended": [end]})
    assert words in page
    assert 'href="/user/ada/run/"' in page
    assert "<script>alert" not in page
    assert "<img" not in page


def test_what_runs_besides_sessions_is_counted_and_can_be_stopped() -> None:
    assert "studiolo-everything" not in html()
    page = html(overview=NOTHING | {"others": {"runs": 2, "workers": 1, "others": 0}})
    for words in ("2 batch runs", "1 Dask worker", "Stop everything now"):
        assert words in page
    assert "other job" not in page
    assert "No session of yours is running." in page
    assert 'value="stop-everything"' in page


def seen_job(**facts: Any) -> JobView:
    told: dict[str, Any] = {
        "kind": "run",
        "identity": "main/run/r1",
        "name": "Batch run r1",
        "state": "waiting",
        "words": "Others are ahead of you in the queue.",
        "jobs": (7,),
        "asked": NOW - HOUR,
        "expected": NOW + HOUR,
    }
    return JobView(**(told | facts))


def jobs_html(*jobs: JobView) -> str:
    some = {"runs": len(jobs), "workers": 0, "others": 0}
    return html(overview=NOTHING | {"others": some}, jobs_page=lambda button: jobs_page(jobs, NOW, button))


def test_batch_runs_and_clusters_stand_there_as_in_a_panel_each_with_a_button() -> None:
    cluster = seen_job(kind="cluster", identity="main/dask/s.c", name="Dask workers", jobs=(8, 9), state="running")
    page = jobs_html(seen_job(), cluster)
    assert re.findall(r'aria-label="(Stop [^"]*)"', page) == ["Stop Batch run r1 · job 7", "Stop Dask workers · 2 jobs"]
    assert re.findall(r'<input type="hidden" name="name" value="(\w+/[^"]*)">', page) == [
        "main/run/r1",
        "main/dask/s.c",
    ]
    for words in ("waiting for 1 h", "expected to start", "Others are ahead of you in the queue."):
        assert words in page
    assert len(re.findall(r'data-action="stop-job">\s*<input type="hidden" name="_xsrf" value="X">', page)) == 2


def test_names_and_words_of_jobs_stay_texts() -> None:
    page = jobs_html(seen_job(name=HOSTILE, words=HOSTILE, identity=f"main/run/{HOSTILE}"))
    assert "<script>alert" not in page
    assert "<img" not in page


@pytest.mark.parametrize(("tongue", "words"), [("fr", "Arrêter Travail par lots r1"), ("de", "Batch-Lauf r1")])
def test_jobs_are_told_in_the_language_of_the_page(tongue: str, words: str) -> None:
    speak(tongue)
    try:
        job = Tagged(7, "ada", "run", "r1", state=JobState(7, "PENDING", "Priority"), asked=NOW - HOUR)
        page = jobs_html(*in_queue({"main": asked(job)}, "ada"))
    finally:
        speak("en")
    assert words in page
    assert "waiting for" not in page
    assert "in the queue" not in page


def asked(*jobs: Tagged) -> Any:
    return SimpleNamespace(of=lambda person: [job for job in jobs if job.person == person])


def test_what_the_scheduler_never_told_is_not_told_as_nothing() -> None:
    page = html(overview=NOTHING | {"others": None, "jobs": None, "answers": False})
    assert "is not known yet" in page
    assert "scheduler does not answer" in page
    assert "Nothing of yours is running" not in page


@pytest.mark.parametrize("name", ["home.js", "home.css"])
def test_what_the_page_loads_is_there(name: str) -> None:
    assert f"studiolo/assets/{name}" in html()
    assert (ASSETS / name).is_file()


@pytest.mark.parametrize(
    ("tongue", "hours", "share", "units"),
    [
        ("en", "1,234.50", "25%", ("%(number)s d", "%(number)s s")),
        ("fr", "1\u202f234,50", "25\xa0%", ("%(number)s j", "%(number)s s")),
        ("de", "1.234,50", "25\xa0%", ("%(number)s d", "%(number)s s")),
    ],
)
def test_numbers_and_units_are_those_of_the_language(
    site: Site, tongue: str, hours: str, share: str, units: tuple[str, str]
) -> None:
    speak(tongue)
    try:
        facts = {**card(site, usage=Usage(NOW, 0.25, 512, None)), "cost": {"gpu_hours": 0.0, "cpu_hours": 1234.5}}
        page = html(facts)
    finally:
        speak("en")
    words = json.loads(re.findall(r'id="studiolo-words">(.*?)</script>', page, re.DOTALL)[0])
    assert hours in page
    assert share in page
    assert (words["days"], words["seconds"]) == units
