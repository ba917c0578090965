"""What a job used, by accounting's word: what Slurm says of its end -> values. Plain functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from studiolo.slurm.notation import tres
from studiolo.slurm.rest_parse import read_entries, read_integer, read_mapping, read_number

__all__ = ["ENERGY_FORMAT", "USAGE_FORMAT", "JobUsage", "parse_energy", "parse_rest_usage", "parse_usage"]

# No field of these can hold text of a person's choosing.
USAGE_FORMAT = "JobIDRaw,State,ElapsedRaw,TotalCPU,MaxRSS,TRESUsageInAve"
ENERGY_FORMAT = "JobIDRaw,State,ConsumedEnergyRaw"
# Slurm writes its "no value" (NO_VAL64, and one less) as the number that it is.
MOST_JOULES = 1 << 62
_OVER = re.compile(r"(?!RUNNING|PENDING|SUSPENDED|REQUEUED|RESIZING|CONFIGURING|COMPLETING)[A-Z_]+")
_CPU_TIME = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+(?:\.\d+)?)", re.ASCII)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)", re.ASCII)
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class JobUsage:
    """What one job used from its start to its end.

    ``seconds`` is how long it ran, ``cpu_seconds`` what its CPUs worked in all, ``memory`` the most that one of its
    steps held (mebibytes), ``gpu`` the mean use of its GPUs from 0 to 1; ``None`` where accounting does not tell.
    """

    job: int
    seconds: int
    cpu_seconds: float | None = None
    memory: int | None = None
    gpu: float | None = None


def parse_usage(output: str) -> dict[int, JobUsage]:
    """Read ``sacct -P -n --noconvert`` in :data:`USAGE_FORMAT`, jobs and their steps. Raises ``ValueError`` on half a line.

    A job that is not over in accounting's books, or has ended while one of its steps has not, is left out: ask again.
    """
    rows: dict[int, list[list[str]]] = {}
    for line in output.splitlines():
        if line.strip():
            number, *fields = line.split("|")
            if len(fields) != 5:
                raise ValueError(f"half a line: {line[:200]!r}")
            rows.setdefault(int(number.partition(".")[0]), []).append(fields)
    found = {}
    for job, entries in rows.items():
        if all(_OVER.match(state) for state, *_ in entries):
            memory = [_mebibytes(held) for *_, held, _ in entries]
            gpu = [use for *_, told in entries if (use := _gpu(told)) is not None]
            cpu = [seconds for *_, total, _, _ in entries if (seconds := _seconds(total)) is not None]
            found[job] = JobUsage(
                job,
                seconds=max((int(elapsed) for _, elapsed, *_ in entries if elapsed.isdigit()), default=0),
                # The job's own line holds the sum of its steps.
                cpu_seconds=max(cpu, default=None),
                memory=max((held for held in memory if held is not None), default=None),
                gpu=max(gpu, default=None),
            )
    return found


def parse_energy(output: str) -> dict[int, float]:
    """Read ``sacct -P -n`` in :data:`ENERGY_FORMAT`: the joules of each job, where its nodes count them. Raises ``ValueError``.

    Slurm counts whole nodes: the figure is that of the job where it had its nodes to itself. Where nothing is counted, Slurm
    says 0, so that 0 is nobody's figure.
    """
    jobs: dict[int, int] = {}
    steps: dict[int, int] = {}
    for line in output.splitlines():
        if line.strip():
            number, _state, joules = line.split("|")
            if joules.isdigit() and 0 < int(joules) < MOST_JOULES:
                job, dot, _step = number.partition(".")
                told = steps if dot else jobs
                told[int(job)] = max(told.get(int(job), 0), int(joules))
    # Steps of a job run beside each other on the same nodes, and each is told of the nodes whole: no sum of them.
    return {job: float(joules) for job, joules in {**steps, **jobs}.items()}


def parse_rest_usage(answer: object) -> dict[int, JobUsage]:
    """Read ``/slurmdb/…/jobs`` with its steps. Raises ``ValueError`` for an answer of another shape."""
    found = {}
    for job in read_entries(answer, "jobs"):
        state = read_mapping(job.get("state")).get("current")
        words = state if isinstance(state, list) else [state]
        if not all(isinstance(word, str) and _OVER.fullmatch(word) for word in words):
            continue
        number = read_integer(job.get("job_id"))
        steps = [read_mapping(step) for step in job.get("steps") or ()]
        times = [_rest_seconds(step) for step in steps]
        found[number] = JobUsage(
            number,
            seconds=read_number(read_mapping(job.get("time")).get("elapsed")) or 0,
            cpu_seconds=sum(times) if times else None,
            memory=max((held for step in steps if (held := _rest_memory(step)) is not None), default=None),
        )
    return found


def _seconds(text: str) -> float | None:
    """Read ``DD-HH:MM:SS``, ``MM:SS.mmm``; ``None`` where it is neither."""
    match = _CPU_TIME.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _mebibytes(text: str) -> int | None:
    match = _AMOUNT.fullmatch(text.strip())
    return None if match is None else round(float(match[1]) * _BYTES[match[2]] / _MEBIBYTE)


def _gpu(text: str) -> float | None:
    """The mean use of a step's GPUs, which Slurm tells where it gathers it (``AccountingStorageTRES=gres/gpuutil``)."""
    percent = tres(text).get("gres/gpuutil")
    return None if percent is None else min(1.0, percent / 100)


def _rest_seconds(step: Mapping[str, Any]) -> float:
    total = read_mapping(read_mapping(step.get("time")).get("total"))
    return (read_number(total.get("seconds")) or 0) + (read_number(total.get("microseconds")) or 0) / 1e6


def _rest_memory(step: Mapping[str, Any]) -> int | None:
    """The most that one task of the step held: in bytes, among what it "requested", as Slurm has it."""
    asked = read_mapping(read_mapping(step.get("tres")).get("requested"))
    held: Iterable[int] = [
        read_integer(entry.get("count")) for entry in read_entries(asked, "max") if entry.get("type") == "mem"
    ]
    return max((round(bytes_ / _MEBIBYTE) for bytes_ in held), default=None)
