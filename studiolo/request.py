"""What somebody asks for: the one gate that every session, Dask worker, batch job and grading run passes.

:func:`check` takes the raw options of a form or a REST call alike and returns a :class:`Request` in which every field
is known, within the site's limits and harmless to print into a batch script, or raises
:class:`~studiolo.errors.RequestError` with all faults at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from studiolo.errors import Fault, RequestError, shown
from studiolo.language import _
from studiolo.site import Partition, Profile, Site
from studiolo.units import memory_words, minutes_words, parse_memory, parse_minutes

__all__ = ["FIELDS", "Request", "carried", "check"]

FIELDS: tuple[str, ...] = (
    "profile",
    "partition",
    "gpus",
    "shards",
    "cpus",
    "memory",
    "minutes",
    "hours",
    "account",
    "qos",
    "reservation",
    "features",
    "environment",
    "workdir",
)
"""The fields that a request may set; all are optional, and nothing else can be set."""

MAX_WORKDIR = 4096
LEAST_MEMORY = 64
"""Mebibytes below which not even Python begins: who writes ``memory=16`` means 16 GB."""
MAX_HOURS = 366 * 24
_RESERVATION = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True)
class Request:
    """Checked resources for one job on one node.

    ``memory`` is in mebibytes, ``minutes`` the walltime. ``gpus`` are whole ones, ``shards`` parts of one; never both.
    ``None`` leaves the choice to Slurm (the person's default account, the account's default QoS).
    ``workdir`` is never part of a script: the session itself changes to it.
    """

    profile: str
    cluster: str
    partition: str
    gpus: int
    shards: int
    cpus: int
    memory: int
    minutes: int
    account: str | None
    qos: str | None
    reservation: str | None
    features: tuple[str, ...]
    environment: str
    workdir: str | None


def check(options: Mapping[str, object] | None, site: Site) -> Request:
    """Return the checked request that ``options`` (see :data:`FIELDS`) describe. Raises :class:`RequestError`."""
    return _Gate(options, site).request()


def carried(request: Request) -> str:
    """A request as ``STUDIOLO_REQUEST`` carries it into its job: JSON, without the folder."""
    return json.dumps({name: value for name, value in asdict(request).items() if name != "workdir"})


class _Refused(Exception):
    def __init__(self, allowed: str) -> None:
        self.allowed = allowed


class _Gate:
    """Collects faults while it reads the options field by field; lives for one call."""

    def __init__(self, options: object, site: Site) -> None:
        self.site = site
        self.faults: list[Fault] = []
        self.given: dict[str, object] = {}
        if options is None:
            options = {}
        if not isinstance(options, Mapping):
            self.faults.append(Fault(_("the request"), shown(options), _("an object of fields and values")))
            return
        for key, value in options.items():
            if key not in FIELDS:
                self.faults.append(Fault(shown(key), "", _("unknown; known are: %(fields)s", fields=", ".join(FIELDS))))
            elif fault := _unfit(value):
                self.faults.append(Fault(key, shown(value), fault))
            elif value not in (None, "", []):
                self.given[str(key)] = value

    def request(self) -> Request:
        profile_name = self.field("profile", self.one_of(self.site.profiles), self.site.default_profile)
        profile = self.site.profiles[profile_name]
        partition_name = self.field("partition", self.one_of(self.site.partitions), profile.partition)
        partition = self.site.partitions[partition_name]
        gpus, shards = self.accelerators(profile)
        account = self.field("account", self.account_of(partition_name, partition), profile.account)
        request = Request(
            profile=profile_name,
            cluster=self.site.cluster_of(partition_name),
            partition=partition_name,
            gpus=gpus,
            shards=shards,
            cpus=self.field("cpus", _whole, profile.cpus),
            memory=self.field("memory", _unit(parse_memory), profile.memory),
            minutes=self.minutes(profile),
            account=account,
            qos=self.field("qos", self.one_of(self.qos_of(account)), self.usual_qos(profile, account)),
            reservation=self.field("reservation", _reservation, profile.reservation),
            features=self.field("features", self.some_of(partition.features), profile.features),
            environment=self.field(
                "environment",
                self.one_of(self.site.environments),
                profile.environment or self.site.default_environment,
            ),
            workdir=self.field("workdir", _workdir, None),
        )
        self.limits(request, partition)
        if self.faults:
            raise RequestError(self.faults)
        return request

    def field(self, key: str, read: Callable[[object], Any], default: Any) -> Any:
        """Read one field; note a fault and go on with the default where it is not allowed."""
        if key not in self.given:
            return default
        try:
            return read(self.given[key])
        except _Refused as refused:
            self.faults.append(Fault(key, shown(self.given[key]), refused.allowed))
            return default

    def accelerators(self, profile: Profile) -> tuple[int, int]:
        """GPUs or shards: naming one kind drops the profile's other kind; naming both is a fault."""
        gpus = self.field("gpus", _whole, 0 if "shards" in self.given else profile.gpus)
        shards = self.field("shards", _whole, 0 if "gpus" in self.given else profile.shards)
        if gpus and shards:
            self.faults.append(Fault("shards", str(shards), _("whole gpus or shards, not both")))
        return gpus, shards

    def minutes(self, profile: Profile) -> int:
        if "minutes" in self.given and "hours" in self.given:
            self.faults.append(Fault("hours", shown(self.given["hours"]), _("minutes or hours, not both")))
        minutes = self.field("minutes", _unit(parse_minutes), profile.time)
        return int(self.field("hours", _hours, minutes))

    def one_of(self, names: Iterable[str]) -> Callable[[object], str]:
        known = tuple(names)

        def read(value: object) -> str:
            if isinstance(value, str) and value in known:
                return value
            raise _Refused(_one_of(known))

        return read

    def some_of(self, known: tuple[str, ...]) -> Callable[[object], tuple[str, ...]]:
        def read(value: object) -> tuple[str, ...]:
            names = value.split(",") if isinstance(value, str) else value
            if not isinstance(names, (list, tuple)) or not all(
                isinstance(n, str) and n.strip() in known for n in names
            ):
                raise _Refused(_some_of(known))
            return tuple(dict.fromkeys(n.strip() for n in names))

        return read

    def account_of(self, partition_name: str, partition: Partition) -> Callable[[object], str]:
        allowed = partition.accounts or tuple(self.site.accounts)

        def read(value: object) -> str:
            if isinstance(value, str) and value in allowed:
                return value
            raise _Refused(_one_of(allowed, partition_name))

        return read

    def qos_of(self, account: str | None) -> tuple[str, ...]:
        if account is not None:
            return self.site.accounts[account].qos
        return tuple(dict.fromkeys(qos for entry in self.site.accounts.values() for qos in entry.qos))

    def usual_qos(self, profile: Profile, account: str | None) -> str | None:
        """The profile's QoS, unless another account was chosen, which does not have it."""
        return profile.qos if profile.qos in self.qos_of(account) else None

    def limits(self, request: Request, partition: Partition) -> None:
        """Compare with the partition's limits, whether a value was given or came with the profile."""
        numbers: list[tuple[str, int, int, int, Callable[[int], str]]] = [
            ("gpus", request.gpus, 0, partition.max_gpus, str),
            ("shards", request.shards, 0, partition.max_shards, str),
            ("cpus", request.cpus, 1, partition.max_cpus, str),
            ("memory", request.memory, LEAST_MEMORY, partition.max_memory, memory_words),
            ("hours" if "hours" in self.given else "minutes", request.minutes, 1, partition.max_time, minutes_words),
        ]
        broken = {fault.where for fault in self.faults}
        for key, value, low, high, words in numbers:
            if not low <= value <= high and key not in broken:
                given = words(value) if key in self.given else _from_profile(words(value), request.profile)
                if value < low and key == "memory":
                    allowed = _("at least %(limit)s; a bare number counts in MB, and '16G' is 16 GB", limit=words(low))
                elif value < low:
                    allowed = _("at least %(limit)s on partition %(name)s", limit=words(low), name=request.partition)
                else:
                    allowed = _("at most %(limit)s on partition %(name)s", limit=words(high), name=request.partition)
                self.faults.append(Fault(key, given, allowed))
        self.inherited(request, partition)

    def inherited(self, request: Request, partition: Partition) -> None:
        """What came with the profile must fit the partition too, where another one was chosen."""
        if request.account and partition.accounts and request.account not in partition.accounts:
            allowed = _one_of(partition.accounts, request.partition)
            self.faults.append(Fault("account", _from_profile(shown(request.account), request.profile), allowed))
        for feature in request.features:
            if feature not in partition.features:
                given = _from_profile(shown(feature), request.profile)
                self.faults.append(Fault("features", given, _some_of(partition.features)))


def _from_profile(value: str, profile: str) -> str:
    return _("%(value)s (from profile %(profile)s)", value=value, profile=profile)


def _one_of(names: tuple[str, ...], partition: str = "") -> str:
    if not names:
        return _("nothing can be chosen here")
    if partition:
        return _("one of %(names)s on partition %(partition)s", names=", ".join(names), partition=partition)
    return _("one of %(names)s", names=", ".join(names))


def _some_of(names: tuple[str, ...]) -> str:
    return _("some of %(names)s", names=", ".join(names)) if names else _("this partition offers none")


def _unfit(value: object) -> str:
    """Why a value can be no field's, whatever the field; empty where it can."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    if any(not (text is None or isinstance(text, (str, int, float))) for text in texts):
        return _("a number or text")
    if any(not text.isprintable() for text in texts if isinstance(text, str)):
        return _("text without line breaks or control characters")
    return ""


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    raise _Refused(_("a whole number, 0 or more"))


def _unit(parse: Callable[[object], int]) -> Callable[[object], int]:
    def read(value: object) -> int:
        try:
            return parse(value)
        except ValueError as error:
            raise _Refused(str(error)) from None

    return read


def _hours(value: object) -> int:
    """Hours may be broken ones ("1.5"); they count in whole minutes, rounded up by the reader of units."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_HOURS:
        value = f"{value:.6f}" if isinstance(value, float) else str(value)
    text = value.strip() if isinstance(value, str) else ""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII):
        raise _Refused(_("hours as a number, such as 2 or 1.5"))
    return _unit(parse_minutes)(f"{text}h")


def _reservation(value: object) -> str:
    if isinstance(value, str) and _RESERVATION.fullmatch(value):
        return value
    raise _Refused(_("the name of a reservation: letters, digits, '_', '.' and '-'"))


def _workdir(value: object) -> str:
    if isinstance(value, str) and len(value.encode(errors="replace")) <= MAX_WORKDIR:
        return value
    raise _Refused(_("a folder, absolute or below your home, at most %(limit)s bytes", limit=MAX_WORKDIR))
