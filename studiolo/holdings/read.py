"""The files of a part -> pandas, Dask, NumPy or torch. Nothing is ever unpickled; what can not be is said before it is tried."""

from __future__ import annotations

import functools
import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from studiolo.errors import NotLoadable, printable, shown
from studiolo.holdings.card import Card, Part

__all__ = ["INTO", "Images", "Reading", "load_part"]

INTO = ("pandas", "dask", "numpy", "torch", "path")
"""What a data set can become."""

_CAN: Mapping[str, tuple[str, ...]] = {
    "csv": ("pandas", "dask", "numpy", "torch", "path"),
    "tsv": ("pandas", "dask", "numpy", "torch", "path"),
    "parquet": ("pandas", "dask", "numpy", "torch", "path"),
    "json": ("pandas", "numpy", "torch", "path"),
    "jsonl": ("pandas", "dask", "numpy", "torch", "path"),
    "npz": ("numpy", "pandas", "torch", "path"),
    "text": ("pandas", "path"),
    "image": ("pandas", "torch", "path"),
    "other": ("path",),
}


@dataclass(frozen=True)
class Reading:
    """One part of a set with its checked files, and what of it is wanted: ``columns`` (or arrays), and a ``target``."""

    card: Card
    part: Part
    files: Sequence[Path]
    columns: Sequence[str] | None = None
    target: str | None = None

    def refusal(self, words: str) -> NotLoadable:
        """That it can not be, said with the names of set and part."""
        return NotLoadable(f"{self.card.name}, part {shown(self.part.name)}: {words}")


def load_part(reading: Reading, into: str) -> Any:
    """Read into what was asked for. Raises ``NotLoadable`` with what is possible instead."""
    word = reading.part.format
    if into not in _CAN[word]:
        raise reading.refusal(f"{word} can not become into={shown(into)}, but {', '.join(_CAN[word])}.")
    if reading.target is not None and into != "torch":
        raise reading.refusal(f"target={shown(reading.target)} belongs to into='torch'.")
    if reading.columns is not None and word in ("image", "text"):
        raise reading.refusal(f"columns belong to tables and arrays; this is {word}.")
    try:
        return _read(reading, into)
    except NotLoadable:
        raise
    except (ValueError, KeyError, OSError, EOFError, TypeError, SyntaxError, BadZipFile) as error:
        # The readers of a dozen formats tell a broken file in as many ways.
        raise reading.refusal(f"reading it as {word} failed ({_reason(error)}).") from error


def _reason(error: Exception) -> str:
    text = printable(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}"


def _read(reading: Reading, into: str) -> Any:
    if into == "path":
        return reading.card.folder if reading.part.many else reading.files[0]
    if into == "dask":
        return _dask(reading)
    if reading.part.format == "image":
        return _image_table(reading) if into == "pandas" else _image_set(reading)
    become = _ARRAYS if reading.part.format == "npz" else _TABLES
    return become[into](reading)


# --- Tables ----------------------------------------------------------------------------------------------------------


def _table(reading: Reading) -> Any:
    pandas = _library("pandas")
    columns = _columns(reading)
    read: dict[str, Callable[[Path], Any]] = {
        "csv": functools.partial(pandas.read_csv, usecols=columns),
        "tsv": functools.partial(pandas.read_csv, sep="\t", usecols=columns),
        "parquet": lambda path: _parquet(pandas, path, columns),
        "json": pandas.read_json,
        "jsonl": functools.partial(pandas.read_json, lines=True),
        "text": functools.partial(_lines, pandas),
    }
    tables = [read[reading.part.format](path) for path in reading.files]
    table = tables[0] if len(tables) == 1 else pandas.concat(tables, ignore_index=True)
    return table[columns] if columns else table


def _columns(reading: Reading) -> list[str] | None:
    if reading.columns is None:
        return None
    target = [reading.target] if reading.target and reading.target not in reading.columns else []
    return [*reading.columns, *target]


def _parquet(pandas: Any, path: Path, columns: list[str] | None) -> Any:
    _library("pyarrow")
    return pandas.read_parquet(path, columns=columns, engine="pyarrow")


def _lines(pandas: Any, path: Path) -> Any:
    import gzip

    opener: Any = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        return pandas.DataFrame({"text": [line.rstrip("\r\n") for line in file]})


def _dask(reading: Reading) -> Any:
    _library("pyarrow")
    frames = _library("dask.dataframe", "dask")
    columns = _columns(reading)
    paths = [glob.escape(str(path)) for path in reading.files]  # Dask takes '[', '*' and '?' in a name for patterns
    if reading.part.format == "parquet":
        return frames.read_parquet(paths, columns=columns)
    packed: dict[str, Any] = {"blocksize": None} if any(path.endswith(".gz") for path in paths) else {}
    if reading.part.format == "jsonl":
        table = frames.read_json(paths, lines=True, **packed)
    else:
        table = frames.read_csv(paths, sep="\t" if reading.part.format == "tsv" else ",", **packed)
    return table[columns] if columns else table


def _table_set(reading: Reading) -> Any:
    torch, table, target = _library("torch"), _table(reading), reading.target
    if target is not None and target not in table.columns:
        raise reading.refusal(f"no column {shown(target)}; there are {_names(table.columns)}.")
    features = table.drop(columns=[target]) if target is not None else table
    words = [str(name) for name in features.columns if features[name].dtype.kind not in "biuf"]
    if words:
        raise reading.refusal(
            f"these columns are no numbers: {_names(words)}. Choose numbers with columns=[…], or load it into pandas and "
            "convert them."
        )
    tensors = [torch.tensor(features.to_numpy(dtype="float32"))]
    if target is not None:
        kind = table[target].dtype.kind
        if kind not in "biuf":
            raise reading.refusal(f"the target {shown(target)} is no number; load it into pandas and convert it.")
        if kind != "f" and table[target].isna().any():
            raise reading.refusal(f"the target {shown(target)} has missing values; load it into pandas and drop them.")
        tensors.append(torch.tensor(table[target].to_numpy(dtype="float32" if kind == "f" else "int64")))
    return torch.utils.data.TensorDataset(*tensors)


_TABLES: Mapping[str, Callable[[Reading], Any]] = {
    "pandas": _table,
    "numpy": lambda reading: _table(reading).to_numpy(),
    "torch": _table_set,
}


# --- Arrays ----------------------------------------------------------------------------------------------------------


def _arrays(reading: Reading) -> dict[str, Any]:
    numpy = _library("numpy")
    found: dict[str, Any] = {}
    for path in reading.files:
        with open(path, "rb") as file, _archive(numpy.load(file, allow_pickle=False)) as arrays:
            for name in _columns(reading) or arrays.files:
                if name not in arrays.files:
                    raise reading.refusal(f"{path.name} has no array {shown(name)}; there are {_names(arrays.files)}.")
                found[name if len(reading.files) == 1 else f"{path.stem}/{name}"] = arrays[name]
    return found


def _archive(loaded: Any) -> Any:
    if not hasattr(loaded, "files"):
        raise ValueError("a single array (.npy), where an archive of arrays (.npz) was to be")
    return loaded


def _array_table(reading: Reading) -> Any:
    arrays = _arrays(reading)
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1 or any(len(shape) != 1 for shape in shapes):
        raise reading.refusal(
            f"only arrays of one dimension and one length become a table; there are {_shapes(arrays)}. Choose some with "
            "columns=[…], or load it with into='numpy'."
        )
    return _library("pandas").DataFrame(arrays)


def _array_set(reading: Reading) -> Any:
    torch, arrays, target = _library("torch"), _arrays(reading), reading.target
    if target is not None and target not in arrays:
        raise reading.refusal(f"no array {shown(target)}; there are {_names(arrays)}.")
    ordered = [*(name for name in arrays if name != target), *([target] if target else [])]
    if len({arrays[name].shape[:1] for name in ordered}) != 1 or not arrays[ordered[0]].shape:
        raise reading.refusal(
            f"a torch data set needs arrays of one length; there are {_shapes(arrays)}. Choose them with columns=[…]."
        )
    words = [name for name in ordered if arrays[name].dtype.kind not in "biufc"]
    if words:
        raise reading.refusal(f"these arrays are no numbers: {_names(words)}. Choose numbers with columns=[…].")
    return torch.utils.data.TensorDataset(
        *(torch.from_numpy(_native(arrays[name], name == target)) for name in ordered)
    )


def _native(array: Any, is_target: bool) -> Any:
    # torch has no numbers of the other byte order, and its losses take classes as 64 bits alone, as tables give them.
    kind = "int64" if is_target and array.dtype.kind in "biu" else array.dtype.newbyteorder("=")
    return array.astype(kind, copy=False)


_ARRAYS: Mapping[str, Callable[[Reading], Any]] = {"numpy": _arrays, "pandas": _array_table, "torch": _array_set}


def _shapes(arrays: Mapping[str, Any]) -> str:
    return ", ".join(f"{printable(str(name))} {array.shape}" for name, array in list(arrays.items())[:12])


# --- Images ----------------------------------------------------------------------------------------------------------


def _labels(reading: Reading) -> list[str]:
    top = Path(reading.card.folder).resolve()
    return ["" if path.parent == top else path.parent.name for path in reading.files]


def _image_table(reading: Reading) -> Any:
    paths = [str(path) for path in reading.files]
    return _library("pandas").DataFrame({"path": paths, "label": _labels(reading)})


class Images:
    """Pictures in folders named for what they show: ``images[3]`` is a tensor (channels, height, width; bytes) and a label.

    The label is a number; ``classes[number]`` is the folder's name. ``transform`` may be set to a function of the picture
    (a PIL image) that gives the tensor. Works with ``torch.utils.data.DataLoader``, in worker processes too.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[str]) -> None:
        self.files = list(files)
        self.classes = sorted(set(labels))
        self.labels = [self.classes.index(label) for label in labels]
        self.transform: Callable[[Any], Any] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        images = _library("PIL.Image", "pillow")
        with images.open(self.files[index]) as image:
            picture = image.convert("RGB" if image.mode not in ("L", "RGB") else image.mode)
        return (self.transform or _tensor)(picture), self.labels[index]


def _tensor(picture: Any) -> Any:
    array = _library("numpy").array(picture)
    tensor = _library("torch").from_numpy(array)
    return tensor[None] if array.ndim == 2 else tensor.permute(2, 0, 1)


def _image_set(reading: Reading) -> Images:
    _library("torch")
    return Images(reading.files, _labels(reading))


# --- Libraries -------------------------------------------------------------------------------------------------------


def _library(module: str, package: str = "") -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NotLoadable(
            f"This environment has no {package or module}: start a session in one that has it, or load into='path'."
        ) from error


def _names(names: Any) -> str:
    told = [printable(str(name)) for name in names]
    return ", ".join(told[:20]) + (" …" if len(told) > 20 else "")
