"""No text for people is told in another language than theirs: everything is marked, and everything marked is translated."""

from __future__ import annotations

import re
from contextvars import copy_context
from importlib.resources import files
from pathlib import Path

import pytest
from literals import in_python, in_script, in_template

import hub_config
import spawners
import studiolo
from studiolo import catalogues
from studiolo.errors import Fault
from studiolo.language import LANGUAGES, _, plural, speak
from studiolo.units import memory_words, minutes_words

OTHERS = LANGUAGES[1:]
PACKAGES = [Path(str(package.__file__)).parent for package in (hub_config, spawners)]
TEMPLATES = sorted(file for package in PACKAGES for file in package.rglob("*.html"))
SCRIPTS = sorted(file for package in PACKAGES for file in (package / "static").glob("*.js"))
# What people read of the library; of the rest it is operators and logs.
LIBRARY = [Path(str(studiolo.__file__)).parent / name for name in ("request.py", "units.py", "slurm/states.py")]
# Metrics are read by operators; JupyterLab's page "Jobs" speaks as the library does in notebooks, in English.
NOT_PAGES = ("metrics.py", "scheduler_api.py")
MODULES = sorted([*(file for file in PACKAGES[1].glob("*.py") if file.name not in NOT_PAGES), *LIBRARY])

# What only programs and operators read, and people never.
FOR_PROGRAMS = {
    "Slurm does not say yet where this job runs: ask again",
    "Going on with a start after the hub's own",
    "Server at {}",
}


def name(file: Path) -> str:
    return file.name


def speaking(language: str, text: str, **values: object) -> str:
    def told() -> str:
        speak(language)
        return _(text, **values)

    return copy_context().run(told)


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated_with_the_same_values_and_without_tags(language: str) -> None:
    # Mend it with: python -m studiolo.catalogues
    assert catalogues.faults(language, catalogues.texts()) == []


@pytest.mark.parametrize("language", OTHERS)
def test_catalogues_are_installed_with_the_library(language: str) -> None:
    assert (files("studiolo") / "languages" / f"{language}.po").is_file()


@pytest.mark.parametrize("file", TEMPLATES, ids=name)
def test_no_word_of_a_template_stands_there_in_english_alone(file: Path) -> None:
    assert in_template(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", SCRIPTS, ids=name)
def test_scripts_get_their_texts_from_the_page(file: Path) -> None:
    assert in_script(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_sentences_for_people_are_marked_for_translation(file: Path) -> None:
    assert set(in_python(file.read_text(encoding="utf-8"))) <= FOR_PROGRAMS


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>Wait here</p>", ["Wait here"]),
        ("<p>{{ _('Wait here') }}</p>", []),
        ("<p>{{ plural('one', '%(count)s', n) }} · {{ title }}</p>", []),
        ("<p>{{ 'Waits' if x else 'Runs' }}</p>", ["Waits", "Runs"]),
        ("<p>{{ _('Waits for %(name)s', name=x or 'Somebody') }}</p>", ["Somebody"]),
        ('<a class="btn{% if x %} hidden{% endif %}" title="Open it">{# Comment #}</a>', ["Open it"]),
        ('<input type="submit" value="Start">', ["Start"]),
        ('<input type="hidden" value="Start">', []),
        ("<script>x.textContent = \"It's over now\"; // Never shown\nimport('a b');</script>", ["It's over now"]),
        ("{% set words = 'Not yet there' %}", ["Not yet there"]),
        ("<style>body { color: red }</style>", []),
    ],
)
def test_the_search_for_words_in_templates_finds_them(source: str, found: list[str]) -> None:
    assert in_template(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('tell("Your session waits.")', ["Your session waits."]),
        ('tell(f"Job {job} waits.")', ["Job {} waits."]),
        ('tell(_("Your session waits."), later("Job %(job)s waits."))', []),
        ('"""Docstrings are for us."""', []),
        ('self.log.warning("The hub waits.")', []),
        ('words = {"a": "You wait for nodes."}', ["You wait for nodes."]),
    ],
)
def test_the_search_for_sentences_in_python_finds_them(source: str, found: list[str]) -> None:
    assert in_python(source) == found


def test_values_are_filled_into_translations() -> None:
    assert (
        speaking("fr", "at most %(limit)s on partition %(name)s", limit=3, name="gpu")
        == "au plus 3 sur la partition gpu"
    )
    assert speaking("de", "Log in") == "Anmelden"
    assert speaking("fr", "") == ""


def test_amounts_and_faults_are_told_in_the_language_too() -> None:
    def told() -> list[str]:
        speak("fr")
        return [memory_words(1536), minutes_words(2970), str(Fault("cpus", "9", "2"))]

    assert copy_context().run(told) == ["1,5 Go", "2 j 1 h 30 min", "cpus = 9\u00a0: 2"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with one text, of which there is a translation."""
    (tmp_path / "studiolo" / "languages").mkdir(parents=True)
    (tmp_path / "studiolo" / "words.py").write_text('_("%(name)s waits.", name="ada")\n')
    catalogues.catalogue_file("fr", tmp_path).write_text('msgid "%(name)s waits."\nmsgstr "%(name)s attend."\n')
    return tmp_path


def test_a_new_text_keeps_the_old_ones_translation_and_is_missed(checkout: Path) -> None:
    (checkout / "studiolo" / "more.py").write_text('plural("%(count)s job", "%(count)s jobs", 3)\nlater("Wait.")\n')
    found = catalogues.texts(checkout)
    content = catalogues.updated("fr", found, checkout)
    assert 'msgstr "%(name)s attend."' in content
    assert 'msgid_plural "%(count)s jobs"' in content
    catalogues.catalogue_file("fr", checkout).write_text(content, encoding="utf-8")
    assert [fault.partition(": ")[2] for fault in catalogues.faults("fr", found, checkout)] == [
        "not translated: ('%(count)s job', '%(count)s jobs')",
        "not translated: 'Wait.'",
    ]
    assert catalogues.updated("fr", found, checkout) == content


def test_a_text_that_is_no_more_leaves_the_catalogue(checkout: Path) -> None:
    (checkout / "studiolo" / "words.py").write_text("")
    content = catalogues.updated("fr", catalogues.texts(checkout), checkout)
    assert "attend" not in content
    assert "#~" not in content


@pytest.mark.parametrize(
    ("translation", "fault"),
    [
        ("%(nom)s attend.", "other values"),
        ("Quelqu'un attend.", "other values"),
        ("%(name)s attend à 100 %.", "per cent sign"),
        ("<b>%(name)s</b> attend.", "no HTML"),
        ("%(name)s attend", "does not end"),
    ],
)
def test_a_translation_that_can_not_stand_for_its_original_is_told(
    checkout: Path, translation: str, fault: str
) -> None:
    file = catalogues.catalogue_file("fr", checkout)
    file.write_text(f'msgid "%(name)s waits."\nmsgstr "{translation}"\n', encoding="utf-8")
    found = catalogues.texts(checkout)
    file.write_text(catalogues.updated("fr", found, checkout), encoding="utf-8")
    (told,) = catalogues.faults("fr", found, checkout)
    assert fault in told


def test_a_catalogue_that_was_not_brought_up_to_date_is_told(checkout: Path) -> None:
    assert "out of step" in catalogues.faults("fr", catalogues.texts(checkout), checkout)[0]


def test_plurals_follow_each_language() -> None:
    def told(language: str) -> str:
        speak(language)
        return plural("%(count)s thing without translation", "%(count)s things without translation", 0)

    assert copy_context().run(told, "fr") == "0 things without translation"


@pytest.mark.parametrize("name", ["remoteEntry.js", "batch.js"])
def test_the_lab_extension_says_as_much_in_each_language(name: str) -> None:
    script = (PACKAGES[1] / "labextension" / "static" / name).read_text(encoding="utf-8")
    said: dict[str, dict[str, tuple[int, list[str]]]] = {}
    for language, block in re.findall(r"^ +(en|fr|de): \{\n(.*?)^ +\},$", script, re.DOTALL | re.MULTILINE):
        said[language] = {
            key: (len(re.findall(r"[.:](?= |$)", text.replace(" :", ":"))), sorted(re.findall(r"%\(\w+\)s", text)))
            for key, text in re.findall(r'^ +(\w+): "(.*)",$', block, re.MULTILINE)
        }
    assert set(said) == {"en", "fr", "de"}
    assert said["en"]
    assert said["fr"] == said["en"]
    assert said["de"] == said["en"]
