"""On a compute node: one worker of a Dask cluster, and beside it a small guard that ends it with the notebook it works for.

Started by the batch script as ``python -I -m studiolo.dask_worker FOLDER NAME LIFETIME``. ``FOLDER`` lies in the person's home,
is closed to others, and holds what the notebook hands over (:class:`Handover`); it is gone when the cluster is closed, so a job
that starts too late ends before anything large is imported.

The guard is a process of its own, because a task may hold Python's lock for minutes. It listens to the notebook's pulse
(:mod:`studiolo.dask_pulse`): a line that breaks means a notebook that is gone, a line that says nothing for ``silence`` seconds
one that hangs. Then the worker is killed at once, whatever it is doing, with all that it has started.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

__all__ = ["HANDOVER", "IDENTITY", "Handover", "guard", "read_handover", "work"]

HANDOVER, IDENTITY = "worker.json", "identity.pem"
WORK = "--work"
SCRATCH = "studiolo-dask-"
CONNECT_SECONDS = 3.0
"""How long it may take to reach the notebook's node, and to reach it again once the line broke."""
AGAIN_SECONDS = 0.25
KILL_SECONDS = 2.0
FRESH_SECONDS = 60.0
LATE_STATUS = 69  # what sysexits.h calls a service that is not there


@dataclass(frozen=True)
class Handover:
    """What a notebook tells its workers.

    ``scheduler`` is the scheduler's address, ``pulse`` host and port of the pulse, which is silent for ``silence`` seconds at
    most. ``folder`` is the notebook's folder, ``path`` where it imports from, if its ``python`` is the worker's too. ``memory``
    is in bytes. ``ends`` is when the cluster is over at the latest, in seconds since 1970 (0 if nobody knows).
    ``owner`` is the session, or run, that the notebook belongs to, and ``node`` where it runs.
    """

    scheduler: str
    pulse: tuple[str, int]
    silence: float
    interface: str
    scratch: str
    folder: str
    python: str
    path: tuple[str, ...]
    threads: int
    memory: int
    gpus: int
    ends: float
    owner: str = ""
    node: str = ""

    def write(self, folder: str, identity: str) -> None:
        """Write it, with the key and certificate that its workers show, for this person alone."""
        for name, text in ((IDENTITY, identity), (HANDOVER, json.dumps(asdict(self)))):
            # Under another name first: a worker never reads half of it.
            path = f"{folder}/{name}"
            with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
            os.replace(f"{path}.new", path)


def read_handover(folder: str) -> Handover:
    """What the notebook hands over. Raises ``OSError`` where it is gone."""
    with open(f"{folder}/{HANDOVER}", encoding="utf-8") as file:
        told = json.load(file)
    told["pulse"], told["path"] = tuple(told["pulse"]), tuple(told["path"])
    return Handover(**told)


# --- The guard -------------------------------------------------------------------------------------------------------


def guard(folder: str, name: str, lifetime: str) -> int:
    """Run one worker as long as its notebook is there. Returns the exit status of the job.

    After ``lifetime`` seconds the worker hands over what it holds, and ends by itself.
    """
    try:
        told = read_handover(folder)
        line = socket.create_connection(told.pulse, CONNECT_SECONDS)
    except FileNotFoundError:
        return _late("its cluster has ended")
    except OSError as error:
        return _late(f"its notebook can not be reached from {socket.gethostname()}: {error}")
    # What ends or interrupts the job wakes the select below, and so does the worker's end.
    wakes, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    _sweep(told.scratch)
    scratch = tempfile.mkdtemp(prefix=f"{SCRATCH}{os.environ.get('SLURM_JOB_ID', '')}-", dir=told.scratch)
    held = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)  # no program that is started gets it
    try:
        with suppress(OSError):  # where nothing can be held, nothing is swept either
            fcntl.flock(held, fcntl.LOCK_EX)
        worker = subprocess.Popen(
            [sys.executable, "-I", "-m", "studiolo.dask_worker", folder, name, lifetime, WORK],
            env={**os.environ, "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # so that it is ended with all that its tasks have started
        )
        try:
            return _watch(worker, line, wakes, told, folder)
        finally:
            _kill(worker)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(held)


def _sweep(root: str) -> None:
    """Remove what guards that were killed have left of this person's: a folder that nobody holds."""
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(SCRATCH):
                with suppress(OSError):
                    _remove_unless_held(entry.path)


def _remove_unless_held(path: str) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        told = os.fstat(folder)
        # One that was made just now may not be held yet.
        if told.st_uid != os.getuid() or time.time() - told.st_mtime < FRESH_SECONDS:
            return
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(folder)


def _watch(
    worker: subprocess.Popen[bytes], line: socket.socket, wakes: socket.socket, told: Handover, folder: str
) -> int:
    """Wait for the worker's end, the job's or the notebook's."""
    pulse: socket.socket | None
    try:
        context = _context(f"{folder}/{IDENTITY}")
        pulse = _secured(line, context)
    except FileNotFoundError:
        return _late("its cluster has ended")
    except OSError as error:
        return _late(f"something else than its notebook answers: {error}")
    heard = time.monotonic()
    while True:
        if pulse is None and (pulse := _reach(told.pulse, context)) is None:
            return _late("its notebook is gone")
        left = heard + told.silence - time.monotonic()
        if left <= 0:
            return _late(f"its notebook has not answered for {told.silence:g} s")
        readable, _, _ = select.select([pulse, wakes], [], [], left)
        if wakes in readable and {signal.SIGTERM, signal.SIGINT} & set(wakes.recv(64)):
            return 128 + signal.SIGTERM
        if (status := worker.poll()) is not None:
            return status if status >= 0 else 128 - status
        if pulse in readable:
            try:
                beat = pulse.recv(64)
            except OSError as error:
                beat = b"." if _is_half(error) else b""
            if beat:
                heard = time.monotonic()
            else:
                pulse.close()
                pulse = None


def _reach(address: tuple[str, int], context: ssl.SSLContext) -> socket.socket | None:
    """The notebook's pulse again; at once ``None`` where nobody listens, soon where nobody answers."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            return _secured(socket.create_connection(address, left), context)
        except ConnectionRefusedError:
            return None
        except OSError:
            time.sleep(AGAIN_SECONDS)
    return None


def _context(identity: str) -> ssl.SSLContext:
    # Not at the top: it takes longer than all else here, and meanwhile the worker is importing already.
    import ssl

    context = ssl.create_default_context(cafile=identity)
    context.check_hostname = False  # both sides show the cluster's own certificate, which names no host
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(identity)
    return context


def _secured(line: socket.socket, context: ssl.SSLContext) -> socket.socket:
    secured = context.wrap_socket(line)
    secured.setblocking(False)
    return secured


def _is_half(error: OSError) -> bool:
    """Whether only a part of a message has come so far."""
    return type(error).__name__ in ("SSLWantReadError", "BlockingIOError")


def _kill(worker: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # one that waits for a file system that hangs is Slurm's to end
        worker.wait(KILL_SECONDS)


def _late(why: str) -> int:
    print(f"studiolo: this worker ends: {why}", file=sys.stderr, flush=True)
    return LATE_STATUS


# --- The worker ------------------------------------------------------------------------------------------------------


def work(folder: str, name: str, lifetime: str) -> None:
    """Be a worker of the cluster until it is told to end, or has lived for ``lifetime`` seconds."""
    _die_with_guard()
    told = read_handover(folder)
    if told.python == sys.executable:
        # What can be imported in the notebook can be imported here; this is also how multiprocessing does it.
        sys.path[:] = [*told.path, *(entry for entry in sys.path if entry not in told.path)]
    with suppress(OSError):  # a folder on a disk of the notebook's own node
        os.chdir(told.folder)

    import asyncio

    asyncio.run(_serve(told, f"{folder}/{IDENTITY}", name, float(lifetime)))


async def _serve(told: Handover, identity: str, name: str, lifetime: float) -> None:
    import dask
    from distributed.security import Security

    # Nobody could reach its pages, and other people on the node should not.
    dask.config.set({"distributed.worker.http.routes": []})
    more: dict[str, Any] = {"interface": told.interface} if told.interface else {}
    worker = _kind(told)(
        told.scheduler,
        name=name,
        nthreads=told.threads,
        memory_limit=told.memory,
        local_directory=os.environ["TMPDIR"],
        security=Security(
            require_encryption=True, tls_ca_file=identity, tls_worker_cert=identity, tls_worker_key=identity
        ),
        dashboard=False,
        dashboard_address="127.0.0.1:0",
        death_timeout="60s",
        lifetime=lifetime,
        **more,
    )
    await worker
    await worker.finished()


def _kind(told: Handover) -> Any:
    """The class of worker: that of dask-cuda, which spills a GPU's memory, where it is there and can be used."""
    from functools import partial
    from importlib.util import find_spec

    from distributed import Worker

    if not told.gpus:
        return Worker
    if find_spec("dask_cuda") is not None:
        try:
            from dask_cuda import CUDAWorker

            return partial(CUDAWorker, resources=f"GPU={told.gpus}")
        except (ImportError, OSError, RuntimeError) as error:
            print(f"studiolo: dask-cuda is there, but can not be used: {error}", file=sys.stderr, flush=True)
    return partial(Worker, resources={"GPU": told.gpus})


def _die_with_guard() -> None:
    """Have the kernel end this process with the guard, should that be killed."""
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG in sys/prctl.h
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """``FOLDER NAME LIFETIME`` guards; with ``--work`` behind, works."""
    if len(arguments) == 4 and arguments[3] == WORK:
        work(*arguments[:3])
        return 0
    if len(arguments) != 3:
        print("usage: python -m studiolo.dask_worker FOLDER NAME LIFETIME", file=sys.stderr)
        return 64
    return guard(*arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
