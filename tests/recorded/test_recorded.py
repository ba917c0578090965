"""What Slurm's commands have said, file by file, and what Studiolo reads in it.

Each file is named for its oddity and holds what one command wrote to its standard output (Slurm 22.05 where the name says
nothing else). It is decoded as the runner of commands does it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studiolo.slurm.budgets import Budgets, GpuHours, parse_associations
from studiolo.slurm.estimate import parse_estimate
from studiolo.slurm.facts import Admission, NodeFacts, PartitionFacts, ReservationFacts, assemble
from studiolo.slurm.parse import parse_accounting, parse_job_id, parse_node_addresses, parse_pending, parse_queue
from studiolo.slurm.reasons import pending_words
from studiolo.slurm.resources import Resources
from studiolo.slurm.scontrol import parse_nodes, parse_partitions, parse_reservations
from studiolo.slurm.states import JobState
from studiolo.slurm.usage import JobUsage, parse_usage

HERE = Path(__file__).parent


def recorded(name: str) -> str:
    return (HERE / name).read_bytes().decode(errors="replace")


# --- squeue ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "states"),
    [
        (
            "running_waiting_and_over",
            [
                JobState(8100000, "RUNNING", node="cpu1", start=1795314688, end=1795321888),
                JobState(8100001, "PENDING", "Priority", start=1795320000, end=1795327200),
                JobState(8100002, "PENDING", "Resources"),
                JobState(8100003, "COMPLETED", node="gpu1", start=1795313250, end=1795313251),
                JobState(8100055, "FAILED", "NonZeroExitCode", "cpu1", 1795313291, 1795313291),
            ],
        ),
        (
            "reason_of_several_words",
            [
                JobState(8100010, "PENDING", "ReqNodeNotAvail, UnavailableNodes:gpu[1-2]"),
                JobState(
                    8100011,
                    "PENDING",
                    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
                ),
                JobState(8100012, "PENDING", "(null)"),
                JobState(8100013, "PENDING", "None"),
            ],
        ),
        ("held_after_a_failed_launch", [JobState(8100020, "PENDING", "launch_failed_requeued_held")]),
        ("completing", [JobState(8100021, "COMPLETING", node="gpu1", start=1795313250, end=1795313251)]),
        (
            "several_nodes_name_the_batch_host",
            [JobState(8100022, "RUNNING", node="gpu07", start=1795313250, end=1795320450)],
        ),
        ("no_walltime", [JobState(8100023, "RUNNING", node="cpu1", start=1795313250)]),
        ("times_in_iso_format", [JobState(8100024, "RUNNING", node="cpu1")]),
        ("blank_lines", [JobState(8100025, "RUNNING", node="cpu1", start=1795313250, end=1795320450)]),
        ("purged_job", []),
        (
            "non_utf8",
            [
                JobState(8100026, "PENDING", "Anmeldeknoten f\N{REPLACEMENT CHARACTER}llt aus"),
                JobState(8100027, "RUNNING", node="cpu1", start=1795313250, end=1795320450),
            ],
        ),
    ],
)
def test_the_queue_is_read(name: str, states: list[JobState]) -> None:
    assert parse_queue(recorded(f"squeue/{name}.txt")) == {state.job: state for state in states}


@pytest.mark.parametrize("name", ["truncated_line", "truncated_number", "an_error_in_place_of_a_line"])
def test_half_an_answer_about_the_queue_is_no_answer(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_queue(recorded(f"squeue/{name}.txt"))


def test_a_job_that_is_ending_is_neither_waiting_nor_over() -> None:
    (state,) = parse_queue(recorded("squeue/completing.txt")).values()
    assert not state.is_pending
    assert not state.is_over


def test_a_reason_of_several_words_is_told_in_ours() -> None:
    states = parse_queue(recorded("squeue/reason_of_several_words.txt"))
    assert pending_words(states[8100010].reason).startswith("The nodes it needs are down or reserved")
    assert pending_words(states[8100013].reason) == "Slurm is looking for a place."


# --- sacct -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "states"),
    [
        (
            "over",
            [
                JobState(8100000, "COMPLETED", "None", "cpu1", 1795313218, 1795313220, 0),
                JobState(8100055, "FAILED", "None", "cpu1", 1795313291, 1795313291, 1),
                JobState(8100056, "FAILED", "None", "gpu1", 1795313291, 1795313292, 127),
                JobState(8100057, "TIMEOUT", "None", "gpu1", 1795313218, 1795320418, 0),
                JobState(8100058, "NODE_FAIL", "None", "gpu2", 1795313218, 1795313900, 0),
                JobState(8100059, "PREEMPTED", "None", "gpu2", 1795313218, 1795313900, 0),
            ],
        ),
        (
            "cancelled_by_uid",
            [
                JobState(8100101, "CANCELLED", "by 20001", "", None, 1795313300, 0),
                JobState(8100102, "CANCELLED", "by 0", "gpu1", 1795313218, 1795313300, 0, 15),
            ],
        ),
        (
            "cancelled_before_it_began_22.05",
            [JobState(8100103, "CANCELLED", "by 20001", "", None, 1795313300, 0)],
        ),
        ("out_of_memory", [JobState(8100104, "OUT_OF_MEMORY", "None", "gpu1", 1795313218, 1795313300, 0, 125)]),
        ("killed_by_a_signal", [JobState(8100105, "FAILED", "None", "gpu1", 1795313218, 1795313300, 0, 9)]),
        (
            "running_and_waiting",
            [
                JobState(8100106, "RUNNING", "None", "gpu1", 1795313218, None, 0),
                JobState(8100107, "PENDING", "None", "", None, None, 0),
            ],
        ),
        ("several_nodes", [JobState(8100108, "COMPLETED", "None", "gpu[1-2,4]", 1795313218, 1795313300, 0)]),
        ("state_cut_short_with_a_plus", [JobState(8100109, "CANCELLED", "None", "gpu1", 1795313218, 1795313300, 0)]),
        ("no_exit_code", [JobState(8100110, "BOOT_FAIL", "None", "gpu1", 1795313218, 1795313300)]),
        ("purged_job", []),
    ],
)
def test_accounting_is_read(name: str, states: list[JobState]) -> None:
    assert parse_accounting(recorded(f"sacct/{name}.txt")) == {state.job: state for state in states}


@pytest.mark.parametrize(
    "name", ["truncated_line", "truncated_after_the_number", "no_state", "steps_though_not_asked_for"]
)
def test_half_an_answer_of_accounting_is_no_answer(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_accounting(recorded(f"sacct/{name}.txt"))


# --- sinfo and sbatch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("nodes_of_one_host", {"cpu1": "127.0.0.1", "cpu2": "127.0.0.1", "gpu1": "127.0.0.1", "gpu2": "127.0.0.1"}),
        ("node_in_several_partitions", {"lrdn0001": "10.128.0.1", "lrdn0002": "10.128.0.2"}),
        ("names_and_ipv6", {"gpu1": "gpu1-ib0.cluster.example.org", "gpu2": "fd00::2"}),
        ("padded_columns", {"gpu1": "10.0.0.1"}),
        ("no_nodes", {}),
    ],
)
def test_addresses_of_nodes_are_read(name: str, addresses: dict[str, str]) -> None:
    assert parse_node_addresses(recorded(f"sinfo/{name}.txt")) == addresses


def test_half_a_line_about_a_node_is_no_answer() -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_node_addresses(recorded("sinfo/truncated_line.txt"))


@pytest.mark.parametrize("name", ["plain", "with_cluster", "message_of_a_plugin_before_it", "not_parsable"])
def test_the_number_of_a_job_is_read(name: str) -> None:
    assert parse_job_id(recorded(f"sbatch/{name}.txt")) == 8100001


@pytest.mark.parametrize("name", ["empty", "words_only", "number_cut_off_by_a_message"])
def test_an_answer_without_a_number_is_no_answer(name: str) -> None:
    with pytest.raises(ValueError, match="no job number"):
        parse_job_id(recorded(f"sbatch/{name}.txt"))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("at_once_22.05", 1795337532),
        ("later_24.11", 1795340000),
        ("message_of_a_plugin_before_it", 1795340000),
        ("standard_time_in_utc", 1795337532),
        ("on_another_cluster_of_a_federation", 1795340000),
        ("with_the_jobs_it_preempts", 1795340000),
    ],
)
def test_when_a_job_would_start_is_read(name: str, start: int) -> None:
    assert parse_estimate(recorded(f"sbatch_test_only/{name}.txt")) == start


@pytest.mark.parametrize("name", ["empty", "refused", "a_plugin_that_says_the_same", "relative_time"])
def test_an_answer_without_a_start_is_no_answer(name: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_estimate(recorded(f"sbatch_test_only/{name}.txt"))


# --- scontrol --------------------------------------------------------------------------------------------------------


def node(name: str, total: Resources, **facts: Any) -> NodeFacts:
    defaults = {
        "address": "127.0.0.1",
        "states": ("IDLE",),
        "reason": "",
        "free": total,
        "features": (),
        "partitions": ("gpu",),
    }
    return NodeFacts(name=name, total=total, **{**defaults, **facts})


A100_NODE = Resources(32, 262144, {"a100": 4})


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        (
            "embedded_22.05",
            [
                node("cpu1", Resources(16, 65536), partitions=("cpu",)),
                node("gpu1", Resources(32, 262144, {"a100": 4}, 16)),
            ],
        ),
        (
            "shard_gres_with_sockets_24.11",
            [
                node(
                    "lrdn0001",
                    Resources(64, 515000, {"a100": 4}, 16),
                    address="10.128.0.1",
                    states=("MIXED", "PLANNED"),
                    features=("nvme", "ib"),
                    partitions=("boost", "debug"),
                )
            ],
        ),
        (
            "two_types_of_gpu",
            [node("gn1", Resources(128, 1031000, {"a100": 4, "v100": 2}), address="10.0.0.9", features=("milan",))],
        ),
        (
            "mig_slices",
            [
                node(
                    "mig1",
                    Resources(64, 515000, {"a100_1g.5gb": 14, "a100_3g.20gb": 4}),
                    address="10.0.0.10",
                    features=("mig",),
                )
            ],
        ),
        ("gpus_without_a_type", [node("gn2", Resources(64, 515000, {"": 8}), address="10.0.0.11")]),
        (
            "down_with_a_reason",
            [
                node(
                    "gpu3",
                    A100_NODE,
                    states=("DOWN", "NOT_RESPONDING", "DRAIN"),
                    reason="Not responding [slurm@2026-11-22T02:00:00]",
                )
            ],
        ),
        (
            "reason_that_looks_like_facts",
            [
                node(
                    "gpu4",
                    A100_NODE,
                    states=("IDLE", "DRAIN"),
                    reason="was Gres=gpu:a100:8 and RealMemory=lots, CPUTot=? Partitions=none [root@2026-11-22T02:00:00]",
                    features=("nvme",),
                )
            ],
        ),
        ("no_partition", [node("spare1", Resources(16, 65536), partitions=())]),
        (
            "non_utf8_reason",
            [node("gpu5", A100_NODE, reason="L\N{REPLACEMENT CHARACTER}fter defekt [root@2026-11-22T02:00:00]")],
        ),
        ("no_nodes", []),
    ],
)
def test_nodes_are_read(name: str, nodes: list[NodeFacts]) -> None:
    assert list(parse_nodes(recorded(f"scontrol_node/{name}.txt"))) == nodes


@pytest.mark.parametrize(
    ("name", "free", "obstacles"),
    [
        (
            # gpu1: one GPU in use as a whole, four shards on another one.
            "gpus_and_shards_in_use_22.05",
            {
                "cpu1": Resources(0, 65436),
                "cpu2": Resources(16, 65536),
                "gpu1": Resources(16, 56244, {"a100": 2}, 8),
                "gpu2": Resources(32, 262144, {"a100": 4}, 16),
            },
            {"cpu1": "RESERVED", "cpu2": "DOWN", "gpu1": "", "gpu2": "DRAIN"},
        ),
        (
            # gpu1: three GPUs in use as a whole, one shard on the fourth; gpu2: all four.
            "gpus_and_shards_in_use_24.11",
            {
                "cpu1": Resources(10, 59392),
                "cpu2": Resources(16, 65536),
                "gpu1": Resources(28, 258972, {"a100": 0}, 3),
                "gpu2": Resources(31, 262044, {"a100": 0}, 0),
            },
            {"cpu1": "", "cpu2": "DRAIN", "gpu1": "", "gpu2": ""},
        ),
    ],
)
def test_what_is_free_on_a_node_is_read(name: str, free: dict[str, Resources], obstacles: dict[str, str]) -> None:
    facts = assemble(0.0, parse_nodes(recorded(f"scontrol_node/{name}.txt")), (), ())
    assert {found.name: found.free for found in facts.nodes} == free
    assert {found.name: found.obstacle for found in facts.nodes} == obstacles


def partitions(name: str) -> dict[str, PartitionFacts]:
    return {found.name: found for found in parse_partitions(recorded(f"scontrol_partition/{name}.txt"))}


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("embedded_22.05", {"cpu": 480, "gpu": 1440}),
        ("unlimited_partition", {"long": None}),
        ("limit_of_seconds", {"tiny": 1}),
        ("no_nodes", {"empty": 480}),
        ("no_partitions", {}),
    ],
)
def test_limits_of_partitions_are_read(name: str, limits: dict[str, int | None]) -> None:
    assert {key: found.max_minutes for key, found in partitions(name).items()} == limits
    assert all(found.is_up and found.default_minutes == 60 for found in partitions(name).values())


def test_a_limit_of_years_is_read_though_no_session_may_last_as_long() -> None:
    (found,) = partitions("limit_of_years").values()
    assert found.max_minutes == 1000 * 1440


def test_a_partition_that_starts_no_jobs_is_not_up() -> None:
    assert [found.is_up for found in partitions("closed_partitions").values()] == [False, False, False]


def test_who_may_use_a_partition_is_read() -> None:
    found = partitions("for_some_accounts_and_groups")
    assert found["boost"].accounts == Admission(frozenset({"p1", "p2"}))
    assert found["boost"].qos == Admission(None, frozenset({"debug"}))
    assert found["boost"].groups == Admission(frozenset({"staff"}))
    assert found["debug"].accounts == Admission(None, frozenset({"guests"}))
    assert not found["debug"].accounts.is_open
    assert found["debug"].groups.is_open
    assert found["debug"].default_minutes is None


def test_the_nodes_of_a_partition_are_those_that_name_it() -> None:
    nodes = parse_nodes(recorded("scontrol_node/embedded_22.05.txt"))
    facts = assemble(0.0, nodes, partitions("embedded_22.05").values(), ())
    assert [[found.name for found in partition.nodes] for partition in facts.partitions.values()] == [
        ["cpu1"],
        ["gpu1"],
    ]


@pytest.mark.parametrize(
    ("name", "reservations"),
    [
        (
            "odd_name_and_some_cores_22.05",
            [
                ReservationFacts(
                    "class1",
                    1795322424,
                    1795326024,
                    ("cpu1",),
                    users=Admission(frozenset({"ada", "ben"})),
                    flags=("SPEC_NODES",),
                ),
                ReservationFacts(
                    "core",
                    1795326024,
                    1795329624,
                    ("gpu1",),
                    "gpu",
                    accounts=Admission(frozenset({"playground"})),
                    cpus={"gpu1": 4},
                ),
                ReservationFacts(
                    'odd<b>"n State=x',
                    1795408876,
                    1795412476,
                    ("gpu1", "gpu2"),
                    accounts=Admission(frozenset({"playground"})),
                    flags=("IGNORE_JOBS", "SPEC_NODES"),
                ),
            ],
        ),
        (
            "embedded_24.11",
            [
                ReservationFacts(
                    "course_may",
                    1795329860,
                    1795333460,
                    ("gpu2",),
                    users=Admission(frozenset({"tess", "ada"})),
                    flags=("IGNORE_JOBS", "SPEC_NODES"),
                ),
                ReservationFacts(
                    "maintenance",
                    1795329860,
                    1795333460,
                    ("cpu2",),
                    users=Admission(frozenset({"root"})),
                    flags=("MAINT", "IGNORE_JOBS", "SPEC_NODES"),
                ),
            ],
        ),
        ("no_reservations", []),
    ],
)
def test_reservations_are_read(name: str, reservations: list[ReservationFacts]) -> None:
    assert list(parse_reservations(recorded(f"scontrol_reservation/{name}.txt"))) == reservations


def test_the_line_of_waiting_jobs_is_read_in_slurms_order() -> None:
    pending = parse_pending(recorded("squeue_pending/held_limited_and_in_several_partitions_22.05.txt"))
    facts = assemble(0.0, (), (), (), pending)
    line = [24000026, 24000027, 24000028, 24000030, 24000035, 24000036, 24000007, 24000008, 24000009]
    in_line = [facts.place(job) for job in line]
    assert in_line == [(1, 9), (2, 9), (3, 9), (1, 3), (2, 3), (3, 3), (7, 9), (8, 9), (9, 9)]
    assert (facts.waiting("cpu"), facts.waiting("gpu"), facts.waiting("cpu", "class1")) == (9, 3, 2)
    assert [facts.place(job) for job in (24000032, 24000033)] == [(1, 2), (2, 2)]
    held_back = {job.job: job.reason for job in pending if facts.place(job.job) is None}
    assert held_back == {
        24000013: "QOSMaxJobsPerUserLimit",
        24000024: "QOSMaxJobsPerUserLimit",
        24000012: "BeginTime",
        24000011: "JobHeldUser",
        24000029: "JobHeldUser",
    }


@pytest.mark.parametrize(
    ("reader", "name"), [("scontrol_reservation", "truncated_line"), ("squeue_pending", "truncated_line")]
)
def test_half_an_answer_about_the_cluster_is_no_answer(reader: str, name: str) -> None:
    with pytest.raises(ValueError, match="half"):
        READERS[reader](recorded(f"{reader}/{name}.txt"))


# --- All of them -----------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[str], object]] = {
    "squeue": parse_queue,
    "sacct": parse_accounting,
    "sinfo": parse_node_addresses,
    "sbatch": parse_job_id,
    "sbatch_test_only": parse_estimate,
    "scontrol_assoc_mgr": lambda output: parse_associations(output, 0.0),
    "scontrol_node": parse_nodes,
    "scontrol_partition": parse_partitions,
    "scontrol_reservation": parse_reservations,
    "squeue_pending": parse_pending,
}


@pytest.mark.parametrize("reader", READERS)
def test_any_answer_cut_short_anywhere_is_read_or_a_value_error(reader: str) -> None:
    for path in sorted((HERE / reader).glob("*.txt")):
        data = path.read_bytes()
        for end in range(len(data) + 1):
            try:
                READERS[reader](data[:end].decode(errors="replace"))
            except ValueError:
                continue


def test_what_a_session_used_is_that_of_its_steps() -> None:
    used = parse_usage((HERE / "sacct_usage/session_22.05.txt").read_text(encoding="utf-8"))
    assert used == {56200000: JobUsage(56200000, seconds=29, cpu_seconds=2.408, memory=97)}


def test_every_recorded_file_is_used_by_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    unused = [path for path in HERE.glob("*/*.txt") if f'"{path.stem}"' not in source and f"/{path.name}" not in source]
    assert unused == []


# --- Accounts --------------------------------------------------------------------------------------------------------


def budgets(name: str) -> Budgets:
    return parse_associations(recorded(f"scontrol_assoc_mgr/{name}.txt"), 1795337700.0)


def test_accounts_their_people_and_limits_are_read() -> None:
    found = budgets("embedded_22.05")
    assert set(found.accounts) == {"root", "playground", "fast-lane", "large-scale"}
    assert found.of("ada") == {"playground", "fast-lane"}
    assert found.of("emil") == {"playground", "fast-lane", "large-scale"}
    assert (found.defaults["ada"], found.defaults["root"]) == ("playground", "root")
    assert found.gpu_hours("ada", "fast-lane") == GpuHours(10000.0, 0.0)
    assert found.gpu_hours("ada", "root") == GpuHours(None, 0.0)
    assert found.of("mallory") is None


def test_of_all_limits_that_bind_somebody_the_one_counts_of_which_least_is_left() -> None:
    found = budgets("a_project_in_a_project")
    assert found.gpu_hours("ada", "sub") == GpuHours(10.0, 0.5)  # her own
    assert found.gpu_hours("emil", "sub") == GpuHours(50.0, 10.0)
    assert found.gpu_hours("emil", "sub", weight=4.0) == GpuHours(100.0, 99.75)  # the account's above, by billing
    assert found.gpu_hours("emil", "sub", weight=4.0).left == 0.25


def test_the_newer_way_of_naming_parents_is_read() -> None:
    found = budgets("lineage_24.11")
    assert (found.of("ada"), found.defaults["ada"]) == ({"playground"}, "playground")
    assert found.gpu_hours("ada", "playground").limit == 1000.0


def test_limits_are_read_of_whom_they_bind_with_what_is_in_use() -> None:
    found = budgets("limits_of_people_projects_and_qos_22.05")

    def told(person: str, qos: str | None) -> dict[tuple[str, str, str], tuple[int, int | None]]:
        held = found.bounds(person, "playground", qos)
        return {(each.of, one.name, one.kind): (one.allowed, one.used) for each in held for one in each.bounds}

    ada = told("ada", "playground")
    assert ada["person", "MaxJobsPU", "jobs"] == (4, 1)
    assert ada["person", "MaxTRESPU", "gres/gpu"] == (1, 0)
    assert ada["account", "MaxTRESPA", "cpu"] == (60, 1)
    assert ada["account", "GrpWall", "wall"] == (500000, 0)
    assert ada["qos", "MaxWallPJ", "wall"] == (240, None)
    assert ada["qos", "GrpTRESRunMins", "cpu"] == (70000, 60)
    # Where the QoS has the same limit, it counts in place of her own and the account's.
    assert ("person", "MaxJobs", "jobs") not in ada
    assert ("account", "GrpTRES", "gres/gpu") not in ada
    # Slurm names in a QoS only those who have used something: for others it is the same limit, untouched.
    assert told("emil", "playground")["person", "MaxJobsPU", "jobs"] == (4, 0)
    # Under a QoS that has none, her own count; where it may be either, neither is told.
    assert told("ada", "normal")["person", "MaxSubmitJobs", "jobs"] == (5, 1)
    assert told("ada", "normal")["account", "GrpTRES", "gres/gpu"] == (7, 0)
    assert ("person", "MaxSubmitJobs", "jobs") not in told("ada", None)
    assert found.gpu_hours("ada", "playground").limit == 1000.0


def test_an_account_above_itself_is_not_followed_for_ever() -> None:
    assert budgets("an_account_above_itself").gpu_hours("ada", "playground").limit == 1000.0


def test_where_accounting_is_off_nobody_is_known() -> None:
    found = budgets("nothing_cached")
    assert (found.accounts, found.of("ada")) == ({}, None)
    assert found.gpu_hours("ada", "playground") == GpuHours(None, None)


@pytest.mark.parametrize("name", ["truncated_line", "no_limits"])
def test_half_an_answer_about_accounts_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="."):
        budgets(name)
