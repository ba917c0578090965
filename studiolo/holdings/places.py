"""Where data sets and models lie, for this person: the site's folders, those of the person's groups, and the person's own."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studiolo.errors import CardError, Fault, NotAtHand, shown
from studiolo.holdings.card import CARD, Card, Place, parse_card
from studiolo.holdings.files import read_text
from studiolo.holdings.models_card import read_model
from studiolo.holdings.show import Listing
from studiolo.modelcache import folder_name, is_model_folder, is_name, my_groups, own_cache
from studiolo.site import Site

__all__ = ["DATA", "MODELS", "Kind", "at_hand", "find", "places"]


@dataclass(frozen=True)
class Kind:
    """Data sets or models: how they are called, which folder of a group's holds them, and what their cards are of."""

    word: str
    module: str
    folder: str
    card: Literal["data", "model"]


DATA = Kind("data set", "studiolo.data", "data", "data")
MODELS = Kind("model", "studiolo.models", "models", "model")


def places(site: Site, kind: Kind, environ: Mapping[str, str] = os.environ) -> list[Place]:
    """The places to look at, in this order: the site's win over a group's, and these over one's own."""
    catalogue = site.catalogue
    found = [Place("site", Path(folder)) for folder in (catalogue.data if kind is DATA else catalogue.models)]
    if catalogue.groups:
        folder = f"{catalogue.groups}/{kind.folder}"
        found += [Place(name, Path(folder.replace("{group}", name))) for name in my_groups()]
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    return [*found, Place("me", home / ".local/share/studiolo/data" if kind is DATA else own_cache(environ))]


def at_hand(kind: Kind, where: Sequence[Place]) -> Listing:
    """All that this person can see, good ones as cards and others with what is wrong; one never hides another."""
    cards: list[Card] = []
    refused: list[CardError] = []
    for place in where:
        try:
            names = sorted(os.listdir(place.folder))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # no such place here, or not this person's
        except OSError as error:
            refused.append(CardError([Fault("the folder", "", f"readable ({error.strerror})")], str(place.folder)))
            continue
        for name in names:
            try:
                card = _read(kind, place, name)
            except PermissionError:
                continue  # somebody else's
            except CardError as error:
                refused.append(error)
            else:
                cards += [card] if card else []
    return Listing(kind.word, kind.module, tuple(cards), tuple(refused))


def _read(kind: Kind, place: Place, name: str) -> Card | None:
    """The card of one folder; ``None`` where the folder is no set at all. Raises ``PermissionError`` or ``CardError``."""
    folder = place.folder / name
    if name.startswith(".") or (kind is MODELS and not is_model_folder(name)):
        return None
    if kind is MODELS:
        return read_model(place, folder)
    return read_set(place, folder)


def read_set(place: Place, folder: Path) -> Card | None:
    """The card of a data set's folder; ``None`` where it has none. Raises ``PermissionError`` or ``CardError``."""
    file = folder / CARD
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except OSError as error:
        raise CardError([Fault("the folder", "", f"readable ({error.strerror})")], str(folder)) from error
    if folder.is_symlink():
        raise CardError([Fault("the folder", "", "a folder of its own: this is a link to another place")], str(folder))
    try:
        text = read_text(file)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CardError([Fault("the file", "", f"a plain UTF-8 file ({reason})")], str(file)) from error
    return parse_card(text, place, folder)


def find(kind: Kind, where: Sequence[Place], name: str, support: str) -> Card:
    """The set of this name, or of this full name (``GROUP:NAME``). Raises ``NotAtHand``, or the fault of its card."""
    if not isinstance(name, str):
        raise NotAtHand(f"A {kind.word} is called by its name, a text: {shown(name)} is none.")
    of, colon, plain = name.rpartition(":")
    if is_name(plain) and (kind is MODELS or "/" not in plain):
        # Straight to its folder: a large catalogue is not read for one name.
        folder = plain if kind is DATA else folder_name(plain)
        for place in where:
            if not colon or of == place.of:
                with suppress(PermissionError):  # somebody else's
                    if card := _read(kind, place, folder):
                        return card
    raise NotAtHand(" ".join(_missing(kind, at_hand(kind, where), name, support)))


def _missing(kind: Kind, listing: Listing, name: str, support: str) -> Iterator[str]:
    names = sorted({card.name for card in listing})
    yield f"No {kind.word} {shown(name)} is at hand."
    folded = {known.lower(): known for known in names}
    close = [folded[one] for one in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)]
    if close:
        yield f"Did you mean {' or '.join(close)}?"
    if names:
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        yield f"There {'is' if len(names) == 1 else 'are'}: {', '.join(names[:12])}{more}; {kind.module}.list() tells all."
    else:
        yield f"There is no {kind.word} at all yet."
    whom = support.rstrip(".") or "those who run this site"
    yield f"Ask for it ({whom}), or add one of your own with {kind.module}.add(…)."
