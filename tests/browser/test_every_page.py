"""Every page for everybody: axe finds nothing, the keyboard reaches everything, and no sentence of ours is English to visitors
from Luxembourg; in light and dark, wide and narrow.

Each scene is set up once, and looked at by all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest
from axe import WIDTHS, looks, overflow, unreachable, violations
from hubclient import HTTP, Hub
from pages import log_in
from playwright.sync_api import Browser, Page
from scenes import SCENES, Stage

from studiolo.catalogues import read, texts

VISITOR = 8
# All that is told: what stands there, what is read out, what appears over a field.
TOLD = """() => {
  const told = [document.title, document.body.innerText];
  for (const element of document.querySelectorAll("[alt], [aria-label], [placeholder], [title]"))
    for (const name of ["alt", "aria-label", "placeholder", "title"]) told.push(element.getAttribute(name) ?? "");
  return told.join("\\n");
}"""
LEAST_WORDS = 3
VALUE = re.compile(r"%\(\w+\)[a-z]|\{\w+\}")


class Theatre:
    """The stage that stands, and a window for each language."""

    def __init__(self, browser: Browser, access: Mapping[str, Any], hub: Hub) -> None:
        self._browser = browser
        self._access = access
        self._hub = hub
        self._name = str(access["users"][VISITOR]["name"])
        self._stage: Stage | None = None
        self._standing = ExitStack()
        self._windows: dict[tuple[str, bool], Page] = {}

    def show(self, title: str, locale: str) -> Page:
        """Come to a scene; its stage stands for as long as the scenes on it follow each other."""
        scene = SCENES[title]
        if scene.stage is not self._stage:
            self.strike()
            self._standing.enter_context(scene.stage(self._hub, self._name))
            self._stage = scene.stage
        page = self._window(locale, scene.stranger)
        scene.come(page, self._access, self._name)
        return page

    def strike(self) -> None:
        """Take away the stage that stands, with nobody looking: a page that follows what happens goes elsewhere by itself."""
        for page in self._windows.values():
            page.goto("about:blank")
        self._stage = None
        self._standing.close()

    def _window(self, locale: str, stranger: bool) -> Page:
        if (locale, stranger) not in self._windows:
            context = self._browser.new_context(locale=locale, viewport={"width": 1280, "height": 860})
            context.set_default_timeout(60_000)
            self._windows[locale, stranger] = page = context.new_page()
            if not stranger:
                log_in(page, self._access, VISITOR)
        return self._windows[locale, stranger]

    def close(self) -> None:
        """Leave nothing behind."""
        self.strike()
        for page in self._windows.values():
            page.context.close()


@pytest.fixture(scope="module")
def theatre(browser: Browser, access: Mapping[str, Any], hub: Hub) -> Iterator[Theatre]:
    """One for the whole file."""
    house = Theatre(browser, access, hub)
    yield house
    house.close()


@pytest.fixture(scope="module", params=SCENES)
def title(request: pytest.FixtureRequest) -> str:
    """Of a scene. For the whole module, so that all tests of one scene come one after the other."""
    return str(request.param)


def test_a_page_can_be_read_and_used_by_everybody(theatre: Theatre, title: str) -> None:
    page = theatre.show(title, "en-GB")
    for look in looks(page):
        assert (look, violations(page, look)) == (look, [])
        assert (look, overflow(page)) == (look, 0)
        if look.is_first:  # light or dark, the keyboard goes the same way
            assert (look, unreachable(page)) == (look, [])


@cache
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


@pytest.mark.parametrize(("locale", "language"), [("fr-LU", "fr"), ("de-LU", "de")], ids=["French", "German"])
def test_no_sentence_of_ours_is_english_and_all_fit_a_telephone(
    theatre: Theatre, title: str, locale: str, language: str
) -> None:
    page = theatre.show(title, locale)
    assert page.locator("html").get_attribute("lang") == language
    told = page.evaluate(TOLD)
    assert told.strip()
    assert [found[0] for text in english(language) if (found := text.search(told))] == []
    # Its words are longer than the English ones.
    page.set_viewport_size({"width": min(WIDTHS), "height": 860})
    assert overflow(page) == 0


def test_a_program_that_asks_for_no_language_is_answered_in_english(access: Mapping[str, Any], hub: Hub) -> None:
    name = access["users"][VISITOR]["name"]
    answer = hub.start(name, {"profile": "learn", "cpus": 999})
    assert answer.status_code == 400
    assert "at most" in answer.text
    assert 'lang="en"' in HTTP.get(f"{hub.url}hub/login").text
