"""How cards and lists of them look in a notebook: plain functions from values to HTML and text. Everything is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import overload

from studiolo.errors import CardError, printable
from studiolo.holdings.card import Card

__all__ = ["Listing", "bytes_words", "card_html", "card_text"]


def bytes_words(size: int) -> str:
    """A size in bytes as people say it, in powers of 1000: ``1.2 MB``."""
    amount, units = float(size), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while amount >= 999.5 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{size} bytes" if units[0] == "bytes" else f"{amount:.3g} {units[0]}"


@dataclass(frozen=True)
class Listing(Sequence[Card]):
    """What is at hand: a sequence of cards that shows as a table. ``refused`` are those that can not be used, and why."""

    word: str
    module: str
    cards: tuple[Card, ...]
    refused: tuple[CardError, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Card: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Card]: ...
    def __getitem__(self, index: int | slice) -> Card | Sequence[Card]:
        return self.cards[index]

    def __len__(self) -> int:
        return len(self.cards)

    def matching(self, query: str) -> Listing:
        """Those that have all words of ``query`` in their name, description, licence or source."""
        words = query.lower().split()
        kept = tuple(card for card in self.cards if all(word in _haystack(card) for word in words))
        return Listing(self.word, self.module, kept, () if words else self.refused)

    def __repr__(self) -> str:
        rows = [_HEAD, *map(_row, self.cards)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*(lines if self.cards else [self._none()]), *map(_refusal, self.refused)])

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col"{_LEFT}>{word}</th>' for word in _HEAD)
        body = "".join(f"<tr>{_cells(_row(card))}</tr>" for card in self.cards)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        faults = "".join(f"<li>{escape(_refusal(error))}</li>" for error in self.refused)
        broken = f"<p>Not usable, for those who keep them:</p><ul>{faults}</ul>" if faults else ""
        return (table if self.cards else f"<p>{escape(self._none())}</p>") + broken

    def _none(self) -> str:
        return f"No {self.word} is at hand here. {self.module}.add(…) adds one of your own."


_HEAD = ("Name", "What", "Size", "Licence", "For", "Kind")
_LEFT = ' style="text-align:left"'


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td{_LEFT}>{escape(cell)}</td>" for cell in row)


def _haystack(card: Card) -> str:
    return " ".join([card.full_name, card.description, card.licence, card.citation, card.source]).lower()


def _row(card: Card) -> tuple[str, str, str, str, str, str]:
    kind = {None: "", True: "simulated", False: "real"}[card.simulated]
    what, licence = _short(card.description, 80), _short(card.licence, 40)
    return (card.full_name, what, bytes_words(card.size), licence, card.place.for_whom, kind)


def _short(text: str, limit: int) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= limit else first[: limit - 1] + "…"


def _refusal(error: CardError) -> str:
    first = str(error.faults[0]) if error.faults else ""
    return f"{printable(error.source)}: {first}" + (
        f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
    )


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    yield "What", card.description or "not stated"
    yield "Licence", card.licence
    yield "Limits of use", card.limits
    yield "Size", bytes_words(card.size)
    yield "For", card.place.for_whom
    if card.groups and card.place.of == "site":
        yield "Who may see it", f"group {', '.join(card.groups)}"
    if card.simulated is not None:
        yield "Real or simulated", "simulated" if card.simulated else "real"
    if card.citation:
        yield "Cite as", card.citation
    if card.source:
        yield "Source", card.source
    if card.version:
        yield "Version", card.version
    if card.parts:
        yield "Parts", ", ".join(f"{part.name} ({part.format}, {bytes_words(part.size)})" for part in card.parts[:20])
    yield "Folder", str(card.folder)


def card_text(card: Card) -> str:
    """A card as text, a line for each fact."""
    return "\n".join([card.full_name, *(f"  {name}: {value}" for name, value in _facts(card))])


def card_html(card: Card) -> str:
    """A card as HTML. An address becomes a link only where it is one of the web."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th><td style="text-align:left">{_linked(value)}</td></tr>'
        for name, value in _facts(card)
    )
    return f"<table><caption><strong>{escape(card.full_name)}</strong></caption><tbody>{rows}</tbody></table>"


def _linked(value: str) -> str:
    if value.startswith(("https://", "http://")) and " " not in value:
        return f'<a href="{escape(value)}" target="_blank" rel="noopener noreferrer">{escape(value)}</a>'
    return escape(value).replace("\n", "<br>")
