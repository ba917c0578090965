"""up, down, status, clean: the one place where the embedded cluster is acted upon.

``up`` may be interrupted anywhere and called again: every step looks at what is there and does the rest.
"""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from slurmbox import accounting, accounts, processes, programs, ready, render
from slurmbox import instance as instances
from slurmbox.errors import BoxError, CommandFailed, InstanceError, MissingPackages, NotReady, SupervisorError
from slurmbox.facts import CGROUP_ROOT
from slurmbox.files import ensure_folder, ensure_secret, last_lines, locked, write_atomic
from slurmbox.instance import Instance
from slurmbox.packages import missing_programs, program
from slurmbox.supervise import ProgramState, Supervisor

# What stands for a GPU. Slurm sets CUDA_VISIBLE_DEVICES only for a character device (a plain file is counted, but its
# number is not told to the job); nothing in a job needs this one, should it be withheld (ConstrainDevices).
SIMULATED_GPU = Path("/dev/full")

Progress = Callable[[str], AbstractContextManager[object]]


def quiet(step: str) -> AbstractContextManager[object]:
    """The progress of one who does not want to see any."""
    return nullcontext(step)


def supervisor(instance: Instance) -> Supervisor:
    """The supervisor of this instance; hub and proxy are put under the same one."""
    return Supervisor(instance.supervisor_folder, programs.environment(instance))


# -- up ---------------------------------------------------------------------------------------------


def up(instance: Instance, progress: Progress = quiet) -> None:
    """Bring the cluster up, or complete it, and return when every daemon answers.

    Raises MissingPackages, NotReady (naming the daemon, quoting its log) or another BoxError that says what to do.
    """
    _must_be_root()
    missing = missing_programs()
    if missing:
        raise MissingPackages(f"Not installed: {', '.join(missing)}. `make up` installs them.")
    if not (instance.state / instances.FILE).exists():
        raise InstanceError(f"{instance.state} has no {instances.FILE}; call load_or_choose first.")
    with locked(instance.state):
        boss = supervisor(instance)
        if not boss.is_running():
            _end_orphans(instance)
        try:
            _up(instance, boss, progress)
        except NotReady:
            if instance.features.cgroup != "v2":
                raise
            # Control groups v2 promise more than they keep in some containers: once without, and remembered.
            with progress("Control groups refused; starting without them"):
                instance = _without_cgroups(instance)
                boss.shutdown()
                _end_orphans(instance)
            _up(instance, boss, progress)


def _without_cgroups(instance: Instance) -> Instance:
    reason = "Slurm could not run a job in control groups on this machine"
    features = replace(instance.features, cgroup="none", cgroup_reason=reason, cgroup_swap=False, cgroup_refused=True)
    instance = replace(instance, features=features)
    instances.save(instance)
    return instance


def _up(instance: Instance, boss: Supervisor, progress: Progress) -> None:
    with progress("Accounts and folders"):
        accounts.ensure_daemons(instance)
        _folders(instance)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Thirty-odd accounts and MariaDB's first start take a second or two each: side by side.
        people = pool.submit(accounts.ensure_people, instance)
        changed = _configuration(instance)
        boss.ensure_running()
        boss.write(programs.GROUP_FILE, programs.all_programs(instance))
        boss.reload()
        with progress("Munge and MariaDB"):
            boss.start("munged")
            _initialise_mariadb(instance)
            boss.start("mariadb")
            _await(instance, boss, "munged", ready.munge, 20)
            _await(instance, boss, "mariadb", ready.mariadb, 60)
        with progress("Accounting (slurmdbd)"):
            if changed:
                boss.stop("slurmdbd")
            boss.start("slurmdbd")
            _await(instance, boss, "slurmdbd", ready.slurmdbd, 60)
        with progress("Demo people"):
            people.result()
    with progress("Slurm controller, nodes and REST service"):
        if changed:
            # Read at start only. Jobs don't notice: their slurmstepd stays.
            for name in ("slurmctld", "slurmrestd", *(f"slurmd-{n.name}" for n in instance.nodes)):
                boss.stop(name)
        _cgroup_branches(instance)
        boss.start("slurmctld")
        _await(instance, boss, "slurmctld", ready.slurmctld, 60)
        for node in instance.nodes:
            boss.start(f"slurmd-{node.name}")
        boss.start("slurmrestd")
    with progress("Slurm accounts, limits and QoS"):
        _load_accounting(instance)
    with progress("Waiting for nodes"):
        _await(instance, boss, "slurmrestd", ready.slurmrestd, 30)
        _await_nodes(instance, boss)
    _site_file(instance)


def _must_be_root() -> None:
    if os.geteuid() != 0:
        raise BoxError("The embedded cluster needs root: several accounts, and slurmd as on a real node. Use sudo.")


def _end_orphans(instance: Instance) -> None:
    """End daemons whose supervisor is gone. Jobs are left alone: the new slurmd takes them over."""
    left = processes.end(processes.daemons(instance), patience_s=10)
    if left:
        names = ", ".join(f"{p.program} ({p.pid})" for p in left)
        raise BoxError(f"Processes of an earlier start could not be ended: {names}. End them by hand.")


def _folders(instance: Instance) -> None:
    """All folders, with their owners. Parents first."""
    state = instance.state
    slurm, db = accounts.ids(instance.slurm_user), accounts.ids(instance.db_user)
    hub = accounts.ids(instance.hub_user)
    root = (0, 0)
    plan: tuple[tuple[str, int, tuple[int, int]], ...] = (
        ("", 0o755, root),
        ("home", 0o755, root),
        ("hub", 0o700, hub),
        ("secrets", 0o750, (0, hub[1])),
        ("logs", 0o755, root),
        # Everyone's sessions write here, nobody lists it; the hub's group reads.
        ("logs/sessions", 0o3733, hub),
        ("munge", 0o755, root),
        ("munge/key", 0o700, slurm),
        ("munge/log", 0o700, slurm),
        ("munge/run", 0o755, slurm),
        ("mariadb", 0o755, root),
        ("mariadb/run", 0o755, db),
        ("slurm", 0o755, root),
        ("slurm/etc", 0o755, root),
        ("slurm/libexec", 0o755, root),
        ("slurm/gpus", 0o755, root),
        ("slurm/ctld", 0o700, slurm),
        ("slurm/run", 0o755, slurm),
        ("slurm/spool", 0o755, root),
    )
    for name, mode, (uid, gid) in plan:
        ensure_folder(state / name, mode=mode, uid=uid, gid=gid)
    ensure_folder(state / "groups")
    for group in instance.groups:
        number = grp.getgrnam(group).gr_gid
        ensure_folder(state / "groups" / group, mode=0o750, gid=number)
        for name in ("data", "models"):
            # Its members add, and nobody removes what is another's.
            ensure_folder(state / "groups" / group / name, mode=0o3770, gid=number)
    for node in instance.nodes:
        ensure_folder(state / "slurm" / "spool" / node.name)
        if node.gpus and not node.gpus.real:
            for n in range(node.gpus.count):
                _link(instance.gpu_folder / f"{node.name}-{n}", SIMULATED_GPU)


def _link(link: Path, target: Path) -> None:
    """A symbolic link of ours in a folder of ours; anything else in its place is replaced."""
    if link.is_symlink() and Path(os.readlink(link)) == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _configuration(instance: Instance) -> bool:
    """Write every configuration file; returns whether one has changed that Slurm's daemons read at their start."""
    etc = instance.state / "slurm" / "etc"
    slurm = accounts.ids(instance.slurm_user)
    db = accounts.ids(instance.db_user)
    ensure_secret(instance.munge_key, size=128, mode=0o600, uid=slurm[0], gid=slurm[1])
    ensure_secret(instance.jwt_key, size=32, mode=0o600, uid=slurm[0], gid=slurm[1])
    changed = [write_atomic(etc / name, text, mode=0o644) for name, text in render.slurm_files(instance).items()]
    dbd = render.render("slurmdbd.conf.j2", instance)
    changed.append(write_atomic(etc / "slurmdbd.conf", dbd, mode=0o600, uid=slurm[0], gid=slurm[1]))
    epilog = (Path(__file__).parent / "epilog.py").read_text()
    write_atomic(instance.state / "slurm" / "libexec" / "epilog.py", epilog, mode=0o755)
    sql = render.render("init.sql.j2", instance)
    write_atomic(instance.state / "mariadb" / "init.sql", sql, mode=0o640, gid=db[1])
    return any(changed)


def _initialise_mariadb(instance: Instance) -> None:
    """Create MariaDB's system tables in a folder of another name, and give it its name when it is whole."""
    folder = instance.state / "mariadb"
    data, unfinished = folder / "data", folder / "data.new"
    if data.exists():
        return
    # An interrupted start may have left its helpers at work in there.
    processes.end(processes.mentioning(str(unfinished)), patience_s=2)
    if unfinished.exists():
        shutil.rmtree(unfinished)
    uid, gid = accounts.ids(instance.db_user)
    ensure_folder(unfinished, mode=0o700, uid=uid, gid=gid)
    command = [
        _program("mariadb-install-db"), "--no-defaults", f"--user={instance.db_user}", f"--datadir={unfinished}",
        "--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve",
        "--innodb-log-file-size=16M",
    ]  # fmt: skip
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise CommandFailed(f"mariadb-install-db failed: {(done.stderr + done.stdout).strip()[-1500:]}")
    os.rename(unfinished, data)


def _cgroup_branches(instance: Instance) -> None:
    """Give the instance its own branch of each control group hierarchy, reached by links (v1)."""
    if instance.confinement.kind != "v1":
        return
    ensure_folder(instance.cgroup_folder)
    names = ["memory", "freezer"] + (["devices"] if instance.confinement.devices else [])
    for name in names:
        branch = CGROUP_ROOT / name / instance.cluster
        branch.mkdir(exist_ok=True)
        _link(instance.cgroup_folder / name, branch)


def _remove_cgroup_branches(instance: Instance) -> None:
    for name in ("memory", "freezer", "devices"):
        branch = CGROUP_ROOT / name / instance.cluster
        if not branch.is_dir():
            continue
        for folder, _, _ in os.walk(branch, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return  # a process in it has yet to vanish; the next start uses the branch again


def _load_accounting(instance: Instance) -> None:
    """Load accounts and limits, unless this very database has them: nine calls of sacctmgr less."""
    note = instance.state / "mariadb" / "data" / "studiolo-accounting"
    wanted = accounting.fingerprint(instance)
    try:
        if note.read_text() == wanted:
            return
    except FileNotFoundError:
        pass
    accounting.load(instance)
    write_atomic(note, wanted, mode=0o600)


def _await_nodes(instance: Instance, boss: Supervisor) -> None:
    log = boss.log(f"slurmd-{instance.nodes[0].name}")
    note = instance.state / "slurm" / "cgroup-v2-tried"
    untried = instance.confinement.kind == "v2" and not note.exists()
    ready.wait("slurmd", lambda: ready.nodes(instance), within_s=20 if untried else 60, log=log)
    if untried:
        answer = ready.trial_job(instance)
        if answer is not None:
            raise NotReady(f"The first job did not run: {answer}")
        write_atomic(note, "", mode=0o644)


def _await(
    instance: Instance, boss: Supervisor, name: str, ask: Callable[[Instance], ready.Answer], within_s: float
) -> None:
    def asked() -> ready.Answer:
        answer = ask(instance)
        if answer is not None and boss.state(name).state == "FATAL":
            raise NotReady(f"{name} does not start.\n{_log_end(boss, name)}")
        return answer

    ready.wait(name, asked, within_s=within_s, log=boss.log(name))


def _log_end(boss: Supervisor, name: str) -> str:
    return f"The end of {boss.log(name)}:\n{last_lines(boss.log(name))}"


def _site_file(instance: Instance) -> None:
    text = render.site_toml(instance)
    if text is not None:
        gid = accounts.ids(instance.hub_user)[1]
        # The hub makes its own tokens for slurmrestd, where its site file says that it talks to Slurm that way.
        copy = instance.state / "secrets" / f"slurm_jwt_key_{instance.cluster}"
        write_atomic(copy, instance.jwt_key.read_bytes(), mode=0o640, gid=gid)
        write_atomic(instance.state / "site.toml", text, mode=0o640, gid=gid)


def _program(name: str) -> str:
    path = program(name)
    if path is None:
        raise MissingPackages(f"{name} is not installed; `make up` installs it.")
    return path


# -- down -------------------------------------------------------------------------------------------


def down(instance: Instance, progress: Progress = quiet) -> None:
    """Stop everything of this instance and nothing else; returns when no process of it is left."""
    _must_be_root()
    with locked(instance.state):
        _down(instance, progress)


def _down(instance: Instance, progress: Progress) -> None:
    boss = supervisor(instance)
    if boss.is_running():
        with progress("Cancelling jobs"):
            _cancel_jobs(instance)
        with progress("Stopping daemons"):
            boss.shutdown()
    left = processes.of_instance(instance)
    if left:
        with progress("Ending what is left"):
            left = processes.end(left, patience_s=10)
    if left:
        names = ", ".join(f"{p.program} ({p.pid})" for p in left)
        raise BoxError(f"Some processes could not be ended: {names}.")
    _remove_cgroup_branches(instance)


def _cancel_jobs(instance: Instance, patience_s: float = 20.0) -> None:
    """Cancel all jobs through Slurm, so that accounting knows; those that ignore it are killed halfway."""
    if ready.slurmctld(instance) is not None:
        return  # no controller to ask; what runs is ended by its mark below
    deadline = time.monotonic() + patience_s
    started = time.monotonic()
    asked: set[tuple[str, bool]] = set()
    pause = 0.05
    while time.monotonic() < deadline:
        listing = _slurm(instance, "squeue", "-h", "-a", "-o", "%A %T")
        jobs = dict(line.split() for line in listing.splitlines())
        if not jobs:
            return
        hard = time.monotonic() - started > patience_s / 4
        names = sorted(job for job in jobs if (job, hard) not in asked)
        if names:
            asked.update((job, hard) for job in names)
            _slurm(instance, "scancel", *(["--signal=KILL", "--full"] if hard else []), *names, may_fail=True)
        time.sleep(pause)
        pause = min(0.5, pause * 1.4)


def _slurm(instance: Instance, name: str, *arguments: str, may_fail: bool = False) -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **instance.environment()}
    done = subprocess.run(
        [_program(name), *arguments], capture_output=True, text=True, env=environment,
        stdin=subprocess.DEVNULL, timeout=30, errors="replace", check=False
    )  # fmt: skip
    if done.returncode != 0 and not may_fail:
        raise CommandFailed(f"{name}: {done.stderr.strip() or done.returncode}")
    return done.stdout


# -- clean ------------------------------------------------------------------------------------------


def clean(instance: Instance, progress: Progress = quiet) -> None:
    """Down, then remove the accounts that this instance made and its state folder, homes included."""
    _must_be_root()
    state = instance.state
    instances.check_place(state)
    if instances.load(state).ident != instance.ident:
        raise InstanceError(f"{state} belongs to another instance by now; nothing was removed.")
    with locked(state):
        _down(instance, progress)
        with progress("Removing accounts"):
            accounts.remove(instance)
        with progress("Removing the state folder"):
            _remove_state(state)


def _remove_state(state: Path) -> None:
    """Remove the folder; ``instance.json`` goes last, so an interrupted removal can be completed."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    inside = [m for m in mounts if Path(m) == state or state in Path(m).parents]
    if inside:
        raise BoxError(f"Something is mounted in the state folder ({', '.join(inside)}); unmount it first.")
    for entry in sorted(state.iterdir()):
        if entry.name in {instances.FILE, ".lock"}:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (state / instances.FILE).unlink()
    (state / ".lock").unlink(missing_ok=True)
    state.rmdir()


# -- status -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeState:
    """A node as slurmctld sees it. ``gpus_free`` counts GPUs of which no part is in use."""

    name: str
    state: str
    cpus: int
    cpus_free: int
    gpus: int
    gpus_free: int
    shards: int
    shards_free: int


@dataclass(frozen=True)
class Status:
    """What an instance is doing. ``nodes`` is empty and the counts are 0 while no controller answers."""

    running: bool  # the supervisor answers
    controller: bool  # slurmctld answers
    daemons: tuple[ProgramState, ...]
    nodes: tuple[NodeState, ...]
    jobs_running: int
    jobs_pending: int


def status(instance: Instance) -> Status:
    """Ask supervisor and slurmctld; changes nothing."""
    boss = supervisor(instance)
    try:
        states = tuple(boss.states()) if boss.is_running() else ()
    except SupervisorError:
        states = ()
    if not states or ready.slurmctld(instance) is not None:
        return Status(bool(states), False, states, (), 0, 0)
    nodes = parse_nodes(_slurm(instance, "scontrol", "show", "nodes", "-o"))
    jobs = _slurm(instance, "squeue", "-h", "-a", "-o", "%T").split()
    return Status(True, True, states, nodes, jobs.count("RUNNING"), jobs.count("PENDING"))


def parse_nodes(text: str) -> tuple[NodeState, ...]:
    """``scontrol show nodes -o`` -> nodes."""
    out = []
    for line in text.splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
        if "NodeName" not in fields:
            continue
        have, used = _tres(fields.get("CfgTRES", "")), _tres(fields.get("AllocTRES", ""))
        gpus, shards = have.get("gres/gpu", 0), have.get("gres/shard", 0)
        whole, parts = used.get("gres/gpu", 0), used.get("gres/shard", 0)
        per_gpu = shards // gpus if gpus and shards else 1
        touched = whole + -(-parts // per_gpu)
        out.append(
            NodeState(
                name=fields["NodeName"],
                state=fields.get("State", "UNKNOWN").lower(),
                cpus=int(fields.get("CPUTot", "0")),
                cpus_free=int(fields.get("CPUTot", "0")) - int(fields.get("CPUAlloc", "0")),
                gpus=gpus,
                gpus_free=max(0, gpus - touched),
                shards=shards,
                shards_free=max(0, shards - parts - whole * per_gpu) if shards else 0,
            )
        )
    return tuple(out)


def _tres(text: str) -> dict[str, int]:
    """``cpu=2,gres/gpu=1`` -> counts; values with a unit (memory) are left out."""
    pairs = (word.partition("=") for word in text.split(",") if "=" in word)
    return {name: int(value) for name, _, value in pairs if value.isdigit()}
