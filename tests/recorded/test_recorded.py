"""What Slurm's commands have said, file by file, and what Studiolo reads in it.

Each file is named for its oddity and holds what one command wrote to its standard output (Slurm 22.05 where the name says
nothing else). It is decoded as the runner of commands does it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from studiolo.slurm.live import LiveNode, gres_count, parse_nodes, parse_partitions
from studiolo.slurm.parse import parse_accounting, parse_job_id, parse_node_addresses, parse_queue
from studiolo.slurm.states import JobState, pending_words

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


# --- scontrol --------------------------------------------------------------------------------------------------------


def node(name: str, cpus: int, memory: int, gres: str, **facts: object) -> LiveNode:
    return LiveNode(
        name=name,
        cpus=cpus,
        memory=memory,
        gres=gres,
        **{"address": "127.0.0.1", "features": (), "partitions": ("gpu",), **facts},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        (
            "embedded_22.05",
            [
                node("cpu1", 16, 65536, "", partitions=("cpu",)),
                node("gpu1", 32, 262144, "gpu:a100:4,shard:a100:16"),
            ],
        ),
        (
            "shard_gres_with_sockets_24.11",
            [
                node(
                    "lrdn0001",
                    64,
                    515000,
                    "gpu:a100:4,shard:a100:16",
                    address="10.128.0.1",
                    features=("nvme", "ib"),
                    partitions=("boost", "debug"),
                )
            ],
        ),
        (
            "two_types_of_gpu",
            [node("gn1", 128, 1031000, "gpu:a100:4,gpu:v100:2,nvme:1", address="10.0.0.9", features=("milan",))],
        ),
        (
            "mig_slices",
            [node("mig1", 64, 515000, "gpu:a100_1g.5gb:14,gpu:a100_3g.20gb:4", address="10.0.0.10", features=("mig",))],
        ),
        ("gpus_without_a_type", [node("gn2", 64, 515000, "gpu:8", address="10.0.0.11")]),
        ("down_with_a_reason", [node("gpu3", 32, 262144, "gpu:a100:4")]),
        ("reason_that_looks_like_facts", [node("gpu4", 32, 262144, "gpu:a100:4", features=("nvme",))]),
        ("no_partition", [node("spare1", 16, 65536, "", partitions=())]),
        ("non_utf8_reason", [node("gpu5", 32, 262144, "gpu:a100:4")]),
        ("no_nodes", []),
    ],
)
def test_nodes_are_read(name: str, nodes: list[LiveNode]) -> None:
    assert list(parse_nodes(recorded(f"scontrol_node/{name}.txt"))) == nodes


@pytest.mark.parametrize(
    ("name", "kind", "of_type", "number"),
    [
        ("shard_gres_with_sockets_24.11", "gpu", "a100", 4),
        ("shard_gres_with_sockets_24.11", "gpu", "A100", 4),
        ("shard_gres_with_sockets_24.11", "shard", "", 16),
        ("two_types_of_gpu", "gpu", "", 6),
        ("two_types_of_gpu", "gpu", "v100", 2),
        ("two_types_of_gpu", "gpu", "h100", 0),
        ("mig_slices", "gpu", "a100_1g.5gb", 14),
        ("mig_slices", "gpu", "a100", 0),
        ("gpus_without_a_type", "gpu", "", 8),
        ("gpus_without_a_type", "gpu", "a100", 0),
        ("no_partition", "gpu", "", 0),
    ],
)
def test_gpus_of_a_node_are_counted(name: str, kind: str, of_type: str, number: int) -> None:
    (found,) = parse_nodes(recorded(f"scontrol_node/{name}.txt"))
    assert gres_count(found.gres, kind, of_type) == number


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
    partitions = parse_partitions(recorded(f"scontrol_partition/{name}.txt"), ())
    assert {key: partition.max_minutes for key, partition in partitions.items()} == limits
    assert all(partition.is_up for partition in partitions.values())


def test_a_limit_of_years_is_read_though_no_session_may_last_as_long() -> None:
    (partition,) = parse_partitions(recorded("scontrol_partition/limit_of_years.txt"), ()).values()
    assert partition.max_minutes is None or partition.max_minutes >= 366 * 1440


def test_a_partition_that_starts_no_jobs_is_not_up() -> None:
    partitions = parse_partitions(recorded("scontrol_partition/closed_partitions.txt"), ())
    assert [partition.is_up for partition in partitions.values()] == [False, False, False]


def test_the_nodes_of_a_partition_are_those_that_name_it() -> None:
    nodes = parse_nodes(recorded("scontrol_node/embedded_22.05.txt"))
    partitions = parse_partitions(recorded("scontrol_partition/embedded_22.05.txt"), nodes)
    assert [[found.name for found in partition.nodes] for partition in partitions.values()] == [["cpu1"], ["gpu1"]]


# --- All of them -----------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[str], object]] = {
    "squeue": parse_queue,
    "sacct": parse_accounting,
    "sinfo": parse_node_addresses,
    "sbatch": parse_job_id,
    "scontrol_node": parse_nodes,
    "scontrol_partition": lambda text: parse_partitions(text, ()),
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


def test_every_recorded_file_is_used_by_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    unused = [path for path in HERE.glob("*/*.txt") if f'"{path.stem}"' not in source and f"/{path.name}" not in source]
    assert unused == []
