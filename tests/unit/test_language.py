"""Texts in the language of whoever is being served."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.language import LANGUAGES, _, language, later, plural, preferred, speak


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("fr-LU, de-LU;q=0.8", "fr"),
        ("de-LU;q=0.8, fr;q=0.9", "fr"),
        ("lb, de;q=0.7, en;q=0.3", "de"),
        ("pt-PT, *;q=0.5", "en"),
        ("fr;q=0, de", "de"),
        ("DE", "de"),
        ("fr;q=nan, de;q=0.1", "de"),
        ("fr;q=7, de;q=0.1", "de"),
        ("de;q=1;q=2,en;q=0.2", "en"),
    ],
)
def test_the_browsers_wish_decides(header: str, expected: str) -> None:
    assert preferred(header) == expected


@given(st.text(max_size=60))
def test_whatever_a_browser_sends_is_answered_in_one_of_our_languages(header: str) -> None:
    assert preferred(header) in LANGUAGES


def test_a_language_is_spoken_in_one_request_and_in_what_it_begins() -> None:
    async def story() -> tuple[str, str]:
        async def later_on() -> str:
            await asyncio.sleep(0)
            return language()

        async def request(name: str) -> str:
            speak(name)
            return await asyncio.ensure_future(later_on())

        return tuple(await asyncio.gather(asyncio.ensure_future(request("fr")), asyncio.ensure_future(request("de"))))  # type: ignore[return-value]

    assert asyncio.run(story()) == ("fr", "de")
    assert language() == "en"


def test_an_unknown_language_is_english() -> None:
    def story() -> str:
        speak("tlh")
        return language()

    assert copy_context().run(story) == "en"


def test_texts_are_filled_in() -> None:
    assert _("100 %") == "100 %"
    assert _("%(name)s waits", name="ada") == "ada waits"
    assert plural("%(count)s job", "%(count)s jobs", 1) == "1 job"
    assert plural("%(count)s job of %(who)s", "%(count)s jobs of %(who)s", 2, who="ada") == "2 jobs of ada"
    assert later("kept") == "kept"
