"""How soon the start page begins to arrive, and what is free now, with 2,000 nodes in the hub's snapshot.

Over HTTP, through the proxy, each person with a browser's cookies. Hub and proxy are real, Slurm's commands are not
(simulation.py): they tell of a full machine on which no two nodes are alike and a thousand jobs wait, so that every profile
is compared with what could be had in its place. Counted apart are those who ask in the very second in which a new snapshot
comes in, the slowest of them once more, and everybody after that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle

import httpx
import simulation
from ground import BenchError, Ground
from hubs import Hub
from results import Row, row, said
from simulation import Simulation

from studiolo.slurm.snapshot import SnapshotPace

NODES = 2000
WAITING = 1000
PEOPLE = 10
OTHERS = 40  # requests of each kind for a snapshot that stands
PROFILES = {"shard": "shards = 1", "one": "gpus = 1", "two": "gpus = 2", "four": "gpus = 4", "cpu": "gpus = 0"}
PAGE, OFFERS = "hub/spawn", "hub/api/studiolo/offers"
# A snapshot is read and prepared beside what people ask for: so long after its last question, it is there.
ARRIVING = 1.5

SCONTROL = """case "$*" in
  *assoc_mgr*) exec cat {folder}/associations ;;
  *node*) exec cat {folder}/nodes ;;
  *partition*) exec cat {folder}/partitions ;;
  *reservation*) exec cat {folder}/reservations ;;
esac"""
SQUEUE = """case "$*" in
  *--states=PENDING*) exec cat {folder}/pending ;;
esac"""


@dataclass(frozen=True)
class Reader:
    """One person who is logged in."""

    hub: Hub
    client: httpx.Client
    xsrf: str

    def milliseconds(self, path: str) -> float:
        """Until the first byte of the answer."""
        begun = time.perf_counter()
        with self.client.stream("GET", f"{self.hub.url}{path}", headers={"X-XSRFToken": self.xsrf}) as answer:
            first = (time.perf_counter() - begun) * 1000
            answer.raise_for_status()
            text = b"".join(answer.iter_bytes()).decode()
        if (f'"{name(0, "four")}"' if path == OFFERS else 'id="studiolo-start-page"') not in text:
            raise BenchError(f"{path} is not what was asked for: {text[:300]}")
        return first


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure ``runs`` new snapshots on one hub."""
    arriving: dict[str, list[float]] = {PAGE: [], OFFERS: []}
    slowest: dict[str, list[float]] = {PAGE: [], OFFERS: []}
    usual: dict[str, list[float]] = {PAGE: [], OFFERS: []}
    now = time.time()
    commands = {"scontrol": SCONTROL, "squeue": SQUEUE}
    with ground.hub_stopped(), ExitStack() as stack:
        crowd = stack.enter_context(simulation.simulated(ground, 0, machine(now), commands))
        hub = stack.enter_context(simulation.our_hub(crowd, places()))
        readers = [stack.enter_context(logged_in(hub, f"reader{each}", crowd.password)) for each in range(PEOPLE)]
        readers[0].milliseconds(OFFERS)  # the first snapshot of all is waited for
        for _ in range(runs):
            time.sleep(SnapshotPace().fresh + 1)
            for path, taken in while_one_arrives(crowd, readers).items():
                arriving[path] += taken
                slowest[path].append(max(taken))
            for path, reader in zip(cycle(usual), cycle(readers)):
                usual[path].append(reader.milliseconds(path))
                if len(usual[OFFERS]) % OTHERS == 0 and path == OFFERS:
                    break
            print(said("ours", {path: taken[-1] for path, taken in slowest.items()}), flush=True)
    rows_of = ((f"start-page-{NODES}-nodes", PAGE), (f"offers-{NODES}-nodes", OFFERS))
    return [
        found
        for name, path in rows_of
        for found in (
            row(name, "ms", usual[path]),
            row(f"{name}-arriving", "ms", arriving[path]),
            row(f"{name}-slowest", "ms", slowest[path]),
        )
    ]


def while_one_arrives(crowd: Simulation, readers: list[Reader]) -> dict[str, list[float]]:
    """Have a new snapshot asked for, and read until it is there, without a pause."""
    asked, taken = snapshots(crowd), {PAGE: [readers[0].milliseconds(PAGE)], OFFERS: []}
    deadline, seen = time.monotonic() + 30, 0.0
    for path, reader in zip(cycle((OFFERS, PAGE)), cycle(readers)):
        taken[path].append(reader.milliseconds(path))
        if not seen and snapshots(crowd) > asked:
            seen = time.monotonic()
        if seen and time.monotonic() > seen + ARRIVING:
            return taken
        if time.monotonic() > deadline:
            raise BenchError("no new snapshot was asked for within 30 s")
    raise AssertionError("readers never end")


def snapshots(crowd: Simulation) -> int:
    """How often the last question of a snapshot was put."""
    counts = crowd.folder / "counts" / "squeue"
    return counts.stat().st_size if counts.exists() else 0


@contextmanager
def logged_in(hub: Hub, person: str, password: str) -> Iterator[Reader]:
    """A person's browser, as far as it matters here."""
    with httpx.Client(timeout=60, trust_env=False) as client:
        address = f"{hub.url}hub/login"
        client.get(address)
        form = {"username": person, "password": password, "_xsrf": client.cookies["_xsrf"]}
        answer = client.post(address, data=form)
        if not answer.has_redirect_location:
            raise BenchError(f"{person} can not log in ({answer.status_code})")
        client.get(f"{hub.url}{PAGE}")  # the cookie against forgery that belongs to this person
        yield Reader(hub, client, client.cookies["_xsrf"])


# --- The machine -----------------------------------------------------------------------------------------------------


def name(number: int, profile: str) -> str:
    """Of a profile on the first or second partition."""
    return f"{('small', 'large')[number]}-{profile}"


def machine(now: float) -> dict[str, str]:
    """What Slurm's commands print: no whole GPU is free, and a maintenance window stands ahead of a quarter of the nodes."""
    return {
        "nodes": "".join(map(node, range(NODES))),
        "partitions": "".join(f"{PARTITION.format(name=name)}\n" for name in ("small", "large")),
        "reservations": RESERVATION.format(start=int(now) + 7200, end=int(now) + 14400, last=NODES // 4 - 1) + "\n",
        "pending": "".join(f"{number}|large|{2 * WAITING - number}|Resources|(null)\n" for number in range(1, WAITING)),
        "associations": "".join(associations()),
    }


def node(number: int) -> str:
    """One line of ``scontrol --oneliner --details show node``, as long as real ones."""
    return NODE.format(number=number, cpus=128 - number % 3, memory=(1 << 20) - 1000 - number)


NODE = (
    "NodeName=node{number:04} Arch=x86_64 CoresPerSocket=64 CPUAlloc={cpus} CPUEfctv=128 CPUTot=128 CPULoad=90.04 "
    "AvailableFeatures=nvme ActiveFeatures=nvme Gres=gpu:a100:4(S:0-1),shard:a100:16(S:0-1) GresDrain=N/A "
    "GresUsed=gpu:a100:4(IDX:0-3),shard:a100:0(IDX:N/A) NodeAddr=10.0.0.1 NodeHostName=node{number:04} Version=22.05.8 "
    "OS=Linux 6.1.0-13-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.55-1 (2023-09-29) RealMemory=1048576 AllocMem={memory} "
    "FreeMem=30000 Sockets=2 Boards=1 State=MIXED ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A "
    "Partitions=small,large BootTime=1795250000 SlurmdStartTime=1795250600 LastBusyTime=1795331000 "
    "CfgTRES=cpu=128,mem=1T,billing=128,gres/gpu=4,gres/gpu:a100=4,gres/shard=16 "
    "AllocTRES=cpu={cpus},mem={memory}M,gres/gpu=4,gres/gpu:a100=4 CapWatts=n/a CurrentWatts=0 AveWatts=0 "
    "ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s\n"
)
PARTITION = (
    "PartitionName={name} AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A "
    "DefaultTime=01:00:00 MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 Nodes=node[0000-1999] PriorityTier=1 State=UP "
    "TotalCPUs=256000 TotalNodes=2000 TRESBillingWeights=CPU=0.0,Mem=0.0,GRES/gpu=4.0,GRES/shard=1.0"
)
RESERVATION = (
    "ReservationName=works StartTime={start} EndTime={end} Duration=02:00:00 Nodes=node[0000-{last:04}] NodeCnt=500 "
    "CoreCnt=64000 Features=(null) PartitionName=(null) Flags=MAINT,SPEC_NODES TRES=cpu=64000 Users=root Groups=(null) "
    "Accounts=(null) Licenses=(null) State=INACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)"
)


def associations() -> Iterator[str]:
    """A project for everybody, and one for each of many others, with budgets."""
    yield association("all", "", "", "gres/gpu=600000(100)")
    for each in range(PEOPLE):
        yield association("all", f"reader{each}({2000 + each})", "Yes", "gres/gpu=N(10)")
    for each in range(NODES // 4):
        yield association(f"project{each}", "", "", "gres/gpu=60000(100)")
        yield association(f"project{each}", f"other{each}({3000 + each})", "Yes", "gres/gpu=N(10)")


def association(account: str, person: str, default: str, minutes: str) -> str:
    """One line of ``scontrol --oneliner show assoc_mgr flags=assoc``."""
    tres = "cpu=N(0),mem=N(0),energy=N(0),node=N(0),billing=N(0),fs/disk=N(0),vmem=N(0),pages=N(0)"
    parent = "" if person else "root(1)"
    return (
        f"ClusterName=simulated Account={account} UserName={person} Partition= Priority=0 ID=1 "
        "SharesRaw/Norm/Level/Factor=1/0.20/5/1.00 UsageRaw/Norm/Efctv=0.00/0.00/0.00 "
        f"ParentAccount={parent} Lft=9 DefAssoc={default or 'No'} GrpJobs=N(0) GrpJobsAccrue=N(0) GrpSubmitJobs=N(0) "
        f"GrpWall=N(0.00) GrpTRES={tres} GrpTRESMins={tres},{minutes} GrpTRESRunMins={tres} MaxJobs= MaxJobsAccrue= "
        "MaxSubmitJobs= MaxWallPJ= MaxTRESPJ= MaxTRESPN= MaxTRESMinsPJ= MinPrioThresh=\n"
    )


def places() -> str:
    """Two partitions on the same nodes and five profiles on each, in the site file's words."""
    parts = ["[environments.base]\n[accounts.all]\n"]
    for number, partition in enumerate(("small", "large")):
        parts.append(
            f'[partitions.{partition}]\nmax_cpus = 128\nmax_memory = "1T"\nmax_time = "24h"\nmax_gpus = 4\n'
            'gpu_type = "a100"\nmax_shards = 4\nshards_per_gpu = 4\n'
        )
        parts += [
            f'[profiles.{name(number, key)}]\ntitle = "{key}"\npartition = "{partition}"\n{gpus}\ncpus = 16\n'
            'memory = "64G"\ntime = "8h"\n'
            for key, gpus in PROFILES.items()
        ]
    return "".join(parts)
