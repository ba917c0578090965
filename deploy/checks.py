"""Whether this machine will do: facts in, sentences out. Nothing here looks or acts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.facts import Facts, FolderFacts, PythonFacts

MACHINES = ("x86_64", "aarch64")
OLDEST = {"debian": (12,), "ubuntu": (22, 4)}
OLDEST_PYTHON = (3, 10)
LEAST_MEMORY_MB = 2_000
GOOD_MEMORY_MB = 4_000
PREFIX_MB = 3_000
PREFIX_AGAIN_MB = 500  # once the software is there
STATE_MB = 1_000
LONGEST_STATE = 60  # characters: sockets lie below it, and a socket's path ends at 107
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]+", re.ASCII)
NOT_FOR_US = ("/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt",
              "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin",
              "/usr/lib", "/usr/local", "/usr/share", "/var", "/var/lib", "/var/log", "/var/tmp")  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """One sentence for each thing that stands in the way, or that may."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(self.problems + other.problems, self.warnings + other.warnings)


def problem(sentence: str) -> Findings:
    return Findings(problems=(sentence,))


def check(facts: Facts) -> Findings:
    """All that stands in the way of `make up` on a machine, at once."""
    return (
        check_platform(facts.system, facts.machine, facts.os_release, facts.has_apt)
        + check_root(facts.is_root)
        + check_python(facts.python)
        + check_memory(facts.memory_mb)
        + check_folder("STUDIOLO_STATE", facts.state)
        + check_folder("STUDIOLO_PREFIX", facts.prefix)
        + check_apart(facts.state.path, facts.prefix.path)
        + check_state_path(facts.state.path)
        + check_prefix(facts.prefix)
        + check_disk(facts.state, facts.prefix, facts.software_installed)
        + Findings(problems=(facts.busy,) if facts.busy else ())
    )


def check_platform(system: str, machine: str, os_release: Mapping[str, str], has_apt: bool) -> Findings:
    """Linux, a processor that the lock files know, Debian or Ubuntu of an age that has Slurm."""
    if system != "linux":
        return problem(f"Studiolo runs on Linux, this is {system}: use a Debian or Ubuntu machine.")
    found = Findings()
    if machine not in MACHINES:
        found += problem(f"The processor is {machine}: use a machine with {' or '.join(MACHINES)}.")
    name = os_release.get("PRETTY_NAME") or os_release.get("ID") or "an unknown distribution"
    wanted = "use Debian 12 or later, or Ubuntu 22.04 or later."
    identity = os_release.get("ID", "")
    if identity in OLDEST:
        version = parse_version(os_release.get("VERSION_ID", ""))
        # Debian's testing and unstable have no VERSION_ID: newer than any.
        if version and version < OLDEST[identity]:
            found += problem(f"This is {name}, which is too old: {wanted}")
    elif set(os_release.get("ID_LIKE", "").split()) & set(OLDEST) and has_apt:
        found += Findings(warnings=(f"{name} is not tested; going on as on Debian.",))
    else:
        found += problem(f"This is {name}: {wanted}")
        return found
    if not has_apt:
        found += problem("apt-get is missing, and the system packages come through it: install apt.")
    return found


def parse_version(text: str) -> tuple[int, ...]:
    """``22.04`` -> (22, 4); anything that is no version -> ()."""
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(p.isdigit() for p in parts) else ()


def check_root(is_root: bool) -> Findings:
    """Root. Whoever may become it through sudo has by now (see ``sudo``)."""
    if is_root:
        return Findings()
    return problem(
        "Root is needed to install packages and to run daemons, and sudo does not let you: "
        "run this as root, or ask the machine's owner for sudo."
    )


def check_python(python: PythonFacts) -> Findings:
    """An interpreter that sessions of all users can run."""
    needed = ".".join(map(str, OLDEST_PYTHON))
    install = f"install Python {needed} or later there with `apt-get install python3`."
    if python.version is None:
        return problem(f"There is no working Python at {python.path}: {install}")
    if python.version < OLDEST_PYTHON:
        return problem(f"{python.path} is Python {'.'.join(map(str, python.version))}: {install}")
    if python.hidden_by is not None:
        return problem(
            f"Other users cannot run {python.path}, because {python.hidden_by} is closed to them: "
            f"`chmod o+x {python.hidden_by}`."
        )
    return Findings()


def check_memory(memory_mb: int) -> Findings:
    if memory_mb < LEAST_MEMORY_MB:
        return problem(
            f"The machine has {memory_mb} MB of memory, and the cluster alone needs "
            f"{LEAST_MEMORY_MB} MB: use a larger one."
        )
    if memory_mb < GOOD_MEMORY_MB:
        return Findings(warnings=(f"With {memory_mb} MB of memory, few sessions fit at once.",))
    return Findings()


def check_folder(variable: str, folder: FolderFacts) -> Findings:
    """A folder that we may fill and that every user of the machine can reach."""
    path = folder.path
    if not path.is_absolute() or ".." in path.parts:
        return problem(f"{variable} is {path}: name a full path, starting with /, without `..`.")
    if not PLAIN_PATH.fullmatch(str(path)):
        return problem(
            f"{variable} is {path}: use letters, digits, dots, dashes and underscores only, "
            "because Slurm's files can't quote anything else."
        )
    if str(path) in NOT_FOR_US:
        return problem(f"{variable} is {path}, which belongs to the system: name a folder below it.")
    found = Findings()
    if not folder.is_ours and not folder.is_empty:
        found += problem(
            f"{variable} is {path}, which holds something that is not ours: name a new or an empty folder."
        )
    if folder.closed_parent == path and folder.is_ours:
        found += problem(f"Other users cannot enter {path}: `chmod o+x {path}`.")
    elif folder.closed_parent is not None and folder.closed_parent != path:
        found += problem(
            f"Other users cannot reach {path}, because {folder.closed_parent} is closed to them: "
            f"set {variable} to another folder, or `chmod o+x {folder.closed_parent}`."
        )
    if folder.loose_parent is not None:
        found += problem(
            f"Anybody could replace {path}, because anybody may write to {folder.loose_parent}: "
            f"set {variable} to another folder, or `chmod o-w {folder.loose_parent}`."
        )
    return found


def check_apart(state: Path, prefix: Path) -> Findings:
    """State and prefix live and die apart."""
    if state == prefix or state in prefix.parents or prefix in state.parents:
        return problem(f"STUDIOLO_STATE ({state}) and STUDIOLO_PREFIX ({prefix}) must not lie in each other.")
    return Findings()


def check_state_path(state: Path) -> Findings:
    if len(str(state)) > LONGEST_STATE:
        return problem(
            f"STUDIOLO_STATE is {len(str(state))} characters long, and the path of a socket below "
            f"it would be too long: name one of {LONGEST_STATE} at most."
        )
    return Findings()


def check_prefix(prefix: FolderFacts) -> Findings:
    if prefix.noexec:
        return problem(
            f"{prefix.path} is on a file system mounted noexec, where no program runs: "
            "set STUDIOLO_PREFIX to another one."
        )
    return Findings()


def check_disk(state: FolderFacts, prefix: FolderFacts, software_installed: bool) -> Findings:
    """Room for software and state, counted together where they share a file system."""
    prefix_mb = PREFIX_AGAIN_MB if software_installed else PREFIX_MB
    if state.device == prefix.device:
        needs = [(prefix, prefix_mb + STATE_MB, f"{prefix.path} and {state.path}")]
    else:
        needs = [(prefix, prefix_mb, str(prefix.path)), (state, STATE_MB, str(state.path))]
    return Findings(
        problems=tuple(
            f"{what} need {need} MB of disk space, and {folder.free_mb} MB are free: "
            "free some, or set STUDIOLO_STATE and STUDIOLO_PREFIX to a larger disk."
            for folder, need, what in needs
            if folder.free_mb < need
        )
    )
