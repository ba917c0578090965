"""One process supervisor for all daemons: Supervisor (supervisord.org), spoken to over its own XML-RPC.

The socket is root's alone. Programs don't start by themselves: whoever knows the order starts them, and
from then on Supervisor restarts what dies.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmbox.errors import SupervisorError
from slurmbox.files import ensure_folder, last_lines, write_atomic

LOG_BYTES = "5MB"
LOG_BACKUPS = 3
# Supervisor raises its own limit of open files to this; its children inherit it. An open page holds some eight
# connections, each of them twice in the proxy.
MIN_FILES = 16384


@dataclass(frozen=True)
class Program:
    """One program to be kept running in the foreground.

    Times are seconds. ``environment`` may hold secrets: the file it lands in is root's alone.
    """

    name: str
    command: tuple[str, ...]
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    autorestart: bool = True
    startsecs: int = 1
    stopwaitsecs: int = 10
    stopsignal: str = "TERM"
    priority: int = 500
    umask: int = 0o022


@dataclass(frozen=True)
class ProgramState:
    """What Supervisor knows of a program. ``state`` is its word: RUNNING, STARTING, BACKOFF, FATAL, STOPPED, EXITED…"""

    name: str
    state: str
    pid: int  # 0 when not running
    uptime_s: int
    detail: str


def program_section(program: Program, log_folder: Path) -> str:
    """One ``[program:…]`` section. Raises ValueError on what Supervisor's file format can't carry."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", program.name):
        raise ValueError(f"program name {program.name!r}")
    environment = ",".join(f'{k}="{_value(v)}"' for k, v in program.environment.items())
    lines = {
        "command": _plain(shlex.join(program.command)),
        "user": program.user,
        "directory": _plain(str(program.directory)),
        "environment": environment,
        "umask": f"{program.umask:03o}",
        "priority": str(program.priority),
        "autostart": "false",  # the order is box.up's affair
        "autorestart": "true" if program.autorestart else "false",
        "startsecs": str(program.startsecs),
        "startretries": "10",
        "stopsignal": program.stopsignal,
        "stopwaitsecs": str(program.stopwaitsecs),
        "redirect_stderr": "true",
        "stdout_logfile": _plain(str(log_folder / f"{program.name}.log")),
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": str(LOG_BACKUPS),
    }
    return f"[program:{program.name}]\n" + "".join(f"{k}={v}\n" for k, v in lines.items() if v)


def _plain(text: str) -> str:
    """A value for the file: ``%`` doubled; what would start a comment or a new line is refused."""
    if re.search(r"[\0\r\n]|\s[;#]", text):
        raise ValueError(f"a value of the supervisor's file can't hold line breaks or comment signs: {text!r}")
    return text.replace("%", "%%")


def _value(text: str) -> str:
    if re.search(r'["\\]', text):
        raise ValueError("an environment value of the supervisor's file can't hold quotes or backslashes")
    return _plain(text)


class Supervisor:
    """The supervisor that lives in ``folder``: its configuration, socket and logs."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.socket = folder / "supervisor.sock"
        self.logs = folder / "log"
        self._environment = dict(environment or {})

    # -- configuration ---------------------------------------------------------------------------
    def write(self, group_file: str, programs: Iterable[Program]) -> bool:
        """Write ``conf.d/<group_file>.conf``; returns whether it has changed. Takes effect by ``reload()``."""
        text = "\n".join(program_section(p, self.logs) for p in programs)
        self._folders()
        return write_atomic(self.folder / "conf.d" / f"{group_file}.conf", text, mode=0o600)

    def _folders(self) -> None:
        ensure_folder(self.folder)
        ensure_folder(self.folder / "conf.d", mode=0o700)
        ensure_folder(self.logs, mode=0o750)

    def _main_configuration(self) -> str:
        folder = _plain(str(self.folder))
        return (
            "[unix_http_server]\n"
            f"file={folder}/supervisor.sock\nchmod=0600\n\n"
            "[supervisord]\n"
            f"logfile={folder}/log/supervisord.log\nlogfile_maxbytes={LOG_BYTES}\nlogfile_backups={LOG_BACKUPS}\n"
            f"pidfile={folder}/supervisord.pid\nchildlogdir={folder}/log\ndirectory=/\n"
            f"user=root\numask=022\nminfds={MIN_FILES}\nminprocs=200\nnocleanup=true\n\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n"
            f"[include]\nfiles={folder}/conf.d/*.conf\n"
        )

    # -- the daemon itself -----------------------------------------------------------------------
    def is_running(self) -> bool:
        """Whether a supervisor answers on our socket."""
        try:
            state: Any = self._call("getState")
        except SupervisorError:
            return False
        return bool(state["statename"] == "RUNNING")

    def pid(self) -> int:
        """Process id of supervisord."""
        return int(self._call("getPID"))

    def ensure_running(self, timeout_s: float = 15.0) -> bool:
        """Start supervisord, detached, unless it answers; returns whether it was started now."""
        if self.is_running():
            return False
        self._folders()
        configuration = self.folder / "supervisord.conf"
        write_atomic(configuration, self._main_configuration(), mode=0o600)
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": "/root",
            **self._environment,
        }
        command = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(configuration)]
        # No inherited file may stay open in a daemon that outlives us; start_new_session keeps ^C away from it.
        done = subprocess.run(
            command, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, start_new_session=True, umask=0o022, check=False
        )  # fmt: skip
        deadline = time.monotonic() + timeout_s
        pause = 0.01
        while done.returncode == 0 and time.monotonic() < deadline:
            if self.is_running():
                return True
            time.sleep(pause)
            pause = min(0.2, pause * 1.5)
        said = (done.stderr or done.stdout).strip() or last_lines(self.logs / "supervisord.log")
        raise SupervisorError(f"The process supervisor did not start: {said}")

    def shutdown(self, timeout_s: float = 60.0) -> None:
        """Stop all programs in reverse order of priority, then supervisord itself, and wait for its end."""
        try:
            pid = self.pid()
        except SupervisorError:
            return
        with contextlib.suppress(SupervisorError):  # it may be on its way out already
            self._call("shutdown")
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.socket.exists() or not _runs(pid):
                return
            time.sleep(0.02)
        raise SupervisorError(f"The process supervisor (process {pid}) did not end within {timeout_s:.0f} s.")

    # -- programs --------------------------------------------------------------------------------
    def reload(self) -> tuple[set[str], set[str], set[str]]:
        """Take over changed files; returns the names (added, changed, removed). Changed and removed ones are stopped.

        Nothing starts by this; an unchanged program runs on undisturbed.
        """
        answer: Any = self._call("reloadConfig")
        added, changed, removed = (set(names) for names in answer[0])
        for name in sorted(changed | removed):
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in sorted(added | changed):
            self._call("addProcessGroup", name)
        return added, changed, removed

    def start(self, name: str, *, wait: bool = False) -> None:
        """Start a program; does nothing if it runs. ``wait`` waits until it has lived for ``startsecs``."""
        try:
            self._call("startProcess", name, wait)
        except _Fault as fault:
            if fault.name != "ALREADY_STARTED":
                raise self._explained(name, fault) from None

    def stop(self, name: str) -> None:
        """Stop a program and wait for its end; does nothing if it does not run."""
        try:
            self._call("stopProcess", name)
        except _Fault as fault:
            if fault.name != "NOT_RUNNING":
                raise self._explained(name, fault) from None

    def restart(self, name: str) -> None:
        """Stop and start a program."""
        self.stop(name)
        self.start(name)

    def state(self, name: str) -> ProgramState:
        """What Supervisor knows of one program. Raises SupervisorError if it knows none of that name."""
        try:
            return _program_state(self._call("getProcessInfo", name))
        except _Fault as fault:
            raise self._explained(name, fault) from None

    def states(self) -> list[ProgramState]:
        """All programs, by priority."""
        answer: Any = self._call("getAllProcessInfo")
        return [_program_state(info) for info in answer]

    def log(self, name: str) -> Path:
        """The current log of a program."""
        return self.logs / f"{name}.log"

    # -- the wire --------------------------------------------------------------------------------
    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import Faults, SupervisorTransport, getFaultDescription

        if not self.socket.exists():
            raise SupervisorError(f"No process supervisor runs in {self.folder}.")
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self.socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            names = {v: k for k, v in vars(Faults).items() if isinstance(v, int)}
            raise _Fault(names.get(fault.faultCode, getFaultDescription(fault.faultCode)), fault.faultString) from None
        except (TimeoutError, OSError, xmlrpc.client.ProtocolError, xmlrpc.client.ResponseError) as error:
            raise SupervisorError(f"The process supervisor in {self.folder} does not answer: {error}") from error
        finally:
            transport.close()

    def _explained(self, name: str, fault: _Fault) -> SupervisorError:
        end = last_lines(self.log(name))
        return SupervisorError(f"{name}: {fault.text}" + (f"\nThe end of its log:\n{end}" if end else ""))


class _Fault(SupervisorError):
    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


def _program_state(info: Any) -> ProgramState:
    running = info["statename"] in {"RUNNING", "STARTING", "STOPPING"} and info["pid"]
    uptime = max(0, info["now"] - info["start"]) if running else 0
    return ProgramState(info["name"], info["statename"], info["pid"], uptime, info["spawnerr"] or info["description"])


def _runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
