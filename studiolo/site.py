"""The site file: ``site.toml`` -> :class:`Site`, a frozen and fully checked value. The schema lives here and nowhere else.

Everything that differs between two centres is a key of this file: clusters, partitions and their limits, session
profiles, accounts, environments, authentication, paths. :func:`load` reports all faults of a file at once, each with
line, key, value and what is allowed. ``site.example.toml`` and the reference page are written from this schema.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from studiolo.errors import Fault, SiteError, printable, shown
from studiolo.units import memory_words, minutes_words, parse_memory, parse_minutes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Account",
    "Authentication",
    "Catalogue",
    "Cluster",
    "Energy",
    "Environment",
    "Hub",
    "Partition",
    "Paths",
    "Prices",
    "Profile",
    "Site",
    "load",
    "parse",
]


# --- Kinds of values -------------------------------------------------------------------------------------------------


def _pattern(pattern: str, allowed: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(allowed)
        return value

    return AfterValidator(check)


def _absolute(value: str) -> str:
    if not value.startswith("/") or not value.isprintable() or ".." in PurePosixPath(value).parts:
        raise ValueError("an absolute path without '..'")
    return value.rstrip("/") or "/"


def _group(value: str) -> str:
    if value and (value.count("{group}") != 1 or "{" in value.replace("{group}", "") or ".." in value.split("/")):
        raise ValueError("empty, or an absolute path with {group} in it")
    return value


def _range(value: tuple[int, int]) -> tuple[int, int]:
    if not 1024 <= value[0] <= value[1]:
        raise ValueError("first and last port, from 1024 to 65535")
    return value


def _database(value: str) -> str:
    if value == "sqlite":
        return value
    allowed = "'sqlite', or postgresql://USER@HOST/NAME, or postgresql://USER@/NAME?host=FOLDER for a socket in FOLDER"
    try:
        parts = urlsplit(value)
        port = parts.port
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(allowed) from None
    if parts.password is not None or any("password" in option for option in options):
        raise ValueError("an address without a password, which belongs in the file database_password of paths.secrets")
    plain = value.isascii() and value.isprintable() and " " not in value and not parts.fragment and port != 0
    name = parts.path.removeprefix("/")
    hosts = [host for host in (parts.hostname, *options.get("host", ())) if host]
    if parts.scheme != "postgresql" or not plain or not parts.username or not name or "/" in name or len(hosts) != 1:
        raise ValueError(allowed)
    return value


def _whole(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def _figure(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a number, 0 or more")
    return value


Name = Annotated[str, _pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, '_', '.' and '-', at most 64")]
UnixName = Annotated[str, _pattern(r"[a-z_][a-z0-9_.-]{0,31}\$?", "the name of a unix account or group")]
Path_ = Annotated[str, AfterValidator(_absolute)]
OptionalPath = Annotated[str, AfterValidator(lambda value: _absolute(value) if value else "")]
Database = Annotated[str, AfterValidator(_database)]
Text = Annotated[str, AfterValidator(str.strip), _pattern(r"[^\x00-\x1f\x7f]*", "text on one line")]
Host = Annotated[str, _pattern(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}", "an address or host name")]
LogFolder = Annotated[
    str,
    AfterValidator(lambda value: _absolute(value) if value else ""),
    _pattern(r"[A-Za-z0-9_.,:+=/@~-]*", "a path of letters, digits and _.,:+=/@~- only"),
]
RestUrl = Annotated[
    str,
    _pattern(
        r"(https?://[A-Za-z0-9.:_\[\]-]+(/[A-Za-z0-9._-]+)*|unix://(/[A-Za-z0-9_.,:+=@-]+)+)?",
        "empty, http(s)://HOST:PORT or unix:///PATH",
    ),
]
Port = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=65535)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=1_000_000)]
Memory = Annotated[int, BeforeValidator(parse_memory)]
Minutes = Annotated[int, BeforeValidator(parse_minutes)]
IdleTime = Annotated[int, BeforeValidator(lambda value: 0 if value in (0, "never") else parse_minutes(value))]
Figure = Annotated[float, BeforeValidator(_figure), Field(ge=0, le=1_000_000, allow_inf_nan=False)]
VariableName = Annotated[str, _pattern(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


# --- The sections of the file ----------------------------------------------------------------------------------------


class Paths(_Section):
    """Folders. `prefix` must be the same on hub and compute nodes."""

    prefix: Path_ = Field("/opt/studiolo", description="Where Studiolo is installed, readable on every node.")
    state: Path_ = Field("/var/lib/studiolo/hub", description="The hub's own folder (database); owned by its account.")
    secrets: Path_ = Field(
        "/var/lib/studiolo/secrets",
        description="Folder of the hub's secrets, one file each: cookie_secret, proxy_token, api_token, and for "
        "shared-password user_password and admin_password; where the database wants one, database_password. Readable "
        "by root and the hub's account only.",
    )
    logs: LogFolder = Field(
        "",
        description="Folder where each session writes its log, so that a failed start can quote it: on a file "
        "system that hub and nodes share, owned by the hub's account and group, mode 3733. Empty: logs go to "
        "the person's home and a failure says where to look.",
    )
    scratch: Path_ = Field("/tmp", description="Folder on the compute node for a session's temporary files.")
    extra_config: OptionalPath = Field(
        "", description="Folder of *.py files read after this one with JupyterHub's `c`, for what no key covers."
    )


class Hub(_Section):
    """Addresses and limits of the hub."""

    account: UnixName = Field("studiolo-hub", description="The unprivileged unix account that hub and proxy run as.")
    address: Host = Field("127.0.0.1", description="The address on which browsers reach Studiolo.")
    port: Port = Field(8000, description="The port on which browsers reach Studiolo.")
    base_url: Annotated[str, _pattern(r"/([A-Za-z0-9._-]+/)*", "a path that begins and ends with '/'")] = Field(
        "/", description="The path under which Studiolo lives, where it shares a host name."
    )
    tls_certificate: OptionalPath = Field("", description="Certificate (PEM) for https; empty for plain http.")
    tls_key: OptionalPath = Field("", description="Key of that certificate, readable by the hub's account only.")
    node_address: Host = Field("127.0.0.1", description="The hub's address as compute nodes reach it.")
    node_port: Port = Field(8081, description="The hub's port as compute nodes reach it.")
    internal_tls: bool = Field(
        True,
        description="TLS, with certificates on both sides, between proxy, hub and sessions. Certificates are made below "
        "`paths.state`; no key ever leaves the machine that it was made on.",
    )
    proxy_address: Host = Field("127.0.0.1", description="Where the proxy listens for the hub's commands.")
    proxy_port: Port = Field(8001, description="Port of the same.")
    database: Database = Field(
        "sqlite",
        description="Where the hub keeps people, sessions and tokens: 'sqlite', a file in paths.state; or a PostgreSQL "
        "database, such as 'postgresql://studiolo@db.example.org/studiolo' (its password in the file "
        "database_password of paths.secrets) or 'postgresql://studiolo-hub@/studiolo?host=/var/run/postgresql'.",
    )
    admins: tuple[Name, ...] = Field((), description="Names of those who may administer the hub.")
    sessions_per_person: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=1000)] = Field(
        3,
        description="Sessions that one person may have at once, waiting ones counted. With 1, sessions have no names.",
    )
    idle_limit: IdleTime = Field(
        120,
        description="A session in which nothing has happened for so long is stopped; 'never' to let it run to its end. "
        "A running cell or program is something, an open page is not.",
    )
    idle_warning: IdleTime = Field(10, description="How long before that its page warns.")
    unattended_limit: IdleTime = Field(
        15,
        description="A session that has started and that nobody opens is released after so long, so that its place is "
        "another's; 'never' to keep it.",
    )
    start_limit: Minutes = Field(
        24 * 60, description="How long a session may wait in the queue before the hub gives it up."
    )
    listen_limit: Minutes = Field(
        5, description="How long a started job may take until its server answers before the hub gives it up."
    )


class Authentication(_Section):
    """How people log in."""

    method: Literal["shared-password", "pam", "class"] = Field(
        "pam",
        description="'pam': the centre's accounts through PAM (LDAP, SSSD); 'class': a JupyterHub authenticator such "
        "as OAuthenticator's; 'shared-password': one generated password for all, for demonstrations.",
    )
    allowed_users: tuple[Name, ...] = Field((), description="Who may log in, by name.")
    allowed_groups: tuple[UnixName, ...] = Field((), description="Who may log in, by unix group (method 'pam').")
    allow_all: bool = Field(False, description="Let everybody in whom the method accepts.")
    pam_service: Name = Field("login", description="PAM service to ask (method 'pam').")
    class_name: Annotated[str, _pattern(r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?", "a dotted Python name")] = Field(
        "",
        description="The authenticator (method 'class'), for example 'oauthenticator.generic.GenericOAuthenticator'.",
    )
    options: dict[str, Any] = Field({}, description="Settings of that class. Secrets belong in `extra_config`.")


class Prices(_Section):
    """What people are told that resources cost, beside their hours. 0 for both: hours alone are told."""

    currency: Annotated[str, _pattern(r"[A-Za-z]{1,8}", "letters, such as 'EUR'")] = Field(
        "EUR", description="What prices are in."
    )
    gpu_hour: Figure = Field(0.0, description="Price of one whole GPU for one hour; a part of one costs its part.")
    cpu_hour: Figure = Field(0.0, description="Price of one CPU for one hour.")


class Energy(_Section):
    """What energy is estimated from, where neither node nor GPU tells, and what a kilowatt-hour emits."""

    gpu_watts: Figure = Field(
        0.0, description="What one GPU draws at full use, in watts. 0: the energy of GPUs is not estimated."
    )
    gpu_idle_watts: Figure = Field(0.0, description="What one GPU draws that does nothing, in watts.")
    cpu_watts: Figure = Field(
        0.0,
        description="What one CPU draws at full use, in watts, its part of the node's memory and fans included. 0: energy "
        "is not estimated.",
    )
    cpu_idle_watts: Figure = Field(0.0, description="What one CPU draws that does nothing, in watts.")
    slurm_counts: bool = Field(
        False,
        description="Whether Slurm's ConsumedEnergy is believed: it counts whole nodes (AcctGatherEnergyType), so say true "
        "only where each job has its nodes to itself.",
    )
    pue: Annotated[Figure, Field(ge=1, le=10)] = Field(
        1.0, description="The building's share: power usage effectiveness, all power over that of the machines."
    )
    carbon: Figure = Field(
        0.0, description="Grams of CO2 equivalent for a kilowatt-hour of the site's electricity. 0: not shown."
    )


class Cluster(_Section):
    """One Slurm cluster."""

    via: Literal["commands", "slurmrestd", "both"] = Field(
        "commands",
        description="How the hub talks to Slurm: 'commands' runs sbatch and its sisters, through sudo and the launcher "
        "where it acts for people; 'slurmrestd' asks Slurm's REST service with tokens that the hub makes; 'both' submits "
        "and cancels through slurmrestd, through the launcher while that does not listen, and asks by commands.",
    )
    rest_url: RestUrl = Field(
        "",
        description="Where slurmrestd (with rest_auth/jwt) answers: 'http://127.0.0.1:6820', or 'unix:///PATH' of its "
        "socket. For `via = 'slurmrestd'` and `'both'`, which also need a copy of Slurm's jwt_key: slurm_jwt_key_NAME in "
        "`paths.secrets`. Whoever holds that key is everybody on the cluster.",
    )
    conf: Path_ = Field("/etc/slurm/slurm.conf", description="Its slurm.conf on the hub's host.")
    commands: Path_ = Field("/usr/bin", description="Folder of sbatch, scancel, squeue, sacct, sinfo and scontrol.")
    launcher: Path_ = Field(
        "/opt/studiolo/libexec/studiolo-launch",
        description="The program that the hub may run through sudo as a person: submits, asks when a job would "
        "start, and cancels; nothing else.",
    )
    sudo: Path_ = Field("/usr/bin/sudo", description="The sudo command.")
    listen: Host = Field(
        "0.0.0.0",  # noqa: S104 - nodes are reached over the cluster's network
        description="The address of the node that sessions listen on; 127.0.0.1 where all nodes are this host.",
    )
    interface: Annotated[str, _pattern(r"[A-Za-z0-9_.:@-]{0,15}", "the name of a network interface, such as 'ib0'")] = (
        Field(
            "",
            description="The network interface of the nodes over which a notebook and its Dask workers talk: the fast one, such "
            "as 'ib0'; 'lo' where all nodes are this host; empty for the one that a node's own name leads to.",
        )
    )
    people: UnixName = Field(
        "studiolo-people", description="Unix group of those for whom the hub may submit. Never holds root."
    )
    node_address: Annotated[
        str, _pattern(r"([A-Za-z0-9.:_-]*\{node\}[A-Za-z0-9.:_-]*)?", "empty, or a name with {node} in it")
    ] = Field("", description="How the hub reaches a node: '{node}-ib0.example.org', or empty for Slurm's NodeAddr.")
    ports: Annotated[tuple[Port, Port], AfterValidator(_range)] = Field(
        (32768, 60999), description="First and last port on which sessions listen on the nodes; open it in firewalls."
    )


class Partition(_Section):
    """One partition and what one session may ask of it."""

    cluster: Name | None = Field(None, description="The cluster it belongs to; may be left out where there is one.")
    title: Text = Field("", description="Its name for people.")
    max_cpus: Count = Field(..., ge=1, description="CPUs that one session may have.")
    max_memory: Memory = Field(..., description="Memory that one session may have.")
    max_time: Minutes = Field(..., description="Longest time of one session.")
    max_extension: IdleTime = Field(
        0,
        description="How far beyond `max_time` people may extend a running session, in all; 0 to offer no extension. Slurm "
        "lets only its operators do so: give the hub's account AdminLevel=Operator.",
    )
    max_gpus: Count = Field(0, description="Whole GPUs that one session may have.")
    gpu_type: Annotated[str, _pattern(r"[A-Za-z0-9_.-]*", "a GPU type as in gres.conf")] = Field(
        "", description="Type of its GPUs in Slurm, such as 'a100'; empty to ask for any."
    )
    max_shards: Count = Field(0, description="Parts of a GPU that one session may have (Slurm's shards).")
    shards_per_gpu: Count = Field(0, description="Into how many parts one GPU is divided.")
    accounts: tuple[Name, ...] = Field((), description="Accounts that may use it; empty for all.")
    features: tuple[Name, ...] = Field((), description="Node features that people may ask for.")


class Account(_Section):
    """A project that is charged: a Slurm account."""

    title: Text = Field("", description="Its name for people.")
    qos: tuple[Name, ...] = Field((), description="QoS that its members may ask for; empty: none but the default.")


class Environment(_Section):
    """A software environment that sessions can run in."""

    title: Text = Field("", description="Its name for people.")
    python: OptionalPath = Field(
        "", description="Its Python, with the package `studiolo[lab]` installed; empty for Studiolo's own."
    )
    modules: tuple[Annotated[str, _pattern(r"[A-Za-z0-9][A-Za-z0-9_.+/-]*", "the name of a module")], ...] = Field(
        (), description="Lmod modules loaded first, in this order."
    )
    image: OptionalPath = Field("", description="Apptainer image that it runs in; `python` is then a path inside.")
    variables: dict[VariableName, Text] = Field({}, description="Environment variables that it sets.")


class Profile(_Section):
    """A session people can choose with one click."""

    title: Text = Field(..., min_length=1, description="Its name, such as 'One GPU'.")
    description: Text = Field("", description="One sentence: what it is good for.")
    partition: Name = Field(..., description="The partition it runs on.")
    gpus: Count = Field(0, description="Whole GPUs.")
    shards: Count = Field(0, description="Parts of a GPU; not together with `gpus`.")
    cpus: Count = Field(1, ge=1, description="CPUs.")
    memory: Memory = Field(..., description="Memory.")
    time: Minutes = Field(..., description="How long it runs at most.")
    account: Name | None = Field(None, description="The account charged; left out: the person's default.")
    qos: Name | None = Field(None, description="The QoS; left out: the account's default.")
    reservation: Annotated[str, _pattern(r"[A-Za-z0-9_.-]{1,64}", "the name of a reservation")] | None = Field(
        None, description="A reservation it runs in."
    )
    features: tuple[Name, ...] = Field((), description="Node features it needs.")
    environment: Name | None = Field(None, description="Its environment; left out: the first one of the file.")
    idle_limit: IdleTime | None = Field(None, description="How long it may be idle; left out: hub.idle_limit.")
    unattended_limit: IdleTime | None = Field(
        None, description="How long it waits for somebody to come; left out: hub.unattended_limit."
    )


class Catalogue(_Section):
    """Data sets and models at hand in every session, and where people keep those of their own group."""

    data: tuple[Path_, ...] = Field(
        ("/opt/studiolo/catalogue/data",),
        description="Folders of data sets, each set a folder with its card, croissant.json. The same on every node; people "
        "only read them. `studiolo catalogue check` checks them.",
    )
    models: tuple[Path_, ...] = Field(
        ("/opt/studiolo/catalogue/models",),
        description="Folders of models, laid out as Hugging Face's cache (models--ORG--NAME). People only read them.",
    )
    groups: Annotated[
        str, _pattern(r"(/[A-Za-z0-9_.{}-]+)*", "empty, or an absolute path with {group} in it"), AfterValidator(_group)
    ] = Field(
        "/opt/studiolo/catalogue/groups/{group}",
        description="Where a unix group keeps data sets (in `data`) and models (in `models`) that its members alone see; "
        "an operator makes the two folders for each group. Empty: groups keep none.",
    )
    offline: bool = Field(
        True,
        description="Compute nodes do not reach the internet: a model that is not at hand says so at once, instead of "
        "after many attempts (HF_HUB_OFFLINE=1 in every job).",
    )

    @property
    def model_folders(self) -> tuple[str, ...]:
        """The folders of models, the site's before those of groups (with ``{group}`` in them)."""
        return (*self.models, *([f"{self.groups}/models"] if self.groups else []))


class Site(_Section):
    """A checked site file. Every reference in it holds: a profile's partition exists and its limits fit."""

    title: Text = Field("Studiolo", description="What people see as the name of the service.")
    support: Text = Field("", description="Whom people turn to: an address or a sentence, shown with every failure.")
    paths: Paths = Paths()
    hub: Hub = Hub()
    authentication: Authentication = Authentication()
    prices: Prices = Prices()
    energy: Energy = Energy()
    catalogue: Catalogue = Catalogue()
    clusters: dict[Name, Cluster]
    partitions: dict[Name, Partition]
    accounts: dict[Name, Account] = {}
    environments: dict[Name, Environment]
    profiles: dict[Name, Profile]

    def cluster_of(self, partition: str) -> str:
        """Name the cluster that a partition belongs to."""
        return self.partitions[partition].cluster or next(iter(self.clusters))

    @property
    def default_environment(self) -> str:
        """The first environment of the file."""
        return next(iter(self.environments))

    @property
    def default_profile(self) -> str:
        """The first profile of the file."""
        return next(iter(self.profiles))

    def jwt_key(self, cluster: str) -> str:
        """The file of a cluster's JWT key."""
        return f"{self.paths.secrets}/slurm_jwt_key_{cluster}"

    @property
    def mark(self) -> str:
        """What tells this hub's jobs from those of another hub on the same cluster: 8 hex digits of where nodes find it."""
        place = f"{self.hub.node_address}:{self.hub.node_port}{self.hub.base_url}"
        return hashlib.sha256(place.encode()).hexdigest()[:8]

    def tag(self, kind: str, name: str) -> str:
        """The comment of a job of this hub, such as the ``"session"`` of that name."""
        return f"studiolo:{self.mark}:{kind}:{name}"

    @property
    def certificates(self) -> str:
        """The hub's own folder of the certificates between proxy, hub and sessions."""
        return f"{self.paths.state}/internal-tls"

    @property
    def python(self) -> str:
        """Studiolo's own Python, the same path on hub and nodes."""
        return f"{self.paths.prefix}/venv/bin/python"


SINGLE: Mapping[str, type[_Section]] = {
    "paths": Paths,
    "hub": Hub,
    "authentication": Authentication,
    "prices": Prices,
    "energy": Energy,
    "catalogue": Catalogue,
}
MANY: Mapping[str, type[_Section]] = {
    "clusters": Cluster,
    "partitions": Partition,
    "accounts": Account,
    "environments": Environment,
    "profiles": Profile,
}
_REQUIRED = ("clusters", "partitions", "environments", "profiles")


# --- Reading ---------------------------------------------------------------------------------------------------------


def load(path: str | Path) -> Site:
    """Read and check a site file. Raises :class:`SiteError` with all its faults, or why it can not be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SiteError(
            [Fault(str(path), "", f"a readable UTF-8 file is needed here ({reason})")], str(path)
        ) from error
    return parse(text, str(path))


def parse(text: str, source: str = "site.toml") -> Site:
    """Check the text of a site file; ``source`` names it in messages. Raises :class:`SiteError` with all faults."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, lists thousands deep
        raise SiteError([Fault("the file", "", f"not TOML: {printable(str(error))}")], source) from error
    faults: list[Fault] = []
    parts = _sections(data, faults)
    faults += _cross_faults(_References(data, parts))
    if faults:
        lines = _lines(text)
        raise SiteError([_with_line(fault, lines) for fault in faults], source)
    return Site(**parts)


def _sections(data: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    """Check each section by itself, so that a fault in one does not hide those of another."""
    parts: dict[str, Any] = {}
    for key, value in data.items():
        if key in MANY:
            parts[key] = dict(_entries(key, MANY[key], value, faults))
        elif key in SINGLE:
            section = _section(key, SINGLE[key], value, faults)
            if section is not None:
                parts[key] = section
        elif key in ("title", "support"):
            if not isinstance(value, str) or not value.isprintable():
                faults.append(Fault(key, shown(value), "text on one line"))
            else:
                parts[key] = value
        else:
            known = ", ".join(["title", "support", *SINGLE, *MANY])
            faults.append(Fault(printable(key), "", f"unknown; known are: {known}"))
    faults += [
        Fault(key, "", f"missing: at least one table [{key}.NAME] is needed") for key in _REQUIRED if not data.get(key)
    ]
    return parts


def _entries(key: str, kind: type[_Section], value: object, faults: list[Fault]) -> Iterator[tuple[str, _Section]]:
    if not isinstance(value, dict):
        faults.append(Fault(key, shown(value), f"a table of tables: [{key}.NAME]"))
        return
    for name, entry in value.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name, re.ASCII):
            faults.append(Fault(f"{key}.{shown(name)}", "", "a name has letters, digits, '_', '.' and '-', at most 64"))
            continue
        section = _section(f"{key}.{name}", kind, entry, faults)
        if section is not None:
            yield name, section


def _section(where: str, kind: type[_Section], value: object, faults: list[Fault]) -> _Section | None:
    if not isinstance(value, dict):
        faults.append(Fault(where, shown(value), f"a table: [{where}]"))
        return None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        faults += [_fault(where, kind, item) for item in error.errors(include_url=False)]
        return None


def _fault(where: str, kind: type[_Section], item: Mapping[str, Any]) -> Fault:
    key = ".".join([where, *(printable(str(part)) for part in item["loc"])])
    if item["type"] == "missing":
        return Fault(key, "", f"missing: {kind.model_fields[item['loc'][0]].description}")
    if item["type"] == "extra_forbidden":
        return Fault(key, "", f"unknown; known are: {', '.join(kind.model_fields)}")
    message = str(item["msg"]).removeprefix("Value error, ")
    return Fault(key, _without_passwords(shown(item["input"])), message[0].lower() + message[1:])


def _without_passwords(text: str) -> str:
    """What people mean to keep to themselves, written in the wrong place, is not repeated on screens and in logs."""
    text = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:…@", text)
    return re.sub(r"(password=)[^&'\s]*", r"\1…", text)


# --- References between sections -------------------------------------------------------------------------------------


class _References:
    """What a file declares: entries that are good, and names that are there but have faults of their own.

    A reference to one of the latter is not a second fault.
    """

    def __init__(self, data: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
        self.clusters: dict[str, Cluster] = parts.get("clusters", {})
        self.partitions: dict[str, Partition] = parts.get("partitions", {})
        self.accounts: dict[str, Account] = parts.get("accounts", {})
        self.environments: dict[str, Environment] = parts.get("environments", {})
        self.profiles: dict[str, Profile] = parts.get("profiles", {})
        self.hub: Hub | None = parts.get("hub")
        self.authentication: Authentication | None = parts.get(
            "authentication", None if "authentication" in data else Authentication()
        )
        self._declared = {key: set(data[key]) if isinstance(data.get(key), dict) else set() for key in MANY}

    def lacks(self, section: str, name: str) -> bool:
        """Whether a section declares no such name, good or bad."""
        return name not in self._declared[section]

    def has_faulty(self, section: str) -> bool:
        """Whether some entry of a section has faults, so that nothing can be said of the section as a whole."""
        return self._declared[section] != set(getattr(self, section))


def _cross_faults(refs: _References) -> Iterator[Fault]:
    for name, cluster in refs.clusters.items():
        if cluster.via != "commands" and not cluster.rest_url:
            yield Fault(
                f"clusters.{name}.rest_url", "", f"missing: where slurmrestd answers, since via is '{cluster.via}'"
            )
    for name, partition in refs.partitions.items():
        yield from _partition_faults(f"partitions.{name}", partition, refs)
    for name, profile in refs.profiles.items():
        yield from _profile_faults(f"profiles.{name}", profile, refs)
    if refs.hub and bool(refs.hub.tls_certificate) != bool(refs.hub.tls_key):
        certificate = shown(refs.hub.tls_certificate)
        yield Fault("hub.tls_certificate", certificate, "set both tls_certificate and tls_key, or neither")
    if refs.hub:
        yield from _idle_faults(refs.hub, refs.profiles)
    if refs.authentication:
        yield from _authentication_faults(refs.authentication)


def _idle_faults(hub: Hub, profiles: Mapping[str, Profile]) -> Iterator[Fault]:
    limits = {"hub.idle_limit": hub.idle_limit}
    limits |= {f"profiles.{name}.idle_limit": profile.idle_limit or 0 for name, profile in profiles.items()}
    for where, limit in limits.items():
        if limit and limit < hub.idle_warning:
            words = minutes_words(hub.idle_warning)
            yield Fault(where, minutes_words(limit), f"at least hub.idle_warning, {words}, or 'never'")


def _authentication_faults(authentication: Authentication) -> Iterator[Fault]:
    if (authentication.method == "class") != bool(authentication.class_name):
        yield Fault(
            "authentication.class_name", shown(authentication.class_name), "belongs to method 'class', and only to it"
        )
    if authentication.allowed_groups and authentication.method != "pam":
        yield Fault(
            "authentication.allowed_groups", shown(list(authentication.allowed_groups)), "belongs to method 'pam'"
        )
    allowed = authentication.allowed_users or authentication.allowed_groups or authentication.allow_all
    if not allowed and authentication.method != "class":
        yield Fault(
            "authentication.allowed_users",
            "",
            "nobody may log in: name allowed_users or allowed_groups, or set allow_all",
        )


def _partition_faults(where: str, partition: Partition, refs: _References) -> Iterator[Fault]:
    if partition.cluster is None and len(refs.clusters) > 1:
        yield Fault(f"{where}.cluster", "", f"missing: there are several clusters: {', '.join(refs.clusters)}")
    if partition.cluster is not None and refs.lacks("clusters", partition.cluster):
        yield Fault(f"{where}.cluster", shown(partition.cluster), _listed("one of", refs.clusters))
    for account in partition.accounts:
        if refs.lacks("accounts", account):
            yield Fault(f"{where}.accounts", shown(account), _listed("some of", refs.accounts))
    if partition.max_shards and not partition.shards_per_gpu:
        yield Fault(f"{where}.shards_per_gpu", "0", "at least 1 where max_shards is set")


def _profile_faults(where: str, profile: Profile, refs: _References) -> Iterator[Fault]:
    partition = refs.partitions.get(profile.partition)
    if refs.lacks("partitions", profile.partition):
        yield Fault(f"{where}.partition", shown(profile.partition), _listed("one of", refs.partitions))
    elif partition is not None:
        yield from _limit_faults(where, profile, partition)
    if profile.environment is not None and refs.lacks("environments", profile.environment):
        yield Fault(f"{where}.environment", shown(profile.environment), _listed("one of", refs.environments))
    if profile.account is not None and refs.lacks("accounts", profile.account):
        yield Fault(f"{where}.account", shown(profile.account), _listed("one of", refs.accounts))
    elif profile.account and partition and partition.accounts and profile.account not in partition.accounts:
        allowed = _listed("one of", partition.accounts)
        yield Fault(f"{where}.account", shown(profile.account), f"{allowed} on this partition")
    if profile.qos is not None and not refs.has_faulty("accounts"):
        charged = [refs.accounts[profile.account]] if profile.account in refs.accounts else refs.accounts.values()
        if profile.qos not in {qos for account in charged for qos in account.qos}:
            yield Fault(f"{where}.qos", shown(profile.qos), "a QoS that one of the accounts lists")


def _limit_faults(where: str, profile: Profile, partition: Partition) -> Iterator[Fault]:
    if profile.gpus and profile.shards:
        yield Fault(f"{where}.shards", str(profile.shards), "gpus or shards, not both")
    for key in ("gpus", "shards", "cpus"):
        value, limit = getattr(profile, key), getattr(partition, f"max_{key}")
        if value > limit:
            yield Fault(f"{where}.{key}", str(value), f"at most {limit} on partition {profile.partition}")
    if profile.memory > partition.max_memory:
        limit_words = memory_words(partition.max_memory)
        yield Fault(f"{where}.memory", memory_words(profile.memory), f"at most {limit_words} on {profile.partition}")
    if profile.time > partition.max_time:
        limit_words = minutes_words(partition.max_time)
        yield Fault(f"{where}.time", minutes_words(profile.time), f"at most {limit_words} on {profile.partition}")
    for feature in profile.features:
        if feature not in partition.features:
            yield Fault(f"{where}.features", shown(feature), _listed("some of", partition.features))


def _listed(kind: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"{kind} {listed}" if listed else "none: the file declares none"


# --- Lines -----------------------------------------------------------------------------------------------------------

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_.-]+))\s*=""")


def _lines(text: str) -> dict[str, int]:
    """Map each dotted key of the file to its line (1-based). TOML readers keep no places, so this reads headers itself."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            table = re.sub(r"""\s*["']?\s*(\.)\s*["']?\s*|["']""", r"\1", header[1]).strip() + "."
            parts = table[:-1].split(".")
            for end in range(1, len(parts) + 1):
                lines.setdefault(".".join(parts[:end]), number)
        elif key := _KEY.match(line):
            lines.setdefault(table + (key[1] or key[2] or key[3]), number)
    return lines


def _with_line(fault: Fault, lines: Mapping[str, int]) -> Fault:
    """Find the fault's key, or else the nearest table around it."""
    key = fault.where
    while key:
        if key in lines:
            return Fault(fault.where, fault.value, fault.allowed, lines[key])
        key = key.rpartition(".")[0]
    return fault
