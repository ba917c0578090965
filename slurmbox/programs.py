"""The daemons of the embedded cluster: how each is started, as whom, and in which order.

All run in the foreground and write to standard error; the supervisor keeps and rotates their logs.
"""

from __future__ import annotations

from slurmbox.errors import MissingPackages
from slurmbox.instance import Instance
from slurmbox.packages import program
from slurmbox.processes import MARK
from slurmbox.supervise import Program

GROUP_FILE = "slurm"


def _path(name: str) -> str:
    path = program(name)
    if path is None:
        raise MissingPackages(f"{name} is not installed; `make up` installs it.")
    return path


def all_programs(instance: Instance) -> tuple[Program, ...]:
    """Every daemon of the cluster, first to start first. Stopped in reverse order."""
    nodes = [slurmd(instance, node.name) for node in instance.nodes]
    return (
        munged(instance),
        mariadb(instance),
        slurmdbd(instance),
        slurmctld(instance),
        slurmrestd(instance),
        *nodes,
    )


def environment(instance: Instance) -> dict[str, str]:
    """What all daemons get: whose they are, and where their configuration is."""
    return {MARK: str(instance.state), "SLURM_CONF": str(instance.slurm_conf)}


def munged(instance: Instance) -> Program:
    """Munge with a key and a socket of its own; the host's, if it has one, is left alone."""
    folder = instance.state / "munge"
    command = (
        _path("munged"),
        "--foreground",
        f"--key-file={instance.munge_key}",
        f"--socket={instance.munge_socket}",
        f"--pid-file={folder}/run/munged.pid",
        f"--log-file={folder}/log/munged.log",
        f"--seed-file={folder}/run/munged.seed",
        "--num-threads=4",
    )
    return Program("munged", command, instance.slurm_user, environment(instance), priority=100)


def mariadb(instance: Instance) -> Program:
    """MariaDB on a socket only. Sized for one small cluster: some 120 MB of memory in all."""
    folder = instance.state / "mariadb"
    command = (
        _path("mariadbd"),
        "--no-defaults",  # the host's /etc/mysql is none of ours
        f"--datadir={folder}/data",
        f"--socket={instance.db_socket}",
        f"--pid-file={folder}/run/mariadb.pid",
        f"--init-file={folder}/init.sql",  # slurmdbd's account and database, at every start
        "--skip-networking",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--skip-external-locking",
        "--performance-schema=OFF",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-buffer-size=4M",
        "--innodb-lock-wait-timeout=900",  # slurmdbd asks for it
        # A power cut may cost the last second of accounting; each commit costs no disk flush.
        "--innodb-flush-log-at-trx-commit=2",
        "--max-allowed-packet=16M",
        "--key-buffer-size=1M",
        "--aria-pagecache-buffer-size=8M",
        "--table-open-cache=400",
        "--max-connections=60",
    )
    return Program("mariadb", command, instance.db_user, environment(instance), stopwaitsecs=30, priority=110)


def slurmdbd(instance: Instance) -> Program:
    """Accounting. ``MYSQL_UNIX_PORT`` is how its client library is told the socket: slurmdbd.conf has no word for it."""
    variables = {**environment(instance), "MYSQL_UNIX_PORT": str(instance.db_socket)}
    return Program("slurmdbd", (_path("slurmdbd"), "-D"), instance.slurm_user, variables, stopwaitsecs=20, priority=200)


def slurmctld(instance: Instance) -> Program:
    """The controller."""
    command = (_path("slurmctld"), "-D", "-f", str(instance.slurm_conf))
    return Program("slurmctld", command, instance.slurm_user, environment(instance), stopwaitsecs=20, priority=300)


def slurmrestd(instance: Instance) -> Program:
    """Slurm's REST service on the loopback; everyone must bring a token of their own."""
    variables = {**environment(instance), "SLURM_JWT": "daemon"}
    address = f"127.0.0.1:{instance.ports['slurmrestd']}"
    command = (_path("slurmrestd"), "-f", str(instance.slurm_conf), "-a", "rest_auth/jwt", address)
    return Program("slurmrestd", command, instance.rest_user, variables, priority=310)


def slurmd(instance: Instance, node: str) -> Program:
    """One node's daemon, root as on a real node.

    Stopped alone, without its children: a job's slurmstepd lives on when slurmd is restarted, and the job with it.
    """
    command = (_path("slurmd"), "-D", "-N", node, "-f", str(instance.slurm_conf))
    return Program(f"slurmd-{node}", command, "root", environment(instance), stopwaitsecs=20, priority=400)
