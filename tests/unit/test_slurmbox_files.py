"""What slurmbox writes: Slurm's files, the supervisor's, accounting calls; and what it reads from /proc."""

from __future__ import annotations

import base64
import configparser
import json
import os
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slurmbox import accounting, box, epilog, files, packages, processes, render, supervise, tokens
from slurmbox import instance as instances
from slurmbox.design import CgroupFacts, RealGpus
from slurmbox.errors import BoxError, NotReady
from slurmbox.facts import HostFacts
from slurmbox.instance import Instance
from slurmbox.people import demo_people
from slurmbox.ready import wait
from slurmbox.supervise import Program


def an_instance(version: tuple[int, int, int] = (22, 5, 8), real: RealGpus | None = None, v1: bool = True) -> Instance:
    cgroups = CgroupFacts(frozenset({"memory", "freezer", "memsw", "devices"} if v1 else ()), False, frozenset())
    facts = HostFacts("host", 2, 24_105, version, "v0.0.38", cgroups, real)
    state = instances.DEFAULT_STATE
    chosen = instances.choose(state, Path("/opt/studiolo"), lambda _: False, lambda _: True)
    return instances.with_facts(chosen, facts, lambda _: True)


def settings(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.partition("=")[::2] for line in lines)


def test_slurm_conf_enforces_accounting_and_names_our_own_sockets() -> None:
    found = settings(render.render("slurm.conf.j2", an_instance()))
    assert found["AccountingStorageEnforce"] == "associations,limits,qos,safe"
    assert found["EnforcePartLimits"] == "ALL"
    assert found["DisableRootJobs"] == "YES"
    assert found["AuthInfo"] == "socket=/var/lib/studiolo/munge/run/munge.sock"
    assert found["ProctrackType"] == "proctrack/cgroup"
    assert found["AccountingStorageTRES"] == "gres/gpu,gres/gpu:a100,gres/shard"
    assert found["GresTypes"] == "gpu,shard"
    assert "JobAcctGatherParams" not in found
    assert "/etc/" not in found.values()


def test_without_control_groups_memory_is_watched_instead() -> None:
    found = settings(render.render("slurm.conf.j2", an_instance(v1=False)))
    assert found["ProctrackType"] == "proctrack/linuxproc"
    assert found["TaskPlugin"] == "task/none"
    assert found["JobAcctGatherParams"] == "OverMemoryKill"


@pytest.mark.parametrize(
    ("version", "plugin"),
    [((21, 8, 5), None), ((22, 5, 8), "cgroup/v1"), ((23, 11, 4), "cgroup/v1"), ((24, 11, 5), "disabled")],
)
def test_without_control_groups_slurmd_is_told_not_to_look_for_any(
    version: tuple[int, int, int], plugin: str | None
) -> None:
    found = settings(render.render("cgroup.conf.j2", an_instance(version, v1=False)))
    assert found.get("CgroupPlugin") == plugin
    assert found["ConstrainRAMSpace"] == "no"
    assert "CgroupMountpoint" not in found


def test_an_old_slurm_reads_no_word_it_does_not_know() -> None:
    old = an_instance((21, 8, 5))
    assert "shard" not in "".join(render.slurm_files(old).values())
    assert "CgroupPlugin" not in render.slurm_files(old)["cgroup.conf"]


def test_real_gpus_stand_beside_the_simulated_ones() -> None:
    texts = render.slurm_files(an_instance(real=RealGpus("h200", (0,))))
    assert "NodeName=nvidia1 Name=gpu Type=h200 File=/dev/nvidia0" in texts["gres.conf"]
    assert "PartitionName=nvidia Nodes=nvidia1" in texts["slurm.conf"]
    assert "gres/gpu:h200" in settings(texts["slurm.conf"])["AccountingStorageTRES"]
    assert settings(texts["cgroup.conf"])["ConstrainDevices"] == "yes"


def test_every_node_has_a_line_with_its_port() -> None:
    instance = an_instance()
    text = render.render("slurm.conf.j2", instance)
    for node in instance.nodes:
        assert (
            f"NodeName={node.name} NodeHostname=host NodeAddr=127.0.0.1 Port={instance.slurmd_ports[node.name]} "
            in text
        )


def test_no_secret_is_in_any_rendered_file() -> None:
    instance = an_instance()
    for name in ("slurmdbd.conf.j2", "init.sql.j2", *(f"{n}.j2" for n in render.slurm_files(instance))):
        assert "pass=" not in render.render(name, instance).lower().replace("accountingstoragepass=", "")


def test_on_an_empty_cluster_qos_come_first_then_accounts_then_people() -> None:
    calls = accounting.commands("c", demo_people(), shards=True)
    assert [c[1] for c in calls] == ["qos"] * 3 + ["account"] * 3 + ["user"] * 3
    assert all(c[0] == "add" for c in calls)
    assert "GrpTRESMins=billing=240000,gres/gpu=60000,gres/shard=240000" in calls[3]
    assert "MaxTRESPerUser=billing=4,gres/gpu=1,gres/shard=4" in calls[0]
    first_people = calls[6]
    assert len(first_people[2].split(",")) == 37
    assert "account=playground" in first_people


def test_a_complete_cluster_gets_its_limits_again_and_nothing_else() -> None:
    people = demo_people()
    have = {m.name: {p.name for p in people if m.name in p.accounts} for m in accounting.ACCESS_MODES}
    calls = accounting.commands("c", people, shards=True, have_qos=list(have), have=have)
    assert {c[0] for c in calls} == {"modify"}


def test_only_missing_people_are_added() -> None:
    people = demo_people()
    have = {m.name: {p.name for p in people} - {"emil"} for m in accounting.ACCESS_MODES}
    calls = [c for c in accounting.commands("c", people, shards=False, have_qos=list(have), have=have) if c[0] == "add"]
    assert [c[2] for c in calls] == ["emil"] * 3
    assert "shard" not in str(accounting.commands("c", people, shards=False))


def test_the_hub_s_account_becomes_an_operator_once_and_charges_no_project() -> None:
    (call,) = [c for c in accounting.commands("c", [], shards=True, operator="hub") if "hub" in c]
    assert call == ["add", "user", "hub", "cluster=c", "account=root", "AdminLevel=Operator"]
    again = accounting.commands("c", [], shards=True, have={"root": {"root", "hub"}}, operator="hub")
    assert not [c for c in again if "hub" in c]


def test_a_class_of_thirty_fits_on_the_gpu_nodes() -> None:
    shards = sum(n.gpus.shards for n in an_instance().nodes if n.gpus)
    assert shards >= 30


def test_associations_are_read_from_sacctmgr() -> None:
    assert accounting.parse_associations("root|\nroot|root\nplay|\nplay|ada\n") == {"root": {"root"}, "play": {"ada"}}


NODES = (
    "NodeName=gpu1 Arch=x86_64 CPUAlloc=3 CPUTot=32 State=MIXED "
    "CfgTRES=cpu=32,mem=256G,billing=16,gres/gpu=4,gres/gpu:a100=4,gres/shard=16 "
    "AllocTRES=cpu=3,mem=300M,gres/gpu=1,gres/gpu:a100=1,gres/shard=5\n"
    "NodeName=cpu1 CPUAlloc=0 CPUTot=16 State=IDLE CfgTRES=cpu=16,mem=64G AllocTRES=\n"
)


def test_a_gpu_of_which_a_shard_is_used_is_not_free() -> None:
    gpu1, cpu1 = box.parse_nodes(NODES)
    assert (gpu1.cpus_free, gpu1.gpus, gpu1.gpus_free, gpu1.shards_free) == (29, 4, 1, 7)
    assert (cpu1.state, cpu1.cpus_free, cpu1.gpus) == ("idle", 16, 0)


# -- the supervisor's file ----------------------------------------------------------------------------


def test_a_program_becomes_a_section_that_supervisor_can_read() -> None:
    program = Program("hub", ("/bin/x", "--a", "b c", "100%"), "ada", {"TOKEN": "a%b,c=d"}, Path("/srv"), umask=0o077)
    parser = configparser.RawConfigParser()
    parser.read_string(supervise.program_section(program, Path("/log")))
    section = parser["program:hub"]
    assert section["command"] == "/bin/x --a 'b c' 100%%"
    assert section["environment"] == 'TOKEN="a%%b,c=d"'
    assert (section["user"], section["umask"], section["autostart"], section["autorestart"]) == (
        "ada",
        "077",
        "false",
        "true",
    )


@pytest.mark.parametrize(
    "program",
    [
        Program("x y", ("a",)),
        Program("x", ("a\n[program:evil]",)),
        Program("x", ("a", "b ;c")),
        Program("x", ("a",), environment={"K": 'v"'}),
        Program("x", ("a",), environment={"K": "v\n"}),
    ],
)
def test_what_supervisors_file_can_not_carry_is_refused(program: Program) -> None:
    with pytest.raises(ValueError, match=r"."):
        supervise.program_section(program, Path("/log"))


# -- files ----------------------------------------------------------------------------------------------


def test_a_secret_is_private_and_kept(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    uid, gid = os.getuid(), os.getgid()
    files.ensure_secret(secret, size=32, mode=0o600, uid=uid, gid=gid)
    first = secret.read_bytes()
    files.ensure_secret(secret, size=32, mode=0o600, uid=uid, gid=gid)
    assert secret.read_bytes() == first
    assert len(first) == 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_writing_the_same_again_is_no_change(tmp_path: Path) -> None:
    where, uid, gid = tmp_path / "f", os.getuid(), os.getgid()
    assert files.write_atomic(where, "a", mode=0o644, uid=uid, gid=gid)
    assert not files.write_atomic(where, "a", mode=0o644, uid=uid, gid=gid)
    assert files.write_atomic(where, "b", mode=0o644, uid=uid, gid=gid)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "f").symlink_to(tmp_path / "target")
    with pytest.raises(BoxError, match="symbolic link"):
        files.write_atomic(tmp_path / "f", "ours", mode=0o644)
    assert (tmp_path / "target").read_text() == "theirs"


# -- processes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (b"A=1\0STUDIOLO_BOX=/s\0", (True, False)),
        (b"STUDIOLO_BOX=/s2\0", (False, False)),
        (b"SLURM_JOB_ID=5\0SLURM_CLUSTER_NAME=c\0", (True, True)),
        (b"SLURM_JOB_ID=5\0SLURM_CLUSTER_NAME=other\0", (False, False)),
        (b"SLURM_CONF=/s/slurm.conf\0SLURM_CLUSTER_NAME=c\0", (False, False)),  # an operator's shell
        (b"", (False, False)),
    ],
)
def test_a_process_belongs_by_its_mark_alone(environ: bytes, expected: tuple[bool, bool]) -> None:
    assert processes.belongs(environ, "/s", "c") == expected


def test_the_epilog_takes_only_its_own_jobs_processes() -> None:
    uid = os.getuid()
    environ = Path("/proc/self/environ").read_bytes()
    assert b"SLURM_JOB_ID=5\0" not in environ
    assert not epilog.belongs(os.getpid(), b"5", uid, b"c")


def test_the_epilog_finds_real_folders_of_the_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epilog, "SCRATCH_FOLDER", str(tmp_path))
    (tmp_path / "studiolo-5-a").mkdir()
    (tmp_path / "studiolo-55-a").mkdir()
    (tmp_path / "studiolo-5-link").symlink_to(tmp_path / "studiolo-55-a")
    (tmp_path / "studiolo-5-file").write_text("")
    (tmp_path / "studiolo-x-a").mkdir()
    (tmp_path / "other").mkdir()
    mine = {str(tmp_path / "studiolo-5-a"), str(tmp_path / "studiolo-55-a")}
    assert set(epilog.scratch_folders(os.getuid(), b"c")) == mine
    assert epilog.scratch_folders(os.getuid() + 1, b"c") == []


def test_the_epilog_leaves_the_folder_of_a_job_that_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epilog, "SCRATCH_FOLDER", str(tmp_path))
    (tmp_path / "studiolo-5-a").mkdir()
    (tmp_path / "studiolo-55-a").mkdir()
    other_job = subprocess.Popen(
        ["cat"],
        stdin=subprocess.PIPE,
        env={"SLURM_JOB_ID": "55", "SLURM_CLUSTER_NAME": "c", "PATH": os.environ["PATH"]},
    )
    try:
        assert epilog.scratch_folders(os.getuid(), b"c") == [str(tmp_path / "studiolo-5-a")]
    finally:
        other_job.communicate()


# -- the rest ---------------------------------------------------------------------------------------------


def test_a_token_says_whose_and_until_when() -> None:
    head, body, signature = tokens.mint(b"k" * 32, "ada", lifetime_s=60, now=1000).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert claims == {"iat": 1000, "exp": 1060, "sun": "ada"}
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"alg": "HS256", "typ": "JWT"}
    assert len(base64.urlsafe_b64decode(signature + "=")) == 32


def test_waiting_ends_with_the_answer_and_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "slurmctld.log"
    log.write_text("first\nfatal: out of cheese\n")
    started = time.monotonic()
    with pytest.raises(NotReady, match=r"(?s)slurmctld is not ready.*no answer.*out of cheese"):
        wait("slurmctld", lambda: "no answer", within_s=0.1, log=log)
    assert time.monotonic() - started < 2


def test_ubuntu_22_04_names_its_packages_its_own_way() -> None:
    jammy = packages.system_packages({"ID": "ubuntu", "VERSION_ID": "22.04"})
    bookworm = packages.system_packages({"ID": "debian", "VERSION_ID": "12"})
    assert "mariadb-server-core-10.6" in jammy
    assert packages.JWT_PACKAGE not in jammy
    assert {"mariadb-server-core", packages.JWT_PACKAGE, "slurmdbd"} <= set(bookworm)
    assert not {"mariadb-server", "slurm-wlm"} & {*jammy, *bookworm}


def test_the_features_of_an_instance_lead_to_its_plan() -> None:
    instance = an_instance()
    assert instance.confinement.swap
    assert not replace(instance, features=replace(instance.features, cgroup="none")).confinement.swap
