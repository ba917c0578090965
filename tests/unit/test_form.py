"""The start page's form: every choice of the site, what was asked before filled in, and nothing of it ever a tag."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spawners.form import needs, options, render
from studiolo.errors import RequestError
from studiolo.request import FIELDS, check
from studiolo.site import Site, parse

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=y autofocus>&quot;{{ 7*7 }}{% raw %}"


class Form(HTMLParser):
    """The form as a browser sees it: its tags, its fields with what is filled in, its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.fields: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self.labels: set[str] = set()
        self.ids: list[str] = []
        self.described: set[str] = set()
        self.open_details = False
        self.text = ""
        self._select = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self.attributes |= set(found)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "label" and "for" in found:
            self.labels.add(found["for"])
        self.described |= set(found.get("aria-describedby", "").split())
        if tag == "details":
            self.open_details = "open" in found
        if tag == "input" and found.get("type") == "radio":
            self.choices.setdefault(found["name"], []).append(found["value"])
            if "checked" in found:
                self.fields[found["name"]] = found["value"]
        elif tag == "input" and found.get("type") == "checkbox":
            self.choices.setdefault(found["name"], []).append(found["value"])
            self.fields.setdefault(found["name"], "")
            if "checked" in found:
                self.fields[found["name"]] = ",".join(filter(None, [self.fields[found["name"]], found["value"]]))
        elif tag == "input":
            self.fields[found["name"]] = found["value"]
        elif tag == "select":
            self._select = found["name"]
            self.fields[self._select] = ""
        elif tag == "option":
            self.choices.setdefault(self._select, []).append(found["value"])
            if "selected" in found:
                self.fields[self._select] = found["value"]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def plain(site: Site) -> Form:
    return Form(render(site, {}))


def test_every_profile_of_the_site_can_be_chosen_and_the_first_is(site: Site, plain: Form) -> None:
    assert plain.choices["profile"] == ["learn", "quarter", "one", "course"]
    assert plain.fields["profile"] == "learn"
    for profile in site.profiles.values():
        assert profile.title in plain.text


def test_every_field_of_a_request_can_be_set_by_the_form(plain: Form) -> None:
    # minutes takes "2h" as well.
    assert set(plain.fields) == set(FIELDS) - {"hours"}


def test_every_choice_that_the_form_offers_is_one_of_the_sites(site: Site, plain: Form) -> None:
    assert plain.choices["partition"] == ["", *site.partitions]
    assert plain.choices["account"] == ["", *site.accounts]
    assert plain.choices["environment"] == ["", *site.environments]
    assert plain.choices["qos"] == ["", "short", "long"]
    assert plain.choices["features"] == ["nvme", "ib"]


def test_choices_that_a_site_does_not_have_are_not_shown() -> None:
    site = parse(
        '[authentication]\nallow_all = true\n[clusters.c]\n[partitions.p]\nmax_cpus = 1\nmax_memory = "1G"\nmax_time = "1h"\n'
        '[environments.e]\n[profiles.x]\ntitle = "X"\npartition = "p"\nmemory = "1G"\ntime = "1h"\n'
    )
    form = Form(render(site, {}))
    assert not {"account", "qos", "environment", "features"} & set(form.fields)


def test_every_field_has_a_label(plain: Form) -> None:
    assert {f"studiolo-{name}" for name in plain.fields if name not in ("profile", "features")} <= plain.labels
    assert len(plain.ids) == len(set(plain.ids))


def test_every_description_that_a_field_names_is_there(plain: Form) -> None:
    assert plain.described <= set(plain.ids)
    assert {f"studiolo-{name}-fault" for name in plain.fields} <= set(plain.ids)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("learn", "2 CPUs · 4 GB · up to 2 h"),
        ("quarter", "a quarter of a GPU (A100) · 2 CPUs · 8 GB · up to 2 h"),
        ("one", "1 GPU (A100) · 8 CPUs · 64 GB · up to 4 h"),
        ("course", "half a GPU (A100) · 4 CPUs · 16 GB · up to 1 h 30 min"),
    ],
)
def test_a_profile_says_in_one_line_what_it_has(site: Site, plain: Form, profile: str, words: str) -> None:
    assert needs(site, site.profiles[profile]) == words
    assert words in plain.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("gpus = 1\n", "gpus = 4\n")], "4 GPUs (A100)"),
        ([('gpu_type = "a100"\n', "")], "1 GPU ·"),
        ([("gpus = 1\n", "shards = 3\n")], "three quarters of a GPU (A100)"),
        ([("gpus = 1\n", "shards = 4\n")], "4/4 of a GPU (A100)"),
        ([("gpus = 1\ncpus = 8\n", "gpus = 1\ncpus = 1\n")], "1 CPU ·"),
    ],
)
def test_gpus_and_parts_of_them_are_told_in_words(
    edited: Callable[..., str], changes: list[tuple[str, str]], words: str
) -> None:
    site = parse(edited(*changes))
    assert words in needs(site, site.profiles["one"])


def test_what_was_asked_for_is_filled_in_again_after_a_refusal(site: Site) -> None:
    asked = {
        "profile": "one",
        "partition": "gpu",
        "gpus": "9",
        "cpus": "999",
        "memory": "9T",
        "minutes": "30 days",
        "account": "p2",
        "qos": "long",
        "reservation": "a b",
        "features": ["ib"],
        "environment": "box",
        "workdir": "~/work",
        "shards": "",
    }
    with pytest.raises(RequestError):
        check(asked, site)
    form = Form(render(site, asked))
    assert form.fields == {**asked, "features": "ib"}
    assert form.open_details


def test_the_form_takes_what_rest_stored_as_well(site: Site) -> None:
    form = Form(render(site, {"profile": "one", "gpus": 2, "cpus": None, "features": ("nvme",), "minutes": 90}))
    assert (form.fields["gpus"], form.fields["cpus"], form.fields["features"], form.fields["minutes"]) == (
        "2",
        "",
        "nvme",
        "90",
    )


def test_the_further_choices_are_closed_where_none_is_made(plain: Form, site: Site) -> None:
    assert not plain.open_details
    assert not Form(render(site, {"profile": "one"})).open_details


@pytest.mark.parametrize("profile", ["gone", "", None, 5, ["learn"], HOSTILE])
def test_a_profile_that_is_no_more_falls_back_to_the_first(site: Site, profile: object) -> None:
    assert Form(render(site, {"profile": profile})).fields["profile"] == "learn"


@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "unknown"]),
        st.text(st.characters(codec="utf-8"))
        | st.just(HOSTILE)
        | st.lists(st.text())
        | st.integers()
        | st.none()
        | st.dictionaries(st.text(), st.text()),
    )
)
@example(dict.fromkeys(FIELDS, HOSTILE))
@example({"unknown": HOSTILE})
def test_no_value_becomes_a_tag_or_an_attribute(site: Site, plain: Form, values: dict[str, object]) -> None:
    html = render(site, values)
    form = Form(html)
    assert form.tags == plain.tags
    assert form.attributes <= plain.attributes | {"open", "selected", "checked"}
    assert "<script" not in html
    assert "49" not in form.text


def test_no_word_of_the_site_becomes_a_tag(edited: Callable[..., str], plain: Form) -> None:
    text = HOSTILE.replace('"', '\\"')
    site = parse(
        edited(
            ('title = "Learn"', f'title = "{text}"\ndescription = "{text}"'),
            ('title = "GPU nodes"', f'title = "{text}"'),
        )
    )
    form = Form(render(site, {}))
    assert [tag for tag in form.tags if tag != "span"] == [tag for tag in plain.tags if tag != "span"]
    assert form.text.count("<script>") == 3


# --- Form data -> options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, {}),
        ({"profile": ["one"], "cpus": [""], "_xsrf": ["token"]}, {"profile": "one"}),
        ({"cpus": ["4"], "memory": ["16G"]}, {"cpus": "4", "memory": "16G"}),
        ({"features": ["nvme"]}, {"features": ["nvme"]}),
        ({"features": ["nvme", "", "ib"]}, {"features": ["nvme", "ib"]}),
        ({"features": ["ib,nvme"]}, {"features": ["ib", "nvme"]}),
        ({"features": [" ib ,, nvme"]}, {"features": ["ib", "nvme"]}),
        ({"workdir": ["a,b"]}, {"workdir": "a,b"}),
        ({"cpus": ["", "4"]}, {"cpus": "4"}),
        ({"uid": ["0"]}, {"uid": "0"}),
        ({"profile": []}, {}),
    ],
)
def test_form_data_becomes_the_options_that_rest_takes(data: dict[str, list[str]], expected: dict[str, object]) -> None:
    assert options(data) == expected


def test_an_unknown_field_of_a_form_stays_in_for_the_gate_to_refuse(site: Site) -> None:
    with pytest.raises(RequestError, match="'script'"):
        check(options({"script": ["#!/bin/sh"]}), site)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(), st.lists(st.text(st.characters()), max_size=3)))
def test_any_form_data_at_all_is_granted_or_refused_by_the_gate(site: Site, data: dict[str, list[str]]) -> None:
    try:
        check(options(data), site)
    except RequestError as error:
        assert error.faults


def test_the_form_as_it_stands_is_the_first_profile(site: Site, plain: Form) -> None:
    sent = {name: [value] for name, value in plain.fields.items()}
    assert check(options(sent), site) == check({}, site)


@pytest.mark.parametrize("profile", ["learn", "quarter", "one", "course"])
def test_each_profile_of_the_form_is_granted(site: Site, profile: str) -> None:
    form = Form(render(site, {"profile": profile}))
    sent = {name: [value] for name, value in form.fields.items()}
    assert check(options(sent), site) == check({"profile": profile}, site)
