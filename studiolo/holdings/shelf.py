"""What ``studiolo.data`` and ``studiolo.models`` do alike: list, find, and say what is to be added and where."""

from __future__ import annotations

from studiolo.errors import Fault, NotKept, shown
from studiolo.holdings import keep
from studiolo.holdings.card import Card, Place
from studiolo.holdings.places import Kind, at_hand, find, places
from studiolo.holdings.show import Listing
from studiolo.holdings.wanted import wanted
from studiolo.modelcache import my_groups
from studiolo.outline import read_outline

__all__ = ["card_of", "listing", "to_add"]


def listing(kind: Kind) -> Listing:
    """All of a kind that this person may see."""
    return at_hand(kind, places(read_outline(), kind))


def card_of(kind: Kind, name: str) -> Card:
    """The card of this name. Raises ``NotAtHand``, or ``CardError`` where it is there and broken."""
    site = read_outline()
    return find(kind, places(site, kind), name, site.support)


def to_add(
    kind: Kind,
    *,
    name: str,
    group: str | None,
    licence: str,
    description: str,
    citation: str,
    url: str,
    limits: str,
    simulated: bool | None = None,
) -> tuple[Card, Place]:
    """The card, without its parts, of what is to be added, and its place. Raises ``NotKept`` with whose move it is."""
    site = read_outline()
    where = places(site, kind)
    groups = site.catalogue.groups
    ready = f"install -d -m 3770 -g {{group}} {groups}/{kind.folder}" if groups else ""
    place = keep.target_place(str(name), group, where, my_groups(), ready)
    told = wanted(
        kind.card, place, name=name, licence=licence, description=description, citation=citation, url=url, limits=limits,
        simulated=simulated,
    )  # fmt: skip
    if taken := next((one for one in at_hand(kind, where) if one.name == name), None):
        raise NotKept(
            [Fault("name", shown(name), f"a new name: {taken.full_name} is there already")], f"{name} was not added"
        )
    return told, place
