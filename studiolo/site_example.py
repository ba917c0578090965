"""The site file's example and reference, written from the schema: ``python -m studiolo.site_example toml|md``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from studiolo.site import MANY, SINGLE
from studiolo.units import minutes_words, slurm_memory

__all__ = ["example", "reference"]

# What an example needs and no default can give: the tables of a small centre.
_EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "clusters": {"main": {}},
    "partitions": {
        "cpu": {"title": "CPU nodes", "max_cpus": 64, "max_memory": "240G", "max_time": "8h"},
        "gpu": {
            "title": "GPU nodes",
            "max_cpus": 64,
            "max_memory": "480G",
            "max_time": "24h",
            "max_gpus": 4,
            "gpu_type": "a100",
            "max_shards": 4,
            "shards_per_gpu": 4,
        },
    },
    "accounts": {"playground": {"title": "Playground", "qos": ["short"]}},
    "environments": {
        "studiolo": {"title": "JupyterLab and widgets"},
        "pytorch": {
            "title": "PyTorch",
            "python": "/apps/pytorch/bin/python",
            "modules": ["env/release/2025.1", "CUDA/12.8"],
        },
    },
    "profiles": {
        "learn": {
            "title": "Learn",
            "description": "A small computer for first steps.",
            "partition": "cpu",
            "cpus": 2,
            "memory": "4G",
            "time": "2h",
        },
        "one-gpu": {
            "title": "One GPU",
            "description": "A whole GPU for training or for serving a model.",
            "partition": "gpu",
            "gpus": 1,
            "cpus": 16,
            "memory": "120G",
            "time": "4h",
        },
    },
}
_TOP = (("title", "Studiolo", "What people see as the name of the service."),
        ("support", "", "Whom people turn to: an address or a sentence, shown with every failure."))  # fmt: skip
_UNITS = {
    "time": minutes_words,
    "start_limit": minutes_words,
    "listen_limit": minutes_words,
    "idle_limit": minutes_words,
    "idle_warning": minutes_words,
    "unattended_limit": minutes_words,
}


def example() -> str:
    """The text of ``site.example.toml``: every key with its meaning, its default as a comment."""
    lines = [
        "# Studiolo's site file: the one file that an operator edits. Every key, with its default.",
        "# Check it with `studiolo check --site FILE`, compare it with the live cluster with `studiolo doctor`.",
        "",
    ]
    for key, default, text in _TOP:
        lines += [f"# {text}", f"{key} = {_toml(default)}", ""]
    for name, kind in SINGLE.items():
        lines += _single(name, kind)
    for name, kind in MANY.items():
        for number, (entry, values) in enumerate(_EXAMPLES[name].items()):
            lines += _many(f"{name}.{entry}", kind, values, explain=number == 0)
    return "\n".join(lines)


def _single(name: str, kind: type[BaseModel]) -> Iterator[str]:
    yield f"[{name}]  # {_first_line(kind)}"
    for key, field in kind.model_fields.items():
        yield from _comment(field.description)
        if key == "allow_all":
            yield "allow_all = true  # default: false; nobody may log in unless named here or above"
        else:
            yield f"# {key} = {_toml(_default(key, field))}"
    yield ""


def _many(table: str, kind: type[BaseModel], values: dict[str, Any], *, explain: bool) -> Iterator[str]:
    yield f"[{table}]" + (f"  # {_first_line(kind)}" if explain else "")
    for key, field in kind.model_fields.items():
        if explain:
            yield from _comment(field.description)
        if key in values:
            yield f"{key} = {_toml(values[key])}"
        elif explain:
            yield f"# {key} = {_toml(_default(key, field))}"
    yield ""


def _comment(text: str | None) -> list[str]:
    return textwrap.wrap(text or "", 110, initial_indent="# ", subsequent_indent="#   ")


def reference() -> str:
    """The reference page of the site file, in Markdown: a heading for every key."""
    lines = ["# The site file", "", "Written from the schema in `studiolo/site.py`.", ""]
    lines += ["## Top level", ""]
    for key, default, text in _TOP:
        lines += [f"### {key}", "", text, "", f"Default: `{_toml(default)}`", ""]
    for name, kind in {**SINGLE, **MANY}.items():
        table = f"[{name}]" if name in SINGLE else f"[{name}.NAME]"
        lines += [f"## {table}", "", _first_line(kind), ""]
        for key, field in kind.model_fields.items():
            lines += [f"### {name}.{key}", "", str(field.description), "", _default_words(key, field), ""]
    return "\n".join(lines)


def _default_words(key: str, field: FieldInfo) -> str:
    return "Required." if field.is_required() else f"Default: `{_toml(_default(key, field))}`"


def _default(key: str, field: FieldInfo) -> Any:
    value = field.default
    if value is PydanticUndefined or value is None:
        return ""
    if key in _UNITS:
        return _UNITS[key](value)
    return slurm_memory(value) if key in ("memory", "max_memory") else value


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    print({"toml": example, "md": reference}[sys.argv[1]](), end="")
