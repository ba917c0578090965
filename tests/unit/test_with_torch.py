"""With the real torch and transformers, where they are installed (the lock file has neither): loaders, models, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import pytest
from shelves import Shelves, npz, picture, put, shelves_in

from studiolo import data, modelcache, models
from studiolo.errors import NotLoadable

torch = pytest.importorskip("torch")

ROWS = 103
SEED = 20261122


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelves:
    return shelves_in(tmp_path, monkeypatch)


def loader(made: Any, **options: Any) -> Any:
    if options.get("num_workers"):
        options |= {"persistent_workers": True}
    if options.get("shuffle"):
        options |= {"generator": torch.Generator().manual_seed(SEED)}
    return torch.utils.data.DataLoader(made, batch_size=10, **options)


WAYS = [{}, {"shuffle": True}, {"num_workers": 2}, {"num_workers": 2, "shuffle": True}]
"""How a person may go through a data set."""
STARTS = ["fork", "spawn"]


@pytest.mark.parametrize("way", WAYS)
def test_a_table_goes_through_a_loader_each_row_once(shelves: Shelves, way: dict[str, Any]) -> None:
    lines = "".join(f"{n / 2},{n},{n % 3}\n" for n in range(ROWS))
    put(shelves.data, "sales", {"t.csv": f"price,items,kind\n{lines}".encode()})
    going = loader(data.load("sales", "torch", target="kind"), **way)
    for _epoch in range(2):
        batches = list(going)
        assert [len(kinds) for _features, kinds in batches] == [10] * (ROWS // 10) + [ROWS % 10]
        features, kinds = (torch.cat(column) for column in zip(*batches, strict=True))
        assert (features.dtype, kinds.dtype) == (torch.float32, torch.int64)
        assert sorted(features[:, 1].tolist()) == list(range(ROWS))
        assert torch.equal(features[:, 0] * 2, features[:, 1])
        assert torch.equal(features[:, 1] % 3, kinds.float())
        assert (features[:, 1].tolist() != list(range(ROWS))) == bool(way.get("shuffle"))


@pytest.mark.parametrize("kind", ["uint8", "int16", ">i4", "bool"])
def test_integers_that_are_the_target_are_classes_as_losses_want_them(shelves: Shelves, kind: str) -> None:
    x = numpy.arange(ROWS * 4, dtype="float32").reshape(ROWS, 4)
    put(shelves.data, "digits", {"d.npz": npz(x=x, y=(numpy.arange(ROWS) % 2).astype(kind))})
    made = data.load("digits", "torch", target="y")
    for pixels, kinds in loader(made):
        assert torch.nn.functional.cross_entropy(torch.nn.Linear(4, 2)(pixels), kinds).isfinite()


@pytest.mark.parametrize("kind", [">f4", ">i8", "uint16", "uint32", "uint64", "float16", "bool", "complex64"])
def test_arrays_of_all_kinds_of_numbers_become_tensors(shelves: Shelves, kind: str) -> None:
    values = numpy.array([0, 1, 1, 0]).astype(kind)
    put(shelves.data, "digits", {"d.npz": npz(x=values)})
    (batch,) = next(iter(loader(data.load("digits", "torch"))))
    assert numpy.array_equal(batch.numpy(), values)


@pytest.mark.parametrize("values", [["a", "b"], numpy.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]")])
def test_arrays_that_are_no_numbers_are_refused_by_name(shelves: Shelves, values: Any) -> None:
    put(shelves.data, "digits", {"d.npz": npz(x=[1, 2], words=values)})
    with pytest.raises(NotLoadable, match="these arrays are no numbers: words"):
        data.load("digits", "torch")


def test_missing_values_of_a_table(shelves: Shelves) -> None:
    put(shelves.data, "sales", {"t.csv": b"price,items,kind\n1.5,,1\n,4,0\n"})
    features, _kinds = data.load("sales", "torch", target="kind").tensors
    assert features.isnan().tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("kind", ["Int64", "boolean"])
def test_missing_values_of_a_parquet_with_pandas_own_kinds(shelves: Shelves, kind: str) -> None:
    import pandas

    table = pandas.DataFrame({"price": [1.5, 2.5], "items": pandas.array([1, None], dtype=kind)})  # type: ignore[call-overload]
    path = shelves.home / "t.parquet"
    table.to_parquet(path)
    put(shelves.data, "sales", {"t.parquet": path.read_bytes()})
    (features,) = data.load("sales", "torch").tensors
    assert features.isnan().tolist() == [[False, False], [False, True]]
    with pytest.raises(NotLoadable, match="the target 'items' has missing values"):
        data.load("sales", "torch", columns=["price"], target="items")


@pytest.mark.parametrize("start", STARTS)
def test_pictures_go_through_a_loader_in_worker_processes(shelves: Shelves, start: str) -> None:
    source = shelves.home / "pets"
    for kind in ("cat", "dog"):
        (source / kind).mkdir(parents=True)
        for number in range(6):
            (source / kind / f"{number}.png").write_bytes(picture(number))
    data.add(source, name="pets", licence="internal")
    images = data.load("pets", "torch")
    seen = []
    for batch, labels in loader(images, num_workers=2, shuffle=True, multiprocessing_context=start):
        assert batch.dtype == torch.uint8
        assert batch.shape[1:] == (3, 3, 4)
        seen += [(images.classes[label], int(one[0, 0, 0])) for one, label in zip(batch, labels, strict=True)]
    assert sorted(seen) == [(kind, number) for kind in ("cat", "dog") for number in range(6)]


# --- Models ----------------------------------------------------------------------------------------------------------

MAKE = """
import sys, torch
from transformers import BertConfig, BertModel
torch.manual_seed(20261122)
sizes = dict(vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
model = BertModel(BertConfig(max_position_embeddings=16, **sizes))
model.save_pretrained(sys.argv[1])
print(float(model.embeddings.word_embeddings.weight.sum()))
"""

ASK = """
import json, sys
from studiolo.ipython import missing_model
from transformers import AutoModel
try:
    model = AutoModel.from_pretrained(sys.argv[1])
except Exception as error:
    print(json.dumps({"missing": missing_model(error), "words": str(error)}))
else:
    print(json.dumps({"kind": type(model).__name__, "weight": float(model.embeddings.word_embeddings.weight.sum())}))
"""


def told(code: str, *arguments: str, **variables: str) -> str:
    """What a program says last, in a process of its own: importing transformers warns, and changes much."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def ask(shelves: Shelves, name: str) -> dict[str, Any]:
    """What ``AutoModel.from_pretrained`` does with a job's environment, on a node that reaches nothing."""
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    overlay = str(shelves.home / modelcache.OVERLAY)
    found: dict[str, Any] = json.loads(told(ASK, name, HF_HUB_CACHE=overlay, HF_HUB_OFFLINE="1", **nowhere))
    return found


@dataclass(frozen=True)
class Tiny:
    """A folder with a model as ``save_pretrained`` has written it, and the sum of its first weights."""

    folder: Path
    weight: float


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    folder = tmp_path_factory.mktemp("trained")
    return Tiny(folder, float(told(MAKE, str(folder))))


@pytest.fixture
def tiny(shelves: Shelves, trained: Tiny) -> Tiny:
    """The same, added as one's own ``aurora/tiny``."""
    models.add(trained.folder, name="aurora/tiny", licence="internal")
    return trained


def test_transformers_takes_a_model_that_was_added_by_its_name_or_its_path(shelves: Shelves, tiny: Tiny) -> None:
    for name in ("aurora/tiny", str(models.path("aurora/tiny"))):
        found = ask(shelves, name)
        assert found["kind"] == "BertModel"
        assert found["weight"] == pytest.approx(tiny.weight)


def test_transformers_takes_the_sites_which_nobody_can_write(shelves: Shelves, tiny: Tiny) -> None:
    kept = models.card("aurora/tiny").folder
    kept.rename(shelves.models / kept.name)
    for path, folders, files in os.walk(shelves.models):
        for name in (*folders, *files):
            os.chmod(os.path.join(path, name), 0o555)
    models.get("aurora/tiny")
    assert models.card("aurora/tiny").place.of == "site"
    assert ask(shelves, "aurora/tiny")["weight"] == pytest.approx(tiny.weight)


@pytest.mark.parametrize("name", ["aurora/tinny", "tinny"])
def test_a_model_that_is_missing_is_told_by_its_name(shelves: Shelves, tiny: Tiny, name: str) -> None:
    assert ask(shelves, name)["missing"] == name


def test_one_without_its_weights_is_told_by_transformers_itself(shelves: Shelves, tiny: Tiny) -> None:
    (models.path("aurora/tiny") / "model.safetensors").unlink()
    found = ask(shelves, "aurora/tiny")
    assert found["missing"] is None  # nothing is missing from the catalogue
    assert "aurora/tiny does not appear to have a file named" in found["words"]
