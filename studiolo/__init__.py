"""Studiolo: notebooks on a supercomputer's GPU nodes. The names here are the ones that notebook users type.

Those that need more than the standard library are loaded when they are first used: ``import studiolo`` costs a kernel next to
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from studiolo.session import Session, session

_LATER: dict[str, str] = {
    "checkpoint": "studiolo.batch.inside",
    "cluster": "studiolo.dask",
    "data": "studiolo.data",
    "explain": "studiolo.answers",
    "load_ipython_extension": "studiolo.magics",
    "map": "studiolo.jobs",
    "models": "studiolo.models",
    "panel": "studiolo.panels.live",
    "receipts": "studiolo.billing",
    "record": "studiolo.batch.inside",
    "run": "studiolo.jobs",
    "runs": "studiolo.jobs",
    "stop_everything": "studiolo.stopping",
    "sweep": "studiolo.jobs",
    "why": "studiolo.answers",
}
"""Names and the modules that they come from, or that they are; no module of ours may have the name of a function here."""

__all__ = [
    "Session",
    "checkpoint",
    "cluster",
    "data",
    "explain",
    "map",
    "models",
    "panel",
    "receipts",
    "record",
    "run",
    "runs",
    "session",
    "stop_everything",
    "sweep",
    "why",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'studiolo' has no attribute {name!r}")
    module = import_module(_LATER[name])
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
