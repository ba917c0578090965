"""What `make up` itself keeps in the platform's catalogue: each set once, anew where it has changed, an operator's own never."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import stamps
from deploy.errors import DeployError
from slurmbox.files import ensure_folder
from studiolo.errors import CardError, NotKept
from studiolo.holdings import keep
from studiolo.holdings.card import CARD, Place
from studiolo.holdings.files import faults_of
from studiolo.holdings.places import read_set
from studiolo.holdings.wanted import wanted

KINDS = ("data", "models")
_BEGUN = "begun"


@dataclass(frozen=True)
class Offer:
    """A data set to be kept for everybody: its card, and what writes its files into a folder.

    It is installed anew whenever ``version`` or a word of its card is another.
    """

    name: str
    version: str
    description: str
    licence: str
    citation: str
    url: str
    limits: str
    simulated: bool
    write: Callable[[Path], None]

    @property
    def digest(self) -> str:
        """What the stamp of an installed set says."""
        words = (self.description, self.licence, self.citation, self.url, self.limits, str(self.simulated))
        return stamps.digest([self.name, self.version, *words])


def ensure(prefix: Path, offers: Iterable[Offer]) -> list[str]:
    """Put into the catalogue of a prefix what is missing there, old or broken; returns the names of what was written.

    A set of the same name that was not put there by us stays as it is. Raises ``DeployError`` where the disk is full.
    """
    for folder in (prefix / "catalogue", *(prefix / "catalogue" / kind for kind in KINDS)):
        if not folder.exists():
            ensure_folder(folder)
    return [offer.name for offer in offers if _ensure(prefix, offer)]


def _ensure(prefix: Path, offer: Offer) -> bool:
    place = Place("site", prefix / "catalogue" / "data")
    folder, stamp = place.folder / offer.name, f"catalogue-{offer.name}"
    last, there = stamps.read(prefix, stamp), _card_digest(folder)
    if os.path.lexists(folder) and last != _BEGUN and last.partition(" ")[2] != there:
        return False  # the operator's own
    if last == f"{offer.digest} {there}" and _is_whole(place, folder):
        return False
    stamps.write(prefix, stamp, _BEGUN)  # should it be interrupted, what is there then is ours to replace
    for left in place.folder.glob(f".*-{offer.name}-*"):
        if left.name.startswith((keep.ADDING, keep.REMOVING)):
            shutil.rmtree(left)
    _add(place, offer)
    stamps.write(prefix, stamp, f"{offer.digest} {_card_digest(folder)}")
    return True


def _card_digest(folder: Path) -> str:
    """What tells our card from another one; an empty text where there is none."""
    return stamps.digest(files=[folder / CARD]) if (folder / CARD).is_file() else ""


def _is_whole(place: Place, folder: Path) -> bool:
    try:
        card = read_set(place, folder)
    except CardError:
        return False
    return card is not None and not any(True for part in card.parts for _fault in faults_of(card, part, deep=False))


def _add(place: Place, offer: Offer) -> None:
    said = {"licence": offer.licence, "citation": offer.citation, "url": offer.url, "limits": offer.limits}
    told = wanted("data", place, name=offer.name, description=offer.description, simulated=offer.simulated, **said)
    try:
        with tempfile.TemporaryDirectory(prefix="studiolo-") as made:
            offer.write(Path(made))
            keep.add_set(Path(made), replace(told, version=offer.version), place, over=True)
    except NotKept as error:
        raise DeployError(str(error)) from error
    except OSError as error:
        raise DeployError(
            f"The data set {offer.name} could not be written: {error}. Make room, and try again."
        ) from error
