"""The card of a data set or a model: text of a JSON-LD file -> :class:`Card`, or every fault of it. Runs nothing, opens nothing.

Cards of data sets are Croissant files (https://docs.mlcommons.org/croissant/); what Croissant has no word for stands in keys
of ours, ``studiolo:…``. A card may come from anybody: whatever does not pass the schema below is refused as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from studiolo.errors import CardError, Fault, printable, shown

__all__ = ["CARD", "MODEL_CARD", "Card", "Part", "Place", "as_json", "format_of", "parse_card", "relative"]

CARD = "croissant.json"
"""The file in a data set's folder that says what it is."""
MODEL_CARD = "card.json"
"""The same in the folder of a model, beside ``refs`` and ``snapshots``."""

LARGEST = 16 * 1024 * 1024
"""Bytes that a card may have."""

# Files whose reading runs what their writer wanted to be run.
PROGRAMS = (".pkl", ".pickle", ".p", ".joblib", ".dill", ".pt", ".pth", ".ckpt", ".bin.index", ".npy.pickle")
_PICKLES = re.compile(r"pickle|x-python|joblib|pytorch", re.ASCII | re.IGNORECASE)

_MEDIA = {
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/json": "json",
    "application/jsonlines": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/x-npz": "npz",
    "text/plain": "text",
}
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".npz": "npz",
    ".txt": "text",
    ".log": "text",
    ".md": "text",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".webp": "image",
    ".tif": "image",
    ".tiff": "image",
}
MEDIA_OF = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "parquet": "application/vnd.apache.parquet",
    "json": "application/json",
    "jsonl": "application/jsonlines",
    "npz": "application/x-npz",
    "text": "text/plain",
    "image": "image/*",
    "other": "application/octet-stream",
}

# Croissant's own context: its tools insist on the very same, and take words that stand in it for theirs.
_CROISSANT = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset jsonPath "
    "key md5 parentField path recordSet references regex repeated replace samplingRate separator source subField transform"
)
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{word: f"cr:{word}" for word in _CROISSANT.split()},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "studiolo": "urn:studiolo:catalogue:",
}


# --- Values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder of data sets or models. ``of`` is ``"site"``, ``"me"``, or the unix group whose members see it."""

    of: str
    folder: Path

    @property
    def for_whom(self) -> str:
        """Who sees what lies there, in words."""
        return {"site": "everybody", "me": "me"}.get(self.of, f"group {self.of}")


@dataclass(frozen=True)
class Part:
    """One file of a set, or many of one kind: those that ``patterns`` match, in the set's folder.

    ``size`` is in bytes; ``sha256`` is that of the file, or for many files that of what ``sha256sum`` prints of them, sorted
    by name. ``format`` is one of ``csv tsv parquet json jsonl npz text image other``.
    """

    name: str
    format: str
    patterns: tuple[str, ...]
    size: int
    sha256: str
    files: int
    many: bool


@dataclass(frozen=True)
class Card:
    """What a data set or a model is, where it comes from, who may see it, and what it may be used for.

    ``size`` is in bytes. ``groups`` are the unix groups that may see it (empty: everybody); the card says so, the files'
    permissions hold it. ``simulated`` is ``None`` where nobody has said. ``folder`` is where it lies.
    """

    name: str
    description: str
    licence: str
    citation: str
    source: str
    version: str
    limits: str
    simulated: bool | None
    groups: tuple[str, ...]
    parts: tuple[Part, ...]
    size: int
    place: Place
    folder: Path
    kind: Literal["data", "model"] = "data"

    @property
    def full_name(self) -> str:
        """The name that only this one has: with its group, or ``me``, before a colon where it is not the site's."""
        return self.name if self.place.of == "site" else f"{self.place.of}:{self.name}"

    def _repr_html_(self) -> str:
        from studiolo.holdings.show import card_html  # only where somebody looks

        return card_html(self)

    def __repr__(self) -> str:
        from studiolo.holdings.show import card_text

        return card_text(self)


# --- The schema ------------------------------------------------------------------------------------------------------


def relative(value: str) -> str:
    """A path below the card's folder. Raises ``ValueError`` for anything that could lead elsewhere."""
    parts = PurePosixPath(value).parts
    if (
        not value.isprintable()
        or "\\" in value
        or value.startswith(("/", "~"))
        or "::" in value
        or "://" in value
        or not parts
        or any(part == ".." or part.startswith(".") for part in parts)
        or len(value) > 500
    ):
        raise ValueError("a path below the card's folder, without '..', hidden folders, '\\' or an address")
    return "/".join(parts)


def _safe(value: str) -> str:
    if value.lower().endswith(PROGRAMS):
        raise ValueError("no pickles: reading one runs whatever its writer wants. Save as Parquet, npz or safetensors")
    return value


def _pattern(value: str) -> str:
    relative(value)
    if value.count("*") > 6 or value.count("**") > 1 or re.search(r"[\[\]{}]", value):
        raise ValueError("a pattern of names with '*', '?' and at most one '**'")
    return _safe(value)


def _bytes(value: object) -> int:
    found = re.fullmatch(r"([0-9]{1,18})( ?(B|bytes?))?", str(value).strip(), re.ASCII)
    if isinstance(value, (bool, float)) or not found:
        raise ValueError("a size in bytes, such as '1234 B'")
    return int(found[1])


def _media(value: str) -> str:
    if _PICKLES.search(value):
        raise ValueError("no pickles and no programs: reading them runs whatever their writer wants")
    return value


def _one_line(value: str) -> str:
    if not value.replace("\n", " ").isprintable():
        raise ValueError("text without control characters")
    return value.strip()


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _joined(value: object) -> object:
    return ", ".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


Text = Annotated[str, AfterValidator(_one_line), Field(max_length=20_000)]
Words = Annotated[Text, Field(min_length=1)]
Size = Annotated[int, BeforeValidator(_bytes)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]
GroupName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
ModelName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})?$", max_length=96)
]


class _Schema(BaseModel):
    # Croissant has many more keys, and its extensions more still: what is not ours to check is let be.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _File(_Schema):
    kind: Literal["cr:FileObject"] = Field(alias="@type")
    name: Annotated[str, Field(min_length=1, max_length=600), AfterValidator(_one_line)]
    url: Annotated[str, AfterValidator(relative), AfterValidator(_safe)] = Field(alias="contentUrl")
    size: Size = Field(alias="contentSize")
    media: Annotated[str, AfterValidator(_media)] = Field(alias="encodingFormat")
    sha256: Hash

    def part(self) -> Part:
        return Part(self.name, format_of(self.url, self.media), (self.url,), self.size, self.sha256, 1, False)


class _Files(_Schema):
    kind: Literal["cr:FileSet"] = Field(alias="@type")
    name: Annotated[str, Field(min_length=1, max_length=600), AfterValidator(_one_line)]
    includes: Annotated[
        list[Annotated[str, AfterValidator(_pattern)]], BeforeValidator(_several), Field(min_length=1, max_length=20)
    ]
    media: Annotated[str, AfterValidator(_media)] = Field(alias="encodingFormat")
    size: Size = Field(alias="studiolo:size")
    files: Annotated[int, Field(ge=1)] = Field(alias="studiolo:files")
    sha256: Hash = Field(alias="studiolo:sha256")

    def part(self) -> Part:
        found = format_of(self.includes[0], self.media)
        return Part(self.name, found, tuple(self.includes), self.size, self.sha256, self.files, True)


class _Common(_Schema):
    description: Words
    license: Annotated[Words, BeforeValidator(_joined)]
    citation: Text = Field("", alias="citeAs")
    url: Text = ""
    version: Text = ""
    limits: Words = Field(alias="rai:dataLimitations")
    simulated: bool | None = Field(alias="studiolo:simulated")
    groups: Annotated[list[GroupName], Field(max_length=50)] = Field(alias="studiolo:groups")
    distribution: Annotated[
        list[Annotated[_File | _Files, Field(discriminator="kind")]], Field(min_length=1, max_length=5000)
    ]


class _DataCard(_Common):
    kind: Literal["sc:Dataset", "Dataset"] = Field(alias="@type")
    name: SetName
    conforms: Annotated[list[str], BeforeValidator(_several)] = Field(alias="conformsTo")


class _ModelCard(_Common):
    kind: Literal["sc:CreativeWork", "CreativeWork"] = Field(alias="@type")
    name: ModelName


# What pydantic says of a pattern is a pattern; people are told what it means.
_ALLOWED = {
    "sha256": "64 hexadecimal digits",
    "studiolo:sha256": "64 hexadecimal digits",
    "studiolo:groups": "names of unix groups; an empty list for everybody",
    "name": "letters, digits, '_', '.' and '-' (a model's: ORG/NAME)",
}


def parse_card(text: str, place: Place, folder: Path, kind: Literal["data", "model"] = "data") -> Card:
    """Read the text of a card. Raises :class:`~studiolo.errors.CardError` with all of its faults."""
    source = f"{folder}/{CARD if kind == 'data' else MODEL_CARD}"
    read = (_DataCard if kind == "data" else _ModelCard).model_validate
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else printable(str(error))
        raise CardError([Fault("the file", "", f"not JSON: {reason}")], source) from None
    if not isinstance(data, dict):
        raise CardError([Fault("the file", shown(data), "an object: { … }")], source)
    try:
        told: Any = read(data)
    except ValidationError as error:
        raise CardError([_fault(item) for item in error.errors(include_url=False)], source) from None
    faults = list(_cross_faults(told, place, folder, kind))
    if faults:
        raise CardError(faults, source)
    parts = tuple(item.part() for item in told.distribution)
    return Card(
        name=told.name,
        description=told.description,
        licence=told.license,
        citation=told.citation,
        source=told.url,
        version=told.version,
        limits=told.limits,
        simulated=told.simulated,
        groups=tuple(told.groups),
        parts=parts,
        size=sum(part.size for part in parts),
        place=place,
        folder=folder,
        kind=kind,
    )


def _cross_faults(told: Any, place: Place, folder: Path, kind: str) -> list[Fault]:
    faults = []
    expected = folder.name if kind == "data" else folder.name.removeprefix("models--").replace("--", "/")
    if told.name != expected:
        faults.append(Fault("name", shown(told.name), f"the name of its folder, {shown(expected)}"))
    if kind == "data" and not any(item.startswith("http://mlcommons.org/croissant/") for item in told.conforms):
        faults.append(Fault("conformsTo", shown(told.conforms), "'http://mlcommons.org/croissant/1.0'"))
    if not told.citation and not told.url:
        faults.append(Fault("citeAs", "", "missing: say where it comes from, in citeAs, in url or in both"))
    if place.of not in ("site", "me") and told.groups != [place.of]:
        allowed = f"{shown([place.of])}, in whose folder it lies"
        faults.append(Fault("studiolo:groups", shown(told.groups), allowed))
    names = [item.name for item in told.distribution]
    faults += [
        Fault(f"distribution[{number}].name", shown(name), "a name that no other one has")
        for number, name in enumerate(names)
        if name in names[:number]
    ]
    return faults


def _fault(item: Any) -> Fault:
    where = ""
    for step in item["loc"]:
        if isinstance(step, int):
            where += f"[{step}]"
        elif step not in ("cr:FileObject", "cr:FileSet"):  # pydantic's way of telling which of the two it took
            where += f".{printable(step)}" if where else printable(step)
    last = where.rpartition(".")[2].partition("[")[0]
    if item["type"] == "missing":
        return Fault(where, "", "missing")
    if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return Fault(f"{where}.@type", "", "'cr:FileObject' or 'cr:FileSet'")
    if item["type"] == "string_pattern_mismatch" and last in _ALLOWED:
        return Fault(where, shown(item["input"]), _ALLOWED[last])
    message = str(item["msg"]).removeprefix("Value error, ")
    return Fault(where, shown(item["input"]), message[0].lower() + message[1:])


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of a key that stands twice may take different ones: what was checked must be what is used.
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"the key {shown(twice)} stands twice in one object")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON's")


def format_of(path: str, media: str = "") -> str:
    """The format of a file by its media type, or else by its name: a word of :class:`Part`."""
    media = media.partition(";")[0].strip().lower()
    if media in _MEDIA:
        return _MEDIA[media]
    if media.startswith("image/"):
        return "image"
    plain = path.lower().removesuffix(".gz")
    return next((word for suffix, word in _SUFFIXES.items() if plain.endswith(suffix)), "other")


# --- Writing ---------------------------------------------------------------------------------------------------------


def as_json(card: Card) -> str:
    """The text of a card's file; :func:`parse_card` reads it back as the same card."""
    data: dict[str, Any] = {"@context": _CONTEXT}
    if card.kind == "data":
        data |= {"@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0"}
    else:
        data |= {"@type": "sc:CreativeWork"}
    data |= {"name": card.name, "description": card.description, "license": card.licence}
    data |= {"citeAs": card.citation} if card.citation else {}
    data |= {"url": card.source} if card.source else {}
    data |= {"version": card.version} if card.version else {}
    data |= {
        "rai:dataLimitations": card.limits,
        "studiolo:simulated": card.simulated,
        "studiolo:groups": list(card.groups),
        "distribution": [_part_json(part) for part in card.parts],
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _part_json(part: Part) -> dict[str, Any]:
    media = MEDIA_OF[part.format]
    if part.many:
        return {
            "@type": "cr:FileSet",
            "@id": part.name,
            "name": part.name,
            "includes": list(part.patterns),
            "encodingFormat": media,
            "studiolo:files": part.files,
            "studiolo:size": part.size,
            "studiolo:sha256": part.sha256,
        }
    return {
        "@type": "cr:FileObject",
        "@id": part.name,
        "name": part.name,
        "contentUrl": part.patterns[0],
        "contentSize": f"{part.size} B",
        "encodingFormat": media,
        "sha256": part.sha256,
    }
