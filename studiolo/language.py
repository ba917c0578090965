"""The language of whoever is being served: English, French or German, from catalogues in ``studiolo/languages``.

Texts for people are written in English where they are needed, as ``_("You may have %(count)s sessions.", count=3)``: it
translates at once into the language that :func:`speak` has set for this request, and what follows from it. A text that
is kept for later (in a table, say) is marked with :func:`later` and goes through ``_`` when it is told.

The catalogues are Babel's and are read as they stand, without a step that compiles them. Nothing fails where one lacks a
text: English is told then, and a test fails.
"""

from __future__ import annotations

import gettext
import io
from contextvars import ContextVar
from functools import lru_cache
from importlib.resources import files

__all__ = ["LANGUAGES", "_", "language", "later", "plural", "preferred", "speak"]

LANGUAGES = ("en", "fr", "de")
"""The first is what the source is written in."""

_spoken: ContextVar[str] = ContextVar("language", default=LANGUAGES[0])


def speak(name: str) -> None:
    """Tell everything in this language from now on: in this request, and in the tasks that it begins."""
    _spoken.set(name if name in LANGUAGES else LANGUAGES[0])


def language() -> str:
    """The language that is spoken now, as in ``<html lang>``."""
    return _spoken.get()


def _(text: str, /, **values: object) -> str:
    """A text in the language of whoever is being served, with its ``%(name)s`` filled in."""
    told = _catalogue(_spoken.get()).gettext(text) if text else ""  # a catalogue's own text for "" is its header
    return told % values if values else told


def plural(one: str, many: str, count: int, /, **values: object) -> str:
    """The same for a text with a number in it, ``%(count)s``: ``one`` where it is 1, ``many`` elsewhere, in English."""
    return _catalogue(_spoken.get()).ngettext(one, many, count) % {"count": count, **values}


def later(text: str) -> str:
    """Mark a text for translation without translating it."""
    return text


def preferred(header: str) -> str:
    """The best of our languages for a browser's ``Accept-Language``, from anybody."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(header[:1000].split(",")):
        tag, _sep, rest = part.partition(";")
        name, weight = tag.strip().lower().partition("-")[0], rest.strip().lower().removeprefix("q=")
        try:
            quality = float(weight) if rest.strip() else 1.0
        except ValueError:
            continue
        if name in LANGUAGES and 0 < quality <= 1:
            wanted.append((-quality, place, name))
    return min(wanted)[2] if wanted else LANGUAGES[0]


@lru_cache(maxsize=len(LANGUAGES))
def _catalogue(name: str) -> gettext.NullTranslations:
    file = files("studiolo") / "languages" / f"{name}.po"
    if name == LANGUAGES[0] or not file.is_file():
        return gettext.NullTranslations()
    # Here, as a notebook's environment tells English alone and need not have Babel.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = io.BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=name))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
