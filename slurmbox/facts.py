"""What this machine offers: probed, never guessed. Reads and tries; decides nothing."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from slurmbox.design import CgroupFacts, RealGpus, Version, gres_model, parse_version
from slurmbox.packages import program

CGROUP_ROOT = Path("/sys/fs/cgroup")
_PROBE = f"studiolo-probe-{os.getpid()}"


@dataclass(frozen=True)
class HostFacts:
    """One look at the machine."""

    hostname: str  # the short name, as slurmd sees it
    cpus: int
    memory_mb: int
    slurm_version: Version | None  # None: not installed
    rest_api: str  # newest API that slurmrestd speaks, e.g. "v0.0.38", or ""
    cgroups: CgroupFacts
    real_gpus: RealGpus | None


def probe() -> HostFacts:
    """Look at this machine; takes some ten milliseconds."""
    return HostFacts(
        hostname=socket.gethostname().split(".")[0],
        cpus=os.cpu_count() or 1,
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        slurm_version=slurm_version(),
        rest_api=newest_rest_api(),
        cgroups=probe_cgroups(CGROUP_ROOT),
        real_gpus=probe_gpus(),
    )


def slurm_version() -> Version | None:
    """Version of the installed slurmctld."""
    slurmctld = program("slurmctld")
    if slurmctld is None:
        return None
    out = subprocess.run([slurmctld, "-V"], capture_output=True, text=True, timeout=20, check=True)
    return parse_version(out.stdout)


def newest_rest_api() -> str:
    """The newest API version that the installed slurmrestd has a plugin for."""
    names = [
        file.name
        for pattern in ("openapi_v0_0_*.so", "data_parser_v0_0_*.so")
        for file in Path("/usr/lib").glob(f"*/slurm*/{pattern}")
    ]
    numbers = [int(m[1]) for m in (re.search(r"v0_0_(\d+)\.so$", n) for n in names) if m]
    return f"v0.0.{max(numbers)}" if numbers else ""


def probe_cgroups(root: Path) -> CgroupFacts:
    """Try to make a control group and to put a process into it, in each hierarchy that Slurm would use."""
    if (root / "cgroup.controllers").exists():
        controllers = frozenset((root / "cgroup.controllers").read_text().split())
        return CgroupFacts(frozenset(), _can_make(root), controllers)
    usable = {c for c in ("memory", "freezer", "devices") if (root / c / "tasks").exists() and _can_make(root / c)}
    if "memory" in usable and (root / "memory" / "memory.memsw.limit_in_bytes").exists():
        usable.add("memsw")
    return CgroupFacts(frozenset(usable), False, frozenset())


def _can_make(hierarchy: Path) -> bool:
    for old in hierarchy.glob("studiolo-probe-*"):
        if not (Path("/proc") / old.name.rpartition("-")[2]).exists():  # left by a probe that was killed
            with contextlib.suppress(OSError):
                old.rmdir()
    folder = hierarchy / _PROBE
    try:
        folder.mkdir()
    except OSError:
        return False
    try:
        sleeper = subprocess.Popen(["sleep", "5"], stdin=subprocess.DEVNULL)
        try:
            (folder / "cgroup.procs").write_text(f"{sleeper.pid}\n")
        except OSError:
            return False
        finally:
            sleeper.kill()
            sleeper.wait()
        return True
    finally:
        with contextlib.suppress(OSError):  # an empty probe folder left behind harms nobody
            folder.rmdir()


def probe_gpus() -> RealGpus | None:
    """The NVIDIA GPUs of this machine that have a device file; of several models, the most frequent one."""
    nvidia_smi = program("nvidia-smi")
    if nvidia_smi is None or not list(Path("/dev").glob("nvidia[0-9]*")):
        return None
    query = [nvidia_smi, "--query-gpu=name,pci.bus_id", "--format=csv,noheader"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None
    if out.returncode != 0:
        return None
    return match_gpus(out.stdout, _device_minors())


def _device_minors() -> dict[str, int]:
    """PCI bus id (as the kernel writes it, ``0000:3b:00.0``) -> N of ``/dev/nvidiaN``; {} if the driver won't say."""
    minors: dict[str, int] = {}
    for info in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        found = re.search(r"Device Minor:\s*(\d+)", info.read_text())
        if found and Path(f"/dev/nvidia{found[1]}").exists():
            minors[info.parent.name.lower()] = int(found[1])
    return minors


def match_gpus(listing: str, minors: dict[str, int]) -> RealGpus | None:
    """``nvidia-smi``'s lines of ``name, bus id`` and the device numbers -> the GPUs to offer.

    A GPU without a device file (a container that was given one of eight) is left out.
    """
    found: list[tuple[str, int]] = []
    for index, line in enumerate(listing.splitlines()):
        name, _, bus = line.rpartition(",")
        key = bus.strip().lower()[-12:]  # nvidia-smi writes a domain of eight digits, the kernel of four
        minor = minors.get(key, index if not minors else None)
        if name and minor is not None:
            found.append((gres_model(name), minor))
    if not found:
        return None
    model = Counter(model for model, _ in found).most_common(1)[0][0]
    return RealGpus(model, tuple(sorted(minor for m, minor in found if m == model)))
