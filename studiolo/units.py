"""Memory, walltime and ports: read what people and Slurm write, compare as integers, print the Slurm way.

Inside Studiolo memory is an integer of mebibytes (Slurm's own unit) and time an integer of minutes.
"""

from __future__ import annotations

import math
import re

from studiolo.language import _, language

__all__ = [
    "memory_words",
    "minutes_words",
    "number_words",
    "parse_memory",
    "parse_minutes",
    "slurm_memory",
    "slurm_minutes",
    "slurm_time",
]

# Bounds that keep a typo from becoming a number that overflows Slurm's 32-bit minutes or 64-bit megabytes.
MAX_MINUTES = 366 * 24 * 60
MAX_MEMORY_MB = 1 << 30

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_FACTOR = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
_TIME_WORDS = re.compile(
    r"(?:(\d+)\s*d(?:ays?)?)?\s*(?:(\d+(?:\.\d+)?)\s*h(?:ours?)?)?\s*(?:(\d+)\s*m(?:in(?:utes?)?)?)?",
    re.IGNORECASE | re.ASCII,
)
_TIME_SLURM = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d{1,2}))?(?::(\d{1,2}))?", re.ASCII)


def parse_memory(value: object) -> int:
    """Return mebibytes from ``"16G"``, ``"512 MB"``, ``"1.5T"`` or a bare number of mebibytes.

    Letters count in powers of 1024, as Slurm's do. Raises ``ValueError`` with what is allowed.
    """
    text = _text(value)
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(_("memory is a number with K, M, G or T, such as '16G'"))
    megabytes = math.ceil(float(match[1]) * _FACTOR[match[2].upper()])
    if not 1 <= megabytes <= MAX_MEMORY_MB:
        raise ValueError(_("memory must lie between 1M and 1024T"))
    return megabytes


def parse_minutes(value: object) -> int:
    """Return minutes from ``"90m"``, ``"2h"``, ``"1.5h"``, ``"1d 12h"``, ``"2:00:00"``, ``"1-0"`` or a number of minutes.

    ``a:b`` is Slurm's minutes:seconds, ``a:b:c`` hours:minutes:seconds, ``d-h[:m[:s]]`` has days; seconds round up.
    Raises ``ValueError`` with what is allowed.
    """
    text = _text(value)
    minutes = _minutes_of_words(text) if re.search("[dhm]", text, re.IGNORECASE) else slurm_minutes(text)
    if minutes is None:
        raise ValueError(_("a time is minutes, '90m', '2h', '1d 12h' or Slurm's 'hours:minutes:seconds'"))
    if not 1 <= minutes <= MAX_MINUTES:
        raise ValueError(_("a time must lie between 1 minute and 366 days"))
    return minutes


def _minutes_of_words(text: str) -> int | None:
    match = _TIME_WORDS.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes = match.groups(default="0")
    return math.ceil(int(days) * 1440 + float(hours) * 60 + int(minutes))


def _text(value: object) -> str:
    """Text or number as text; empty for anything else, and for what is longer than any sensible amount."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12:
        return str(value)
    return value.strip() if isinstance(value, str) and len(value) <= 64 else ""


def slurm_minutes(text: str) -> int | None:
    """Return the minutes of a time as Slurm prints it, however long; ``None`` where it is none."""
    match = _TIME_SLURM.fullmatch(text)
    if match is None:
        return None
    days, *rest = match.groups()
    a, b, c = (int(part or 0) for part in rest)
    if days is not None:
        return math.ceil(int(days) * 1440 + a * 60 + b + c / 60)
    if rest[2] is not None:
        return math.ceil(a * 60 + b + c / 60)
    return math.ceil(a + b / 60)


def slurm_memory(megabytes: int) -> str:
    """Print mebibytes for ``--mem``: always with its unit, so that no default of a site applies."""
    return f"{megabytes}M"


def slurm_time(minutes: int) -> str:
    """Print minutes for ``--time`` as ``D-HH:MM:SS``."""
    days, rest = divmod(minutes, 1440)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00"


def memory_words(megabytes: int) -> str:
    """Print mebibytes for people: ``"16 GB"``."""
    if megabytes >= 1024 * 1024:
        return _("%(number)s TB", number=number_words(megabytes / 1024 / 1024))
    if megabytes >= 1024:
        return _("%(number)s GB", number=number_words(megabytes / 1024))
    return _("%(number)s MB", number=megabytes)


def number_words(number: float) -> str:
    """Print a number of up to four digits for people: ``"1.5"``, with a comma where the language has one."""
    text = f"{number:.4g}"
    return text if language() == "en" else text.replace(".", ",")


def minutes_words(minutes: int) -> str:
    """Print minutes for people: ``"2 h"``, ``"1 h 30 min"``, ``"1 d 12 h"``."""
    days, rest = divmod(minutes, 1440)
    parts = [
        _("%(number)s d", number=days) if days else "",
        _("%(number)s h", number=rest // 60) if rest >= 60 else "",
        _("%(number)s min", number=rest % 60) if rest % 60 or not minutes else "",
    ]
    return " ".join(filter(None, parts))
