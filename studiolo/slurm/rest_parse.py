"""slurmrestd's JSON <-> values, for API versions v0.0.38 to v0.0.44. Plain functions, held against recorded answers.

The same thing is said in several ways: numbers are plain up to v0.0.39 (and for some fields there already) and
``{"set", "infinite", "number"}`` later; a job's state is a word up to v0.0.39 and a list of words later; the environment
of a job to be submitted was an object and is a list from v0.0.39 on; its GPUs were ``gres``, then ``tres_per_node`` with
a colon, then with a slash; the script moved into the job with v0.0.40.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from studiolo.script import Batch
from studiolo.slurm.parse import parse_tag
from studiolo.slurm.states import PENDING_STATES, RUNNING_STATES, JobState, Owned, Tagged

__all__ = [
    "INVALID_JOB_ID",
    "VERSIONS",
    "RestError",
    "accounting_query",
    "errors",
    "extension",
    "is_submitted",
    "parse_accounting_jobs",
    "parse_addresses",
    "parse_jobs",
    "parse_owned_jobs",
    "parse_server_time",
    "parse_submitted",
    "parse_tagged_jobs",
    "read_entries",
    "read_integer",
    "read_mapping",
    "read_number",
    "submission",
]

VERSIONS = tuple(f"v0.0.{number}" for number in range(44, 37, -1))
"""API versions that we speak, newest first."""

INVALID_JOB_ID = 2017
NOTHING_FOUND = 9003
_ALREADY_DONE = 2021
_NUMBERS_AS_OBJECTS = "v0.0.39"
_SCRIPT_IN_JOB = "v0.0.40"

# A state that comes with a base state is the one to be told, as Slurm's own commands do, in this order.
_FLAGS = (
    "COMPLETING",
    "STAGE_OUT",
    "CONFIGURING",
    "POWER_UP_NODE",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "STOPPED",
    "REVOKED",
    "RECONFIG_FAIL",
    "SIGNALING",
)


@dataclass(frozen=True)
class RestError:
    """One error that slurmrestd reports, by Slurm's ``number`` (``-1`` for an unspecified one) and in its ``words``."""

    number: int
    words: str

    @property
    def is_over(self) -> bool:
        """The job that was to be cancelled is over or has never been."""
        return self.number in (INVALID_JOB_ID, _ALREADY_DONE)

    @property
    def is_refusal(self) -> bool:
        """slurmctld has looked at the request and said no: its errors have numbers of their own, or none at all."""
        return 2000 <= self.number < 3000 or self.number == -1


# --- What is sent ----------------------------------------------------------------------------------------------------


def submission(batch: Batch, environment: Mapping[str, str], folder: str, version: str) -> dict[str, Any]:
    """The body of a submission; ``folder`` is where the job starts. slurmrestd reads no ``#SBATCH`` line of a script.

    The hub submits sessions this way, which are no arrays and begin once. Raises ``ValueError`` for any other job.
    """
    asked = batch.directives
    if asked.array or asked.requeue or asked.signal or asked.after or asked.behind:
        raise ValueError("arrays, requeuing, signals and dependencies go through sbatch")
    job: dict[str, Any] = {
        "name": asked.name,
        "comment": asked.comment,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "reservation": asked.reservation,
        "constraints": asked.constraint,
        "tasks": 1,
        "cpus_per_task": asked.cpus,
        "standard_output": asked.output,
        "current_working_directory": folder,
    }
    job = {key: value for key, value in job.items() if value}
    if version < _NUMBERS_AS_OBJECTS:
        # "requeue" turns requeuing on there, whatever its value.
        job["no_requeue"] = True
        job |= {"nodes": [1, 1], "memory_per_node": asked.memory, "time_limit": asked.minutes}
        job["environment"] = dict(environment)
        if asked.gres:
            job["gres"] = asked.gres
        return {"script": batch.text, "job": job}
    job |= {"requeue": False, "minimum_nodes": 1, "maximum_nodes": 1}
    job |= {"memory_per_node": _number_object(asked.memory), "time_limit": _number_object(asked.minutes)}
    job["environment"] = [f"{key}={value}" for key, value in environment.items()]
    if asked.gres:
        job["tres_per_node"] = f"gres{'/' if version >= _SCRIPT_IN_JOB else ':'}{asked.gres}"
    if version >= _SCRIPT_IN_JOB:
        return {"job": {**job, "script": batch.text}}
    return {"script": batch.text, "job": job}


def accounting_query(jobs: Iterable[int], version: str, *, steps: bool = False) -> str:
    """The query that asks accounting for ``jobs``: a list in one value up to v0.0.39, a value for each of them later."""
    numbers = [str(int(job)) for job in jobs]
    skip = [] if steps else ["skip_steps=true"]
    if version >= _SCRIPT_IN_JOB:
        return "&".join([*skip, *(f"step={number}" for number in numbers)])
    # A comma that is not written as %2C is more than slurmrestd 22.05 can read.
    return "&".join([*skip, f"step={'%2C'.join(numbers)}"])


def extension(minutes: int, version: str) -> dict[str, Any]:
    """The body that sets a job's walltime, in minutes."""
    return {"time_limit": minutes if version < _NUMBERS_AS_OBJECTS else _number_object(minutes)}


def _number_object(number: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": number}


# --- What is answered ------------------------------------------------------------------------------------------------
# All raise ValueError for an answer of another shape.


def errors(answer: object) -> tuple[RestError, ...]:
    """The errors that an answer reports, wherever it does: a status of 200 says nothing, and one of 500 not much."""
    found = list(_listed_errors(read_mapping(answer).get("errors")))
    result = read_mapping(answer).get("result")
    if isinstance(result, dict) and result.get("error_code"):
        found.append(RestError(read_integer(result["error_code"]), str(result.get("error") or "")))
    status = read_mapping(answer).get("status")
    for entry in status if isinstance(status, list) else []:
        # What has become of each job of a cancellation, from 24.05 on.
        error = entry.get("error") if isinstance(entry, dict) else None
        if isinstance(error, dict) and error.get("code"):
            found.append(RestError(read_integer(error["code"]), str(error.get("message") or error.get("string") or "")))
    message = read_mapping(answer).get("job_submit_user_msg")
    if found and isinstance(message, str) and message:
        found[0] = RestError(found[0].number, f"{message}\n{found[0].words}")
    return tuple(error for error in found if error.number != NOTHING_FOUND)


def _listed_errors(listed: object) -> Iterator[RestError]:
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict):
            raise ValueError(f"no error: {entry!r}"[:200])
        number = entry.get("error_number", entry.get("error_code", -1))
        words = [str(entry[key]) for key in ("description", "error") if entry.get(key)]
        # The description often ends with the error's own words.
        kept = words[:1] if len(words) == 2 and words[1] in words[0] else words
        yield RestError(read_integer(number), ": ".join(kept) or "no reason given")


def parse_submitted(answer: object) -> int:
    """The number of the submitted job."""
    fields = read_mapping(answer)
    result = fields.get("result")
    number = read_integer(fields.get("job_id") or (result.get("job_id") if isinstance(result, dict) else None))
    if number <= 0:
        raise ValueError("no job number in the answer")
    return number


def is_submitted(answer: object) -> bool:
    """Whether a submission was taken. Errors beside a job's number only say why it waits: all its nodes are down."""
    try:
        return parse_submitted(answer) > 0
    except ValueError:
        return False


def parse_jobs(answer: object) -> dict[int, JobState]:
    """Read ``/slurm/…/jobs`` or ``/job/…``: jobs that slurmctld holds."""
    return {state.job: state for state in map(_job_state, read_entries(answer, "jobs"))}


def _job_state(job: Mapping[str, Any]) -> JobState:
    found = JobState(
        job=read_integer(job.get("job_id")),
        state=_state(job.get("job_state")),
        reason=str(job.get("state_reason") or "None"),
        node=str(job.get("batch_host") or ""),
        start=read_number(job.get("start_time")) or None,
        end=read_number(job.get("end_time")) or None,
    )
    if not found.is_over:
        return found
    code, signal = _exit(job.get("exit_code"))
    return replace(found, exit_code=code, signal=signal)


def parse_tagged_jobs(answer: object, mark: str) -> tuple[Tagged, ...]:
    """Read ``/slurm/…/jobs``: those that are not over and whose comment names this hub."""
    found = []
    for job in read_entries(answer, "jobs"):
        person, comment = job.get("user_name"), job.get("comment")
        if not isinstance(person, str) or not isinstance(comment, str):
            raise ValueError("a job without a person or comment")
        tagged = parse_tag(read_integer(job.get("job_id")), person, comment, mark)
        if tagged and (state := _job_state(job)).state in PENDING_STATES | RUNNING_STATES:
            found.append(replace(tagged, state=state, asked=read_number(job.get("submit_time")) or None))
    return tuple(found)


def parse_owned_jobs(answer: object, mark: str) -> tuple[Owned, ...]:
    """The same, with the terms that each job is held to."""
    tags = {tagged.job: tagged for tagged in parse_tagged_jobs(answer, mark)}
    found = []
    for job in read_entries(answer, "jobs"):
        tag = tags.get(read_integer(job.get("job_id")))
        if tag is not None:
            partition, account, qos, reservation = (
                _term(job.get(key)) for key in ("partition", "account", "qos", "resv_name")
            )
            nodes = read_number(job.get("node_count"))
            if not partition or nodes is None:
                raise ValueError("a job without its terms")
            found.append(Owned(tag.job, tag.person, tag.kind, tag.name, partition, account, qos, reservation, nodes))
    return tuple(found)


def _term(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"a job without its terms: {str(value)[:80]!r}")
    return value or ""


def parse_accounting_jobs(answer: object) -> dict[int, JobState]:
    """Read ``/slurmdb/…/jobs``: jobs that accounting knows."""
    found = {}
    for job in read_entries(answer, "jobs"):
        state, times = read_mapping(job.get("state")), read_mapping(job.get("time"))
        word = _state(state.get("current"))
        code, signal = _exit(job.get("exit_code"))
        if word == "FAILED" and not code and not signal:
            code = None  # up to v0.0.38 every status that a script ends with is told as 0
        nodes = str(job.get("nodes") or "")
        number = read_integer(job.get("job_id"))
        told = JobState(
            job=number,
            state=word,
            reason=_why(word, job, state),
            node="" if nodes == "None assigned" else nodes,
            start=read_number(times.get("start")) or None,
        )
        # For a job that still runs, some versions tell the time of the question as its end and 0 as its status.
        end = read_number(times.get("end")) or None
        found[number] = replace(told, end=end, exit_code=code, signal=signal) if told.is_over else told
    return found


def _why(word: str, job: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """The reason; whose doing it was, in the way of ``sacct``, where somebody cancelled the job."""
    user = job.get("kill_request_user")
    if word == "CANCELLED" and isinstance(user, str) and user:
        return f"by {user}"
    return str(state.get("reason") or "None")


def parse_addresses(answer: object) -> dict[str, str]:
    """Read ``/slurm/…/nodes``: node name -> the address that Slurm itself uses."""
    return {_name(node): str(node.get("address") or _name(node)) for node in read_entries(answer, "nodes")}


def _name(node: Mapping[str, Any]) -> str:
    name = node.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a node without a name")
    return name


def parse_server_time(answer: object) -> int:
    """Read ``/slurm/…/diag``: slurmctld's clock, in seconds since 1970."""
    now = read_number(read_mapping(read_mapping(answer).get("statistics")).get("req_time"))
    if not now:
        raise ValueError("no time in the answer")
    return now


# --- Shapes ----------------------------------------------------------------------------------------------------------


def read_entries(answer: object, key: str) -> list[Mapping[str, Any]]:
    """The list of objects under ``key``."""
    entries = read_mapping(answer).get(key)
    if not isinstance(entries, list):
        raise ValueError(f"no list of {key}")
    return [read_mapping(entry) for entry in entries]


def read_mapping(value: object) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise ValueError(f"an object is expected, not {type(value).__name__}")
    return value


def read_integer(value: object) -> int:
    """A plain whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"a number is expected, not {str(value)[:80]!r}")
    return value


def read_number(value: object) -> int | None:
    """A number in either way of writing it; ``None`` where it is not set, infinite or not there."""
    if isinstance(value, dict):
        return read_number(value.get("number")) if value.get("set") and not value.get("infinite") else None
    return None if value is None else read_integer(value)


def _state(value: object) -> str:
    words = value if isinstance(value, list) else [value]
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"no state: {str(value)[:80]!r}")
    return next((flag for flag in _FLAGS if flag in words), str(words[0]))


def _exit(value: object) -> tuple[int | None, int | None]:
    """Exit code and signal: as ``wait`` tells them in one number, or apart."""
    if isinstance(value, dict) and "number" not in value:
        signal = value.get("signal")
        number = signal.get("id", signal.get("signal_id")) if isinstance(signal, dict) else None
        return read_number(value.get("return_code")), read_number(number) or None
    status = read_number(value)
    return (None, None) if status is None else (status >> 8, status & 0x7F or None)
