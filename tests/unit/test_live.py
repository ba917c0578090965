"""What the live cluster says of itself, asked through fake commands; recorded answers are in tests/recorded."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from studiolo.errors import SlurmUnavailable
from studiolo.site import Cluster
from studiolo.slurm import live
from studiolo.slurm.live import LiveCluster, ask, read_cluster
from studiolo.slurm.resources import Resources

if TYPE_CHECKING:
    from conftest import FakePrograms

NODE = (
    "NodeName=gpu1 CPUTot=32 AvailableFeatures=nvme Gres=gpu:a100:4 NodeAddr=10.0.0.1 RealMemory=262144 State=IDLE"
    " Partitions=gpu\n"
)
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
    live = read_cluster(cluster)
    assert live == LiveCluster(
        version="slurm-wlm 22.05.8",
        partitions=live.partitions,
        accounts=frozenset({"root", "p1", "p2"}),
        qos=frozenset({"normal", "short"}),
    )
    (gpu,) = live.partitions.values()
    assert (gpu.name, gpu.is_up, gpu.max_minutes) == ("gpu", True, 1440)
    assert [(node.name, node.address, node.features) for node in gpu.nodes] == [("gpu1", "10.0.0.1", ("nvme",))]
    assert gpu.total == Resources(32, 262144, {"a100": 4})


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


def test_no_shell_is_asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **keywords: object) -> subprocess.CompletedProcess[str]:
        assert isinstance(argv, list)
        assert not keywords.get("shell")
        assert keywords["stdin"] is subprocess.DEVNULL
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(live.subprocess, "run", run)
    assert ask(cluster, "scontrol", "show", "node; id") == ""
