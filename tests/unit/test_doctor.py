"""The doctor: facts of the cluster and of this host -> findings, each with the operator's next move."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from studiolo import doctor
from studiolo.doctor import Finding
from studiolo.errors import LauncherFailed, SlurmError, SlurmUnavailable
from studiolo.site import Cluster, Partition, Site, parse
from studiolo.slurm.facts import NodeFacts, PartitionFacts
from studiolo.slurm.live import LiveCluster
from studiolo.slurm.resources import Resources
from studiolo.slurm.rest import RestSlurm

if TYPE_CHECKING:
    from conftest import FakePrograms


def node(name: str, address: str, total: Resources, features: tuple[str, ...], partition: str) -> NodeFacts:
    return NodeFacts(name, address, ("IDLE",), "", total, total, features, (partition,))


NODE = node("gpu1", "10.0.0.1", Resources(32, 245760, {"a100": 4}, 16), ("nvme", "ib"), "gpu")
CPU_NODE = node("cpu1", "10.0.0.2", Resources(16, 61440), (), "cpu")
LIVE = LiveCluster(
    version="slurm-wlm 22.05.8",
    partitions={
        "cpu": PartitionFacts("cpu", "UP", 480, nodes=(CPU_NODE,)),
        "gpu": PartitionFacts("gpu", "UP", 1440, nodes=(NODE,)),
    },
    accounts=frozenset({"root", "p1", "p2", "p3"}),
    qos=frozenset({"normal", "short", "long"}),
)


def told(findings: Iterable[Finding], level: str = "fault") -> list[str]:
    return [finding.what for finding in findings if finding.level == level]


def partition(**changes: Any) -> Partition:
    facts = {
        "max_cpus": 32,
        "max_memory": "240G",
        "max_time": "24h",
        "max_gpus": 4,
        "gpu_type": "a100",
        "max_shards": 4,
        "shards_per_gpu": 4,
        "features": ("nvme",),
        **changes,
    }
    return Partition(**facts)


def live_gpu(**changes: Any) -> LiveCluster:
    return dataclasses.replace(LIVE, partitions={"gpu": dataclasses.replace(LIVE.partitions["gpu"], **changes)})


def extendable(site: Site, minutes: int) -> Site:
    return site.model_copy(update={"partitions": {"gpu": partition(max_extension=minutes)}})


@pytest.mark.parametrize(
    ("level", "found"), [("Operator\n", "good"), ("Administrator\n", "good"), ("None\n", "fault"), ("", "fault")]
)
def test_where_sessions_can_be_extended_the_hub_is_an_operator_of_slurm_s(site: Site, level: str, found: str) -> None:
    (finding,) = doctor.operator_findings(extendable(site, 60), "main", lambda *_arguments: level)
    assert (finding.level, "partitions.gpu.max_extension" in finding.what) == (found, True)


def test_where_they_can_not_nobody_asks_and_silence_is_told(site: Site) -> None:
    def silent(*_arguments: str) -> str:
        raise SlurmUnavailable("run sacctmgr", "no answer")

    assert list(doctor.operator_findings(extendable(site, 0), "main", silent)) == []
    (finding,) = doctor.operator_findings(extendable(site, 60), "main", silent)
    assert finding.level == "warning"


# --- The cluster -----------------------------------------------------------------------------------------------------


def test_a_site_that_fits_its_cluster_has_no_fault(site: Site) -> None:
    findings = list(doctor.cluster_findings(site, "main", LIVE))
    assert told(findings) == told(findings, "warning") == []
    assert told(findings, "good") == [
        "cluster main: slurm-wlm 22.05.8 answers, 2 partition(s)",
        "partitions.cpu: 1 node(s), limits fit",
        "partitions.gpu: 1 node(s), limits fit",
    ]


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, []),
        ({"max_cpus": 33}, ["partitions.gpu.max_cpus = 33, but its largest node has 32"]),
        ({"max_memory": "241G"}, ["partitions.gpu.max_memory = 241 GB, but its largest node has 240 GB"]),
        ({"max_time": "25h"}, ["partitions.gpu.max_time = 1 d 1 h is over Slurm's 1 d"]),
        ({"max_gpus": 5}, ["partitions.gpu.max_gpus = 5, but its largest node has 4"]),
        ({"gpu_type": "h100"}, ["partitions.gpu.max_gpus = 4, but its largest node has 0"]),
        ({"gpu_type": "A100"}, []),
        ({"gpu_type": ""}, []),
        ({"max_shards": 17}, ["partitions.gpu.max_shards = 17, but its largest node has 16"]),
        ({"features": ("nvme", "fast")}, ["partitions.gpu.features: no node has fast"]),
        (
            {"max_cpus": 64, "max_gpus": 8, "features": ("x",)},
            [
                "partitions.gpu.max_cpus = 64, but its largest node has 32",
                "partitions.gpu.max_gpus = 8, but its largest node has 4",
                "partitions.gpu.features: no node has x",
            ],
        ),
    ],
)
def test_a_limit_over_what_slurm_has_is_a_fault(changes: dict[str, Any], faults: list[str]) -> None:
    assert told(doctor.partition_findings("gpu", partition(**changes), LIVE)) == faults


def test_a_partition_that_slurm_does_not_have_is_a_fault_that_lists_those_it_has() -> None:
    (finding,) = doctor.partition_findings("tpu", partition(), LIVE)
    assert (finding.level, finding.what) == ("fault", "partitions.tpu does not exist in Slurm")
    assert finding.advice == "there are: cpu, gpu"


def test_a_partition_without_nodes_is_a_fault() -> None:
    assert told(doctor.partition_findings("gpu", partition(), live_gpu(nodes=()))) == ["partitions.gpu has no nodes"]


def test_a_closed_partition_is_a_warning() -> None:
    findings = list(doctor.partition_findings("gpu", partition(), live_gpu(state="DRAIN")))
    assert told(findings, "warning") == ["partitions.gpu is closed at the moment"]
    assert told(findings) == []


def test_a_partition_without_a_limit_of_time_takes_any() -> None:
    assert told(doctor.partition_findings("gpu", partition(max_time="366d"), live_gpu(max_minutes=None))) == []


def test_the_largest_node_decides_where_nodes_differ() -> None:
    small = dataclasses.replace(NODE, name="gpu2", total=Resources(8, 1024, {"a100": 1}))
    assert told(doctor.partition_findings("gpu", partition(), live_gpu(nodes=(small, NODE)))) == []


def test_a_partition_whose_time_is_over_slurms_is_not_said_to_fit() -> None:
    findings = list(doctor.partition_findings("gpu", partition(max_time="25h"), LIVE))
    assert told(findings, "good") == []


def test_accounts_and_qos_that_slurm_does_not_have_are_faults(site: Site) -> None:
    live = dataclasses.replace(LIVE, accounts=frozenset({"p1", "p2"}), qos=frozenset({"short"}))
    assert told(doctor.cluster_findings(site, "main", live)) == [
        "accounts.p1.qos: long is not a QoS of main",
        "accounts.p3 is not an account of main",
    ]


def test_accounts_are_not_judged_where_accounting_does_not_answer(site: Site) -> None:
    for live in (dataclasses.replace(LIVE, accounts=None), dataclasses.replace(LIVE, qos=None)):
        findings = list(doctor.cluster_findings(site, "main", live))
        assert told(findings) == []
        assert told(findings, "warning") == ["cluster main: accounting does not answer"]


def test_only_the_partitions_of_a_cluster_are_compared_with_it(edited: Callable[..., str]) -> None:
    site = parse(
        edited(
            ("[partitions.cpu]", '[clusters.second]\n[partitions.cpu]\ncluster = "second"'),
            ("[partitions.gpu]", '[partitions.gpu]\ncluster = "main"'),
        )
    )
    live = dataclasses.replace(LIVE, partitions={"gpu": LIVE.partitions["gpu"]})
    assert told(doctor.cluster_findings(site, "main", live)) == []
    assert told(doctor.cluster_findings(site, "second", live)) == ["partitions.cpu does not exist in Slurm"]


@pytest.mark.parametrize(
    ("address", "node", "is_fault"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "10.0.0.1", True),
        ("localhost", "gpu1", True),
        ("10.0.0.254", "10.0.0.1", False),
    ],
)
def test_a_hub_on_loopback_can_not_be_reached_by_nodes_elsewhere(
    edited: Callable[..., str], address: str, node: str, is_fault: bool
) -> None:
    site = parse(edited(("[authentication]", f'[hub]\nnode_address = "{address}"\n[authentication]')))
    found = told(doctor.network_findings(site, [dataclasses.replace(NODE, address=node)]))
    assert bool(found) == is_fault


# --- This host -------------------------------------------------------------------------------------------------------


class Accounts:
    """The accounts and groups of a host, in place of the real ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.users = {"root": 0, "studiolo-hub": 990, "ada": 1001}
        self.groups = {"studiolo-people": ["ada"]}
        monkeypatch.setattr(doctor.pwd, "getpwnam", self.user)
        monkeypatch.setattr(doctor.grp, "getgrnam", self.group)

    def user(self, name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", self.users[name], 100, "", f"/home/{name}", "/bin/sh"))

    def group(self, name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", 100, self.groups[name]))


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    return Accounts(monkeypatch)


def test_the_hubs_own_account_and_a_group_of_people_are_good(site: Site, accounts: Accounts) -> None:
    findings = list(doctor.account_findings(site))
    assert told(findings) == told(findings, "warning") == []


def test_a_hub_that_would_run_as_root_is_a_fault(site: Site, accounts: Accounts) -> None:
    accounts.users["studiolo-hub"] = 0
    assert told(doctor.account_findings(site)) == ["hub.account is root"]


def test_a_hub_without_an_account_is_a_fault(site: Site, accounts: Accounts) -> None:
    del accounts.users["studiolo-hub"]
    assert told(doctor.account_findings(site)) == ["hub.account = studiolo-hub does not exist"]


def test_a_missing_group_of_people_is_a_fault(site: Site, accounts: Accounts) -> None:
    accounts.groups.clear()
    assert told(doctor.account_findings(site)) == ["clusters.main.people = studiolo-people does not exist"]


@pytest.mark.parametrize(("member", "uid"), [("root", 0), ("toor", 0)])
def test_a_group_of_people_that_holds_an_account_of_root_is_a_fault(
    site: Site, accounts: Accounts, member: str, uid: int
) -> None:
    accounts.users[member] = uid
    accounts.groups["studiolo-people"] = ["ada", member]
    assert told(doctor.account_findings(site)) == [f"group studiolo-people holds {member}"]


def test_a_member_that_does_not_exist_is_passed_over(site: Site, accounts: Accounts) -> None:
    accounts.groups["studiolo-people"] = ["gone", "ada"]
    assert told(doctor.account_findings(site)) == []


def test_the_hub_among_its_own_people_is_a_warning(site: Site, accounts: Accounts) -> None:
    accounts.groups["studiolo-people"] = ["ada", "studiolo-hub"]
    assert told(doctor.account_findings(site), "warning") == ["group studiolo-people holds the hub's own account"]


@pytest.fixture
def installed(open_folder: Path, edited: Callable[..., str]) -> Site:
    """A site whose folders exist as they should, the hub's account being ours."""
    prefix, state, logs = open_folder / "prefix", open_folder / "state", open_folder / "logs"
    python = prefix / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    for folder in (prefix, prefix / "venv", python.parent, python):
        folder.chmod(0o755)
    state.mkdir(mode=0o700)
    logs.mkdir()
    logs.chmod(0o3733)
    account = pwd.getpwuid(os.getuid()).pw_name
    return parse(
        edited(
            ('prefix = "/opt/studiolo"', f'prefix = "{prefix}"'),
            ('state = "/var/lib/studiolo/hub"', f'state = "{state}"'),
            ('logs = "/var/lib/studiolo/logs/sessions"', f'logs = "{logs}"'),
            ("[authentication]", f'[hub]\naccount = "{account}"\n[authentication]'),
        )
    )


def test_folders_as_they_should_be_have_no_fault(installed: Site) -> None:
    assert told(doctor.path_findings(installed)) == []


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711, 0o701])
def test_a_state_folder_open_to_others_is_a_fault(installed: Site, mode: int) -> None:
    os.chmod(installed.paths.state, mode)
    (what,) = told(doctor.path_findings(installed))
    assert what == f"paths.state = {installed.paths.state} has mode {mode:o}"


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777, 0o2733, 0o1733, 0o3777])
def test_a_folder_of_logs_of_another_mode_is_a_fault(installed: Site, mode: int) -> None:
    os.chmod(installed.paths.logs, mode)
    (what,) = told(doctor.path_findings(installed))
    assert what == f"paths.logs = {installed.paths.logs} has mode {mode:o}"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give a folder to another account")
def test_a_folder_of_logs_of_another_account_is_a_fault(installed: Site) -> None:
    os.chown(installed.paths.logs, 65534, 65534)
    os.chmod(installed.paths.logs, 0o3733)
    assert len(told(doctor.path_findings(installed))) == 1


def test_folders_that_do_not_exist_are_faults(installed: Site) -> None:
    os.rmdir(installed.paths.logs)
    os.rmdir(installed.paths.state)
    Path(installed.python).unlink()
    assert told(doctor.path_findings(installed)) == [
        f"paths.prefix: {installed.python} does not exist",
        f"paths.state = {installed.paths.state} is not a folder",
        f"paths.logs = {installed.paths.logs} is not a folder",
    ]


def test_a_closed_folder_above_the_environment_is_a_fault_that_names_it(installed: Site) -> None:
    os.chmod(f"{installed.paths.prefix}/venv", 0o700)
    assert told(doctor.path_findings(installed)) == [
        f"paths.prefix: {installed.paths.prefix}/venv is closed to other users"
    ]


def test_an_environment_that_others_can_not_run_is_a_fault(installed: Site) -> None:
    Path(installed.python).chmod(0o744)
    assert told(doctor.path_findings(installed)) == [f"paths.prefix: {installed.python} can not be run by other users"]


def test_a_site_without_a_folder_of_logs_is_warned(installed: Site) -> None:
    site = installed.model_copy(update={"paths": installed.paths.model_copy(update={"logs": ""})})
    assert "paths.logs is not set" in told(doctor.path_findings(site), "warning")


@pytest.fixture
def secretive(tmp_path: Path, edited: Callable[..., str]) -> Callable[..., tuple[Site, Path]]:
    """A site with its secrets in place: ``secretive(mode)``."""

    def make(mode: int = 0o640, method: str = "pam") -> tuple[Site, Path]:
        for name in ("cookie_secret", "proxy_token", "api_token", "user_password", "admin_password"):
            (tmp_path / name).write_text("x", encoding="utf-8")
            (tmp_path / name).chmod(mode)
        text = edited(
            ('secrets = "/var/lib/studiolo/secrets"', f'secrets = "{tmp_path}"'),
            ('method = "pam"', f'method = "{method}"'),
        )
        return parse(text), tmp_path

    return make


@pytest.mark.parametrize(("mode", "faults"), [(0o600, 0), (0o640, 0), (0o440, 0), (0o644, 3), (0o660, 3), (0o641, 3)])
def test_secrets_must_be_closed_to_others(secretive: Callable[..., tuple[Site, Path]], mode: int, faults: int) -> None:
    site, folder = secretive(mode)
    found = told(doctor.secret_findings(site, folder / "site.toml"))
    assert len(found) == faults
    assert all(f"has mode {mode:o}" in what for what in found)


def test_a_missing_secret_is_a_fault(secretive: Callable[..., tuple[Site, Path]]) -> None:
    site, folder = secretive()
    (folder / "proxy_token").unlink()
    assert told(doctor.secret_findings(site, folder / "site.toml")) == [f"{folder}/proxy_token is missing"]


def test_a_shared_password_is_a_warning_and_its_files_are_secrets_too(
    secretive: Callable[..., tuple[Site, Path]],
) -> None:
    site, folder = secretive(method="shared-password")
    (folder / "user_password").chmod(0o644)
    findings = list(doctor.secret_findings(site, folder / "site.toml"))
    assert told(findings, "warning") == ["authentication.method = shared-password"]
    assert told(findings) == [f"{folder}/user_password has mode 644"]


def test_a_site_file_that_everybody_can_change_is_a_fault(secretive: Callable[..., tuple[Site, Path]]) -> None:
    site, folder = secretive()
    path = folder / "site.toml"
    path.touch()
    path.chmod(0o666)
    assert told(doctor.secret_findings(site, path)) == [f"{path} can be changed by everybody"]


@pytest.fixture
def with_tls(
    edited: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Finding]]:
    """The findings about a certificate that ends at a date: ``with_tls("Dec 25 …")``."""

    def find(ends: str | None, key_mode: int = 0o600, now: float = 1795305600) -> list[Finding]:  # 22 November 2026
        key = tmp_path / "key.pem"
        key.touch()
        key.chmod(key_mode)
        tls = f'[hub]\naddress = "hub.example.org"\ntls_certificate = "{tmp_path}/c.pem"\ntls_key = "{key}"\n[authentication]'
        answer = subprocess.CompletedProcess([], 0 if ends else 1, f"notAfter={ends}\n" if ends else "", "")
        monkeypatch.setattr(doctor.subprocess, "run", lambda *argv, **keywords: answer)
        monkeypatch.setattr(doctor.time, "time", lambda: now)
        return list(doctor.tls_findings(parse(edited(("[authentication]", tls)))))

    return find


@pytest.mark.parametrize(
    ("ends", "level", "what"),
    [
        ("Dec 25 10:00:00 2026 GMT", "good", "the certificate is valid until 2026-12-25"),
        ("Dec  5 10:00:00 2026 GMT", "warning", "the certificate ends on 2026-12-05"),
        ("Nov 21 10:00:00 2026 GMT", "fault", "the certificate ends on 2026-11-21"),
        (None, "fault", "c.pem can not be read"),
    ],
)
def test_a_certificate_must_be_valid_for_three_weeks(
    with_tls: Callable[..., list[Finding]], ends: str | None, level: str, what: str
) -> None:
    (finding,) = with_tls(ends)
    assert finding.level == level
    assert finding.what.endswith(what)


@pytest.mark.parametrize(("mode", "is_fault"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)])
def test_the_key_of_a_certificate_must_be_closed(
    with_tls: Callable[..., list[Finding]], mode: int, is_fault: bool
) -> None:
    assert bool(told(with_tls("Dec 25 10:00:00 2026 GMT", mode))) == is_fault


@pytest.mark.parametrize(
    ("address", "level"),
    [("127.0.0.1", "good"), ("localhost", "good"), ("0.0.0.0", "fault"), ("hub.example.org", "fault")],
)
def test_plain_http_is_good_on_loopback_only(edited: Callable[..., str], address: str, level: str) -> None:
    site = parse(edited(("[authentication]", f'[hub]\naddress = "{address}"\n[authentication]')))
    (finding,) = doctor.tls_findings(site)
    assert finding.level == level


# --- The launcher ----------------------------------------------------------------------------------------------------


@pytest.fixture
def launcher(programs: FakePrograms, accounts: Accounts) -> Cluster:
    """A cluster whose launcher and sudo are in place."""
    programs.add("sudo")
    path = programs.add("studiolo-launch")
    return Cluster(launcher=path, sudo=f"{programs.folder}/sudo", commands="/usr/bin")


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, whose the launcher must be")


@needs_root
def test_a_launcher_of_root_that_sudo_lets_through_is_good(
    site: Site, launcher: Cluster, programs: FakePrograms
) -> None:
    findings = list(doctor.launcher_findings(site, "main", launcher))
    assert [finding.level for finding in findings] == ["good", "good", "good", "good"]
    submit, estimate, cancel = programs.called("sudo")
    assert submit.argv[1:] == [
        "-n",
        "-l",
        "-U",
        "studiolo-hub",
        "-u",
        "ada",
        launcher.launcher,
        "submit",
        launcher.conf,
        "/usr/bin",
    ]
    assert (estimate.argv[-3], cancel.argv[-3]) == ("estimate", "cancel")


@needs_root
def test_a_sudo_that_does_not_let_the_hub_through_is_a_fault(
    site: Site, launcher: Cluster, programs: FakePrograms
) -> None:
    programs.add("sudo", status=1)
    assert told(doctor.launcher_findings(site, "main", launcher)) == [
        "sudo does not let studiolo-hub submit for ada",
        "sudo does not let studiolo-hub estimate for ada",
        "sudo does not let studiolo-hub cancel for ada",
    ]


@needs_root
def test_a_host_without_sudo_is_a_fault(site: Site, launcher: Cluster) -> None:
    Path(launcher.sudo).unlink()
    assert len(told(doctor.launcher_findings(site, "main", launcher))) == 3


@needs_root
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_launcher_that_others_can_change_is_a_fault(site: Site, launcher: Cluster, mode: int) -> None:
    os.chmod(launcher.launcher, mode)
    assert told(doctor.launcher_findings(site, "main", launcher)) == [
        f"{launcher.launcher} could be changed by others than root"
    ]


@needs_root
def test_a_launcher_in_a_folder_that_others_can_change_is_a_fault(site: Site, launcher: Cluster) -> None:
    # Whoever may write to the folder may put another program in the launcher's place.
    folder = Path(launcher.launcher).parent
    folder.chmod(0o777)
    assert told(doctor.launcher_findings(site, "main", launcher))


def test_a_launcher_that_is_not_there_is_a_fault(site: Site, launcher: Cluster) -> None:
    Path(launcher.launcher).unlink()
    assert told(doctor.launcher_findings(site, "main", launcher)) == [
        f"clusters.main.launcher = {launcher.launcher} does not exist"
    ]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give a file to another account")
def test_a_launcher_of_another_account_is_a_fault(site: Site, launcher: Cluster) -> None:
    os.chown(launcher.launcher, 65534, 65534)
    assert "could be changed by others" in told(doctor.launcher_findings(site, "main", launcher))[0]


@needs_root
def test_a_group_without_members_leaves_the_rule_untried(site: Site, launcher: Cluster, accounts: Accounts) -> None:
    accounts.groups["studiolo-people"] = []
    findings = list(doctor.launcher_findings(site, "main", launcher))
    assert told(findings) == []
    assert told(findings, "warning") == ["group studiolo-people has no members that this host lists"]


# --- All of it -------------------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_is_one_fault_with_its_own_words(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def silent(cluster: Cluster) -> LiveCluster:
        raise SlurmUnavailable("run scontrol", "Unable to contact slurm controller (connect failure)")

    monkeypatch.setattr(doctor, "read_cluster", silent)
    for other in (
        "account_findings",
        "path_findings",
        "secret_findings",
        "tls_findings",
        "launcher_findings",
        "database_findings",
        "catalogue_findings",
    ):
        monkeypatch.setattr(doctor, other, lambda *arguments: [])
    (finding,) = doctor.examine(site, tmp_path / "site.toml")
    assert finding.level == "fault"
    assert "Unable to contact slurm controller" in finding.what
    assert finding.advice == "run it by hand: SLURM_CONF=/etc/slurm/slurm.conf /usr/bin/scontrol ping"


def test_every_finding_that_is_not_good_says_what_to_do(site: Site, accounts: Accounts) -> None:
    live = dataclasses.replace(LIVE, partitions={}, accounts=frozenset(), qos=frozenset())
    accounts.users.clear()
    findings = [
        *doctor.cluster_findings(site, "main", live),
        *doctor.account_findings(site),
        *doctor.path_findings(site),
    ]
    assert told(findings)
    assert all(finding.advice for finding in findings if finding.level != "good")


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (Finding("good", "it is"), "  ok    it is"),
        (Finding("warning", "look", "there"), "  LOOK  look\n         -> there"),
        (Finding("fault", "broken", "mend it"), " FAULT  broken\n         -> mend it"),
    ],
)
def test_a_finding_is_printed_with_its_advice(finding: Finding, text: str) -> None:
    assert str(finding) == text


# --- The hub's database ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        ({"trouble": "", "revision": "abc", "head": "abc"}, "good", "answers, its tables are up to date"),
        ({"trouble": "", "revision": "", "head": "abc"}, "good", "the hub makes its tables when it starts"),
        ({"trouble": "", "revision": "old", "head": "new"}, "fault", "tables of another JupyterHub (old, not new)"),
        ({"trouble": "no such role", "revision": "", "head": "abc"}, "fault", "does not let the hub in: no such role"),
        ({"unasked": "no module"}, "warning", "was not asked: no module"),
    ],
)
def test_the_database_is_told_with_the_operators_next_move(
    site: Site, state: dict[str, str], level: str, words: str
) -> None:
    (finding,) = doctor.database_findings(site, state)
    assert finding.level == level
    assert finding.what.startswith("hub.database: SQLite ")
    assert words in finding.what
    assert finding.advice or level == "good"


def test_the_database_is_asked_by_the_hubs_own_program(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    site = site.model_copy(update={"hub": site.hub.model_copy(update={"account": me})})
    asked = []

    def answer(command: list[str], **rest: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, '{"trouble": "", "revision": "a", "head": "a"}', "")

    monkeypatch.setattr(subprocess, "run", answer)
    assert doctor.ask_database(site, tmp_path / "site.toml")["revision"] == "a"
    assert asked == [[site.python, "-I", "-m", "hub_config.database", f"{tmp_path}/site.toml"]]


def test_a_database_that_can_not_be_asked_says_why(site: Site, tmp_path: Path) -> None:
    assert "unasked" in doctor.ask_database(site, tmp_path / "site.toml")


# --- slurmrestd ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rested(monkeypatch: pytest.MonkeyPatch, site: Site) -> Callable[..., list[Finding]]:
    """``rested(url, skew)``: what is found of a slurmrestd that answers so; an error in place of the skew is raised."""

    def find(url: str, skew: float | SlurmError) -> list[Finding]:
        async def version(self: RestSlurm) -> str:
            return "v0.0.42"

        async def clock(self: RestSlurm, *, patient: bool) -> float:
            assert patient
            if isinstance(skew, SlurmError):
                raise skew
            return skew

        monkeypatch.setattr(RestSlurm, "version", version)
        monkeypatch.setattr(RestSlurm, "skew", clock)
        return list(doctor.rest_findings(site, "main", Cluster(via="slurmrestd", rest_url=url)))

    return find


def test_a_slurmrestd_that_answers_in_time_is_good(rested: Callable[..., list[Finding]]) -> None:
    for url in ("http://127.0.0.1:6820", "http://[::1]:6820", "https://slurm.example.org", "unix:///run/rest.socket"):
        assert [finding.level for finding in rested(url, 2.0)] == ["good", "good"]


@pytest.mark.parametrize(("skew", "words"), [(95.0, "95 s ahead of"), (-400.0, "400 s behind")])
def test_clocks_that_differ_are_a_fault_with_their_seconds(
    rested: Callable[..., list[Finding]], skew: float, words: str
) -> None:
    assert words in told(rested("unix:///run/rest.socket", skew))[0]


def test_tokens_in_plain_text_on_a_network_are_a_warning(rested: Callable[..., list[Finding]]) -> None:
    levels = [finding.level for finding in rested("http://slurm.example.org:6820", 0.0)]
    assert levels == ["warning", "good", "good"]


@pytest.mark.parametrize(
    "error", [SlurmUnavailable("talk to slurmrestd", "Cannot connect"), LauncherFailed("sign in", "no key")]
)
def test_a_slurmrestd_that_does_not_let_the_hub_in_is_one_fault_in_its_words(
    rested: Callable[..., list[Finding]], error: SlurmError
) -> None:
    (fault,) = rested("http://127.0.0.1:6820", error)
    assert fault.level == "fault"
    assert error.words in fault.what
    assert "slurm_jwt_key_main" in fault.advice


def test_the_key_is_a_secret_too(secretive: Callable[..., tuple[Site, Path]]) -> None:
    site, path = secretive(0o640)
    cluster = site.clusters["main"].model_copy(update={"via": "slurmrestd", "rest_url": "unix:///run/rest.socket"})
    by_rest = site.model_copy(update={"clusters": {"main": cluster}})
    assert any("slurm_jwt_key_main is missing" in words for words in told(doctor.secret_findings(by_rest, path)))
