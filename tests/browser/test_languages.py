"""A visitor from Luxembourg reads French or German, and nothing of ours in English."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hubclient import HTTP, Hub
from playwright.sync_api import Browser
from scenes import SCENES, scene

from studiolo.catalogues import read, texts

VISITOR = 9
# All that is told: what stands there, what is read out, what appears over a field.
TOLD = """() => {
  const told = [document.title, document.body.innerText];
  for (const element of document.querySelectorAll("[alt], [aria-label], [placeholder], [title]"))
    for (const name of ["alt", "aria-label", "placeholder", "title"]) told.push(element.getAttribute(name) ?? "");
  return told.join("\\n");
}"""
LEAST_WORDS = 3
VALUE = re.compile(r"%\(\w+\)[a-z]|\{\w+\}")


def english(language: str) -> list[re.Pattern[str]]:
    """Every English text of the catalogue that reads differently in the language, whatever its values."""

    catalogue = read(language)
    patterns = []
    for message in texts():
        forms = (message.id,) if isinstance(message.id, str) else tuple(message.id)
        told = catalogue.get(message.id).string if message.id else ""
        translated = (told,) if isinstance(told, str) else tuple(told)
        patterns += [pattern(form) for form in forms if form not in translated and len(words(form)) >= LEAST_WORDS]
    return patterns


def words(text: str) -> list[str]:
    """Its words, without values."""
    return re.findall(r"[^\W\d_]{2,}", VALUE.sub(" ", text))


def pattern(text: str) -> re.Pattern[str]:
    """The text with any values filled in."""
    return re.compile(r"[^\n]{1,80}?".join(map(re.escape, VALUE.split(text))))


@pytest.mark.parametrize("title", SCENES)
@pytest.mark.parametrize(("locale", "language"), [("fr-LU", "fr"), ("de-LU", "de")], ids=["French", "German"])
def test_no_sentence_of_ours_is_english(
    browser: Browser, access: Mapping[str, Any], hub: Hub, locale: str, language: str, title: str
) -> None:
    context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 860})
    try:
        page = context.new_page()
        with scene(title, page, access, hub, VISITOR):
            assert page.locator("html").get_attribute("lang") == language
            told = page.evaluate(TOLD)
        assert told.strip()
        assert [found[0] for text in english(language) if (found := text.search(told))] == []
    finally:
        context.close()


def test_a_program_that_asks_for_no_language_is_answered_in_english(access: Mapping[str, Any], hub: Hub) -> None:
    name = access["users"][VISITOR]["name"]
    answer = hub.start(name, {"profile": "learn", "cpus": 999})
    assert answer.status_code == 400
    assert "at most" in answer.text
    assert 'lang="en"' in HTTP.get(f"{hub.url}hub/login").text
