"""Amounts of CPUs, memory, GPUs and shards, and what of them a node has left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from studiolo.slurm.notation import expand_numbers, tres

__all__ = ["Resources", "cpus_held", "resources_of"]


@dataclass(frozen=True)
class Resources:
    """Amounts: ``memory`` in mebibytes, ``gpus`` whole ones by type in lower case (``""`` where Slurm names none)."""

    cpus: int = 0
    memory: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)
    shards: int = 0

    def gpu_count(self, of_type: str = "") -> int:
        """GPUs of one type, or of all types."""
        return self.gpus.get(of_type.lower(), 0) if of_type else sum(self.gpus.values())

    def __add__(self, other: Resources) -> Resources:
        return self._with(other, lambda a, b: a + b)

    def most(self, other: Resources) -> Resources:
        """The greater amount of each kind."""
        return self._with(other, max)

    def times(self, other: Resources) -> int:
        """How many sessions of ``other`` fit in here; GPUs wanted of type ``""`` may be of any type."""
        shares = [
            (self.cpus, other.cpus),
            (self.memory, other.memory),
            (self.shards, other.shards),
            *((self.gpu_count(of_type), wanted) for of_type, wanted in other.gpus.items()),
        ]
        return min((have // wanted for have, wanted in shares if wanted), default=0)

    def _with(self, other: Resources, combine: Callable[[int, int], int]) -> Resources:
        types = dict.fromkeys([*self.gpus, *other.gpus])
        return Resources(
            combine(self.cpus, other.cpus),
            combine(self.memory, other.memory),
            {name: combine(self.gpus.get(name, 0), other.gpus.get(name, 0)) for name in types},
            combine(self.shards, other.shards),
        )


@dataclass(frozen=True)
class _Gres:
    kind: str
    of_type: str
    count: int
    places: str


def resources_of(
    *,
    cpus: int,
    cpus_used: int,
    memory: int,
    memory_used: int,
    gres: str,
    gres_used: str,
    tres_used: str,
) -> tuple[Resources, Resources]:
    """What a node has in all, and what of it no job has.

    ``gres`` is ``gpu:a100:4(S:0-1),shard:a100:16``, ``gres_used`` what ``--details`` adds (``gpu:a100:2(IDX:0,2)``; empty
    if unknown), ``tres_used`` is ``cpu=8,gres/gpu=2,gres/shard=3``. GPUs and shards are the same devices: one of which a
    shard is in use is not free as a whole, and one in use as a whole has no free shard. Where Slurm does not say which
    devices its shards are on, the least that can be free is told.
    """
    have, used, allocated = _gres(gres), _gres(gres_used), tres(tres_used)
    gpus = _by_type(have, "gpu")
    shards = _by_type(have, "shard")
    whole = {of_type: _whole(of_type, gpus, used, allocated) for of_type in gpus}
    free = {of_type: total - whole[of_type] for of_type, total in gpus.items()}
    shards_free = 0
    for of_type, total in shards.items():
        # Shards without a type, or of one that no GPU has, may be on any device.
        devices = [of_type] if of_type in gpus else list(gpus)
        count = sum(gpus[name] for name in devices) or 1
        each = -(-total // count)
        told = allocated.get(f"gres/shard:{of_type}", allocated.get("gres/shard") if len(shards) == 1 else None)
        in_use, touched = _shards_in_use(
            [g.places for g in used if (g.kind, g.of_type) == ("shard", of_type)], told, each
        )
        shards_free += max(0, total - in_use - each * sum(whole[name] for name in devices))
        for name in devices:
            free[name] -= touched
    return (
        Resources(cpus, memory, gpus, sum(shards.values())),
        Resources(
            max(0, cpus - cpus_used),
            max(0, memory - memory_used),
            {of_type: max(0, number) for of_type, number in free.items()},
            shards_free,
        ),
    )


def cpus_held(tres_held: str, cores: Mapping[str, str]) -> dict[str, int]:
    """How many CPUs of each node a reservation holds, from ``cpu=8`` and ``{"cpu1": "0-3"}``; nothing for whole nodes."""
    held = tres(tres_held)
    if any(kind.startswith("gres/") for kind in held):
        return {}  # nobody says which of a node's GPUs it holds: then it holds the node
    numbers = {node: len(expand_numbers(listed)) for node, listed in cores.items()}
    threads = -(-held.get("cpu", 0) // (sum(numbers.values()) or 1))
    return {node: number * threads for node, number in numbers.items()}


@lru_cache(maxsize=1000)  # thousands of nodes have few kinds of devices
def _gres(text: str) -> tuple[_Gres, ...]:
    found = []
    for match in re.finditer(r"([^,:()]+)((?::[^,:()]*)*):([0-9]{1,9})(?:\(([^)]*)\))?(?=,|$)", _plain(text)):
        types = [part for part in match[2].split(":") if part and part != "no_consume"]
        found.append(_Gres(match[1], types[0] if types else "", int(match[3]), match[4] or ""))
    return tuple(found)


def _plain(text: str) -> str:
    return "" if text.upper() in {"N/A", "(NULL)"} else text.lower().replace("(null)", "")


def _by_type(gres: Iterable[_Gres], kind: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for entry in gres:
        if entry.kind == kind:
            numbers[entry.of_type] = numbers.get(entry.of_type, 0) + entry.count
    return numbers


def _whole(of_type: str, gpus: Mapping[str, int], used: Iterable[_Gres], allocated: Mapping[str, int]) -> int:
    """GPUs of a type in use as a whole."""
    told = _by_type(used, "gpu")
    if of_type in told:
        return told[of_type]
    if f"gres/gpu:{of_type}" in allocated:
        return allocated[f"gres/gpu:{of_type}"]
    # Only their number is known: of several types, each may be the one.
    return allocated.get("gres/gpu", 0) if not told else 0


def _shards_in_use(places: Sequence[str], told: int | None, each: int) -> tuple[int, int]:
    """Shards in use, and how many devices they are on. ``told`` is their number where accounting counts shards, ``each`` how
    many one device has."""
    counts = [int(number) for place in places for number in re.findall(r"([0-9]{1,9})/[0-9]", place)]
    if counts:  # since 23.02: shard:a100:3(0/4,3/4,0/4,0/4)
        return sum(counts), sum(1 for number in counts if number)
    if places:  # until then: shard:a100:1(IDX:1), where the number counts devices and not shards
        touched = sum(map(_length, places))
        return (touched * each if told is None else min(told, touched * each)), touched
    return told or 0, told or 0  # each may be on a device of its own


def _length(places: str) -> int:
    """How many devices ``IDX:0-1,3`` names."""
    listed = places.upper().removeprefix("IDX:")
    return len(expand_numbers(listed)) if re.fullmatch(r"[0-9][0-9,-]*", listed) else 0
