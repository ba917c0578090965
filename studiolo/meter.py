"""On the node: what a job uses at this moment, for the hub's pages and a notebook's panels.

Asks neither slurmctld nor slurmd. Where the job has control groups, they are read; where it has none, ``/proc`` of every
process that has the job's number in its environment. GPUs are asked by ``nvidia-smi``, where whole ones belong to the job.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Meter", "Totals", "parse_gpus", "share"]

log = logging.getLogger(__name__)

GPU_SECONDS = 20
MEBIBYTE = 1 << 20
MOST_PROCESSES = 20_000


@dataclass(frozen=True)
class Totals:
    """What was read at one moment: ``when`` in seconds of a clock that never goes back, CPU time in seconds since the
    job's start, memory in mebibytes; ``None`` where nothing tells."""

    when: float
    cpu_seconds: float | None
    memory_mb: int | None


class Meter:
    """Reads what one job uses. ``environ`` is that of the session's server, ``root`` where ``/proc`` and ``/sys`` are."""

    def __init__(self, environ: Mapping[str, str], root: Path = Path("/")) -> None:
        self.job = environ.get("SLURM_JOB_ID", "")
        self.cpus = _count(environ, "SLURM_CPUS_PER_TASK") or _count(environ, "SLURM_CPUS_ON_NODE") or 1
        # Parts of a GPU are no GPU of one's own: what nvidia-smi tells of it is mostly of others.
        whole = bool(environ.get("CUDA_VISIBLE_DEVICES")) and not _count(environ, "SLURM_SHARDS_ON_NODE")
        devices = environ.get("CUDA_VISIBLE_DEVICES", "") if whole else ""
        self.devices = devices if re.fullmatch(r"[A-Za-z0-9,/-]{1,512}", devices, re.ASCII) else ""
        self._root = root
        self._uid = os.getuid()
        self._last: Totals | None = None

    def totals(self) -> Totals:
        """Read now. Takes some milliseconds, by the number of the job's processes."""
        cpu, memory = self._group_cpu(), self._group_memory()
        if (cpu is None or memory is None) and self.job:
            seconds, held = self._processes()
            cpu = seconds if cpu is None else cpu
            memory = held if memory is None else memory
        return Totals(time.monotonic(), cpu, memory)

    async def report(self) -> dict[str, float | int | None]:
        """What to tell the hub: CPUs' use since the last report (0 to 1), memory, GPUs' use; ``None`` where unknown."""
        now = await asyncio.get_running_loop().run_in_executor(None, self.totals)
        last, self._last = self._last, now
        return {"cpu": share(last, now, self.cpus), "memory_mb": now.memory_mb, "gpu": await self.gpu()}

    async def gpu(self) -> float | None:
        """The mean use of the job's whole GPUs at this moment."""
        program = shutil.which("nvidia-smi") if self.devices else None
        if program is None:
            return None
        argv = [program, "-i", self.devices, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            log.debug("%s: %s", program, error)
            return None
        try:
            out, _err = await asyncio.wait_for(process.communicate(), GPU_SECONDS)
        except asyncio.TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
        return parse_gpus(out.decode(errors="replace")) if process.returncode == 0 else None

    # --- Control groups ----------------------------------------------------------------------------------------------

    def _group(self, controller: str) -> Path | None:
        """The job's own control group of a controller, in either version; ``None`` where it has none."""
        try:
            lines = (self._root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        for line in lines:
            _number, _colon, rest = line.partition(":")
            controllers, _colon, path = rest.partition(":")
            if controllers and controller not in controllers.split(","):
                continue
            match = re.match(rf"(.*/job_{re.escape(self.job)})(?:/|$)", path) if self.job else None
            if match is not None and ".." not in path:
                return self._root / "sys/fs/cgroup" / controllers / match[1].lstrip("/")
        return None

    def _group_cpu(self) -> float | None:
        if (group := self._group("cpuacct")) is None:
            return None
        if (usage := _number_in(group / "cpuacct.usage")) is not None:
            return usage / 1e9
        usage = _named(group / "cpu.stat").get("usage_usec")
        return None if usage is None else usage / 1e6

    def _group_memory(self) -> int | None:
        """What the job holds, without files that the kernel keeps in memory as long as nobody needs it."""
        if (group := self._group("memory")) is None:
            return None
        held, statistics = _number_in(group / "memory.current"), _named(group / "memory.stat")
        spare = statistics.get("inactive_file", 0)
        if held is None:
            held, spare = _number_in(group / "memory.usage_in_bytes"), statistics.get("total_inactive_file", 0)
        return None if held is None else max(0, held - spare) // MEBIBYTE

    # --- Processes ---------------------------------------------------------------------------------------------------

    def _processes(self) -> tuple[float, int]:
        """CPU seconds, those of children that have ended included, and memory of all processes of this job."""
        seconds, held = 0.0, 0
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        for folder in self._own_processes():
            try:
                # The name, in brackets, may hold anything.
                fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            seconds += sum(map(int, fields[11:15])) / tick
            held += int(fields[21]) * page
        return seconds, held // MEBIBYTE

    def _own_processes(self) -> Iterator[Path]:
        mark = f"SLURM_JOB_ID={self.job}".encode()
        for number, folder in enumerate((self._root / "proc").glob("[0-9]*")):
            if number >= MOST_PROCESSES:
                return
            try:
                if folder.stat().st_uid == self._uid and mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield folder
            except OSError:
                continue


def share(last: Totals | None, now: Totals, cpus: int) -> float | None:
    """How much of ``cpus`` was used between two readings, from 0 to 1; ``None`` where that is not known."""
    if last is None or last.cpu_seconds is None or now.cpu_seconds is None or now.when <= last.when:
        return None
    return min(1.0, max(0.0, (now.cpu_seconds - last.cpu_seconds) / ((now.when - last.when) * cpus)))


def parse_gpus(output: str) -> float | None:
    """Read ``nvidia-smi``'s utilisation in per cent, a line each; ``None`` where one has no such figure (MIG)."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines or not all(re.fullmatch(r"\d{1,3}", line, re.ASCII) for line in lines):
        return None
    return min(1.0, sum(map(int, lines)) / len(lines) / 100)


def _count(environ: Mapping[str, str], key: str) -> int:
    value = environ.get(key, "")
    return int(value) if value.isascii() and value.isdigit() else 0


def _number_in(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() else None


def _named(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
