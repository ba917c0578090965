"""Slurm's small notations, alike in what its commands print and in what its REST service answers."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["billing", "expand_hosts", "expand_numbers", "state_words", "tres"]

MAX_HOSTS = 1 << 16  # as many as Slurm itself expands
_WHOLE = re.compile(r"[0-9]{1,18}")
_SUFFIXES = {
    "*": "NOT_RESPONDING",
    "~": "POWERED_DOWN",
    "#": "POWERING_UP",
    "!": "POWER_DOWN",
    "%": "POWERING_DOWN",
    "$": "MAINTENANCE",
    "@": "REBOOT_REQUESTED",
    "^": "REBOOT_ISSUED",
    "-": "PLANNED",
}


@lru_cache(maxsize=1000)  # thousands of nodes are in few states
def state_words(text: str) -> tuple[str, ...]:
    """Read a node's state: ``"IDLE+DRAIN"``, ``"DOWN*"``, ``"mixed"`` -> words in capitals."""
    words: list[str] = []
    for part in text.upper().split("+"):
        word = part.rstrip("".join(_SUFFIXES))
        words += [word] if word else []
        words += [_SUFFIXES[mark] for mark in part[len(word) :]]
    return tuple(dict.fromkeys(words))


def tres(text: str) -> dict[str, int]:
    """Read ``cpu=2,mem=500M,gres/gpu:a100=1``: whole numbers by name; amounts with a unit are left out."""
    pairs = (word.partition("=") for word in text.split(",") if "=" in word)
    return {name.lower(): int(value) for name, _, value in pairs if _WHOLE.fullmatch(value)}


def billing(text: str) -> float:
    """Read ``TRESBillingWeights``: what a minute of a whole GPU is billed, of the dearest type; 0 where it is free."""
    weights = re.findall(r"gres/gpu(?::[^=,]+)?=([0-9]{1,9}(?:\.[0-9]{1,9})?)(?=,|$)", text.lower())
    return max(map(float, weights), default=0.0)


def expand_hosts(text: str) -> tuple[str, ...]:
    """Read a host list: ``"gpu[1-2,04],login"`` -> each name. Raises ``ValueError``."""
    if not re.fullmatch(r"[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*", text):
        raise ValueError(f"no list of hosts: {text[:80]!r}")
    names: list[str] = []
    for item in re.findall(r"[^,\[\]]*(?:\[[^\[\]]*\][^,\[\]]*)*(?:,|$)", text):
        found = [""]
        for part in re.findall(r"\[[^\]]*\]|[^\[\]]+", item.rstrip(",")):
            ends = expand_numbers(part[1:-1]) if part.startswith("[") else [part]
            if len(found) * len(ends) + len(names) > MAX_HOSTS:
                raise ValueError(f"too many hosts in {text[:80]!r}")
            found = [start + end for start in found for end in ends]
        names += [name for name in found if name]
    return tuple(names)


def expand_numbers(text: str) -> list[str]:
    """Read ``"0-1,04"`` -> each number as it is written. Raises ``ValueError``."""
    names: list[str] = []
    for item in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", item, re.ASCII)
        if match is None:
            raise ValueError(f"no range of hosts: {item[:80]!r}")
        first, last = match[1], match[2] or match[1]
        if int(last) - int(first) >= MAX_HOSTS:
            raise ValueError(f"too many hosts in {item!r}")
        names += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return names
