"""A failed start, told to its owner: every word escaped, every line there."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.spawner import SpawnException
from tornado.web import HTTPError

from spawners.failure import RequestRefused, SessionFailed
from studiolo.errors import Fault, RequestError

HOSTILE = "<script>alert('x')</script><img src=x onerror=\"y\">&lt;b&gt;</pre></p>{{ 7*7 }}"
TEXT = st.text() | st.just(HOSTILE)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def failed(**changes: object) -> SessionFailed:
    facts: dict[str, object] = {"what": "It failed.", "advice": "Start again.", "reason": "failed", **changes}
    return SessionFailed(facts.pop("what"), facts.pop("advice"), **facts)  # type: ignore[arg-type]


def test_a_failure_is_a_refusal_and_never_counts_as_the_hubs_own() -> None:
    # JupyterHub exits after so many failures of its own; a SpawnException is none.
    assert isinstance(failed(), SpawnException)
    assert isinstance(RequestRefused(RequestError([Fault("a", "1", "2")])), SpawnException)


def test_a_failure_tells_what_advice_log_and_support() -> None:
    error = failed(log=["first line", "second line"], support="Ask support@example.org.")
    page = Page(error.jupyterhub_html_message)
    for part in ("It failed.", "Start again.", "first line\nsecond line", "Ask support@example.org."):
        assert part in page.text
    assert error.jupyterhub_message == "It failed. Start again.\nfirst line\nsecond line"
    assert [tag for tag, _ in page.tags] == ["p", "p", "p", "pre", "p"]


def test_without_log_and_support_there_are_no_empty_parts() -> None:
    assert [tag for tag, _ in Page(failed().jupyterhub_html_message).tags] == ["p", "p"]


def test_the_reason_and_status_are_jupyterhubs() -> None:
    error = failed(reason="out_of_memory", status=503)
    assert isinstance(error, HTTPError)
    assert error.reason == "out_of_memory"
    assert error.status_code == 503
    assert failed().status_code == 500


@given(what=TEXT, advice=TEXT, log=st.lists(TEXT), support=TEXT)
def test_no_word_of_log_slurm_or_site_becomes_a_tag(what: str, advice: str, log: list[str], support: str) -> None:
    html = failed(what=what, advice=advice, log=log, support=support).jupyterhub_html_message
    expected = ["p", "p", *(["p", "pre"] if log else []), *(["p"] if support else [])]
    page = Page(html)
    assert [tag for tag, _ in page.tags] == expected
    assert all(set(attributes) <= {"class", "tabindex"} for _, attributes in page.tags)
    assert "<script" not in html


def test_a_hostile_log_is_shown_as_it_is() -> None:
    html = failed(log=[HOSTILE]).jupyterhub_html_message
    assert HOSTILE in unescape(html)
    assert HOSTILE not in html


def test_the_log_can_be_reached_by_keyboard() -> None:
    page = Page(failed(log=["x"]).jupyterhub_html_message)
    assert dict(page.tags)["pre"].get("tabindex") == "0"


def test_a_refused_request_lists_every_fault_and_is_status_400() -> None:
    error = RequestRefused(RequestError([Fault("cpus", "99", "at most 16"), Fault("gpus", "9", "at most 4")]))
    page = Page(error.jupyterhub_html_message)
    assert error.status_code == 400
    assert [tag for tag, _ in page.tags] == ["p", "ul", "li", "li"]
    assert "cpus = 99: at most 16" in page.text
    assert "gpus = 9: at most 4" in error.jupyterhub_message


@given(st.lists(st.builds(Fault, where=TEXT, value=TEXT, allowed=TEXT), min_size=1))
def test_no_word_of_a_refused_request_becomes_a_tag(faults: list[Fault]) -> None:
    page = Page(RequestRefused(RequestError(faults)).jupyterhub_html_message)
    assert [tag for tag, _ in page.tags] == ["p", "ul", *["li"] * len(faults)]
    assert not any(attributes for _, attributes in page.tags)


@pytest.mark.parametrize("text", ["100 %", "%s %d %(x)s", "{0} {x}", "100%\n"])
def test_a_percent_sign_or_brace_in_slurms_words_breaks_no_message(text: str) -> None:
    # tornado formats an HTTPError's log_message with its arguments when it is printed.
    error = failed(what=text)
    assert text.strip() in str(error.jupyterhub_message)
    assert str(error)
    assert str(RequestRefused(RequestError([Fault("a", text, text)])))
