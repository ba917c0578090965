"""A catalogue for tests: a session's outline that names folders of a test, and sets and models to put there."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studiolo.outline import VARIABLE, outline
from studiolo.site import Catalogue, parse

SITE = Path(__file__).parents[1] / "unit" / "site_for_tests.toml"
REVISION = "a" * 40


@dataclass(frozen=True)
class Shelves:
    """The folders of a site's catalogue, and the home of whoever looks."""

    top: Path

    @property
    def data(self) -> Path:
        return self.top / "site/data"

    @property
    def models(self) -> Path:
        return self.top / "site/models"

    @property
    def home(self) -> Path:
        return self.top / "home"

    @property
    def own_models(self) -> Path:
        return self.home / ".cache/huggingface/hub"

    def group(self, name: str, kind: str = "data") -> Path:
        return self.top / "groups" / name / kind


def shelves_in(top: Path, monkeypatch: pytest.MonkeyPatch, **catalogue: Any) -> Shelves:
    """Make this process one of a session whose site has its catalogue below ``top``."""
    made = Shelves(top)
    for folder in (made.data, made.models, made.home):
        folder.mkdir(parents=True)
    told = {"data": (str(made.data),), "models": (str(made.models),), "groups": f"{top}/groups/{{group}}", **catalogue}
    site = parse(SITE.read_text(encoding="utf-8")).model_copy(update={"catalogue": Catalogue(**told)})
    (top / "site.json").write_text(outline(site), encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(top / "site.json"))
    monkeypatch.setenv("HOME", str(made.home))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return made


def card_of(name: str, files: Mapping[str, bytes], media: str, /, **changes: Any) -> dict[str, Any]:
    """The card of a set with these files, as an operator would write it."""
    card = {
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"What {name} is.",
        "license": "CC0-1.0",
        "url": f"https://example.org/{name}",
        "rai:dataLimitations": "None known.",
        "studiolo:simulated": False,
        "studiolo:groups": [],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "name": path,
                "contentUrl": path,
                "contentSize": f"{len(content)} B",
                "encodingFormat": media,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for path, content in files.items()
        ],
    }
    return card | changes


def put(folder: Path, name: str, files: Mapping[str, bytes], media: str = "", /, **changes: Any) -> Path:
    """Lay a set into a folder, with its card; returns its own folder."""
    made = folder / name
    for path, content in files.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_bytes(content)
    (made / "croissant.json").write_text(json.dumps(card_of(name, files, media, **changes)), encoding="utf-8")
    return made


def put_model(folder: Path, name: str, files: Mapping[str, bytes], revision: str = REVISION) -> Path:
    """Lay a model into a folder as Hugging Face's library does: snapshots are links to blobs."""
    made = folder / f"models--{name.replace('/', '--')}"
    for part in ("refs", "blobs", f"snapshots/{revision}"):
        (made / part).mkdir(parents=True)
    (made / "refs/main").write_text(revision, encoding="ascii")
    for path, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        (made / "blobs" / digest).write_bytes(content)
        (made / "snapshots" / revision / path).symlink_to(f"../../blobs/{digest}")
    return made


def npz(**arrays: Any) -> bytes:
    """The content of an archive of arrays."""
    numpy = pytest.importorskip("numpy")
    buffer = io.BytesIO()
    numpy.savez(buffer, **arrays)
    return buffer.getvalue()


def picture(value: int) -> bytes:
    """The content of a small picture, all of one red."""
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.new("RGB", (4, 3), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()
