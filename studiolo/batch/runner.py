"""What a run's job executes: the notebook, cell by cell, its outputs kept while they come.

Started as ``python -I -m studiolo.batch.runner FOLDER``. Whatever ends it - an error, ``scancel``, the walltime, a kernel that
dies, a home without room - what the notebook has said until then is in the executed copy, and how far it came in ``state.json``
(:mod:`studiolo.batch.folder`). A home that takes nothing does not end a notebook that computes: it is tried again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from studiolo.batch import folder
from studiolo.batch.attempt import (
    DONE,
    FAILED,
    LAST_SECONDS,
    LONGEST_TEXT,
    STOPPED,
    attempt,
    begun,
    put_back,
    say,
)
from studiolo.batch.folder import Place, Record
from studiolo.batch.inside import ASKED, FOLDER, HEARD
from studiolo.batch.parameters import INJECTED, OURS, with_parameters
from studiolo.batch.progress import Trouble, read_progress
from studiolo.batch.sampler import Sampler

SAVE_SECONDS = 1.0  # outputs of a long cell are as old at most, or so old that saving takes a twentieth of the time
SAVE_SHARE = 20.0
LONGEST_PAUSE = 60.0
BEAT_SECONDS = 12.0
LOOK_AT_END_SECONDS = 1.0
LEAVE_SECONDS = 25.0  # before the walltime, to be put back into the queue
KERNEL_SECONDS = 300.0
LONGEST_SOCKET = 100  # of the 107 bytes that the name of a socket may have


def main() -> None:
    """Run what the folder on the command line says."""
    attempt(lambda place, record, scratch: asyncio.run(Run(place, record, scratch).execute()))


def socket_name(scratch: Path) -> str:
    """How the kernel's sockets are called: in this job's own folder, or, where its name is longer than a socket's may be, in
    one of their own, which Slurm's epilog removes with what else the job has left."""
    name = str(scratch / "runtime" / "k")
    if len(os.fsencode(name)) <= LONGEST_SOCKET:
        return name
    return f"{tempfile.mkdtemp(prefix=f'{scratch.name[:60]}-', dir='/tmp')}/k"


class Run:
    """One attempt of one run."""

    def __init__(self, place: Place, record: Record, scratch: Path) -> None:
        self.place, self.record, self.scratch = place, record, scratch
        self.ends = time.time() + 60 * record.minutes
        self.progress = begun(place)
        self.sampler = Sampler(self.progress)
        self.notebook: Any = None
        self.dirty = False
        self.stopped = False
        self.untold = False
        self.asked = asyncio.Event()

    # --- Words that are kept -----------------------------------------------------------------------------------------

    def tell(self, **changes: Any) -> bool:
        """Change the state and write it; says whether that went well."""
        self.progress = replace(self.progress, updated=time.time(), **changes)
        try:
            folder.write_json(self.place.own / folder.STATE, self.progress.as_json())
        except OSError as error:
            if not self.untold:
                say(f"studiolo: how far this run is can not be written ({error.strerror}); it goes on, and tries again")
            self.untold = True
            return False
        self.untold = False
        return True

    def save(self) -> bool:
        """Write the executed copy with the outputs so far; says whether that went well."""
        from nbformat import v4

        if self.notebook is None:
            return True
        try:
            text: str = v4.writes(self.notebook)  # type: ignore[no-untyped-call]
            folder.write_whole(self.place.own / folder.OUTPUT, text.encode(errors="replace"))
        except OSError as error:
            if not self.untold:
                say(
                    f"studiolo: the outputs can not be written ({error.strerror}); the notebook goes on, and they are tried again"
                )
                self.untold = True
            return False
        self.dirty = False
        return True

    async def save_now_and_then(self) -> None:
        """Keep the outputs of a cell while it runs; seldom where they are large or the home takes nothing."""
        pause = SAVE_SECONDS
        while True:
            await asyncio.sleep(pause)
            if not self.dirty:
                continue
            before = time.monotonic()
            saved = self.save()
            wanted = SAVE_SHARE * (time.monotonic() - before) if saved else 2 * pause
            pause = min(LONGEST_PAUSE, max(SAVE_SECONDS, wanted))

    async def beat(self) -> None:
        """Tell now and then what the run uses."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.tell(**self.sampler.seen)

    async def last_words(self, **changes: Any) -> None:
        """Write outputs and state; where the home takes nothing, for some time again and again."""
        deadline = time.monotonic() + (1.0 if self.stopped else LAST_SECONDS)
        await asyncio.to_thread(self.sampler.finish, LOOK_AT_END_SECONDS)
        while True:
            saved = self.save()
            if self.tell(**self.sampler.seen, **changes) and saved:
                return
            if time.monotonic() > deadline:
                say("studiolo: the last outputs could not be written")
                return
            await asyncio.sleep(0.5)

    # --- The notebook ------------------------------------------------------------------------------------------------

    async def execute(self) -> int:
        """Run the notebook and return the exit status."""
        self.keep_earlier()
        self.tell()
        self.sampler.start()
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(self.work())
        beside = [asyncio.ensure_future(self.save_now_and_then()), asyncio.ensure_future(self.beat())]

        def stop() -> None:
            self.stopped = True
            work.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGUSR1, self.asked.set)
        beside.append(asyncio.ensure_future(self.leave_in_time(work)))
        try:
            return await work
        except asyncio.CancelledError:
            return await self.interrupted()
        except Exception as error:  # noqa: BLE001 - whatever it is: the outputs so far and a word of it are kept
            if self.stopped:
                return await self.interrupted()
            return await self.failed(error)
        finally:
            for task in beside:
                task.cancel()

    def keep_earlier(self) -> None:
        """What an earlier attempt has written is not overwritten."""
        before = read_progress(folder.read_json(self.place.own / folder.STATE))
        if before is not None and before.attempt < self.progress.attempt:
            output = self.place.own / folder.OUTPUT
            with suppress(OSError):
                os.replace(output, output.with_name(f"output-{before.attempt}.ipynb"))

    async def work(self) -> int:
        """Start a kernel and run all cells in it. Raises whatever ends them."""
        folder_ = self.record.folder
        try:
            os.chdir(folder_ or "/")
        except OSError as error:
            return await self.failed(
                FolderGone(f"its folder {folder_} can not be entered on this node ({error.strerror})")
            )
        from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager

        class OwnKernel(KernelSpecManager):
            """The kernel of this very environment, whatever a notebook calls it and whatever lies in a home."""

            def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
                argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
                return KernelSpec(argv=argv, display_name=kernel_name, language="python", interrupt_mode="signal")

        # Other people work on this node: nobody but the owner of a socket of unix gets at it.
        # Named by their whole path: else they lie in the notebook's folder, where those of all its runs have the same names.
        manager = AsyncKernelManager(kernel_spec_manager=OwnKernel(), transport="ipc", ip=socket_name(self.scratch))
        environment = {**os.environ, FOLDER: str(self.place.own)}
        # Both before the libraries below are imported, which the kernel's own start takes as long as.
        await manager.start_kernel(env=environment)
        client = manager.client()
        try:
            cells = self.load()
            client.start_channels()
            client.allow_stdin = False
            await client.wait_for_ready(timeout=KERNEL_SECONDS)
            return await self.run_cells(manager, client, cells)
        finally:
            with suppress(Exception):  # the kernel may be dead already, and all that matters is written
                await manager.shutdown_kernel(now=True)

    def load(self) -> list[int]:
        """Read the snapshot and set its parameters; returns the places of the cells that run."""
        import json

        import nbformat

        with open(self.place.base / folder.SOURCE, encoding="utf-8") as file:
            data = json.load(file)
        parameters = self.record.parameters
        if self.place.index is not None and self.place.index < len(self.record.points):
            parameters = {**parameters, **self.record.points[self.place.index]}
        data = with_parameters(data, parameters)
        for cell in data["cells"]:
            if cell["cell_type"] == "code":  # what an earlier run has shown need not even be valid
                cell["outputs"], cell["execution_count"] = [], None
        self.notebook = nbformat.reads(json.dumps(data), as_version=4)  # type: ignore[no-untyped-call]
        runs = [n for n, c in enumerate(self.notebook.cells) if c.cell_type == "code" and c.source.strip()]
        numbered = [n for n in runs if not is_ours(self.notebook.cells[n])]
        self.numbers = {n: 1 + sum(m < n for m in numbered) for n in runs}
        self.tell(cells=len(numbered))
        return runs

    async def run_cells(self, manager: Any, client: Any, cells: list[int]) -> int:
        """Run the cells one after the other."""
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError

        run = self

        class Watching(NotebookClient):
            """Sees every output as it comes."""

            def output(self, outs: list[Any], msg: dict[str, Any], display_id: Any, cell_index: int) -> Any:
                out = super().output(outs, msg, display_id, cell_index)
                run.heard(outs)
                return out

        # A subclass of nbclient's for the sake of one hook; kernel and client are ours, and so is their end.
        executor = Watching(self.notebook, km=manager, timeout=None, allow_errors=False, coalesce_streams=True)
        executor.kc = client
        executor.reset_execution_trackers()
        asyncio.get_running_loop().run_in_executor(None, self.list_packages)
        for index in cells:
            cell = self.notebook.cells[index]
            number = self.numbers[index]
            self.tell(phase="running", current=number, cell_started=time.time())
            try:
                await executor.async_execute_cell(cell, index)
            except CellExecutionError as error:
                if error.ename == "GoesOnLater":
                    return await self.put_back()
                line = next(iter(cell.source.strip().splitlines()), "")
                return await self.failed(
                    error, Trouble(error.ename, str(error.evalue)[:LONGEST_TEXT], number, line[:200])
                )
            except Exception as error:
                if self.stopped:
                    raise
                return await self.failed(error, Trouble(type(error).__name__, str(error)[:LONGEST_TEXT], number))
            if not is_ours(cell):
                self.progress = replace(self.progress, done=self.progress.done + 1)
            self.dirty = True
        await self.last_words(phase="done", current=0, ended=time.time())
        return DONE

    def heard(self, outs: list[Any]) -> None:
        """An output has come: it is to be kept, and what is text stands in the log as well."""
        self.dirty = True
        if not outs:
            return
        last = outs[-1]
        if last.output_type == "stream":
            with suppress(OSError):
                sys.stdout.write(last.text)
                sys.stdout.flush()
            if len(outs) > 1 and outs[-2].output_type == "stream" and outs[-2].name == last.name:
                outs[-2].text += last.text
                outs.pop()

    # --- Its end -----------------------------------------------------------------------------------------------------

    async def failed(self, error: BaseException, trouble: Trouble | None = None) -> int:
        """Keep what was said until then, and why it ended."""
        trouble = trouble or Trouble(type(error).__name__, str(error)[:LONGEST_TEXT], self.progress.current)
        say(f"studiolo: cell {trouble.cell} of {self.progress.cells}: {trouble.name}: {trouble.value}")
        await self.last_words(phase="failed", ended=time.time(), trouble=trouble)
        return FAILED

    async def interrupted(self) -> int:
        """Ended from outside: ``scancel``, the walltime, a preemption. Slurm knows which."""
        say(f"studiolo: stopped from outside in cell {self.progress.current} of {self.progress.cells}")
        await self.last_words(phase="stopped", ended=time.time())
        return STOPPED

    async def leave_in_time(self, work: asyncio.Future[int]) -> None:
        """Before the walltime: have the notebook save, and go back into the queue where it does."""
        await self.asked.wait()
        if self.record.kind == "rehearsal":
            self.progress = replace(self.progress, note="It went well until its time was over.")
            await self.last_words(phase="done", ended=time.time())
            os._exit(DONE)
        if not self.record.resume:
            return
        (self.scratch / "flags" / ASKED).touch()
        say("studiolo: the time is nearly over; the notebook is asked to save its checkpoint")
        # Of a short run, half of the time that is left after the warning.
        leave = min(LEAVE_SECONDS, self.record.minutes * 15 / 2)
        await asyncio.sleep(max(1.0, self.ends - time.time() - leave))
        if work.done():
            return
        if (self.scratch / "flags" / HEARD).exists():
            await self.put_back()
        else:
            say("studiolo: the notebook did not ask studiolo.checkpoint().requested: it can not go on later")

    async def put_back(self) -> int:
        """Go back into the queue; the next attempt goes on from the checkpoint."""
        await self.last_words(phase="requeued", current=0)
        if words := await asyncio.to_thread(put_back, self.record, self.progress):
            return await self.failed(RuntimeError(words))
        # Slurm ends this job now.
        await asyncio.sleep(LAST_SECONDS)
        return DONE

    def list_packages(self) -> None:
        """Keep what this environment holds, once."""
        from importlib.metadata import distributions

        path = self.place.own / folder.PACKAGES
        names = sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()}, key=str.lower)
        with suppress(OSError):
            folder.write_whole(path, ("\n".join([f"python=={sys.version.split()[0]}", *names]) + "\n").encode())


class FolderGone(Exception):
    """The notebook's folder is not there on this node."""


def is_ours(cell: Any) -> bool:
    """Whether a cell is none that the person has written: it is not counted."""
    tags = cell.metadata.get("tags", [])
    return isinstance(tags, list) and (INJECTED in tags or OURS in tags)


if __name__ == "__main__":
    main()
