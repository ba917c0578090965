"""What Slurm's commands print -> values. Plain functions, held against recorded answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from studiolo.slurm.facts import PendingJob
from studiolo.slurm.states import PENDING_STATES, RUNNING_STATES, JobState, Owned, Tagged

__all__ = [
    "owned_format",
    "parse_accounting",
    "parse_ended",
    "parse_job_id",
    "parse_node_addresses",
    "parse_owned",
    "parse_pending",
    "parse_queue",
    "parse_tag",
    "parse_tagged",
    "tagged_format",
]

# The fields asked for; no field of them can hold text of a person's choosing, so the separator is safe.
QUEUE_FORMAT = "%A|%T|%r|%B|%S|%e"
ACCOUNTING_FORMAT = "JobIDRaw,State,ExitCode,NodeList,Start,End"
NODE_FORMAT = "%N %o"
# A reservation's name is the operators' choice, and may hold what separates: it stands last.
PENDING_FORMAT = "%A|%P|%Q|%r|%v"


# What Slurm's programs say where slurmctld, or something on the way to it, did not answer.
SILENT = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection refused|Connection timed out|Transport endpoint"
    r"|Unable to establish controller|Zero Bytes were transmitted|Resource temporarily unavailable|SlurmDBD|slurmdbd"
    r"|Protocol authentication error|Munge|Slurm controller not responding|Slurm backup controller",
    re.IGNORECASE,
)


def parse_job_id(output: str) -> int:
    """Read ``sbatch --parsable``: ``123`` or ``123;cluster``, on its last line. Raises ``ValueError``."""
    lines = output.split()
    match = re.fullmatch(r"(\d+)(;[\w.-]+)?", lines[-1], re.ASCII) if lines else None
    if match is None:
        raise ValueError(f"no job number in {output[:200]!r}")
    return int(match[1])


def parse_queue(output: str) -> dict[int, JobState]:
    """Read ``squeue`` in :data:`QUEUE_FORMAT` with times in seconds since 1970. Raises ``ValueError`` on half a line."""
    jobs = {}
    for line in output.splitlines():
        if not line.strip():
            continue
        number, *fields = line.split("|")
        jobs[int(number)] = _queued(int(number), fields)
    return jobs


def _queued(job: int, fields: Sequence[str]) -> JobState:
    state, reason, node, start, end = fields
    return JobState(
        job=job,
        state=state,
        reason=reason or "None",
        node="" if node in ("n/a", "(null)") else node,
        start=_seconds(start),
        end=_seconds(end),
    )


def parse_accounting(output: str) -> dict[int, JobState]:
    """Read ``sacct -X -P -n`` in :data:`ACCOUNTING_FORMAT`: the job itself, its steps left out."""
    jobs = {}
    for line in output.splitlines():
        if not line.strip():
            continue
        number, *fields = line.split("|")
        jobs[int(number)] = parse_ended(int(number), fields)
    return jobs


def parse_ended(job: int, fields: Sequence[str]) -> JobState:
    """The state of ``job`` by accounting's other five fields: state, exit code, nodes, start, end. Raises ``ValueError``."""
    state, exit_code, nodes, start, end = fields
    if not state.strip():
        raise ValueError(f"no state of job {job}")
    code, _, signal = exit_code.partition(":")
    return JobState(
        job=job,
        state=state.split()[0].rstrip("+"),
        reason=state.partition(" ")[2] or "None",
        node="" if nodes == "None assigned" else nodes,
        start=_seconds(start),
        end=_seconds(end),
        exit_code=int(code) if code.isdigit() else None,
        signal=int(signal) if signal.isdigit() and signal != "0" else None,
    )


def tagged_format(nonce: str) -> str:
    """The format of ``squeue`` for :func:`parse_tagged`: ``nonce``, new and random each time, frames every line."""
    return f"{nonce}|%A|%u|%T|%r|%B|%S|%e|%V|%k|{nonce}"


def parse_tagged(output: str, nonce: str, mark: str) -> tuple[Tagged, ...]:
    """Read ``squeue`` in :func:`tagged_format`: this hub's jobs that are not over; lines of any other shape count for
    nothing, since a comment may hold line breaks. Raises ``ValueError`` where the last line is half."""
    if output and not output.endswith("\n"):
        raise ValueError(f"the last line is half: {output[-200:]!r}")
    word = r"([^|\n]*)"
    line = re.compile(
        rf"{nonce}\|(\d+)\|([a-z_][a-z0-9_.-]*)\|([A-Z_]+\|{word}\|{word}\|{word}\|{word})\|{word}\|([!-{{}}~]+)\|{nonce}",
        re.ASCII,
    )
    found = []
    for text in output.split("\n"):
        if (match := line.fullmatch(text)) and (tagged := parse_tag(int(match[1]), match[2], match[9], mark)):
            state = _queued(tagged.job, match[3].split("|"))
            if state.state in PENDING_STATES | RUNNING_STATES:
                found.append(replace(tagged, state=state, asked=_seconds(match[8])))
    return tuple(found)


def owned_format(nonce: str) -> str:
    """The format of ``squeue`` for :func:`parse_owned`, framed like :func:`tagged_format`."""
    return f"{nonce}|%A|%u|%T|%P|%a|%q|%D|%v|%k|{nonce}"


def parse_owned(output: str, nonce: str, mark: str) -> tuple[Owned, ...]:
    """Read ``squeue`` in :func:`owned_format`, as :func:`parse_tagged` does. Raises ``ValueError`` on half a line."""
    if output and not output.endswith("\n"):
        raise ValueError(f"the last line is half: {output[-200:]!r}")
    term = r"([^|\n]*)"
    line = re.compile(
        rf"{nonce}\|(\d+)\|([a-z_][a-z0-9_.-]*)\|([A-Z_]+)\|{term}\|{term}\|{term}\|(\d+)\|{term}\|([!-{{}}~]+)\|{nonce}",
        re.ASCII,
    )
    found = []
    for text in output.split("\n"):
        match = line.fullmatch(text)
        if match is None or match[3] not in PENDING_STATES | RUNNING_STATES:
            continue
        if tag := parse_tag(int(match[1]), match[2], match[9], mark):
            partition, account, qos, reservation = (_term(match[number]) for number in (4, 5, 6, 8))
            found.append(
                Owned(tag.job, tag.person, tag.kind, tag.name, partition, account, qos, reservation, int(match[7]))
            )
    return tuple(found)


def _term(text: str) -> str:
    return "" if text in ("(null)", "N/A") else text


def parse_tag(job: int, person: str, comment: str, mark: str) -> Tagged | None:
    """Read a job's comment as :meth:`studiolo.site.Site.tag` writes it; ``None`` where it is not of the hub ``mark``."""
    match = re.fullmatch(rf"studiolo:{re.escape(mark)}:([a-z]{{1,32}}):([A-Za-z0-9_.-]{{1,64}})", comment, re.ASCII)
    return Tagged(job, person, match[1], match[2]) if match else None


def parse_pending(output: str) -> tuple[PendingJob, ...]:
    """Read ``squeue --priority`` in :data:`PENDING_FORMAT`, in its order. Raises ``ValueError`` on half a line."""
    if output and not output.endswith("\n"):
        raise ValueError(f"the last line is half: {output[-200:]!r}")
    waiting = []
    for line in output.split("\n"):
        if line.strip():
            number, partition, priority, reason, reservation = line.split("|", 4)
            inside = "" if reservation == "(null)" else reservation
            waiting.append(PendingJob(int(number), partition, int(priority), inside, reason or "None"))
    return tuple(waiting)


def parse_node_addresses(output: str) -> dict[str, str]:
    """Read ``sinfo -h -N`` in :data:`NODE_FORMAT`: node name -> the address that Slurm itself uses."""
    return dict(line.split() for line in output.splitlines() if line.strip())


def _seconds(text: str) -> int | None:
    return int(text) if text.isdigit() else None
