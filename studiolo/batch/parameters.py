"""A notebook's parameters: what its cell tagged ``parameters`` declares, and the cell that sets them for one run.

As papermill has it: the tagged cell holds the usual values, one assignment a line; a run gets another cell behind it that sets
those given. Values are those that JSON knows; they become Python literals, so no text of a value is ever run.
"""

from __future__ import annotations

import ast
import io
import keyword
import math
import os
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from studiolo.errors import Fault, RequestError, shown

__all__ = ["Parameter", "check_parameters", "declared", "injected", "plain", "with_parameters"]

TAG, INJECTED, OURS = "parameters", "injected-parameters", "studiolo"
DEEPEST = 20
MOST_BITS = 3_321


@dataclass(frozen=True)
class Parameter:
    """One parameter as its notebook declares it.

    ``kind`` is the name of a type ("int", "float", "str", "bool", "list", "dict"), empty where nobody says; ``default`` is its
    value where that is a plain one (``has_default``), ``written`` how it stands in the cell; ``help`` is the comment on its line.
    """

    name: str
    kind: str
    default: Any
    has_default: bool
    written: str
    help: str = ""


def plain(value: object, depth: int = 0) -> Any:
    """A value as JSON knows it: numbers, text, lists and objects; NumPy's own and paths are turned into these.

    Raises ``ValueError`` for anything else.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError("a whole number of a thousand digits at most")
    for kind in (int, float, str):  # subclasses (an IntEnum, NumPy's float64) print as something else
        if isinstance(value, kind):
            return kind(value)
    if depth > DEEPEST:
        raise ValueError(f"at most {DEEPEST} lists within one another")
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return plain(value.tolist(), depth + 1)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("an object whose names are text")
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(item, depth + 1) for item in value]
    raise ValueError("a number, text, True, False, None, or a list or dict of them")


def _literal(value: Any) -> str:
    """A plain value as Python source."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    return ascii(value)


def injected(parameters: Mapping[str, Any]) -> str:
    """The source of the cell that sets these checked parameters."""
    return "# Parameters\n" + "".join(f"{name} = {_literal(value)}\n" for name, value in parameters.items())


def with_parameters(notebook: dict[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook (as JSON) with a cell that sets these, behind the tagged one or, where there is none, first.

    A cell that an earlier run had put there goes.
    """
    cells = [cell for cell in notebook["cells"] if INJECTED not in _tags(cell)]
    if parameters:
        new: dict[str, Any] = {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"tags": [INJECTED]},
            "outputs": [],
            "source": injected(parameters),
        }
        if (notebook.get("nbformat"), notebook.get("nbformat_minor", 0)) >= (4, 5):
            new["id"] = INJECTED
        at = next((number + 1 for number, cell in enumerate(cells) if TAG in _tags(cell)), 0)
        cells.insert(at, new)
    return {**notebook, "cells": cells}


def declared(notebook: Mapping[str, Any]) -> tuple[Parameter, ...] | None:
    """What a notebook (as JSON) declares; ``None`` where it has no cell tagged ``parameters``."""
    for cell in notebook["cells"]:
        if cell.get("cell_type") == "code" and TAG in _tags(cell):
            source = cell.get("source", "")
            return _assignments("".join(source) if isinstance(source, list) else str(source))
    return None


def check_parameters(
    given: object, known: Sequence[Parameter] | None, where: str = "parameters"
) -> tuple[dict[str, Any], list[Fault]]:
    """The given parameters as plain values, and what is wrong with them.

    ``known`` are those that the notebook declares, ``None`` where it declares none, and any name will do.
    """
    if given is None:
        return {}, []
    if not isinstance(given, Mapping):
        return {}, [Fault(where, shown(given), "a dict of names and values")]
    names = None if known is None else [parameter.name for parameter in known]
    kept: dict[str, Any] = {}
    faults = []
    for name, value in given.items():
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            faults.append(Fault(where, shown(name), "the name of a variable"))
        elif names is not None and name not in names:
            faults.append(
                Fault(f"{where}.{name}", "", f"the notebook declares no such parameter; it has {_all(names)}")
            )
        else:
            try:
                kept[name] = plain(value)
            except ValueError as error:
                faults.append(Fault(f"{where}.{name}", shown(value), str(error)))
    return kept, faults


def require(given: object, known: Sequence[Parameter] | None) -> dict[str, Any]:
    """The given parameters as plain values. Raises :class:`~studiolo.errors.RequestError` with all that is wrong."""
    kept, faults = check_parameters(given, known)
    if faults:
        raise RequestError(faults)
    return kept


def _all(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _tags(cell: Mapping[str, Any]) -> Sequence[str]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, Mapping) else None
    return tags if isinstance(tags, list) else ()


def _assignments(source: str) -> tuple[Parameter, ...]:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a magic, say: nothing is known of its parameters
        return ()
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for statement in body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value, annotation = statement.targets[0], statement.value, None
        elif isinstance(statement, ast.AnnAssign):
            target, value, annotation = statement.target, cast(ast.expr, statement.value), statement.annotation
        else:
            continue
        if isinstance(target, ast.Name):
            default, has_default = _default(value)
            kind = _annotated(annotation) or (type(default).__name__ if has_default and default is not None else "")
            written = "" if value is None else _written(value, source)
            comment = comments.get(statement.end_lineno or 0, "")
            found[target.id] = Parameter(target.id, kind, default, has_default, written, comment)
    return tuple(found.values())


def _default(value: ast.expr | None) -> tuple[Any, bool]:
    if value is None:
        return None, False
    try:
        return plain(ast.literal_eval(value)), True
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None, False


def _written(value: ast.expr, source: str) -> str:
    try:
        return ast.unparse(value)
    except (ValueError, RecursionError):  # thousands of signs or names in a row, a number with thousands of digits
        return ast.get_source_segment(source, value) or ""


def _annotated(annotation: ast.expr | None) -> str:
    name = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return name.id if isinstance(name, ast.Name) and name.id in ("int", "float", "str", "bool", "list", "dict") else ""


def _comments(source: str) -> dict[int, str]:
    comments = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                comments[token.start[0]] = token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):
        pass
    return comments
