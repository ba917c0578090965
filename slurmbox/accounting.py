"""Slurm's accounting: the access modes as accounts, their limits and QoS, and who may charge what."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from slurmbox.design import SHARDS_PER_GPU
from slurmbox.errors import CommandFailed, MissingPackages
from slurmbox.instance import Instance
from slurmbox.packages import program
from slurmbox.people import Person


@dataclass(frozen=True)
class AccessMode:
    """One of EuroHPC's access modes: a Slurm account and the QoS of the same name.

    ``gpu_minutes`` is what the whole account may use in a month; the rest holds for each person.
    """

    name: str
    description: str
    gpu_minutes: int
    gpus_per_user: int
    wall_minutes: int
    running_per_user: int
    submitted_per_user: int


ACCESS_MODES: tuple[AccessMode, ...] = (
    AccessMode("playground", "First steps: one GPU or less at a time", 60_000, 1, 4 * 60, 4, 24),
    AccessMode("fast-lane", "Companies and pilots", 600_000, 4, 12 * 60, 16, 64),
    AccessMode("large-scale", "Large campaigns and courses", 3_000_000, 8, 24 * 60, 64, 256),
)


OPERATORS = "root"
"""The account that every cluster of Slurm's has."""


def group_limits(mode: AccessMode, *, shards: bool) -> str:
    """``GrpTRESMins`` of an account. Billing, which counts quarters of a GPU, binds whole and shared GPUs together."""
    quarters = mode.gpu_minutes * SHARDS_PER_GPU
    limits = f"billing={quarters},gres/gpu={mode.gpu_minutes}"
    return f"{limits},gres/shard={quarters}" if shards else limits


def qos_settings(mode: AccessMode, *, shards: bool) -> dict[str, str]:
    """The limits of a QoS as sacctmgr takes them. A job that can never fit is refused at once (DenyOnLimit)."""
    quarters = mode.gpus_per_user * SHARDS_PER_GPU
    per_user = f"billing={quarters},gres/gpu={mode.gpus_per_user}"
    if shards:
        per_user += f",gres/shard={quarters}"
    return {
        "Flags": "DenyOnLimit",
        "MaxTRESPerUser": per_user,
        "MaxWall": str(mode.wall_minutes),
        "MaxJobsPerUser": str(mode.running_per_user),
        "MaxSubmitJobsPerUser": str(mode.submitted_per_user),
    }


def account_settings(mode: AccessMode, *, shards: bool) -> dict[str, str]:
    """The limits of an account as sacctmgr takes them; people below inherit them."""
    return {
        "GrpTRESMins": group_limits(mode, shards=shards),
        "QosLevel": mode.name,
        "DefaultQOS": mode.name,
    }


def commands(
    cluster: str,
    people: Sequence[Person],
    *,
    shards: bool,
    have_qos: Collection[str] = (),
    have: Mapping[str, Collection[str]] | None = None,
    operator: str = "",
) -> list[list[str]]:
    """Arguments of the sacctmgr calls that lead from what there is to what is wanted, in order.

    ``operator`` is the unix account that may do what Slurm lets its operators do, such as extend jobs.
    ``have`` maps each Slurm account that exists on the cluster to the people in it. What exists already gets
    the wanted limits again, so a changed limit arrives; people are never removed.
    """
    known = have or {}
    out: list[list[str]] = []
    for mode in ACCESS_MODES:
        words = [f"{k}={v}" for k, v in qos_settings(mode, shards=shards).items()]
        if mode.name in have_qos:
            out.append(["modify", "qos", "where", f"name={mode.name}", "set", *words])
        else:
            out.append(["add", "qos", mode.name, *words])
    for mode in ACCESS_MODES:
        words = [f"{k}={v}" for k, v in account_settings(mode, shards=shards).items()]
        if mode.name in known:
            out.append(["modify", "account", "where", f"name={mode.name}", f"cluster={cluster}", "set", *words])
        else:
            described = [f"Description={mode.description}", "Organization=studiolo"]
            out.append(["add", "account", mode.name, f"cluster={cluster}", *described, *words])
    # People of one default account together, into that account first: sacctmgr wants a default to exist.
    calls: dict[tuple[str, str], list[str]] = defaultdict(list)
    for person in people:
        for account in sorted(person.accounts, key=lambda a: a != person.default_account):
            if person.name not in known.get(account, ()):
                calls[account, person.default_account].append(person.name)
    for (account, default), names in sorted(calls.items(), key=lambda call: call[0][0] != call[0][1]):
        out.append(
            ["add", "user", ",".join(names), f"cluster={cluster}", f"account={account}", f"DefaultAccount={default}"]
        )
    if operator and operator not in known.get(OPERATORS, ()):
        # Into an account of Slurm's own, which no job of ours is charged to.
        out.append(["add", "user", operator, f"cluster={cluster}", f"account={OPERATORS}", "AdminLevel=Operator"])
    return out


def parse_associations(text: str) -> dict[str, set[str]]:
    """``account|user`` lines of ``sacctmgr show assoc`` -> people by account."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in text.splitlines():
        account, _, user = line.partition("|")
        if account:
            found[account].update({user} - {""})
    return dict(found)


def sacctmgr(instance: Instance, *arguments: str) -> str:
    """Run sacctmgr on this instance and return what it printed. Raises CommandFailed with its words."""
    path = program("sacctmgr")
    if path is None:
        raise MissingPackages("sacctmgr is not installed; `make up` installs it.")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **instance.environment()}
    done = subprocess.run(
        [path, "-i", "-n", "-P", *arguments], capture_output=True, text=True, env=environment,
        stdin=subprocess.DEVNULL, timeout=60, check=False, start_new_session=True
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr.strip() + " " + done.stdout.strip()).strip()
        raise CommandFailed(f"sacctmgr {' '.join(arguments)}: {said or done.returncode}")
    return done.stdout


def load(instance: Instance) -> None:
    """Bring accounts, QoS, limits and associations to what is wanted. Some five seconds on an empty database.

    One call after the other: slurmdbd loses associations that are added at the same moment (22.05). Nearly all of
    the time is waiting, as Slurm sends each message in two parts and TCP holds the second back for 40 ms.
    """
    have_qos = set(sacctmgr(instance, "show", "qos", "format=name").split())
    listing = sacctmgr(instance, "show", "assoc", f"cluster={instance.cluster}", "format=account,user")
    for arguments in commands(
        instance.cluster,
        instance.people,
        shards=instance.features.shards,
        have_qos=have_qos,
        have=parse_associations(listing),
        operator=instance.hub_user,
    ):
        sacctmgr(instance, *arguments)


def fingerprint(instance: Instance) -> str:
    """All that ``load`` would do on an empty cluster, as text: the same text means there is nothing to do."""
    return "\n".join(
        " ".join(c)
        for c in commands(
            instance.cluster, instance.people, shards=instance.features.shards, operator=instance.hub_user
        )
    )
