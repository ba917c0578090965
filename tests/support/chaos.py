"""Break one part of a running platform on purpose; see what is left, and everything whole again."""

from __future__ import annotations

import errno
import html
import os
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hubclient import Hub, until

from slurmbox import box as slurmbox
from slurmbox import ready

NODE_STATES = {"idle", "mixed", "allocated", "completing"}
EATER = """
import pathlib, threading, time
def eat():
    while not pathlib.Path("{trigger}").exists():
        time.sleep(0.1)
    eaten = []
    while True:
        eaten.append(bytearray(50_000_000))
threading.Thread(target=eat, daemon=True).start()
"""


@dataclass
class Chaos:
    """What breaks parts of one platform, each until its block ends; :meth:`repair` mends whatever a test has left."""

    hub: Hub
    box: Any
    _frozen: set[int] = field(default_factory=set)

    # --- Daemons -----------------------------------------------------------------------------------------------------

    @property
    def boss(self) -> Any:
        """The supervisor of all daemons."""
        return slurmbox.supervisor(self.box)

    def pid(self, program: str) -> int:
        """The process of a daemon that runs."""
        state = self.boss.state(program)
        assert state.pid, f"{program} is {state.state}"
        return int(state.pid)

    def kill(self, program: str) -> None:
        """``kill -9``; the supervisor brings it back, and this waits for that."""
        before = self.pid(program)
        os.kill(before, signal.SIGKILL)
        until(f"another {program}", lambda: (now := self.boss.state(program)).state == "RUNNING" and now.pid != before)
        self.await_daemon(program)

    def restart(self, program: str) -> None:
        """Stop and start a daemon, and wait until it answers."""
        self.boss.restart(program)
        self.await_daemon(program)

    @contextmanager
    def dead_hub(self) -> Iterator[None]:
        """The hub killed at once, and not there for as long as the block lasts."""
        os.kill(self.pid("hub"), signal.SIGKILL)
        self.boss.stop("hub")
        try:
            yield
        finally:
            self.boss.start("hub")
            self.await_hub()

    @contextmanager
    def stopped(self, program: str) -> Iterator[None]:
        """A daemon that is not there for as long as the block lasts: who asks it is refused at once."""
        self.boss.stop(program)
        try:
            yield
        finally:
            self.boss.start(program)
            self.await_daemon(program)

    @contextmanager
    def mute(self, program: str) -> Iterator[None]:
        """A daemon that holds its socket and says nothing for as long as the block lasts: who asks it waits."""
        process = self.pid(program)
        self.freeze(process)
        try:
            yield
        finally:
            self.thaw(process)

    def await_submission(self, user: str) -> None:
        """Wait until a submission of this person is with slurmctld, by their sbatch or by slurmrestd."""
        port = f"{self.box.ports['slurmctld']:04X}"
        uids = {str(pwd.getpwnam(name).pw_uid) for name in (user, self.box.rest_user)}

        def connected() -> bool:
            lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
            fields = [line.split() for line in lines]
            return any(f[2].endswith(f":{port}") and f[3] == "01" and f[7] in uids for f in fields)

        until("a submission", connected)

    def await_hub(self) -> None:
        """Wait until the hub answers."""
        until("the hub", self.hub_answers)

    def hub_answers(self) -> bool:
        """Whether the hub answers now."""
        try:
            return self.hub.call("GET", "").status_code == 200
        except httpx.TransportError:
            return False

    def await_daemon(self, program: str) -> None:
        """Wait until a daemon that was started answers."""
        asked = {
            "munged": ready.munge,
            "mariadb": ready.mariadb,
            "slurmctld": ready.slurmctld,
            "slurmdbd": ready.slurmdbd,
            "slurmrestd": ready.slurmrestd,
        }
        if program in ("hub", "proxy"):
            self.await_hub()
        elif program in asked:
            until(program, lambda: asked[program](self.box) is None)

    def await_slurm(self) -> None:
        """Wait until slurmctld answers and every node is usable."""
        until("slurmctld and its nodes", lambda: set(self.nodes().values()) <= NODE_STATES and self.nodes())

    def nodes(self) -> dict[str, str]:
        """State of each node; empty where slurmctld does not answer."""
        environment = {"SLURM_CONF": str(self.hub.slurm_conf), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %T"], env=environment, capture_output=True, text=True)
        return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else {}

    def logged(self, program: str) -> LogMark:
        """What a daemon says from now on."""
        path = self.boss.log(program)
        facts = path.stat()
        return LogMark(path, facts.st_ino, facts.st_size)

    # --- Slurm -------------------------------------------------------------------------------------------------------

    @contextmanager
    def closed(self, partition: str = "cpu") -> Iterator[None]:
        """A partition in which jobs wait for as long as the block lasts."""
        self.hub.slurm("scontrol", "update", f"PartitionName={partition}", "State=DOWN")
        try:
            yield
        finally:
            self.hub.slurm("scontrol", "update", f"PartitionName={partition}", "State=UP")

    def node_of(self, job: int) -> str:
        """The node that a running job is on."""
        return self.hub.slurm("squeue", "-h", "-j", str(job), "-o", "%N").strip()

    def job_state(self, job: int) -> str:
        """Slurm's word for the state of a job, from the queue, where it stays for minutes after its end."""
        return self.hub.slurm("squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T").strip()

    def ended_in_accounting(self, job: int) -> str:
        """Slurm's word for how a job ended, once accounting has it."""

        def asked() -> str:
            line = self.hub.slurm("sacct", "-XnP", "-j", str(job), "-o", "End,State").strip()
            end, _, state = line.partition("|")
            return state if end not in {"", "Unknown"} else ""

        return str(until(f"the end of job {job} in accounting", asked))

    # --- Sessions ----------------------------------------------------------------------------------------------------

    def processes(self, user: str) -> list[int]:
        """Numbers of all processes of an account."""
        uid = pwd.getpwnam(user).pw_uid
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _owner(folder) == uid]

    def freeze(self, *processes: int) -> None:
        """Stop processes from doing anything."""
        for process in processes:
            self._frozen.add(process)
            os.kill(process, signal.SIGSTOP)

    def thaw(self, *processes: int) -> None:
        """Let frozen processes go on; all of them, where none is named."""
        for process in processes or tuple(self._frozen):
            self._frozen.discard(process)
            try:
                os.kill(process, signal.SIGCONT)
            except ProcessLookupError:
                continue

    def freeze_session(self, user: str, job: int) -> None:
        """Freeze a session that has fetched its environment from the hub and does not listen yet."""
        until("the session's scratch folder, its first act after the exchange", lambda: scratch(job))
        self.freeze(*self.processes(user))
        assert not listens(user), "frozen too late: the session listens already"

    # --- Afterwards --------------------------------------------------------------------------------------------------

    def repair(self) -> None:
        """Have every daemon run, every partition open, every node in service."""
        self.thaw()
        for state in self.boss.states():
            if state.state != "RUNNING":
                self.boss.start(state.name)
        until("slurmctld", self.nodes)
        for partition in self.box.partitions:
            self.hub.slurm("scontrol", "update", f"PartitionName={partition.name}", "State=UP")
        for node, state in self.nodes().items():
            if state.startswith(("down", "drain")):
                self._resume(node)
        self.await_slurm()
        self.await_hub()

    def _resume(self, node: str) -> None:
        """Take a node back into service; one that has come back by itself meanwhile is none to take."""
        environment = {"SLURM_CONF": str(self.hub.slurm_conf), "PATH": "/usr/bin:/bin"}
        argv = ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 or "Invalid node state" in done.stderr, done.stderr

    def forget(self) -> None:
        """End every session and job that a failed test has left, and revoke their tokens."""
        for name in self.sessions():
            self.hub.stop(name)
        for job in self.hub.slurm("squeue", "-h", "-a", "-o", "%A").split():
            self.hub.slurm("scancel", job)
        for name, number in self.tokens():
            self.hub.call("DELETE", f"users/{name}/tokens/{number}")

    def whole(self) -> None:
        """Wait until everything is as before any session: no job, no session at the hub."""
        until("an empty queue", lambda: self.hub.slurm("squeue", "-h", "-a") == "")
        until("a hub without sessions", lambda: self.sessions() == [])

    def sessions(self) -> list[str]:
        """Names of everybody with a session, by the hub."""
        return [
            user["name"] for user in self.hub.call("GET", "users?include_stopped_servers=0").json() if user["servers"]
        ]

    def no_trace(self, user: str, *jobs: int) -> None:
        """Wait until nothing is left of a person's sessions: no job, process, scratch folder or token."""
        until("the end of the job", lambda: self.hub.jobs(user) == [])
        until("the end of the session", lambda: not self.hub.server(user))
        until("the end of its processes", lambda: self.hub.processes(user) == [], 20)
        until("the end of its scratch folder", lambda: not [folder for job in jobs for folder in scratch(job)], 20)
        until("the end of its token", lambda: not [name for name, _ in self.tokens() if name == user], 10)

    def tokens(self) -> list[tuple[str, str]]:
        """Owners and numbers of all tokens of sessions, from the hub's database."""
        query = "select users.name, 'a' || api_tokens.id from api_tokens join users on users.id = user_id where note like 'Server at %'"
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            return list(database.execute(query))

    @property
    def database(self) -> Path:
        """The hub's database."""
        return Path(self.box.state) / "hub" / "jupyterhub.sqlite"


@contextmanager
def preemption(chaos: Chaos) -> Iterator[None]:
    """A cluster on which jobs of the fast lane end those of the playground."""
    conf = Path(chaos.hub.slurm_conf)
    before = conf.read_text()
    conf.write_text(f"{before}PreemptType=preempt/qos\nPreemptMode=CANCEL\n")
    chaos.hub.slurm("sacctmgr", "-i", "modify", "qos", "where", "name=fast-lane", "set", "preempt=playground")
    try:
        chaos.restart("slurmctld")
        yield
    finally:
        conf.write_text(before)
        chaos.hub.slurm("sacctmgr", "-i", "modify", "qos", "where", "name=fast-lane", "set", "preempt=")
        chaos.restart("slurmctld")


@contextmanager
def jupyter_config(user: str, text: str) -> Iterator[None]:
    """A person's own settings of Jupyter, which it reads as them before it listens; the folder goes if it was not there."""
    entry = pwd.getpwnam(user)
    folder = Path(entry.pw_dir) / ".jupyter"
    mine = not folder.exists()
    folder.mkdir(mode=0o700, exist_ok=True)
    config = folder / "jupyter_server_config.py"
    config.write_text(text)
    for path in (folder, config):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    try:
        yield
    finally:
        config.unlink()
        if mine:
            shutil.rmtree(folder)


@contextmanager
def eater(user: str) -> Iterator[Path]:
    """Have a person's server eat all memory once the yielded file is there."""
    trigger = Path(pwd.getpwnam(user).pw_dir) / "eat"
    with jupyter_config(user, EATER.format(trigger=trigger)):
        try:
            yield trigger
        finally:
            trigger.unlink(missing_ok=True)


@contextmanager
def full_home(user: str) -> Iterator[Path]:
    """A home in which not one byte is left, for the file that is yielded; a skip where this host's root may not mount."""
    entry = pwd.getpwnam(user)
    with small_disk(Path(entry.pw_dir), 64 * 1024):
        data = Path(entry.pw_dir) / "data"
        fill(data)
        os.chown(data, entry.pw_uid, entry.pw_gid)
        yield data


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """An empty file system of ``size`` bytes over a folder, with its owner; a skip where root may not mount."""
    facts = folder.stat()
    options = f"size={size},mode={facts.st_mode & 0o7777:o},uid={facts.st_uid},gid={facts.st_gid}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a full file system needs the right to mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write a file until there is not one byte left, nor comes back: others may be about to remove a file of theirs."""
    until("a disk that stays full", lambda: _grow(file) == 0)


def _grow(file: Path) -> int:
    """Make a file as long as it can be; returns by how much it grew."""
    with file.open("ab", buffering=0) as stream:
        before = stream.tell()
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        return stream.tell() - before


@contextmanager
def visitor(hub: Hub, access: Mapping[str, Any], name: str) -> Iterator[httpx.Client]:
    """A browser without JavaScript in which this person has logged in."""
    password = next(user["password"] for user in access["users"] if user["name"] == name)
    with httpx.Client(base_url=hub.url, follow_redirects=True, timeout=30) as client:
        client.get("hub/login")
        form = {"username": name, "password": password, "_xsrf": client.cookies["_xsrf"]}
        answer = client.post("hub/login", data=form)
        assert answer.status_code == 200, answer.text
        yield client


def read(client: httpx.Client, path: str) -> str:
    """What a person reads on a page: the text of its main part, one space between words."""
    page = client.get(path)
    main = re.search(r'<div id="[^"]*main[^"]*".*|<main.*|<body.*', page.text, re.DOTALL)
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", main[0] if main else page.text, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


@dataclass(frozen=True)
class LogMark:
    """A place in a daemon's log, which may be rotated meanwhile."""

    path: Path
    inode: int
    size: int

    def text(self) -> str:
        """What was written behind it."""
        if self.path.stat().st_ino == self.inode:
            return self._behind(self.path)
        rotated = self.path.with_name(f"{self.path.name}.1")
        return self._behind(rotated) + self.path.read_text(errors="replace")

    def _behind(self, path: Path) -> str:
        with path.open(errors="replace") as stream:
            stream.seek(self.size)
            return stream.read()


def scratch(job: int) -> list[Path]:
    """Scratch folders of a job."""
    return list(Path("/tmp").glob(f"studiolo-{job}-*"))


def listens(user: str) -> bool:
    """Whether a process of this account listens on a port."""
    uid = pwd.getpwnam(user).pw_uid
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[3] == "0A" and int(row[7]) == uid for row in rows)


def _owner(folder: Path) -> int:
    try:
        return folder.stat().st_uid
    except OSError:
        return -1
