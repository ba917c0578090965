"""What the start page is filled in with, and what it says of choices that people bring along."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import ChoiceLoader, DictLoader, Environment, FileSystemLoader
from jupyterhub.handlers.pages import SpawnHandler

from hub_config.assets import ASSETS
from spawners import form
from spawners.named import SpawnPage
from spawners.startpage import link_options, start_page
from studiolo.language import _, language, plural
from studiolo.request import FIELDS
from studiolo.site import Site, parse

HOSTILE = "\"'></script><script>alert(1)</script><img src=x onerror=y>&quot;{{ 7*7 }}"
TEMPLATES = Path(form.__file__).resolve().parent.parent / "hub_config" / "templates"
BARE = "{% block title %}{% endblock %}{% block stylesheet %}{% endblock %}{% block main %}{% endblock %}{% block script %}{% endblock %}"


def page(site: Site, **filled: Any) -> dict[str, Any]:
    return start_page(site, **({"last": {}, "presets": {}} | filled))


def html(shown: dict[str, Any], **more: Any) -> str:
    loader = ChoiceLoader([DictLoader({"page.html": BARE}), FileSystemLoader(TEMPLATES)])
    environment = Environment(loader=loader, autoescape=True)
    person = SimpleNamespace(name="ada", escaped_name="ada")
    values = {
        "_": _,
        "plural": plural,
        "language": language,
        "studiolo_title": "S",
        "base_url": "/hub/",
        "user": person,
    }
    beside = {"for_user": person, "presets_fault": "", "xsrf_token": "x", "url": "/hub/spawn?_xsrf=x"}
    return environment.get_template("spawn.html").render(**values, **beside, **(shown | more))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {}),
        ({"opt-profile": ["one"], "opt-minutes": ["30"]}, {"profile": "one", "minutes": "30"}),
        ({"profile": ["one"], "minutes": ["30"]}, {"profile": "one", "minutes": "30"}),
        ({"opt-profile": ["one"], "cpus": ["4"]}, {"profile": "one"}),
        ({"opt-features": ["nvme", "ib"]}, {"features": ["nvme", "ib"]}),
        ({"preset": ["mine"]}, {}),
        ({"_xsrf": ["token"]}, {}),
        ({"opt-": ["x"]}, {"": "x"}),
        ({"opt-cpus": [""]}, {}),
    ],
)
def test_a_launch_link_becomes_options(query: dict[str, list[str]], expected: dict[str, object]) -> None:
    assert link_options(query) == expected


def test_jupyterhub_which_would_start_what_stands_in_an_address_is_told_that_nothing_does() -> None:
    """JupyterHub asks this method and starts a session with whatever it answers."""
    assert callable(SpawnHandler._get_user_options)
    handler = SpawnPage.__new__(SpawnPage)
    assert handler._get_user_options({"opt-profile": ["one"]}) == {}
    assert handler._link == {"profile": "one"}
    other = SpawnPage.__new__(SpawnPage)
    assert other._get_user_options({}) == {}
    assert other._link is None


def test_the_last_choice_is_filled_in_and_can_be_had_again_in_one_click(site: Site) -> None:
    shown = page(site, last={"profile": "one", "minutes": "30", "features": ["nvme", "ib"], "gpus": None})
    assert 'value="30"' in shown["form"]
    assert shown["last"]["fields"] == [("profile", "one"), ("minutes", "30"), ("features", "nvme"), ("features", "ib")]
    assert shown["last"]["words"] == "One GPU · 30 min · nvme,ib"
    assert shown["last"]["faults"] == []
    text = html(shown)
    assert "Again: One GPU · 30 min · nvme,ib</button>" in text
    sent = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text)
    assert sent == shown["last"]["fields"]


def test_who_never_started_anything_has_nothing_again(site: Site) -> None:
    assert page(site)["last"] is None
    assert "studiolo-again" not in html(page(site))


def test_a_last_choice_that_the_site_no_longer_allows_is_shown_and_has_no_button(site: Site) -> None:
    shown = page(site, last={"profile": "learn", "cpus": "64"})
    text = html(shown)
    assert "the site does not allow this any more" in text
    assert "Again: " not in text
    assert "at most 16 on partition cpu" in text
    assert 'role="alert"' not in text  # nothing was refused: nobody has asked for anything yet


def test_what_was_refused_is_filled_in_again_with_each_fault_at_its_field(site: Site) -> None:
    shown = page(
        site, last={"profile": "one"}, submitted={"profile": ["learn"], "cpus": ["99"], "hours": ["99"], "_xsrf": ["x"]}
    )
    assert shown["refused"]
    assert 'id="studiolo-cpus-fault">at most 16 on partition cpu' in shown["form"]
    assert 'name="cpus" value="99"' in shown["form"]
    assert 'name="minutes" value="99h"' in shown["form"]
    assert 'id="studiolo-minutes-fault">at most 8 h' in shown["form"]
    assert shown["form"].count('aria-invalid="true"') == 2
    text = html(shown)
    assert text.count('role="alert"') == 1
    assert '<a class="alert-link" href="#studiolo-cpus">cpus = 99: at most 16 on partition cpu</a>' in text


def test_a_link_fills_in_in_place_of_the_last_choice_and_says_so(site: Site) -> None:
    shown = page(site, last={"profile": "learn"}, link={"profile": "one", "minutes": "30"})
    assert 'value="one" checked' in shown["form"]
    assert "Nothing has been started" in html(shown)
    assert not shown["refused"]


def test_a_link_with_what_nobody_may_have_says_what_is_wrong(site: Site) -> None:
    shown = page(site, link={"profile": "one", "script": "rm", "gpus": "40"})
    assert [fault["anchor"] for fault in shown["faults"]] == ["", "studiolo-gpus"]


def test_a_preset_fills_in_and_one_that_is_gone_says_so(site: Site) -> None:
    presets = {"nightly": {"profile": "one", "minutes": "8h"}}
    shown = page(site, presets=presets, preset="nightly")
    assert 'name="minutes" value="8h"' in shown["form"]
    assert "nightly" in shown["notice"]
    assert "no preset of that name" in page(site, presets=presets, preset="other")["notice"]


def test_a_preset_that_the_site_no_longer_allows_is_shown_as_such(site: Site) -> None:
    presets = {"old": {"profile": "gone"}, "good": {"profile": "one"}}
    shown = page(site, presets=presets)
    assert [(one["name"], one["allowed"]) for one in shown["presets"]] == [("old", False), ("good", True)]
    assert html(shown).count("no longer allowed here") == 1
    assert 'href="?preset=old"' in html(shown)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, "Learn · 2 h"),
        ({"profile": "one"}, "One GPU · 4 h"),
        ({"profile": "one", "hours": 1.5}, "One GPU · 1 h 30 min"),
        ({"profile": "learn", "cpus": 1, "memory": "2048M"}, "Learn · 2 h · 1 CPU · 2 GB"),
        (
            {"profile": "one", "gpus": "2", "account": "p2", "partition": "gpu"},
            "One GPU · 4 h · GPU nodes · 2 GPUs · p2",
        ),
        ({"profile": "learn", "environment": "torch", "workdir": "~/x"}, "Learn · 2 h · PyTorch · ~/x"),
        ({"profile": "gone"}, "gone"),
        ({"profile": "learn", "minutes": "soon", "memory": "lots", "cpus": "²"}, "Learn · soon · lots · ²"),
    ],
)
def test_a_choice_is_told_in_one_line(site: Site, chosen: dict[str, object], words: str) -> None:
    told = form.choice_words(site, chosen)
    assert sorted(told.split(" · ")) == sorted(words.split(" · "))
    assert told.split(" · ")[:2] == words.split(" · ")[:2]


VALUES = st.text(max_size=30) | st.just(HOSTILE) | st.lists(st.text(max_size=5), max_size=3) | st.integers() | st.none()
OPTIONS = st.dictionaries(st.sampled_from([*FIELDS, "unknown"]), VALUES)


@given(OPTIONS, st.dictionaries(st.text(max_size=10) | st.just(HOSTILE), OPTIONS, max_size=3), OPTIONS)
def test_whatever_people_bring_along_is_text_on_the_page(
    site: Site, last: dict[str, object], presets: dict[str, dict[str, object]], link: dict[str, object]
) -> None:
    text = html(page(site, last=last, presets=presets, link=link), session_title=HOSTILE)
    assert text.count("<script") == 4
    assert "<img" not in text


def test_the_scripts_data_can_not_end_its_element(edited: Callable[..., str]) -> None:
    site = parse(edited(('title = "Learn"', f'title = "{HOSTILE}"'.replace("\"'>", "'>"))))
    text = html(page(site))
    found = re.search(r'id="studiolo-choices">(.*?)</script>', text)
    assert found
    assert json.loads(found[1])["profiles"]["learn"]["title"].startswith("'>")


def test_the_scripts_texts_and_the_page_agree(site: Site) -> None:
    script = (ASSETS / "start.js").read_text(encoding="utf-8")
    named = set(re.findall(r"words\.(\w+)", script))
    assert named <= set(form.words())
    spelled = {f"start_{key}" for key in ("in", "at")} | {f"free_{kind}" for kind in ("gpus", "shards", "cpus")}
    states = {"now", "later", "unknown", "never", "in", "at", "minutes", "hours", "days", "mb", "gb", "tb"}
    starts = {"start_now", "start_later", "start_unknown", "start_anyway"}
    assert set(form.words()) == named | spelled | states | starts
    ids = set(re.findall(r'element\("([\w-]+)"\)', script)) - {"studiolo-lengths"}  # that one it makes itself
    text = html(page(site, last={"profile": "one"}, presets={"x": {}}))
    assert {name for name in ids if f'id="{name}"' not in text} == set()


def test_nothing_of_the_script_is_built_as_html() -> None:
    script = (ASSETS / "start.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


@pytest.mark.parametrize(
    ("known", "kind", "words"),
    [
        ({"starts": "now", "expected": None, "obstacle": None}, "now", "Starts now"),
        ({"starts": "later", "expected": 1720, "obstacle": None}, "later", "Starts in about 12 min"),
        ({"starts": "later", "expected": None, "obstacle": None}, "later", "Has to wait"),
        ({"starts": "never", "expected": None, "obstacle": {"text": HOSTILE}}, "never", "Can not start"),
        ({"starts": "unknown", "expected": None, "obstacle": None}, "", ""),
    ],
)
def test_what_is_known_already_is_on_the_page_without_a_script(
    site: Site, known: dict[str, Any], kind: str, words: str
) -> None:
    live = {"now": 1000, "silent_since": 900.0, "profiles": {"learn": known}}
    shown = page(site, live=live)
    assert f'data-kind="{kind}">{words}' in shown["form"]
    assert "<img" not in shown["form"]
    assert "The machine&#39;s scheduler does not answer" in html(shown)
    assert "scheduler does not answer" not in html(page(site)).split("studiolo-words")[0]


def test_what_was_kept_says_when_it_starts_and_what_hinders_it(site: Site) -> None:
    known = {"starts": "never", "expected": None, "obstacle": {"kind": "limit", "until": None, "text": "Too <many>."}}
    later = {"starts": "later", "expected": 1600, "obstacle": None}
    live = {"now": 1000, "silent_since": None, "profiles": {}, "kept": {"last": later, "presets": {"big": known}}}
    choice = {"profile": "learn"}
    shown = html(page(site, last=choice, presets={"big": choice, "new": choice}, live=live), session="")
    assert 'data-session=""' in shown
    assert "Starts in about 10 min" in shown
    assert "Too &lt;many&gt;." in shown
    assert shown.count('data-kind="never"') == 1
    assert "data-session" not in html(page(site, last=choice), session=None)
