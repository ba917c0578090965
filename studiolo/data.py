"""Data sets at hand: ``studiolo.data.list()``, ``.card("…")``, ``.load("…")``, and your own or your company's with ``.add(…)``.

The site keeps data sets for everybody, a company or course (a unix group) for its members alone, and you for yourself. Each
has a card: what it is, its licence, where it comes from, what it may not be used for, whether it is real or simulated.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from studiolo.errors import NotLoadable, shown
from studiolo.holdings import keep, read, shelf
from studiolo.holdings.card import CARD, Card, Part
from studiolo.holdings.files import checked
from studiolo.holdings.places import DATA
from studiolo.holdings.show import Listing

__all__ = ["add", "card", "list", "load", "path", "records", "remove", "search"]

HASHED_AT_MOST = 1 << 30
"""Bytes of a part up to which its hash is checked whenever it is loaded; above, the size is, unless ``verify=True``."""


def list() -> Listing:  # noqa: A001 - studiolo.data.list() is how people say it
    """All data sets that you may see, as a table."""
    return shelf.listing(DATA)


def search(words: str) -> Listing:
    """Those that have all of these words in their name, description, licence or source."""
    return list().matching(words)


def card(name: str) -> Card:
    """What a data set is: licence, limits of use, source, size, parts. Raises :class:`~studiolo.errors.NotAtHand`."""
    return shelf.card_of(DATA, name)


def path(name: str) -> Path:
    """The folder of a data set; it is read-only."""
    return card(name).folder


def load(
    name: str,
    into: str = "pandas",
    *,
    part: str | None = None,
    columns: Sequence[str] | None = None,
    target: str | None = None,
    verify: bool | None = None,
) -> Any:
    """Load a data set, or one ``part`` of it where it has several.

    ``into``: ``"pandas"`` (a table), ``"dask"`` (the same in pieces, for what does not fit into memory), ``"numpy"``,
    ``"torch"`` (a data set for a ``DataLoader``), ``"path"`` (where it lies). ``columns`` chooses some of a table or some
    arrays; ``target`` is what a torch data set gives last, beside all others. ``verify=True`` compares everything with
    the card's hash, ``False`` its size alone; left out, parts up to 1 GiB are compared.

    Raises :class:`~studiolo.errors.NotAtHand`, :class:`~studiolo.errors.CardError` where the files are not those of the
    card, :class:`~studiolo.errors.NotLoadable` with what is possible instead.
    """
    if into not in read.INTO:
        raise NotLoadable(f"into={shown(into)}: one of {', '.join(read.INTO)}")
    found = card(name)
    if into == "path" and part is None:
        for one in found.parts:
            _checked(found, one, verify)
        return found.folder
    chosen = _part(found, part)
    reading = read.Reading(found, chosen, _checked(found, chosen, verify), columns, target)
    return read.load_part(reading, into)


def _checked(found: Card, part: Part, verify: bool | None) -> builtins.list[Path]:
    return checked(found, part, deep=part.size <= HASHED_AT_MOST if verify is None else verify)


def _part(found: Card, name: str | None) -> Part:
    if name is None and len(found.parts) == 1:
        return found.parts[0]
    named = {alias: part for part in reversed(found.parts) for alias in (Path(part.name).stem, part.name)}
    if name in named:
        return named[name]
    asked = f"has no part {shown(name)}" if name is not None else "has several parts"
    names = ", ".join(part.name for part in found.parts[:20])
    example = found.parts[0].name
    raise NotLoadable(f"{found.name} {asked}; say which: {names}. As in load({found.name!r}, part={example!r}).")


def records(name: str, record_set: str) -> Iterator[dict[str, Any]]:
    """The records of a Croissant record set, one after the other; needs the package ``mlcroissant``."""
    found = card(name)
    for part in found.parts:
        _checked(found, part, None)
    try:
        import mlcroissant  # type: ignore[import-not-found]  # optional, and a second of imports
    except ImportError as error:
        raise NotLoadable(
            "Record sets need the package mlcroissant, which this environment has not: use load(…)."
        ) from error
    data = mlcroissant.Dataset(jsonld=str(found.folder / CARD))
    yield from data.records(record_set=record_set)


def add(
    source: str | os.PathLike[str],
    *,
    name: str,
    licence: str,
    group: str | None = None,
    description: str = "",
    citation: str = "",
    url: str = "",
    limits: str = "",
    simulated: bool | None = None,
) -> Card:
    """Add a file or folder of yours, for yourself, or for the members of a unix ``group`` (a company, a course) alone.

    It is copied, whole or not at all; permissions keep it from all others. ``licence`` is what others may do with it, such
    as ``"CC-BY-4.0"`` or ``"internal"``; ``simulated`` whether it is made up, ``None``
    for not stated. Raises :class:`~studiolo.errors.NotKept`: a name that is taken, a group that is not
    yours, a full disk, pickles (reading one runs whatever its writer wants).
    """
    told, place = shelf.to_add(
        DATA, name=name, group=group, licence=licence, description=description, citation=citation, url=url, limits=limits,
        simulated=simulated,
    )  # fmt: skip
    return keep.add_set(Path(source).expanduser(), told, place)


def remove(name: str) -> None:
    """Remove a data set that you have added. Raises :class:`~studiolo.errors.NotKept` where it is not yours."""
    keep.remove(card(name))
