"""Compare the site file with this host and the live cluster. Looks only, changes nothing and submits nothing.

Gathering and judging are apart: ``*_findings`` are plain functions from facts to :class:`Finding`.
"""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial, reduce
from pathlib import Path
from typing import Any

from studiolo.doctor_catalogue import catalogue_findings
from studiolo.errors import SiteError, SlurmError, SlurmUnavailable
from studiolo.finding import Finding, fault, good, warning
from studiolo.site import Cluster, Partition, Site
from studiolo.slurm.commands import ACTIONS, launcher_argv
from studiolo.slurm.facts import NodeFacts
from studiolo.slurm.live import LiveCluster, ask, read_cluster
from studiolo.slurm.resources import Resources
from studiolo.sudoers import sudoers
from studiolo.units import memory_words, minutes_words

__all__ = ["Finding", "cluster_findings", "examine", "partition_findings"]

CERTIFICATE_DAYS = 21
URL_HOST = re.compile(r"https?://(\[[^\]]*\]|[^:/]*).*")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
LOCAL_FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "f2fs"})


def examine(site: Site, site_file: Path) -> list[Finding]:
    """Look at everything that the site file promises."""
    findings = [*account_findings(site), *path_findings(site), *secret_findings(site, site_file), *tls_findings(site)]
    findings += database_findings(site, ask_database(site, site_file))
    findings += catalogue_findings(site, people_of(site))
    for name, cluster in site.clusters.items():
        try:
            live = read_cluster(cluster)
        except SlurmUnavailable as error:
            advice = f"run it by hand: SLURM_CONF={cluster.conf} {cluster.commands}/scontrol ping"
            findings.append(fault(f"cluster {name}: {error}", advice))
        else:
            findings += cluster_findings(site, name, live)
            findings += network_findings(site, [node for p in live.partitions.values() for node in p.nodes])
            findings += operator_findings(site, name, partial(ask, cluster, "sacctmgr"))
        if cluster.via != "slurmrestd":
            findings += launcher_findings(site, name, cluster)
        if cluster.via != "commands":
            findings += rest_findings(site, name, cluster)
    return findings


# --- The cluster -----------------------------------------------------------------------------------------------------


def cluster_findings(site: Site, name: str, live: LiveCluster) -> Iterator[Finding]:
    """Compare partitions, accounts and QoS of one cluster."""
    yield good(f"cluster {name}: {live.version} answers, {len(live.partitions)} partition(s)")
    for partition_name, partition in site.partitions.items():
        if site.cluster_of(partition_name) == name:
            yield from partition_findings(partition_name, partition, live)
    if live.accounts is None or live.qos is None:
        yield warning(
            f"cluster {name}: accounting does not answer", "accounts and QoS were not compared; start slurmdbd"
        )
        return
    for account_name, account in site.accounts.items():
        if account_name not in live.accounts:
            yield fault(f"accounts.{account_name} is not an account of {name}", "sacctmgr add account, or take it out")
        for qos in account.qos:
            if qos not in live.qos:
                yield fault(
                    f"accounts.{account_name}.qos: {qos} is not a QoS of {name}", "sacctmgr add qos, or take it out"
                )


def operator_findings(site: Site, name: str, sacctmgr: Callable[..., str]) -> Iterator[Finding]:
    """Whether the hub may extend jobs, where the site file offers people that it does."""
    offering = [
        f"partitions.{partition}.max_extension"
        for partition, entry in site.partitions.items()
        if entry.max_extension and site.cluster_of(partition) == name
    ]
    if not offering:
        return
    account = site.hub.account
    try:
        level = sacctmgr("-nP", "show", "user", f"name={account}", "format=AdminLevel").strip()
    except SlurmUnavailable as error:
        yield warning(f"cluster {name}: {error}", f"whether {account} may extend jobs was not looked at")
        return
    if level in ("Operator", "Administrator"):
        yield good(f"{offering[0]}: {account} may extend jobs on {name}")
    else:
        advice = f"sacctmgr add user {account} account=root adminlevel=Operator, or max_extension = 0"
        yield fault(f"{offering[0]}: {account} is no operator of Slurm's on {name}, so nothing can be extended", advice)


def partition_findings(name: str, partition: Partition, live: LiveCluster) -> Iterator[Finding]:
    """Compare one partition and its limits with what Slurm has."""
    key = f"partitions.{name}"
    found = live.partitions.get(name)
    if found is None:
        yield fault(f"{key} does not exist in Slurm", f"there are: {', '.join(live.partitions)}")
        return
    if not found.nodes:
        yield fault(f"{key} has no nodes", "give it nodes in slurm.conf, or take it out")
        return
    if not found.is_up:
        yield warning(f"{key} is closed at the moment", "scontrol update PartitionName=… State=UP when it may be used")
    broken = False
    if found.max_minutes is not None and partition.max_time > found.max_minutes:
        broken = True
        limit = minutes_words(found.max_minutes)
        yield fault(f"{key}.max_time = {minutes_words(partition.max_time)} is over Slurm's {limit}", f"at most {limit}")
    largest = reduce(Resources.most, (node.total for node in found.nodes))
    limits: list[tuple[str, int, int, Callable[[int], str]]] = [
        ("max_cpus", partition.max_cpus, largest.cpus, str),
        ("max_memory", partition.max_memory, largest.memory, memory_words),
        ("max_gpus", partition.max_gpus, max(node.total.gpu_count(partition.gpu_type) for node in found.nodes), str),
        ("max_shards", partition.max_shards, largest.shards, str),
    ]
    for what, asked, most, words in limits:
        if asked > most:
            broken = True
            yield fault(
                f"{key}.{what} = {words(asked)}, but its largest node has {words(most)}", f"at most {words(most)}"
            )
    offered = {feature for node in found.nodes for feature in node.features}
    for feature in partition.features:
        if feature not in offered:
            broken = True
            yield fault(f"{key}.features: no node has {feature}", f"there are: {', '.join(sorted(offered)) or 'none'}")
    if not broken:
        yield good(f"{key}: {len(found.nodes)} node(s), limits fit")


def network_findings(site: Site, nodes: list[NodeFacts]) -> Iterator[Finding]:
    """Nodes elsewhere can not reach a hub on loopback."""
    remote = [node.name for node in nodes if not node.address.startswith("127.") and node.address != "localhost"]
    if remote and site.hub.node_address.startswith(("127.", "localhost")):
        yield fault(
            f"hub.node_address = {site.hub.node_address}, but nodes are on other hosts ({remote[0]} …)",
            "the address of this host on the cluster's network",
        )


# --- This host -------------------------------------------------------------------------------------------------------


def account_findings(site: Site) -> Iterator[Finding]:
    """The hub's account and the people's groups."""
    try:
        hub = pwd.getpwnam(site.hub.account)
    except KeyError:
        yield fault(f"hub.account = {site.hub.account} does not exist", "useradd --system it")
        return
    if hub.pw_uid == 0:
        yield fault("hub.account is root", "use an account of its own: the hub needs no privilege but the launcher")
    else:
        yield good(f"the hub runs as {site.hub.account}, not root")
    for name, cluster in site.clusters.items():
        try:
            people = grp.getgrnam(cluster.people)
        except KeyError:
            yield fault(f"clusters.{name}.people = {cluster.people} does not exist", "groupadd it and add your people")
            continue
        dangerous = [member for member in people.gr_mem if member == "root" or _uid(member) == 0]
        if dangerous:
            yield fault(
                f"group {cluster.people} holds {', '.join(dangerous)}", "take every account with uid 0 out of it"
            )
        if site.hub.account in people.gr_mem:
            yield warning(f"group {cluster.people} holds the hub's own account", "take it out: nobody needs it there")


def path_findings(site: Site) -> Iterator[Finding]:
    """Folders: the prefix readable for all, the hub's own closed, the logs' open for writing only."""
    python = Path(site.python)
    yield _reachable("paths.prefix", python, "run `make up`, or install Studiolo there")
    state = Path(site.paths.state)
    if not state.is_dir():
        yield fault(f"paths.state = {state} is not a folder", f"create it for {site.hub.account} with mode 700")
    elif (mode := stat.S_IMODE(state.stat().st_mode)) & 0o077:
        yield fault(f"paths.state = {state} has mode {mode:o}", "chmod 700: it holds tokens")
    else:
        yield good(f"paths.state: {state} is closed to others")
    if not site.paths.logs:
        yield warning(
            "paths.logs is not set", "failed starts can not quote their log; name a folder shared with the nodes"
        )
    else:
        yield from _log_findings(site, Path(site.paths.logs))
    homes = {Path(entry.pw_dir).parent for entry in people_of(site)}
    for home in sorted(homes):
        yield _shared(f"homes in {home}", home)


def _log_findings(site: Site, logs: Path) -> Iterator[Finding]:
    if not logs.is_dir():
        yield fault(f"paths.logs = {logs} is not a folder", f"create it for {site.hub.account} with mode 3733")
        return
    facts = logs.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if mode != 0o3733 or facts.st_uid != _uid(site.hub.account):
        yield fault(f"paths.logs = {logs} has mode {mode:o}", f"chown {site.hub.account}: it and chmod 3733")
    else:
        yield good(f"paths.logs: {logs} takes logs and lists none")
        yield _shared("paths.logs", logs)


def _reachable(key: str, path: Path, advice: str) -> Finding:
    """Every user must be able to run it: each folder above must be open for passing through."""
    if not path.exists():
        return fault(f"{key}: {path} does not exist", advice)
    for folder in path.parents:
        if not folder.stat().st_mode & 0o001:
            return fault(f"{key}: {folder} is closed to other users", f"chmod o+x {folder}, or choose another place")
    if not path.stat().st_mode & 0o001:
        return fault(f"{key}: {path} can not be run by other users", "install it world-readable")
    return good(f"{key}: {path} can be run by everybody")


def _shared(what: str, path: Path) -> Finding:
    kind = _file_system(path)
    if kind in LOCAL_FILE_SYSTEMS:
        return warning(f"{what} lie on a local file system ({kind})", "fine where nodes are this host; else share them")
    return good(f"{what} lie on {kind}")


def _file_system(path: Path) -> str:
    """The kind of the file system that holds a path, from /proc/mounts."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, mount, name, *_ = line.split()
        if (str(path.resolve()) + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind = mount, name
    return kind


def secret_findings(site: Site, site_file: Path) -> Iterator[Finding]:
    """Secrets: there, and closed to everybody but root and the hub."""
    names = ["cookie_secret", "proxy_token", "api_token"]
    if site.authentication.method == "shared-password":
        names += ["user_password", "admin_password"]
        yield warning(
            "authentication.method = shared-password", "for demonstrations only: everybody knows the password"
        )
    names += [f"slurm_jwt_key_{name}" for name, cluster in site.clusters.items() if cluster.via != "commands"]
    folder = Path(site.paths.secrets)
    if os.path.exists(folder / "database_password"):
        names.append("database_password")
    wrong = [finding for name in names if (finding := _secret(folder / name))]
    yield from wrong or [good(f"paths.secrets: {len(names)} secrets, closed to other users")]
    if site_file.exists() and site_file.stat().st_mode & 0o002:
        yield fault(f"{site_file} can be changed by everybody", f"chmod o-w {site_file}")


def _secret(path: Path) -> Finding | None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except PermissionError:
        return warning(f"{path} can not be seen by this account", "run the doctor as root or as the hub's account")
    except FileNotFoundError:
        return fault(f"{path} is missing", "write it, with mode 640 and the hub's group")
    return fault(f"{path} has mode {mode:o}", f"chmod 640 {path}") if mode & 0o027 else None


def ask_database(site: Site, site_file: Path) -> dict[str, str]:
    """What the hub's own environment and account find at ``hub.database``: ``hub_config.database.DatabaseState``."""
    try:
        hub = pwd.getpwnam(site.hub.account)
    except KeyError:
        return {"unasked": f"{site.hub.account} does not exist"}
    if os.getuid() not in (0, hub.pw_uid):
        return {"unasked": "it answers to the hub's account"}
    groups = os.getgrouplist(hub.pw_name, hub.pw_gid)
    account: dict[str, Any] = {} if os.getuid() else {"user": hub.pw_uid, "group": hub.pw_gid, "extra_groups": groups}
    command = [site.python, "-I", "-m", "hub_config.database", str(site_file.absolute())]
    try:
        done = subprocess.run(
            command,
            **account,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        answer: dict[str, str] = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        return {"unasked": (error.stderr.strip().splitlines() or ["no reason given"])[-1]}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"unasked": str(error)}
    return answer


def database_findings(site: Site, state: Mapping[str, str]) -> Iterator[Finding]:
    """The hub's database: it answers the hub's account, and its tables are those of this JupyterHub."""
    what = "hub.database: " + ("SQLite" if site.hub.database == "sqlite" else site.hub.database)
    if unasked := state.get("unasked"):
        yield warning(f"{what} was not asked: {unasked}", f"run the doctor as root or as {site.hub.account}")
    elif trouble := state["trouble"]:
        yield fault(
            f"{what} does not let the hub in: {trouble}",
            "start it, or let in this user and host (pg_hba.conf, database_password of paths.secrets)",
        )
    elif not state["revision"]:
        yield good(f"{what} answers; the hub makes its tables when it starts")
    elif state["revision"] != state["head"]:
        yield fault(
            f"{what} has tables of another JupyterHub ({state['revision']}, not {state['head']})",
            "stop the hub, back the database up, then `jupyterhub upgrade-db` as docs/howto/postgresql.md has it",
        )
    else:
        yield good(f"{what} answers, its tables are up to date")


def tls_findings(site: Site) -> Iterator[Finding]:
    """https where people come over a network; certificate valid for three weeks at least."""
    hub = site.hub
    if not hub.tls_certificate:
        if hub.address.startswith("127.") or hub.address == "localhost":
            yield good("plain http, on loopback only")
        else:
            yield fault(f"hub.address = {hub.address} serves plain http", "set hub.tls_certificate and hub.tls_key")
        return
    key = Path(hub.tls_key)
    if key.exists() and key.stat().st_mode & 0o077 & ~0o040:
        yield fault(f"hub.tls_key = {key} is open to others", f"chmod 640 {key}")
    ends = _certificate_end(Path(hub.tls_certificate))
    if ends is None:
        yield fault(f"hub.tls_certificate = {hub.tls_certificate} can not be read", "a certificate in PEM")
        return
    days = (ends - time.time()) / 86400
    when = datetime.fromtimestamp(ends, timezone.utc).date()
    if days < CERTIFICATE_DAYS:
        yield (fault if days < 0 else warning)(f"the certificate ends on {when}", "renew it and restart the proxy")
    else:
        yield good(f"the certificate is valid until {when}")


def _certificate_end(path: Path) -> float | None:
    """When a certificate ends, in seconds since 1970, as openssl reads it."""
    command = ["openssl", "x509", "-noout", "-enddate", "-in", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    if done.returncode:
        return None
    text = done.stdout.strip().removeprefix("notAfter=")
    return datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc).timestamp()


def rest_findings(site: Site, name: str, cluster: Cluster) -> Iterator[Finding]:
    """slurmrestd: it answers, in a version that we speak, takes the hub's key, and slurmctld's clock is right."""
    from studiolo.slurm.rest import SKEW_SECONDS, RestSlurm  # needs what only the hub's environment has

    url = cluster.rest_url
    if url.startswith("http:") and URL_HOST.sub(r"\1", url) not in LOOPBACK:
        yield warning(f"clusters.{name}.rest_url = {url}", "tokens go there in plain text: use https or a socket")
    slurm = RestSlurm(cluster, site.mark, site.hub.account, Path(site.jwt_key(name)))

    async def look() -> tuple[str, float]:
        return await slurm.version(), await slurm.skew(patient=True)

    try:
        version, skew = asyncio.run(look())
    except SlurmError as error:
        yield fault(
            f"clusters.{name}: {error}",
            f"is slurmrestd up with rest_auth/jwt at {url}, and {slurm.tokens.key_file} the jwt_key of slurm.conf?",
        )
        return
    yield good(f"{url} answers, speaks {version} and takes the hub's key")
    if abs(skew) >= SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        yield fault(
            f"slurmctld's clock is {abs(skew):.0f} s {way} this host's", "set both right (NTP): tokens are short-lived"
        )
    else:
        yield good("slurmctld's clock and this host's agree")


def launcher_findings(site: Site, name: str, cluster: Cluster) -> Iterator[Finding]:
    """The privileged piece: root's, unchangeable, and allowed by sudo for exactly its two lines."""
    path = Path(cluster.launcher)
    if not path.exists():
        yield fault(
            f"clusters.{name}.launcher = {path} does not exist", "run `make up`, or install it root-owned, mode 755"
        )
        return
    open_places = [place for place in (path, *path.parents) if _changeable(place)]
    if open_places:
        place = open_places[0]
        yield fault(f"{path} could be changed by others than root", f"chown root {place}; chmod 755 {place}")
        return
    yield good(f"{path} is root's")
    try:
        sudoers(site)
    except SiteError as error:
        yield fault(str(error), "choose paths without special characters")
        return
    person = next(iter(_people(cluster)), None)
    if person is None:
        yield warning(f"group {cluster.people} has no members that this host lists", "the sudo rule was not tried")
        return
    for action in ACTIONS:
        yield _sudo_finding(site, cluster, person.pw_name, action)


def _changeable(path: Path) -> bool:
    """Whether somebody else than root may change a file, or put another in a folder's entry's place."""
    facts = path.stat()
    sticky = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX
    return facts.st_uid != 0 or bool(facts.st_mode & 0o022 and not sticky)


def _sudo_finding(site: Site, cluster: Cluster, person: str, action: str) -> Finding:
    me = pwd.getpwuid(os.getuid()).pw_name
    whose = [] if me == site.hub.account else ["-U", site.hub.account]
    command = [cluster.sudo, "-n", "-l", *whose, "-u", person, *launcher_argv(cluster, action)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        return fault(f"clusters.….sudo = {cluster.sudo} can not be run ({error.strerror})", "install sudo")
    if done.returncode == 0:
        return good(f"sudo lets {site.hub.account} {action} for people of {cluster.people}")
    if whose and os.getuid() != 0:
        return warning(f"sudo was not asked whether {site.hub.account} may {action}", "run the doctor as root or as it")
    return fault(
        f"sudo does not let {site.hub.account} {action} for {person}",
        "studiolo sudoers > /etc/sudoers.d/studiolo (mode 440, checked with visudo -c)",
    )


def people_of(site: Site) -> list[pwd.struct_passwd]:
    """Those whom this host lists as the people of any cluster, each once."""
    return list({entry.pw_uid: entry for cluster in site.clusters.values() for entry in _people(cluster)}.values())


def _people(cluster: Cluster) -> Iterator[pwd.struct_passwd]:
    try:
        members = grp.getgrnam(cluster.people).gr_mem
    except KeyError:
        return
    for member in members:
        try:
            yield pwd.getpwnam(member)
        except KeyError:
            continue


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
