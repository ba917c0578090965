"""JupyterLab tells how long its session lasts, warns before the end, and saves what is not saved."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hubclient import HTTP, Hub, until
from playwright.sync_api import Browser, Page, expect

PERSON = 8
MINUTE = 60
EXTENSION = Path(__file__).parents[2] / "spawners/labextension/static/remoteEntry.js"
# What the countdown is given in JupyterLab, noting what is done with it; the clock is the test's.
STAGE = """
({ language }) => {
  const { Countdown, speaker } = window._JUPYTERLAB.studiolo.parts;
  const told = (window.told = { warnings: [], dismissed: 0, infos: [], saves: 0, text: "", soon: false });
  const Notification = {
    warning: (message) => told.warnings.push(message) && `n${told.warnings.length}`,
    info: (message) => told.infos.push(message),
    dismiss: () => (told.dismissed += 1),
  };
  window.clock = 1_800_000_000;
  Date.now = () => window.clock * 1000;
  window.countdown = new Countdown({
    Notification,
    speak: speaker(language),
    show: (text, _title, soon) => Object.assign(told, { text, soon }),
    save: () => (told.saves += 1),
    openSessions: () => {},
  });
}
"""


@pytest.fixture
def stage(page: Page) -> Page:
    """An empty page with the extension's own parts."""
    page.goto("about:blank")
    page.add_script_tag(content=EXTENSION.read_text(encoding="utf-8"))
    page.evaluate(STAGE, {"language": "en"})
    return page


def hear(page: Page, seconds: int) -> dict[str, Any]:
    """The session's server says that it ends in so many seconds."""
    page.evaluate("(left) => countdown.learn({ now: 5000, ends: 5000 + left })", seconds)
    return dict(page.evaluate("() => told"))


def later(page: Page, seconds: int) -> dict[str, Any]:
    """Time passes; each second is seen."""
    page.evaluate("(count) => { for (let i = 0; i < count; i += 1) { clock += 1; countdown.tick(); } }", seconds)
    return dict(page.evaluate("() => told"))


def test_warnings_come_at_30_10_and_2_minutes_once_each_and_saving_twice(stage: Page) -> None:
    assert hear(stage, 112 * MINUTE)["text"] == "1 h 52 min left"
    assert later(stage, 80 * MINUTE)["warnings"] == []
    told = later(stage, 3 * MINUTE)
    assert len(told["warnings"]) == 1
    assert "in 30 minutes" in told["warnings"][0]
    told = later(stage, 20 * MINUTE)
    assert ["in 10 minutes" in message for message in told["warnings"]] == [False, True]
    assert (told["soon"], told["saves"]) == (True, 0)
    told = later(stage, 7 * MINUTE + 30)
    assert ["being saved" in message for message in told["warnings"]] == [False, False, True]
    assert (told["text"], told["saves"]) == ("1 min 30 s left", 1)
    told = later(stage, 75)
    assert (told["saves"], len(told["warnings"]), told["dismissed"]) == (2, 3, 2)
    assert later(stage, 30)["text"] == "time is over"
    assert later(stage, 300)["saves"] == 2


def test_an_extension_takes_warnings_back_and_they_come_again(stage: Page) -> None:
    told = hear(stage, 90)
    assert (len(told["warnings"]), told["saves"]) == (1, 1)
    told = hear(stage, 3600)
    assert (told["dismissed"], len(told["infos"]), told["text"]) == (1, 1, "1 h left")
    told = later(stage, 3600 - 60)
    assert (len(told["warnings"]), told["saves"]) == (4, 2)


def test_an_end_that_moves_by_a_little_changes_nothing(stage: Page) -> None:
    hear(stage, 500)
    told = hear(stage, 520)
    assert (len(told["warnings"]), told["dismissed"], told["infos"]) == (1, 0, [])


def test_a_session_without_an_end_has_no_countdown(stage: Page) -> None:
    stage.evaluate("() => countdown.learn({ now: 5000, ends: null })")
    assert later(stage, 10)["text"] == ""


@pytest.mark.parametrize(
    ("lab", "wanted", "language"),
    [
        ("fr_FR", ["de"], "fr"), ("en", ["de-LU", "en"], "de"), (None, ["fr"], "fr"), ("default", ["ja", "en"], "en"),
        ("zh_CN", ["ja"], "en"), ("en", [], "en"), ("constructor", ["toString"], "en"),
    ],
)  # fmt: skip
def test_it_speaks_jupyterlabs_language_or_the_browsers(
    stage: Page, lab: str, wanted: list[str], language: str
) -> None:
    script = "([lab, browser]) => _JUPYTERLAB.studiolo.parts.languageOf(lab && { languageCode: lab }, browser)"
    assert stage.evaluate(script, [lab, wanted]) == language


def test_every_language_has_every_text_with_the_same_blanks(stage: Page) -> None:
    texts = stage.evaluate("() => _JUPYTERLAB.studiolo.parts.TEXTS")
    assert set(texts) == {"en", "fr", "de"}
    for language, own in texts.items():
        assert set(own) == set(texts["en"]), language
        for key, text in own.items():
            assert set(re.findall(r"%\(\w+\)s", text)) == set(re.findall(r"%\(\w+\)s", texts["en"][key])), (
                language,
                key,
            )


def test_jupyterlab_shows_every_message_as_a_whole(stage: Page) -> None:
    for language, texts in stage.evaluate("() => _JUPYTERLAB.studiolo.parts.TEXTS").items():
        for key, text in texts.items():
            filled = (
                text.replace("%(time)s", "30 Minuten").replace("%(clock)s", "12:34 PM").replace("%(names)s", "a.ipynb")
            )
            assert len(filled) <= 140, (language, key)


# --- In JupyterLab ---------------------------------------------------------------------------------------------------


@pytest.fixture
def name(access: Mapping[str, Any], hub: Hub) -> Iterator[str]:
    """Somebody with a session of three minutes."""
    name = str(access["users"][PERSON]["name"])
    assert hub.start(name, {"profile": "learn", "minutes": 3}).status_code == 202
    hub.ready(name)
    yield name
    if hub.server(name):
        hub.stop(name)


def test_a_short_session_counts_down_saves_and_is_extended(
    browser: Browser, access: Mapping[str, Any], hub: Hub, name: str
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 860}, locale="de-DE")
    context.set_default_timeout(60_000)
    page = context.new_page()
    try:
        log_in_german(page, access)
        page.goto(f"{access['url']}user/{name}/lab?reset")
        expect(page.locator("#jupyterlab-splash")).to_have_count(0)
        expect(page.locator(".studiolo-time-left")).to_have_text(re.compile(r"^noch (2|1) min \d+ s$"))
        page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
        page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
        page.keyboard.type("unsaved = 'studiolo'")

        token = hub.call("POST", f"users/{name}/tokens", json={"note": "test", "expires_in": 600}).json()["token"]
        headers = {"Authorization": f"token {token}"}
        contents = f"{hub.url}user/{name}/api/contents/Untitled.ipynb"
        until("the notebook on the disk", lambda: "unsaved = 'studiolo'" in HTTP.get(contents, headers=headers).text)
        expect(page.get_by_text("Alles Ungesicherte wird gespeichert")).to_be_visible()
        if folder := os.environ.get("STUDIOLO_PICTURES"):
            page.screenshot(path=str(Path(folder) / "countdown.png"), animations="disabled")

        extend = {"name": "", "minutes": 60}
        assert hub.call("POST", "studiolo/extend", token=token, json=extend).status_code == 200
        expect(page.locator(".studiolo-time-left")).to_have_text(re.compile(r"^noch 1 h( \d min)?$"))
        expect(page.get_by_text("Alles Ungesicherte wird gespeichert")).to_have_count(0)
    finally:
        token = hub.call("POST", f"users/{name}/tokens", json={"note": "test", "expires_in": 60}).json()["token"]
        headers = {"Authorization": f"token {token}"}
        HTTP.delete(f"{hub.url}user/{name}/api/contents/Untitled.ipynb", headers=headers)
        context.close()


def log_in_german(page: Page, access: Mapping[str, Any]) -> None:
    """Log in by the form's own names: its words are German here."""
    user = access["users"][PERSON]
    page.goto(access["url"])
    page.locator("[name=username]").fill(user["name"])
    page.locator("[name=password]").fill(user["password"])
    page.locator("[type=submit]").click()
    page.wait_for_url("**/lab**")  # where the session is
