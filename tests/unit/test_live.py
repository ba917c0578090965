"""What the live cluster says of itself, asked through fake commands; recorded answers are in tests/recorded."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from studiolo.errors import SlurmUnavailable
from studiolo.site import Cluster
from studiolo.slurm import live
from studiolo.slurm.live import LiveCluster, ask, gres_count, parse_nodes, parse_partitions, read_cluster

if TYPE_CHECKING:
    from conftest import FakePrograms

NODE = "NodeName=gpu1 CPUTot=32 AvailableFeatures=nvme Gres=gpu:a100:4 NodeAddr=10.0.0.1 RealMemory=262144 Partitions=gpu\n"
PARTITION = "PartitionName=gpu MaxTime=1-00:00:00 Nodes=gpu1 State=UP\n"


@pytest.fixture
def cluster(programs: FakePrograms) -> Cluster:
    return Cluster(conf="/etc/slurm/slurm.conf", commands=str(programs.folder))


def scontrol(programs: FakePrograms, nodes: str = NODE, partitions: str = PARTITION) -> None:
    (programs.folder / "nodes").write_text(nodes, encoding="utf-8")
    (programs.folder / "partitions").write_text(partitions, encoding="utf-8")
    folder = programs.folder
    programs.add_script(
        "scontrol",
        f'case "$*" in\n*node*) cat {folder}/nodes ;;\n*partition*) cat {folder}/partitions ;;\n'
        "--version) echo slurm-wlm 22.05.8 ;;\nesac\n",
    )


def sacctmgr(programs: FakePrograms) -> None:
    programs.add_script(
        "sacctmgr",
        'case "$*" in\n*account*) printf "root\\np1\\np2\\n" ;;\n*qos*) printf "normal\\nshort\\n" ;;\nesac\n',
    )


def test_a_cluster_is_read_from_its_own_words(cluster: Cluster, programs: FakePrograms) -> None:
    scontrol(programs)
    sacctmgr(programs)
    (node,) = parse_nodes(NODE)
    assert read_cluster(cluster) == LiveCluster(
        version="slurm-wlm 22.05.8",
        partitions=parse_partitions(PARTITION, (node,)),
        accounts=frozenset({"root", "p1", "p2"}),
        qos=frozenset({"normal", "short"}),
    )


def test_a_cluster_whose_accounting_does_not_answer_is_read_without_it(
    cluster: Cluster, programs: FakePrograms
) -> None:
    scontrol(programs)
    programs.add("sacctmgr", err="sacctmgr: error: Unable to connect to database\n", status=1)
    found = read_cluster(cluster)
    assert (found.accounts, found.qos) == (None, None)
    assert list(found.partitions) == ["gpu"]


def test_a_cluster_that_does_not_answer_is_unavailable_in_its_own_words(
    cluster: Cluster, programs: FakePrograms
) -> None:
    programs.add(
        "scontrol", err="slurm_load_node error: Unable to contact slurm controller (connect failure)\n", status=1
    )
    with pytest.raises(SlurmUnavailable, match="Unable to contact slurm controller"):
        read_cluster(cluster)


def test_a_command_that_is_not_installed_is_unavailable(cluster: Cluster) -> None:
    with pytest.raises(SlurmUnavailable, match="scontrol"):
        read_cluster(cluster)


def test_half_an_answer_is_unavailable(cluster: Cluster, programs: FakePrograms) -> None:
    scontrol(programs, nodes="NodeName=gpu1 CPUTot=")
    with pytest.raises(SlurmUnavailable):
        read_cluster(cluster)


def test_an_answer_that_is_not_utf8_is_read_all_the_same(cluster: Cluster, programs: FakePrograms) -> None:
    programs.add("scontrol", out=b"Reason=L\xfcfter")
    assert ask(cluster, "scontrol") == "Reason=L\N{REPLACEMENT CHARACTER}fter"


def test_a_command_that_takes_too_long_is_unavailable(
    cluster: Cluster, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TIMEOUT_SECONDS", 0.02)
    programs.add_script("scontrol", "exec sleep 600\n")
    with pytest.raises(SlurmUnavailable, match="timed out"):
        ask(cluster, "scontrol", "ping")


def test_the_site_files_cluster_is_asked_whatever_the_environment_names(
    cluster: Cluster, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/other.conf")
    programs.add("scontrol")
    ask(cluster, "scontrol", "--oneliner", "show", "node")
    (call,) = programs.called("scontrol")
    assert call.argv[1:] == ["--oneliner", "show", "node"]
    assert call.environment["SLURM_CONF"] == "/etc/slurm/slurm.conf"
    assert set(call.environment) == {"SLURM_CONF", "PATH", "LANG"}


@pytest.mark.parametrize(
    ("gres", "kind", "of_type", "number"),
    [
        ("gpu:a100:4", "gpu", "", 4),
        ("gpu:a100:4", "gpu", "a100", 4),
        ("gpu:a100:4", "gpu", "A100", 4),
        ("gpu:a100:4", "gpu", "h100", 0),
        ("gpu:a100:4", "shard", "", 0),
        ("gpu:4", "gpu", "", 4),
        ("gpu:4", "gpu", "a100", 0),
        ("gpu:a100:4,gpu:a100:2", "gpu", "a100", 6),
        ("gpu:a100:4,gpu:h100:2", "gpu", "", 6),
        ("gpu:a100:4,shard:a100:16", "shard", "", 16),
        ("gpu:a100:4,shard:16", "shard", "", 16),
        ("gpu:a100:no_consume:4", "gpu", "a100", 4),
        ("gpu", "gpu", "", 0),
        ("gpu:a100", "gpu", "", 0),
        ("gpus:4", "gpu", "", 0),
        ("", "gpu", "", 0),
    ],
)
def test_gres_are_counted_by_kind_and_type(gres: str, kind: str, of_type: str, number: int) -> None:
    assert gres_count(gres, kind, of_type) == number


@pytest.mark.parametrize(
    ("printed", "number"),
    [("gpu:a100:4(S:0-1)", 4), ("gpu:a100:4(S:0,2)", 4), ("gpu:a100:4(S:0-1),gpu:a100:4(S:2-3)", 8), ("(null)", 0)],
)
def test_the_places_of_gpus_are_no_part_of_their_number(printed: str, number: int) -> None:
    (node,) = parse_nodes(NODE.replace("gpu:a100:4", printed))
    assert gres_count(node.gres, "gpu", "a100") == number


@given(st.text(), st.text(), st.text())
@example("gpu:²", "gpu", "")
def test_any_text_of_gres_is_counted(gres: str, kind: str, of_type: str) -> None:
    assert gres_count(gres, kind, of_type) >= 0


def test_no_shell_is_asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **keywords: object) -> subprocess.CompletedProcess[str]:
        assert isinstance(argv, list)
        assert not keywords.get("shell")
        assert keywords["stdin"] is subprocess.DEVNULL
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(live.subprocess, "run", run)
    assert ask(cluster, "scontrol", "show", "node; id") == ""
