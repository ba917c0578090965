"""What one instance has chosen once and keeps: its tag, names and ports, in ``instance.json``.

No secret is in that file. Everything else (nodes, configuration) follows from it and from the machine,
and is worked out anew at each start.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import re
import secrets
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slurmbox import design
from slurmbox.design import Confinement, Node, Partition, RealGpus
from slurmbox.errors import InstanceError
from slurmbox.facts import HostFacts, probe
from slurmbox.files import ensure_folder, write_atomic
from slurmbox.people import CLASS_SIZE, Person, demo_people, tagged

DEFAULT_STATE = Path("/var/lib/studiolo")
DEFAULT_PREFIX = Path("/opt/studiolo")
FORMAT = 1
FILE = "instance.json"

PORT_NAMES = ("public", "hub", "proxy_api", "slurmctld", "slurmdbd", "slurmrestd")
PREFERRED_PUBLIC_PORT = 8000
# Where ports are looked for: above the well-known ones, below where Linux takes ports for outgoing connections.
PORT_RANGE = range(15_000, 32_000)
# Unix sockets have 107 bytes for their path; ours add up to 36 to the state folder's.
LONGEST_STATE = 70


@dataclass(frozen=True)
class Features:
    """What this machine and its Slurm allow; probed again at each start."""

    slurm_version: str = ""  # "" while Slurm is not installed
    rest_api: str = ""
    shards: bool = False
    cgroup: str = "none"
    cgroup_reason: str = ""
    cgroup_swap: bool = False
    cgroup_refused: bool = False  # tried once, and jobs failed: not tried again
    real_gpu_model: str = ""
    real_gpu_minors: tuple[int, ...] = ()
    hostname: str = ""
    host_cpus: int = 1
    host_memory_mb: int = 0


@dataclass(frozen=True)
class Instance:
    """One instance: a state folder and all that it has chosen. Names of accounts already carry the tag."""

    state: Path
    prefix: Path
    tag: str
    ident: str  # random; marks the unix accounts that this instance made
    cluster: str  # Slurm's ClusterName, unlike that of any other instance on this machine
    first_job_id: int  # unlike other instances', so that job numbers (and /tmp/studiolo-<job>) don't meet
    ports: Mapping[str, int]
    slurmd_ports: Mapping[str, int]
    features: Features = field(default_factory=Features)
    class_size: int = CLASS_SIZE  # learners among the demo people

    # -- unix accounts ---------------------------------------------------------------------------
    @property
    def slurm_user(self) -> str:
        return tagged("studiolo-slurm", self.tag)

    @property
    def db_user(self) -> str:
        return tagged("studiolo-db", self.tag)

    @property
    def rest_user(self) -> str:
        return tagged("studiolo-rest", self.tag)

    @property
    def hub_user(self) -> str:
        return tagged("studiolo-hub", self.tag)

    @property
    def people_group(self) -> str:
        return tagged("studiolo-people", self.tag)

    def group_of(self, person: Person) -> str:
        """The unix group of a person's company or institution."""
        return tagged(f"studiolo-{person.group.lower().replace(' ', '-')}", self.tag)

    @property
    def groups(self) -> tuple[str, ...]:
        """The unix groups of all companies and institutions."""
        return tuple(dict.fromkeys(map(self.group_of, self.people)))

    @property
    def people(self) -> tuple[Person, ...]:
        return demo_people(self.tag, self.class_size)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Every unix account of this instance: daemons first, then people."""
        return (self.slurm_user, self.db_user, self.rest_user, self.hub_user, *(p.name for p in self.people))

    # -- places ----------------------------------------------------------------------------------
    @property
    def slurm_conf(self) -> Path:
        return self.state / "slurm" / "etc" / "slurm.conf"

    @property
    def jwt_key(self) -> Path:
        return self.state / "slurm" / "etc" / "jwt_hs256.key"

    @property
    def munge_key(self) -> Path:
        return self.state / "munge" / "key" / "munge.key"

    @property
    def munge_socket(self) -> Path:
        return self.state / "munge" / "run" / "munge.sock"

    @property
    def db_socket(self) -> Path:
        return self.state / "mariadb" / "run" / "mariadb.sock"

    @property
    def gpu_folder(self) -> Path:
        """Holds what stands for simulated GPUs: links to a character device."""
        return self.state / "slurm" / "gpus"

    @property
    def homes(self) -> Path:
        return self.state / "home"

    @property
    def supervisor_folder(self) -> Path:
        return self.state / "supervisor"

    @property
    def cgroup_folder(self) -> Path:
        """Links into this instance's own branch of each control group hierarchy (v1)."""
        return self.state / "slurm" / "cgroup"

    # -- what follows ----------------------------------------------------------------------------
    @property
    def real_gpus(self) -> RealGpus | None:
        f = self.features
        return RealGpus(f.real_gpu_model, f.real_gpu_minors) if f.real_gpu_minors else None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return design.design_nodes(
            gpu_folder=str(self.gpu_folder),
            shards=self.features.shards,
            host_cpus=self.features.host_cpus,
            host_memory_mb=self.features.host_memory_mb,
            real=self.real_gpus,
        )

    @property
    def partitions(self) -> tuple[Partition, ...]:
        return design.design_partitions(self.nodes)

    @property
    def confinement(self) -> Confinement:
        f = self.features
        if f.cgroup == "v1":
            return Confinement("v1", "", swap=f.cgroup_swap, devices=bool(f.real_gpu_minors))
        if f.cgroup == "v2":
            return Confinement("v2", "", swap=f.cgroup_swap)
        return Confinement("none", f.cgroup_reason)

    def environment(self) -> dict[str, str]:
        """What a command needs to talk to this cluster."""
        return {"SLURM_CONF": str(self.slurm_conf)}


def to_json(instance: Instance) -> dict[str, Any]:
    """The content of ``instance.json``; names that follow from the tag are written out for readers."""
    f = instance.features
    return {
        "format": FORMAT,
        "state": str(instance.state),
        "prefix": str(instance.prefix),
        "tag": instance.tag,
        "ident": instance.ident,
        "cluster": instance.cluster,
        "first_job_id": instance.first_job_id,
        "ports": {**instance.ports, "slurmd": dict(instance.slurmd_ports)},
        "system_accounts": {
            "slurm": instance.slurm_user,
            "db": instance.db_user,
            "rest": instance.rest_user,
            "hub": instance.hub_user,
        },
        "people_group": instance.people_group,
        "class_size": instance.class_size,
        "accounts": list(instance.accounts),
        "features": {**vars(f), "real_gpu_minors": list(f.real_gpu_minors)},
    }


def from_json(data: Mapping[str, Any]) -> Instance:
    """The instance that ``to_json`` wrote. Raises KeyError, TypeError or ValueError if it is not one."""
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']!r}, expected {FORMAT}")
    ports = dict(data["ports"])
    slurmd = {str(k): _port(v) for k, v in ports.pop("slurmd").items()}
    features = dict(data["features"])
    features["real_gpu_minors"] = tuple(int(n) for n in features["real_gpu_minors"])
    tag, cluster = str(data["tag"]), str(data["cluster"])
    if not re.fullmatch(r"[a-z0-9]{0,8}", tag) or not re.fullmatch(r"[a-z0-9_]{1,30}", cluster):
        raise ValueError("tag or cluster name is malformed")
    return Instance(
        state=Path(data["state"]),
        prefix=Path(data["prefix"]),
        tag=tag,
        ident=str(data["ident"]),
        cluster=cluster,
        first_job_id=int(data["first_job_id"]),
        ports={name: _port(ports[name]) for name in PORT_NAMES},
        slurmd_ports=slurmd,
        features=Features(**features),
        class_size=int(data.get("class_size", CLASS_SIZE)),
    )


def _port(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 65_536:
        raise ValueError(f"{value!r} is no port")
    return value


def load(state: Path) -> Instance:
    """Read ``instance.json``. Raises InstanceError with what to do if there is none or it is damaged."""
    file = state / FILE
    try:
        text = file.read_text()
    except FileNotFoundError:
        raise InstanceError(f"There is no instance in {state} (no {FILE}). `make up` creates one.") from None
    try:
        instance = from_json(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise InstanceError(
            f"{file} is damaged ({type(error).__name__}: {error}). Restore it from a backup; or, to give this "
            f"instance up: stop its processes, remove the accounts whose home is below {state}, and remove {state}."
        ) from error
    if instance.state != state:
        raise InstanceError(
            f"{file} belongs to the state folder {instance.state}, not to {state}: a state folder can't be moved or "
            f"copied, its accounts and ports belong to the first place. Move it back, or remove the copy."
        )
    return instance


def save(instance: Instance) -> None:
    """Write ``instance.json``, all of it or nothing."""
    write_atomic(instance.state / FILE, json.dumps(to_json(instance), indent=2) + "\n", mode=0o644)


def load_or_choose(state: Path, prefix: Path, class_size: int | None = None) -> Instance:
    """The instance of this state folder; the first call chooses names and ports and writes them down.

    ``class_size`` learners are wanted (``None``: as many as there are); a class never shrinks, accounts stay until the end.

    Looks at the machine each time, so a newer Slurm or a GPU that came counts from the next start on. While the
    instance is down, a port that something else has taken meanwhile is chosen anew.
    """
    from slurmbox import processes  # processes knows Instance

    state, prefix = Path(os.path.abspath(state)), Path(os.path.abspath(prefix))
    check_place(state)
    facts = probe()
    if (state / FILE).exists():
        known = load(state)
        learners = max(known.class_size, class_size or 0)
        instance = with_facts(replace(known, prefix=prefix, class_size=learners), facts)
        running = bool(processes.of_instance(instance))
        if not running:
            instance = replace_taken_ports(instance, port_is_free)
    else:
        if state.exists() and any(state.iterdir()):
            names = sorted(p.name for p in state.iterdir())
            if names != [".lock"]:
                raise InstanceError(
                    f"{state} is not empty and holds no {FILE}, so it is not ours. Choose another folder with "
                    f"STUDIOLO_STATE, or empty it."
                )
        known = None
        chosen = choose(state, prefix, _name_exists, port_is_free, class_size or CLASS_SIZE)
        instance = with_facts(chosen, facts)
    if instance != known:
        make_parents(state)
        ensure_folder(state)
        save(instance)
    return instance


def choose(
    state: Path,
    prefix: Path,
    name_exists: Callable[[str], bool],
    is_free: Callable[[int], bool],
    class_size: int = CLASS_SIZE,
) -> Instance:
    """Choose tag, names and ports for a new instance; asks the two functions and touches nothing."""
    default = state == DEFAULT_STATE
    tags = [""] if default else []
    tags += [short_hash(f"{state}#{n}" if n else str(state)) for n in range(20)]
    for tag in tags:
        blank = Instance(state, prefix, tag, "", "", 1, {}, {}, class_size=class_size)
        if not any(name_exists(n) for n in (*blank.accounts, *blank.groups, blank.people_group)):
            break
    else:
        raise InstanceError(
            "No free account names were found: accounts of earlier instances whose state folder was deleted by hand "
            "are still there. Remove those whose home folder is gone (userdel)."
        )
    start = 17_000 if tag == "" else PORT_RANGE[int(short_hash(f"{state} ports", 8), 36) % (len(PORT_RANGE) - 2000)]
    # Only the usual folder's instance wants the usual port: one of a test must not take it away.
    preferred = {"public": PREFERRED_PUBLIC_PORT} if default else {}
    ports = choose_ports(PORT_NAMES, start, is_free, preferred)
    number = int(short_hash(f"{state} jobs", 8), 36)
    return Instance(
        state=state,
        prefix=prefix,
        tag=tag,
        ident=secrets.token_hex(6),
        cluster=f"studiolo_{tag}" if tag else "studiolo",
        # Slurm counts up to 67 043 328.
        first_job_id=1 if tag == "" else 100_000 * (1 + number % 600),
        ports=ports,
        slurmd_ports={},
        class_size=class_size,
    )


def with_facts(instance: Instance, facts: HostFacts, is_free: Callable[[int], bool] | None = None) -> Instance:
    """The instance on a machine with these facts; nodes that are new get a port."""
    version = facts.slurm_version
    old = instance.features
    real = facts.real_gpus
    plan = (
        design.confinement(facts.cgroups, version, refused=old.cgroup_refused, real_gpus=real is not None)
        if version
        else Confinement("none", "Slurm is not installed")
    )
    features = Features(
        slurm_version=".".join(f"{n:02}" if i < 2 else str(n) for i, n in enumerate(version)) if version else "",
        rest_api=facts.rest_api,
        shards=design.has_shards(version) if version else False,
        cgroup=plan.kind,
        cgroup_reason=plan.reason,
        cgroup_swap=plan.swap,
        cgroup_refused=old.cgroup_refused,
        real_gpu_model=real.model if real else "",
        real_gpu_minors=real.minors if real else (),
        hostname=facts.hostname,
        host_cpus=facts.cpus,
        host_memory_mb=facts.memory_mb,
    )
    instance = replace(instance, features=features)
    new = tuple(n.name for n in instance.nodes if n.name not in instance.slurmd_ports)
    if not new:
        return instance
    taken = {*instance.ports.values(), *instance.slurmd_ports.values()}
    free = is_free or port_is_free
    start = instance.ports["slurmrestd"] + 1
    chosen = choose_ports(new, start, lambda port: port not in taken and free(port))
    return replace(instance, slurmd_ports={**instance.slurmd_ports, **chosen})


def choose_ports(
    names: tuple[str, ...], start: int, is_free: Callable[[int], bool], preferred: Mapping[str, int] | None = None
) -> dict[str, int]:
    """A free port for each name, counting up from ``start`` (and on from the range's beginning at its end)."""
    chosen: dict[str, int] = {}
    first = start if start in PORT_RANGE else PORT_RANGE.start
    candidates = (PORT_RANGE[(first - PORT_RANGE.start + n) % len(PORT_RANGE)] for n in range(len(PORT_RANGE)))
    for name in names:
        wish = (preferred or {}).get(name)
        if wish is not None and is_free(wish):
            chosen[name] = wish
            continue
        for port in candidates:
            if is_free(port):
                chosen[name] = port
                break
        else:
            raise InstanceError(f"No free port between {PORT_RANGE.start} and {PORT_RANGE.stop} was found.")
    return chosen


def replace_taken_ports(instance: Instance, is_free: Callable[[int], bool]) -> Instance:
    """The instance with another port for each that something else listens on. Only while it is down."""
    taken = [n for n, port in instance.ports.items() if not is_free(port)]
    taken_nodes = [n for n, port in instance.slurmd_ports.items() if not is_free(port)]
    if not taken and not taken_nodes:
        return instance
    own = {*instance.ports.values(), *instance.slurmd_ports.values()}
    start = max(p for p in own if p in PORT_RANGE) + 1 if any(p in PORT_RANGE for p in own) else PORT_RANGE.start

    chosen = choose_ports((*taken, *(f"node {n}" for n in taken_nodes)), start, lambda p: p not in own and is_free(p))
    return replace(
        instance,
        ports={**instance.ports, **{n: chosen[n] for n in taken}},
        slurmd_ports={**instance.slurmd_ports, **{n: chosen[f"node {n}"] for n in taken_nodes}},
    )


def port_is_free(port: int) -> bool:
    """Whether nobody listens on this TCP port, on any address, and outgoing connections don't use it."""
    if port in _ephemeral_ports():
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind(("", port))
        except OSError:
            return False
    return True


def _ephemeral_ports() -> range:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    # A host that uses nearly all ports for outgoing connections leaves nothing to avoid.
    return range(low, high + 1) if low >= PORT_RANGE.start + 5000 else range(0)


def _name_exists(name: str) -> bool:
    for lookup in (pwd.getpwnam, grp.getgrnam):
        try:
            lookup(name)
        except KeyError:
            continue
        return True
    return False


def short_hash(text: str, length: int = 4) -> str:
    """A short stable name for a text: lower-case letters and digits."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    out = ""
    for _ in range(length):
        number, rest = divmod(number, 36)
        out += digits[rest]
    return out


def check_place(state: Path) -> None:
    """Refuse a state folder that can't work, in words. Needs only its path and the folders above it."""
    text = str(state)
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", text) or ".." in state.parts:
        raise InstanceError(
            f"The state folder {text!r} may only hold letters, digits and . _ - (Slurm's files have no quotes)."
        )
    if len(state.parts) < 3 or state == Path.home():
        raise InstanceError(f"{text} can't be a state folder: choose a folder of its own, such as {DEFAULT_STATE}.")
    if len(text) > LONGEST_STATE:
        raise InstanceError(f"The path {text} is too long for the sockets in it ({LONGEST_STATE} characters at most).")
    for folder in (state, *state.parents):
        try:
            info = os.lstat(folder)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(info.st_mode):
            raise InstanceError(f"{folder} is not a plain folder (perhaps a symbolic link); give the real path.")
        if not info.st_mode & stat.S_IXOTH:
            raise InstanceError(
                f"{folder} is closed to others, but people's homes will lie below it: choose another place."
            )
        if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not info.st_mode & stat.S_ISVTX:
            raise InstanceError(
                f"{folder} can be written by others, so keys below it would not be safe: choose another place."
            )
        if info.st_uid != 0:
            raise InstanceError(
                f"{folder} does not belong to root, so keys below it would not be safe: choose another place."
            )


def make_parents(state: Path) -> None:
    """Create the folders above ``state`` that are missing, open to look through whatever the umask."""
    for folder in reversed(state.parents):
        if not folder.exists():
            ensure_folder(folder)
