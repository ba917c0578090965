"""What is known of a model in Hugging Face's layout: its own card of ours, or else what its README says of itself."""

from __future__ import annotations

import os
import re
from pathlib import Path

from studiolo.errors import CardError, Fault
from studiolo.holdings.card import MODEL_CARD, Card, Place, parse_card
from studiolo.holdings.files import read_text, walk
from studiolo.modelcache import model_name, snapshot

__all__ = ["front_matter", "read_model"]

_README_LIMIT = 1 << 20


def read_model(place: Place, folder: Path) -> Card | None:
    """The card of a model's folder; ``None`` where nothing has been downloaded completely.

    Raises ``PermissionError`` where it is not this person's, ``CardError`` where it is not what it should be.
    """
    if folder.is_symlink():
        raise CardError([Fault("the folder", "", "a folder of its own: this is a link to another place")], str(folder))
    try:
        files = snapshot(folder)
        size = _size(folder, files)
        text = _text(folder / MODEL_CARD)
        readme = None if text is not None else _text(files / "README.md", within=folder)
    except PermissionError:
        raise
    except FileNotFoundError:
        return None  # begun and never finished, or removed at this moment
    except (OSError, ValueError) as error:
        raise CardError(
            [Fault("the folder", "", getattr(error, "strerror", None) or str(error))], str(folder)
        ) from error
    if text is not None:
        return parse_card(text, place, folder, "model")
    told = front_matter(readme or "")
    name = model_name(folder.name)
    return Card(
        name=name,
        description=told.get("pipeline_tag", "").replace("-", " "),
        licence=told.get("license_name") or told.get("license") or "not stated",
        citation="",
        source=f"https://huggingface.co/{name}",  # what has no card of ours is what Hugging Face's library has fetched
        version=files.name,
        limits="not stated: read its README",
        simulated=None,
        groups=() if place.of == "site" else (place.of,),
        parts=(),
        size=size,
        place=place,
        folder=folder,
        kind="model",
    )


def _text(path: Path, within: Path | None = None) -> str | None:
    try:
        if within is not None:  # a snapshot's files are links to the model's own blobs
            path = Path(os.path.realpath(path))
            if not str(path).startswith(os.path.realpath(within) + os.sep):
                return None
        return read_text(path, _README_LIMIT) if within else read_text(path)
    except FileNotFoundError:
        return None


def _size(folder: Path, files: Path) -> int:
    base = os.path.realpath(folder)
    total = 0
    for name in walk(files):
        found = os.path.realpath(files / name)
        if not found.startswith(base + os.sep):
            raise ValueError(f"{name!a} leads out of the model's folder")
        total += os.stat(found).st_size
    return total


def front_matter(readme: str) -> dict[str, str]:
    """The plain ``key: value`` lines at the head of a README, between two lines of dashes."""
    found = re.match(r"---\r?\n(.{0,20000}?)\r?\n---", readme, re.DOTALL)
    pairs = re.findall(r"^([a-z_]+):[ ]*([^\s\[\]{}|>][^\n\r]{0,200})$", found[1] if found else "", re.MULTILINE)
    return {key: value.strip().strip("'\"") for key, value in pairs if value.isprintable()}
