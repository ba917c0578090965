"""The platform that is measured, and what the benchmarks add to it for their time: environment, profile, closed partition."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hubs import Hub
from jupyterhub import __version__ as hub_version

from slurmbox import accounts, box, programs
from slurmbox import instance as instances
from slurmbox.files import ensure_folder, write_atomic
from slurmbox.instance import Instance
from spawners.identity import certificate_request

FEATHERWEIGHT = Path(__file__).with_name("featherweight.py")
HUB_PROGRAM, PROXY_PROGRAM = "hub", "proxy"
PATIENCE = 120.0
_Found = TypeVar("_Found")


class BenchError(Exception):
    """A measurement could not be made; the message says why."""


def until(what: str, look: Callable[[], _Found | None], seconds: float = PATIENCE, pause: float = 0.05) -> _Found:
    """Look again and again until something is there. Raises :class:`BenchError` naming ``what`` was awaited."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(pause)
    raise BenchError(f"waited {seconds:g} s for {what}")


@dataclass(frozen=True)
class Ground:
    """A running platform that nobody else uses."""

    box: Instance

    @classmethod
    def of(cls, state: Path) -> Ground:
        """The platform of a state folder."""
        return cls(instances.load(state))

    @property
    def python(self) -> Path:
        """The one Python environment that ours, stock and floor run from."""
        return self.box.prefix / "venv" / "bin" / "python"

    @property
    def folder(self) -> Path:
        """Where the benchmarks keep their files; people may look through it."""
        return ensure_folder(self.box.state / "bench")

    @property
    def learners(self) -> list[str]:
        """Names of the class."""
        return [person.name for person in self.box.people if person.role == "learner"]

    @property
    def researcher(self) -> str:
        """One person who works alone."""
        return next(person.name for person in self.box.people if person.role == "researcher")

    def hub(self) -> Hub:
        """Our hub, as `make up` started it."""
        boss = box.supervisor(self.box)
        token = (self.box.state / "secrets" / "api_token").read_text(encoding="utf-8").strip()
        url = f"http://127.0.0.1:{self.box.ports['public']}/"
        return Hub("ours", url, token, boss.log(HUB_PROGRAM), boss.state(HUB_PROGRAM).pid)

    @contextmanager
    def hub_stopped(self) -> Iterator[None]:
        """Our hub does not run meanwhile: what asks Slurm then is the other one."""
        boss = box.supervisor(self.box)
        boss.stop(HUB_PROGRAM)
        try:
            yield
        finally:
            self.start_hub()

    def start_hub(self) -> None:
        """Start our hub and wait until it answers."""
        box.supervisor(self.box).start(HUB_PROGRAM)
        self.hub().await_answer()

    def restart_hub(self) -> None:
        """Have our hub and its proxy read their site file again."""
        boss = box.supervisor(self.box)
        for name in (HUB_PROGRAM, PROXY_PROGRAM):
            boss.stop(name)
        boss.start(PROXY_PROGRAM)
        self.start_hub()

    # -- Slurm ------------------------------------------------------------------------------------

    def slurm(self, *argv: str) -> str:
        """Run a Slurm command as root and return what it prints."""
        return self._run(argv, {}, None)

    def as_person(self, name: str, *argv: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command as a person, in their home, and return what it prints."""
        return self._run(person_argv(name, argv), environment or {}, self.box.homes / name)

    def _run(self, argv: tuple[str, ...], environment: Mapping[str, str], folder: Path | None) -> str:
        done = subprocess.run(
            argv,
            env={"PATH": "/usr/bin:/bin", **self.box.environment(), **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def jobs(self, *options: str) -> list[int]:
        """Numbers of jobs that are not over; ``options`` are squeue's."""
        return [int(number) for number in self.slurm("squeue", "--noheader", "--format=%A", *options).split()]

    def clear(self) -> None:
        """Cancel all jobs: whoever was interrupted may have left some."""
        if jobs := self.jobs():
            self.slurm("scancel", *map(str, jobs))
        self.await_quiet()

    def await_quiet(self) -> None:
        """Wait until no job is left, however it was ended: the next run finds an idle cluster."""
        until("the end of all jobs", lambda: not self.jobs(), pause=0.2)

    @contextmanager
    def closed(self, partition: str) -> Iterator[None]:
        """The partition takes jobs and starts none."""
        self.slurm("scontrol", "update", f"PartitionName={partition}", "State=DOWN")
        try:
            yield
        finally:
            self.slurm("scontrol", "update", f"PartitionName={partition}", "State=UP")

    def featherweight(self) -> Path:
        """The featherweight server as a program that everybody can run."""
        key, request = certificate_request()
        text = FEATHERWEIGHT.read_text(encoding="utf-8")
        for name, value in (("VERSION", hub_version), ("KEY", key), ("REQUEST", request)):
            text = text.replace(f"@{name}@", value)
        target = self.folder / "featherweight"
        write_atomic(target, f"#!{self.python} -I\n{text}", mode=0o755)
        return target

    @contextmanager
    def offering(self, entries: str, *, plain: bool = False) -> Iterator[None]:
        """Our hub, restarted, with ``entries`` added to its site file; ``plain``: without TLS between hub and sessions."""
        site = self.box.state / "site.toml"
        before = site.read_text(encoding="utf-8")
        gid = accounts.ids(self.box.hub_user)[1]
        text = before + entries
        if plain:
            text = text.replace("internal_tls = true", "internal_tls = false", 1)
        write_atomic(site, text, mode=0o640, gid=gid)
        try:
            self.restart_hub()
            yield
        finally:
            write_atomic(site, before, mode=0o640, gid=gid)
            self.restart_hub()

    def daemon_environment(self) -> dict[str, str]:
        """What a daemon of the benchmarks gets: also the mark by which `make down` finds one left behind."""
        return {
            **programs.environment(self.box),
            "PATH": f"{self.python.parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
        }


def person_argv(name: str, argv: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """``argv`` as another account."""
    return ("/usr/bin/setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", *argv)


@contextmanager
def daemon(
    ground: Ground, account: str, argv: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the hub's account for a while; ended with all that it started, also after Ctrl-C."""
    with log.open("ab") as words:
        process = subprocess.Popen(
            person_argv(account, argv),
            env={**ground.daemon_environment(), **(environment or {})},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
