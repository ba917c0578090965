"""Models at hand: ``studiolo.models.list()``, ``.card("org/name")``, ``.path("org/name")``, your own with ``.add(…)``.

``AutoModel.from_pretrained("org/name")`` finds them too, without internet: the site's first, then those of your groups,
then what you have downloaded yourself.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from studiolo import modelcache
from studiolo.errors import CardError, Fault, NotKept, shown
from studiolo.holdings import keep, shelf
from studiolo.holdings.card import Card
from studiolo.holdings.files import walk
from studiolo.holdings.places import MODELS, places
from studiolo.holdings.show import Listing
from studiolo.outline import read_outline
from studiolo.site import Site

__all__ = ["add", "card", "get", "list", "path", "remove", "search"]


PICKLES = (
    "{name} has weights that are pickles ({file}): reading them runs whatever their writer wanted. Take safetensors alone: "
    "from_pretrained(…, use_safetensors=True)."
)


def list() -> Listing:  # noqa: A001 - studiolo.models.list() is how people say it
    """All models that you may see, as a table."""
    return shelf.listing(MODELS)


def search(words: str) -> Listing:
    """Those that have all of these words in their name, description, licence or source."""
    return list().matching(words)


def card(name: str) -> Card:
    """What a model is: licence, limits of use, source, size. Raises :class:`~studiolo.errors.NotAtHand` at once."""
    return shelf.card_of(MODELS, name)


def path(name: str) -> Path:
    """The folder with a model's files, to give to ``from_pretrained`` or to any other reader; it is read-only.

    Warns where some of them are pickles, which run whatever their writer wants when they are read.
    """
    return _path(name)


def _path(name: str) -> Path:
    found = card(name)
    try:
        files = modelcache.snapshot(found.folder)
        pickles = [one for one in walk(files) if keep.is_pickle(files / one)]
    except (OSError, ValueError) as error:
        raise CardError([Fault("refs/main", "", str(error))], str(found.folder)) from error
    if pickles:
        warnings.warn(PICKLES.format(name=found.full_name, file=shown(pickles[0])), stacklevel=3)
    return files


def get(name: str) -> Path:
    """The same, after making sure that ``from_pretrained(name)`` finds it from now on, in this session and in its jobs.

    A session does so for all models when it starts: this is for those that came later.
    """
    found = _path(name)
    refresh(read_outline())
    return found


def refresh(site: Site, environ: Mapping[str, str] = os.environ) -> int:
    """Make the cache that libraries look into lead to all that is at hand; returns how many models it has.

    Raises :class:`~studiolo.errors.NotKept` where the person's home can not be written.
    """
    overlay = Path(environ.get("HOME") or os.path.expanduser("~"), modelcache.OVERLAY)
    try:
        return modelcache.fill(overlay, [place.folder for place in places(site, MODELS, environ)])
    except OSError as error:
        allowed = f"a folder to write to ({error.strerror}): make room in your home"
        raise NotKept(
            [Fault("the folder", str(overlay), allowed)], "The models were not made known to libraries"
        ) from error


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
) -> Card:
    """Add a folder with a model (what ``save_pretrained`` has written), for yourself or for a unix ``group`` alone.

    ``name`` is ``"org/name"``, as libraries will call it. Raises :class:`~studiolo.errors.NotKept`, as for data sets; weights
    belong into safetensors, since pickles run whatever their writer wants.
    """
    told, place = shelf.to_add(
        MODELS, name=name, group=group, licence=licence, description=description, citation=citation, url=url,
        limits=limits,
    )  # fmt: skip
    folder = Path(source).expanduser()
    try:
        if (folder / "refs").is_dir():  # as a cache has it
            folder = modelcache.snapshot(folder)
    except (OSError, ValueError) as error:
        allowed = f"a model that was downloaded completely ({getattr(error, 'strerror', None) or error})"
        raise NotKept([Fault("source", shown(str(source)), allowed)], f"{name} was not added") from error
    if folder.is_file():
        raise NotKept(
            [Fault("source", shown(str(source)), "a folder with all files of the model")], f"{name} was not added"
        )
    made = keep.add_model(folder, told, place)
    refresh(read_outline())
    return made


def remove(name: str) -> None:
    """Remove a model that you have added. Raises :class:`~studiolo.errors.NotKept` where it is not yours."""
    keep.remove(card(name))
    refresh(read_outline())
