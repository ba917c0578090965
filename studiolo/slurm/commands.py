"""Slurm through its commands: argument lists only, no shell; what is asked for a person goes through the launcher."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from studiolo.errors import HomeUnusable, LauncherFailed, SlurmRefused, SlurmUnavailable
from studiolo.script import Batch, Directives
from studiolo.site import Cluster
from studiolo.slurm.budgets import Budgets, parse_associations
from studiolo.slurm.estimate import parse_estimate, trial
from studiolo.slurm.facts import ClusterFacts, assemble
from studiolo.slurm.parse import (
    ACCOUNTING_FORMAT,
    NODE_FORMAT,
    PENDING_FORMAT,
    QUEUE_FORMAT,
    SILENT,
    owned_format,
    parse_accounting,
    parse_job_id,
    parse_node_addresses,
    parse_owned,
    parse_pending,
    parse_queue,
    parse_tagged,
    tagged_format,
)
from studiolo.slurm.people import PERSON
from studiolo.slurm.scontrol import parse_nodes, parse_partitions, parse_reservations
from studiolo.slurm.states import JobState, Owned, Tagged
from studiolo.slurm.usage import USAGE_FORMAT, JobUsage, parse_usage

_Value = TypeVar("_Value")

__all__ = ["ACTIONS", "CommandSlurm", "launcher_argv"]

ACTIONS = ("submit", "estimate", "cancel")
"""What the launcher does for people."""

# The launcher's alarm: sudo ends of the signal that ended its command, or says so in the way of shells.
_ALARM = (-signal.SIGALRM, 128 + signal.SIGALRM)
OVER = re.compile(r"Invalid job id|already completing or completed", re.IGNORECASE)
REAP_SECONDS = 1.0
HOME_STATUS = 73  # the launcher's, where the home can not be entered
_NOT_SLURM = re.compile(r"sudo:|studiolo-launch:|Sorry, user")


@dataclass(frozen=True)
class _Answer:
    status: int
    out: str
    err: str


def launcher_argv(cluster: Cluster, action: str) -> tuple[str, ...]:
    """The launcher's whole command line for an action, exactly as the sudoers rule allows it."""
    return (cluster.launcher, action, cluster.conf, cluster.commands)


class CommandSlurm:
    """One cluster, asked through ``squeue``, ``sacct`` and ``sinfo`` as the hub, and ``sbatch`` and ``scancel`` as people.

    ``mark`` is that of the hub (:attr:`studiolo.site.Site.mark`). ``timeout`` is in seconds; a command that takes longer
    is killed and counts as no answer. ``calls`` counts the commands started, by name.
    """

    errand = "your session"
    """What is submitted, in words."""
    whose: tuple[str, ...] = ()
    """Whose jobs are seen, as an option of ``squeue``; everybody's if empty."""

    def __init__(self, cluster: Cluster, mark: str, timeout: float = 30.0) -> None:
        self.cluster = cluster
        self.mark = mark
        self.timeout = timeout
        self.calls: dict[str, int] = {}
        self._addresses: dict[str, str] = {}

    async def submit(self, person: str, batch: Batch, environment: Mapping[str, str]) -> int:
        """Submit a batch job as ``person`` and return its number. Raises ``ValueError`` for text that holds a NUL."""
        action = f"submit {self.errand}"
        parts = [batch.text, *(f"{key}={value}" for key, value in environment.items())]
        if any("\0" in part for part in parts):
            raise ValueError("a NUL in a script or in its environment")
        answer = await self._launch(person, "submit", "\0".join(parts), action)
        try:
            return parse_job_id(answer.out)
        except ValueError as error:
            raise SlurmUnavailable(action, str(error)) from error

    async def estimate(self, person: str, directives: Directives) -> int | None:
        """Ask when a job of ``person`` would start (seconds since 1970) if it were submitted now; submits nothing.

        What Slurm would not take is :class:`SlurmRefused`, with its words.
        """
        action = f"say when {self.errand} would start"
        answer = await self._launch(person, "estimate", trial(directives).text, action)
        try:
            return parse_estimate(answer.err)
        except ValueError as error:
            raise SlurmUnavailable(action, str(error)) from error

    async def cancel(self, person: str, jobs: Iterable[int]) -> None:
        """Cancel jobs of ``person``; one that is over already is no error."""
        try:
            await self._launch(person, "cancel", "\0".join(map(str, jobs)), "cancel the job")
        except SlurmRefused as refused:
            if not OVER.search(refused.words):
                raise

    async def queue(self, jobs: Iterable[int]) -> dict[int, JobState]:
        """Ask once for all ``jobs``; those that slurmctld no longer holds are missing in the answer."""
        numbers = ",".join(map(str, sorted(jobs)))
        argv = ["squeue", "--noheader", "--states=all", f"--jobs={numbers}", f"--format={QUEUE_FORMAT}"]
        answer = await self._ask(argv)
        if answer.status and "Invalid job id" in answer.err:
            return {}
        return self._parsed(parse_queue, answer, "list jobs")

    async def finished(self, jobs: Iterable[int]) -> dict[int, JobState]:
        """Ask accounting for all ``jobs``."""
        numbers = ",".join(map(str, sorted(jobs)))
        argv = ["sacct", "--allocations", "--parsable2", "--noheader", f"--jobs={numbers}"]
        answer = await self._ask([*argv, f"--format={ACCOUNTING_FORMAT}"])
        return self._parsed(parse_accounting, answer, "look up finished jobs")

    async def tagged(self) -> tuple[Tagged, ...]:
        """Ask once for all jobs of this hub that are not over, whoever knows of them; also those that people tagged so."""
        # A comment is a person's own text and may hold whole lines: only those with the question's own word are answers.
        nonce = secrets.token_hex(16)
        answer = await self._ask(["squeue", "--noheader", *self.whose, f"--format={tagged_format(nonce)}"])
        return self._parsed(lambda out: parse_tagged(out, nonce, self.mark), answer, "list jobs")

    async def owner(self, job: int) -> Owned | None:
        """Whose job this is, what it is for and under which terms, by Slurm's word; ``None`` where it is over or none of
        this hub's."""
        nonce = secrets.token_hex(16)
        argv = ["squeue", "--noheader", f"--jobs={int(job)}", f"--format={owned_format(nonce)}"]
        answer = await self._ask(argv)
        if answer.status and "Invalid job id" in answer.err:
            return None
        found = self._parsed(lambda out: parse_owned(out, nonce, self.mark), answer, "look up a job")
        return next((owned for owned in found if owned.job == job), None)

    async def used(self, jobs: Iterable[int]) -> dict[int, JobUsage]:
        """Ask accounting once what all ``jobs`` used; those that are not over in its books are missing."""
        numbers = ",".join(map(str, sorted(jobs)))
        argv = ["sacct", "--parsable2", "--noheader", "--noconvert", f"--jobs={numbers}", f"--format={USAGE_FORMAT}"]
        return self._parsed(parse_usage, await self._ask(argv), "look up what jobs used")

    async def extend(self, job: int, minutes: int) -> None:
        """Set a job's walltime to ``minutes`` in all. As the hub, which must be an operator of Slurm's for it."""
        action = "extend your session"
        answer = await self._ask(["scontrol", "update", f"JobId={int(job)}", f"TimeLimit={int(minutes)}"])
        if answer.status:
            said = answer.err or answer.out
            raise (SlurmUnavailable if SILENT.search(said) else SlurmRefused)(action, said)

    async def node_address(self, node: str) -> str:
        """Return the address under which the hub reaches ``node``: the site's pattern, or Slurm's own NodeAddr."""
        if self.cluster.node_address:
            return self.cluster.node_address.format(node=node)
        if node not in self._addresses:
            answer = await self._ask(["sinfo", "--noheader", "--Node", f"--format={NODE_FORMAT}"])
            self._addresses = self._parsed(parse_node_addresses, answer, "list nodes")
        return self._addresses.get(node, node)

    async def facts(self) -> ClusterFacts:
        """Ask for nodes, partitions, reservations and the line of waiting jobs: four questions, one after the other.

        What comes may be thousands of lines: they are read beside, and meanwhile everybody else is served.
        """
        taken = time.time()
        show = ["scontrol", "--oneliner", "--all"]
        asked = await self._ask([*show, "--details", "show", "node"])
        nodes = await asyncio.to_thread(self._parsed, parse_nodes, asked, "list nodes")
        partitions = self._parsed(parse_partitions, await self._ask([*show, "show", "partition"]), "list partitions")
        asked = await self._ask([*show, "show", "reservation"])
        reservations = self._parsed(parse_reservations, asked, "list reservations")
        # The manual names this sort as that of the scheduler; --priority lists a job once for each of its partitions.
        line = ["squeue", "--noheader", "--all", "--priority", "--states=PENDING", "--sort=-p,i"]
        asked = await self._ask([*line, f"--format={PENDING_FORMAT}"])
        pending = await asyncio.to_thread(self._parsed, parse_pending, asked, "list waiting jobs")
        return await asyncio.to_thread(assemble, taken, nodes, partitions, reservations, pending)

    async def budgets(self) -> Budgets:
        """Ask for all accounts, who is in them and what is left of each: one question, which slurmctld answers from memory."""
        taken = time.time()
        answer = await self._ask(["scontrol", "--oneliner", "show", "assoc_mgr", "flags=assoc,qos"])
        return await asyncio.to_thread(
            self._parsed, lambda out: parse_associations(out, taken), answer, "list accounts"
        )

    def _parsed(self, parse: Callable[[str], _Value], answer: _Answer, action: str) -> _Value:
        if answer.status:
            raise SlurmUnavailable(action, answer.err or answer.out)
        try:
            return parse(answer.out)
        except ValueError as error:
            raise SlurmUnavailable(action, f"half an answer: {error}") from error

    async def _launch(self, person: str, action: str, request: str, words: str) -> _Answer:
        if not PERSON.fullmatch(person):
            raise LauncherFailed(words, f"{person!r} is not the name of an account")
        answer = await self._run(self._as(person, action), action, request, words)
        if answer.status == 0:
            return answer
        if answer.status == _ALARM[0] or (answer.status == _ALARM[1] and not answer.err.strip()):
            raise SlurmUnavailable(words, answer.err or "it did not answer in time")
        if answer.status == HOME_STATUS:
            raise HomeUnusable(words, answer.err.strip().rpartition("studiolo-launch: ")[2])
        # sudo may warn (a host name that it can not resolve) and go on: only where nobody else spoke is it to blame.
        slurm = "\n".join(line for line in answer.err.splitlines() if line.strip() and not _NOT_SLURM.match(line))
        if not slurm:
            raise LauncherFailed(words, answer.err.strip() or f"exit status {answer.status}")
        raise (SlurmUnavailable if SILENT.search(slurm) else SlurmRefused)(words, slurm)

    def _as(self, person: str, action: str) -> list[str]:
        """The command line that does ``action`` as ``person``."""
        return [self.cluster.sudo, "-n", "-u", person, "--", *launcher_argv(self.cluster, action)]

    async def _ask(self, argv: list[str]) -> _Answer:
        command, *arguments = argv
        return await self._run([f"{self.cluster.commands}/{command}", *arguments], command, None, f"run {command}")

    async def _run(self, argv: list[str], name: str, text: str | None, action: str) -> _Answer:
        self.calls[name] = self.calls.get(name, 0) + 1
        environment = {
            "LANG": "C.UTF-8",
            "PATH": "/usr/bin:/bin",
            "SLURM_CONF": self.cluster.conf,
            "SLURM_TIME_FORMAT": "%s",
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL if text is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            raise LauncherFailed(action, f"{argv[0]}: {error.strerror}") from error
        try:
            out, err = await asyncio.wait_for(
                process.communicate(None if text is None else text.encode()), self.timeout
            )
        except asyncio.TimeoutError:
            raise SlurmUnavailable(action, f"no answer within {self.timeout:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(PermissionError, ProcessLookupError):  # sudo itself, before it is the person: root's
                    process.kill()
                # Python waits for the pipes to close as well, and what sudo has started may live on and hold them open.
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), REAP_SECONDS)
                # Not before: close() polls the process, and so takes its status away from asyncio's own watcher of children.
                process._transport.close()  # type: ignore[attr-defined]
        return _Answer(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
