"""The one privilege of the hub: two fixed lines for a group of people, and sudo agrees that they are rules."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from studiolo.errors import SiteError
from studiolo.site import Site, parse
from studiolo.slurm.commands import launcher_argv
from studiolo.sudoers import sudoers

VISUDO = shutil.which("visudo", path="/usr/sbin:/sbin:/usr/bin")
LAUNCHER = "/opt/studiolo/libexec/studiolo-launch"


def rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith(("#", "Defaults"))]


def test_the_hub_may_submit_foretell_and_cancel_for_people_and_nothing_else(site: Site) -> None:
    assert rules(sudoers(site)) == [
        f"studiolo-hub ALL=(%studiolo-people) NOPASSWD: {LAUNCHER} {action} /etc/slurm/slurm.conf /usr/bin"
        for action in ("submit", "estimate", "cancel")
    ]


def test_a_rule_is_the_command_line_that_the_hub_uses(site: Site) -> None:
    cluster = site.clusters["main"]
    for rule, action in zip(rules(sudoers(site)), ("submit", "estimate", "cancel"), strict=True):
        assert rule.partition("NOPASSWD: ")[2].split(" ") == list(launcher_argv(cluster, action))


def test_nothing_in_a_rule_can_stand_for_something_else(site: Site) -> None:
    for rule in rules(sudoers(site)):
        assert not re.search(r"[*?\[\]!\\^$\"]|\bALL\b(?!=)|SETENV|root", rule), rule


def test_the_environment_is_reset_and_none_of_it_kept(site: Site) -> None:
    defaults = [line for line in sudoers(site).splitlines() if line.startswith("Defaults")]
    assert defaults == [f"Defaults!{LAUNCHER} env_reset, !requiretty"]
    assert "env_keep" not in sudoers(site)


def test_two_clusters_have_their_own_rules(edited: Callable[..., str]) -> None:
    text = edited(
        (
            "[partitions.cpu]",
            '[clusters.second]\nconf = "/etc/slurm-2/slurm.conf"\npeople = "people-2"\n[partitions.cpu]\ncluster = "main"',
        ),
        ("[partitions.gpu]", '[partitions.gpu]\ncluster = "second"'),
    )
    found = rules(sudoers(parse(text)))
    assert len(found) == 6
    assert found[3] == f"studiolo-hub ALL=(%people-2) NOPASSWD: {LAUNCHER} submit /etc/slurm-2/slurm.conf /usr/bin"


@pytest.mark.parametrize(
    "path",
    [
        "/opt/a b",
        "/opt/*",
        "/opt/a,b",
        "/opt/a:b",
        "/opt/a=b",
        "/opt/a\\\\b",
        "/opt/ä",
        "/opt/a!b",
        "/opt/[a]",
        "/opt/a#b",
        "/opt/%a",
    ],
)
@pytest.mark.parametrize("key", ["launcher", "conf", "commands"])
def test_a_path_that_sudoers_would_read_in_its_own_way_is_a_site_error_that_names_it(
    edited: Callable[..., str], key: str, path: str
) -> None:
    line = 'conf = "/etc/slurm/slurm.conf"'
    site = parse(edited((line, f'{key} = "{path}"')))
    with pytest.raises(SiteError, match="for use in sudoers") as caught:
        sudoers(site)
    assert getattr(site.clusters["main"], key) in str(caught.value)


@pytest.mark.skipif(VISUDO is None, reason="needs visudo (package sudo)")
def test_sudo_accepts_the_rules(site: Site) -> None:
    assert VISUDO
    done = subprocess.run([VISUDO, "-cf", "-"], input=sudoers(site), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "parsed OK" in done.stdout


def test_a_cluster_that_is_asked_through_slurmrestd_needs_no_privilege(edited: Callable[..., str]) -> None:
    conf = 'conf = "/etc/slurm/slurm.conf"'
    site = parse(edited((conf, f'{conf}\nvia = "slurmrestd"\nrest_url = "http://127.0.0.1:6820"')))
    assert rules(sudoers(site)) == []
    assert "Defaults" not in sudoers(site)
