"""The catalogues of all texts, from checkout to translator and back: ``python -m studiolo.catalogues``.

For whoever works on Studiolo. It takes every text of Python and templates into ``studiolo/languages/*.po``, drops those
that are no more, keeps what is translated, and says what still lacks a translation. What it writes depends on the texts
alone, so that two people's changes meet in few lines. :func:`faults` is what the tests hold the catalogues to.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from studiolo.language import LANGUAGES

__all__ = ["ROOT", "catalogue_file", "faults", "main", "read", "texts", "updated"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("studiolo", "spawners", "hub_config")
EXTRACTORS = {".py": "python", ".html": "jinja2"}
KEYWORDS: dict[str, Any] = {"_": None, "later": None, "plural": (1, 2)}
OPTIONS = {"jinja2": {"encoding": "utf-8", "silent": "false"}}
HEADER = Template(
    """\
# Texts of Studiolo. Written anew by `python -m studiolo.catalogues`; translations are kept.
msgid ""
msgstr ""
"Project-Id-Version: Studiolo\\n"
"Language: $language\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: $plurals\\n"

"""
)
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|\{\w+\}")  # the latter are filled in by scripts
_TAG = re.compile(r"</?[a-zA-Z!]|&[a-z]+;|&#")


def texts(root: Path = ROOT) -> Any:
    """All texts of the source, as Babel's catalogue; where each stands is named without its line."""
    from babel.messages.catalog import Catalog
    from babel.messages.extract import extract_from_file

    found = Catalog()
    for file in _sources(root):
        method = EXTRACTORS[file.suffix]
        for _line, message, comments, context in extract_from_file(
            method,
            file,
            keywords=KEYWORDS,
            comment_tags=("Translators:",),
            options=OPTIONS.get(method),
            strip_comment_tags=True,
        ):
            place = (file.relative_to(root).as_posix(), 0)
            found.add(message, None, [place], auto_comments=comments, context=context)
    return found


def _sources(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.suffix in EXTRACTORS and file.name != Path(__file__).name:
                yield file


def catalogue_file(language: str, root: Path = ROOT) -> Path:
    """Where a language's catalogue lies."""
    return root / "studiolo" / "languages" / f"{language}.po"


def read(language: str, root: Path = ROOT) -> Any:
    """A language's catalogue as it stands; an empty one where there is no file yet."""
    from babel.messages.pofile import read_po

    file = catalogue_file(language, root)
    return read_po(io.BytesIO(file.read_bytes() if file.exists() else b""), locale=language)


def updated(language: str, found: Any, root: Path = ROOT) -> str:
    """The content of a language's file with the texts of the source ``found``: what has a translation keeps it."""
    from babel.messages.pofile import write_po

    catalogue = read(language, root)
    catalogue.update(found, no_fuzzy_matching=True, update_header_comment=False)
    for message in catalogue:
        message.flags.discard("python-format")  # only notes for other tools, and wrong for "100 %"
    written = io.BytesIO()
    write_po(
        written,
        catalogue,
        width=118,
        omit_header=True,
        sort_by_file=False,
        sort_output=True,
        ignore_obsolete=True,
        include_lineno=False,
    )
    header = HEADER.substitute(language=language, plurals=catalogue.plural_forms)
    return header + written.getvalue().decode().strip() + "\n"


def faults(language: str, found: Any, root: Path = ROOT) -> list[str]:
    """What is wrong with a language's catalogue: texts that lack, are doubtful, or whose translation says other values."""
    catalogue = read(language, root)
    wrong = []
    for message in found:
        if not message.id:
            continue
        there = catalogue.get(message.id)
        told = _forms(there.string) if there is not None else ()
        if not told or not all(told):
            wrong.append(f"{language}: not translated: {message.id!r}")
        elif there.fuzzy:
            wrong.append(f"{language}: doubtful (fuzzy): {message.id!r}")
        else:
            wrong += [f"{language}: {fault}: {form!r}" for form in told for fault in _unfit(_forms(message.id), form)]
    if catalogue_file(language, root).read_text(encoding="utf-8") != updated(language, found, root):
        wrong.append(f"{language}: out of step with the source: run `python -m studiolo.catalogues`")
    return wrong


def _forms(text: Any) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def _unfit(originals: tuple[str, ...], told: str) -> Iterator[str]:
    """Why a translation can not stand for its original."""
    wanted = {name for text in originals for name in _PLACEHOLDER.findall(text)}
    given = set(_PLACEHOLDER.findall(told))
    optional = {"%(count)s"} if len(originals) > 1 else set()  # "one session" need not say its number
    if given - wanted or wanted - given - optional:
        yield "other values than in the original"
    elif any(name.startswith("%") for name in wanted):
        try:
            told % dict.fromkeys(re.findall(r"%\((\w+)\)", told), 1)
        except (TypeError, ValueError):
            yield "a per cent sign beside values is written twice"
    if _TAG.search(told):
        yield "texts hold no HTML"
    if originals[0].endswith((".", "?", "!", ":")) and not told.endswith((".", "?", "!", ":")):
        yield "does not end as the original does"


def main() -> int:
    """Bring all catalogues up to date; returns 1 where texts lack a translation."""
    found = texts()
    wrong = []
    for language in LANGUAGES[1:]:
        content = updated(language, found)
        catalogue_file(language).write_text(content, encoding="utf-8")
        wrong += faults(language, found)
    print("\n".join(wrong) or "All texts are translated.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
