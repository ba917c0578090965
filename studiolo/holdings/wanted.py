"""What a person says of something to be added -> its card, or all faults of what was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from studiolo.errors import Fault, NotKept, shown
from studiolo.holdings.card import Card, Place, SetName, Text, Words
from studiolo.modelcache import is_name

__all__ = ["wanted"]


_SET_NAME: TypeAdapter[str] = TypeAdapter(SetName, config=ConfigDict(strict=True))
_NAMES = {
    "data": "letters, digits, '_', '.' and '-', at most 64",
    "model": "letters, digits, '_', '.' and '-', as ORG/NAME, without '--' and '..', at most 96",
}


class _Told(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    licence: Words
    description: Text
    citation: Text
    url: Text
    limits: Text
    simulated: bool | None


def wanted(kind: Literal["data", "model"], place: Place, *, name: str, **said: Any) -> Card:
    """The card of what is to be added, without its parts. Raises ``NotKept`` with all faults."""
    faults = []
    try:
        told: Any = _Told.model_validate(said)
    except ValidationError as error:
        faults = [Fault(str(item["loc"][0]), shown(item["input"]), item["msg"]) for item in error.errors()]
    if not _is_name(kind, name):
        faults.insert(0, Fault("name", shown(name), _NAMES[kind]))
    if faults:
        raise NotKept(faults, f"{shown(name)} was not added")
    return Card(
        name=name,
        description=told.description or f"Added as {name}.",
        licence=told.licence,
        citation=told.citation or ("" if told.url else "not stated"),
        source=told.url,
        version="",
        limits=told.limits or "not stated",
        simulated=told.simulated,
        groups=() if place.of in ("site", "me") else (place.of,),
        parts=(),
        size=0,
        place=place,
        folder=Path(place.folder),
        kind=kind,
    )


def _is_name(kind: Literal["data", "model"], name: object) -> bool:
    if kind == "model":
        return isinstance(name, str) and is_name(name)
    try:
        _SET_NAME.validate_python(name)
    except ValidationError:
        return False
    return True
