"""The site file: a good one becomes a Site, any other a list of all its faults, each with line, key, value, allowed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from studiolo.errors import Fault, SiteError
from studiolo.site import MANY, SINGLE, Cluster, Partition, Site, load, parse

# The least that a file must hold, for tests that look at one key.
LEAST = """
[authentication]
allow_all = true
[clusters.main]
[partitions.cpu]
max_cpus = 4
max_memory = "8G"
max_time = "8h"
[environments.base]
[profiles.learn]
title = "Learn"
partition = "cpu"
memory = "4G"
time = "2h"
"""


def faults_of(text: str) -> tuple[Fault, ...]:
    with pytest.raises(SiteError) as caught:
        parse(text)
    return caught.value.faults


def fault_at(text: str, where: str) -> Fault:
    """The one fault at a key."""
    found = [fault for fault in faults_of(text) if fault.where == where]
    assert len(found) == 1, f"{len(found)} faults at {where}"
    return found[0]


# --- A good file -----------------------------------------------------------------------------------------------------


def test_the_least_file_is_enough_and_everything_else_has_a_default() -> None:
    site = parse(LEAST)
    assert site.title == "Studiolo"
    assert site.hub.port == 8000
    assert site.hub.account == "studiolo-hub"
    assert site.clusters["main"].conf == "/etc/slurm/slurm.conf"
    assert site.partitions["cpu"].max_gpus == 0
    assert site.accounts == {}
    assert site.profiles["learn"].cpus == 1


def test_values_are_read_in_the_units_of_people(site: Site) -> None:
    assert site.partitions["gpu"].max_memory == 240 * 1024
    assert site.partitions["gpu"].max_time == 24 * 60
    assert site.profiles["quarter"].time == 120
    assert site.hub.start_limit == 24 * 60


def test_the_first_profile_and_environment_of_the_file_are_the_usual_ones(site: Site) -> None:
    assert site.default_profile == "learn"
    assert site.default_environment == "base"


def test_a_partition_belongs_to_the_only_cluster_without_saying_so(site: Site) -> None:
    assert site.cluster_of("gpu") == "main"


def test_a_partition_belongs_to_the_cluster_that_it_names() -> None:
    text = LEAST.replace("[clusters.main]", "[clusters.main]\n[clusters.other]").replace(
        "max_cpus", 'cluster = "other"\nmax_cpus'
    )
    assert parse(text).cluster_of("cpu") == "other"


def test_studiolos_own_python_lies_below_the_prefix(site: Site) -> None:
    assert site.python == "/opt/studiolo/venv/bin/python"


def test_a_site_can_not_be_changed(site: Site) -> None:
    with pytest.raises(ValidationError):
        site.title = "Other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        site.hub.port = 1  # type: ignore[misc]


def test_two_files_share_no_default() -> None:
    one, other = parse(LEAST), parse(LEAST)
    one.accounts["leak"] = None  # type: ignore[index,assignment]
    one.authentication.options["leak"] = 1
    assert other.accounts == {}
    assert other.authentication.options == {}
    assert parse(LEAST).authentication.options == {}


@pytest.mark.parametrize(("section", "kind"), [*SINGLE.items(), *MANY.items()])
def test_every_key_says_what_it_is_for(section: str, kind: type[BaseModel]) -> None:
    for key, field in kind.model_fields.items():
        assert field.description, f"{section}.{key} has no description"
        assert field.description.rstrip().endswith((".", "?")), f"{section}.{key}: a sentence"


# --- A file that can not be read -------------------------------------------------------------------------------------


def test_a_missing_file_is_a_site_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"No such file"):
        load(tmp_path / "none.toml")


def test_a_folder_in_place_of_the_file_is_a_site_error(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=re.escape(str(tmp_path))):
        load(tmp_path)


def test_a_file_that_is_not_utf8_is_a_site_error(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(b'title = "Caf\xe9"\n')
    with pytest.raises(SiteError, match="UTF-8"):
        load(path)


def test_a_good_file_is_loaded(tmp_path: Path, site_text: str, site: Site) -> None:
    path = tmp_path / "site.toml"
    path.write_text(site_text, encoding="utf-8")
    assert load(str(path)) == load(path) == site


def test_what_is_no_toml_is_told_with_its_line() -> None:
    assert "line 3" in str(faults_of('title = "x"\n[hub]\nport = = 1\n')[0])


# --- All faults at once ----------------------------------------------------------------------------------------------


def keys_of(text: str) -> list[tuple[int, str]]:
    """Every ``key = value`` of the test site with its line, as ``(line, section.key)``."""
    keys, table = [], ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.fullmatch(r"\[(.+)\]", line):
            table = header[1] + "."
        elif pair := re.match(r"(\w+) = ", line):
            keys.append((number, table + pair[1]))
    return keys


def broken(text: str, lines: set[int]) -> str:
    """Give each key on these lines a value that no key takes."""
    return "\n".join(
        line.split(" = ")[0] + " = { x = { y = 1 } }" if number in lines else line
        for number, line in enumerate(text.splitlines(), start=1)
    )


def test_a_fault_in_any_key_is_told_with_its_line_and_key(site_text: str) -> None:
    for line, key in keys_of(site_text):
        found = [fault for fault in faults_of(broken(site_text, {line})) if fault.line == line]
        assert [fault.where for fault in found] in ([key], [f"{key}.x"]), f"line {line}: {key}"
        assert "'y': 1" in found[0].value
        assert found[0].allowed


def test_faults_in_all_keys_are_all_told_at_once(site_text: str) -> None:
    keys = keys_of(site_text)
    faults = faults_of(broken(site_text, {line for line, _ in keys}))
    assert {line for line, _ in keys} <= {fault.line for fault in faults}


@given(seed=st.integers(0, 10**9), many=st.integers(1, 12))
def test_any_faults_together_are_told_as_each_alone(site_text: str, seed: int, many: int) -> None:
    keys = keys_of(site_text)
    lines = {line for line, _ in random.Random(seed).sample(keys, many)}
    told = {fault.line for fault in faults_of(broken(site_text, lines))}
    assert lines <= told


def test_a_fault_in_a_partition_is_not_told_again_as_a_fault_of_its_profiles(site_text: str) -> None:
    # "profiles.learn.partition = 'cpu': one of gpu" would send the operator to a line that is right.
    line = site_text.splitlines().index('max_memory = "60G"') + 1
    faults = faults_of(broken(site_text, {line}))
    assert [fault.where for fault in faults] == ["partitions.cpu.max_memory"]


def test_a_fault_in_an_account_is_not_told_again_as_a_fault_of_its_partitions(
    edited: Callable[..., str],
) -> None:
    faults = faults_of(edited(('qos = ["short", "long"]', "qos = 5")))
    assert [fault.where for fault in faults] == ["accounts.p1.qos"]


def test_faults_between_sections_are_told_along_with_those_inside_one(edited: Callable[..., str]) -> None:
    text = edited(
        ("max_gpus = 4", "max_gpus = 4\ncolour = 1"), ('title = "Learn"\npartition = "cpu"', 'partition = "no"')
    )
    assert {fault.where for fault in faults_of(text)} >= {
        "partitions.gpu.colour",
        "profiles.learn.title",
    }


@pytest.mark.parametrize("section", ["clusters", "partitions", "environments", "profiles"])
def test_a_section_that_is_missing_is_told(section: str) -> None:
    text = re.sub(rf"\[{section}\.\w+\]\n([^\[]*)", "", LEAST)
    fault = fault_at(text, section)
    assert fault.allowed == f"missing: at least one table [{section}.NAME] is needed"


@pytest.mark.parametrize(
    "key",
    ["partitions.cpu.max_cpus", "partitions.cpu.max_memory", "partitions.cpu.max_time"]
    + [f"profiles.learn.{key}" for key in ("title", "partition", "memory", "time")],
)
def test_a_key_that_is_missing_is_told_at_its_table_with_what_it_is_for(key: str) -> None:
    table, _, name = key.rpartition(".")
    before, header, after = LEAST.partition(f"[{table}]\n")
    text = before + header + re.sub(rf"^{name} = .*\n", "", after, count=1, flags=re.MULTILINE)
    fault = fault_at(text, key)
    assert fault.line == LEAST.splitlines().index(f"[{table}]") + 1
    assert fault.allowed.startswith("missing: ")


@pytest.mark.parametrize(
    ("text", "where", "known"),
    [
        ("colour = 1\n" + LEAST, "colour", "authentication"),
        ("[colours.red]\n" + LEAST, "colours", "profiles"),
        (LEAST + "[hub]\nprot = 1\n", "hub.prot", "port"),
        (LEAST.replace("max_cpus", "Max_cpus"), "partitions.cpu.Max_cpus", "max_cpus"),
        (LEAST + "gpu = 1\n", "profiles.learn.gpu", "gpus"),
    ],
)
def test_an_unknown_key_is_told_with_the_known_ones(text: str, where: str, known: str) -> None:
    fault = fault_at(text, where)
    assert fault.allowed.startswith("unknown; known are: ")
    assert known in fault.allowed
    assert fault.line == next(n for n, line in enumerate(text.splitlines(), 1) if where.rpartition(".")[2] in line)


# --- One key at a time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("paths", "prefix", "opt/studiolo"),
        ("paths", "prefix", ""),
        ("paths", "prefix", "/opt/../etc"),
        ("paths", "logs", "/logs\nx"),
        ("paths", "logs", "logs"),
        ("paths", "state", 5),
        ("hub", "port", 0),
        ("hub", "port", 65536),
        ("hub", "port", "8000"),
        ("hub", "port", True),
        ("hub", "port", 8000.0),
        ("hub", "address", ""),
        ("hub", "address", "a b"),
        ("hub", "address", "-x"),
        ("hub", "account", "Root;id"),
        ("hub", "account", ""),
        ("hub", "base_url", "lab"),
        ("hub", "base_url", "/lab"),
        ("hub", "base_url", "//lab/"),
        ("hub", "admins", "ada"),
        ("hub", "admins", ["a b"]),
        ("hub", "start_limit", "soon"),
        ("hub", "start_limit", 0),
        ("authentication", "method", "ldap"),
        ("authentication", "method", "PAM"),
        ("authentication", "allow_all", "yes please"),
        ("authentication", "allowed_users", ["ada\n"]),
        ("authentication", "allowed_groups", ["%wheel"]),
        ("authentication", "pam_service", "../login"),
        ("authentication", "class_name", "os.system('id')"),
        ("authentication", "options", []),
        ("prices", "gpu_hour", -1),
        ("prices", "gpu_hour", "2"),
        ("prices", "cpu_hour", True),
        ("prices", "currency", "<b>"),
        ("energy", "gpu_watts", float("inf")),
        ("energy", "pue", 0.9),
        ("energy", "carbon", float("nan")),
        ("clusters.main", "via", "rest"),
        ("clusters.main", "rest_url", "127.0.0.1:6820"),
        ("clusters.main", "rest_url", "ftp://host/"),
        ("clusters.main", "rest_url", "http://user:word@host:6820"),
        ("clusters.main", "rest_url", "http://host/?token=x"),
        ("clusters.main", "rest_url", "unix://relative"),
        ("clusters.main", "conf", "slurm.conf"),
        ("clusters.main", "commands", "/usr/bin/../sbin"),
        ("clusters.main", "launcher", ""),
        ("clusters.main", "people", "%wheel"),
        ("clusters.main", "people", "ALL"),
        ("clusters.main", "node_address", "fixed.example.org"),
        ("clusters.main", "node_address", "{node}{0}"),
        ("clusters.main", "node_address", "{node.__class__}"),
        ("clusters.main", "ports", [1024]),
        ("clusters.main", "ports", [1024, 2048, 4096]),
        ("clusters.main", "ports", [0, 2048]),
        ("clusters.main", "ports", ["1024", "2048"]),
        ("partitions.cpu", "max_cpus", 0),
        ("partitions.cpu", "max_cpus", -1),
        ("partitions.cpu", "max_cpus", 1.5),
        ("partitions.cpu", "max_cpus", True),
        ("partitions.cpu", "max_cpus", 1_000_001),
        ("partitions.cpu", "max_memory", "a lot"),
        ("partitions.cpu", "max_memory", 0),
        ("partitions.cpu", "max_memory", 1.5),
        ("partitions.cpu", "max_time", "2 weeks"),
        ("partitions.cpu", "max_gpus", -1),
        ("partitions.cpu", "gpu_type", "a100:4"),
        ("partitions.cpu", "gpu_type", "a100,b"),
        ("partitions.cpu", "features", ["a&b"]),
        ("partitions.cpu", "accounts", ["a b"]),
        ("environments.base", "python", "python3"),
        ("environments.base", "modules", ["a b"]),
        ("environments.base", "modules", ["-x"]),
        ("environments.base", "modules", ["a;id"]),
        ("environments.base", "image", "docker://x"),
        ("environments.base", "variables", {"A-B": "x"}),
        ("environments.base", "variables", {"1A": "x"}),
        ("environments.base", "variables", {"A": 1}),
        ("environments.base", "variables", {"A": "x\ny"}),
        ("profiles.learn", "cpus", 0),
        ("profiles.learn", "memory", ""),
        ("profiles.learn", "time", ""),
        ("profiles.learn", "reservation", ""),
        ("profiles.learn", "reservation", "a b"),
        ("profiles.learn", "qos", "a b"),
        ("profiles.learn", "features", ["a|b"]),
    ],
)
def test_a_value_that_is_not_allowed_is_told(section: str, key: str, value: object) -> None:
    faults = faults_of(with_key(section, key, value))
    assert [fault for fault in faults if re.fullmatch(rf"{section}\.{key}(\..+)?", fault.where)]
    for fault in faults:
        assert fault.allowed


def with_key(section: str, key: str, value: object) -> str:
    """The least file with one key set."""
    text = re.sub(rf"^{key} = .*\n", "", LEAST, flags=re.MULTILINE) if f"\n{key} = " in LEAST else LEAST
    line = f"{key} = {toml(value)}\n"
    header = f"[{section}]\n"
    return text.replace(header, header + line) if header in text else text + header + line


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("hub", "base_url", "/"),
        ("hub", "base_url", "/jupyter/lab/"),
        ("hub", "address", "hub.example.org"),
        ("clusters.main", "node_address", ""),
        ("clusters.main", "node_address", "{node}-ib0.example.org"),
        ("clusters.main", "ports", [40000, 41000]),
        ("environments.base", "modules", ["env/2025.1", "PyTorch/2.9+cu12"]),
        ("environments.base", "variables", {"A_1": "any text: $HOME 'x' \"y\" `z`"}),
        ("environments.base", "image", "/apps/with space.sif"),
        ("partitions.cpu", "max_time", 480),
        ("partitions.cpu", "max_memory", 8192),
        ("paths", "logs", ""),
        ("authentication", "allowed_groups", ["domain.users"]),
    ],
)
def test_a_value_that_is_allowed_is_taken(section: str, key: str, value: object) -> None:
    parse(with_key(section, key, value))


def test_a_trailing_slash_of_a_path_is_dropped() -> None:
    assert parse(with_key("paths", "prefix", "/opt/x/")).paths.prefix == "/opt/x"
    assert parse(with_key("paths", "scratch", "/")).paths.scratch == "/"


def test_a_range_of_ports_that_runs_backwards_is_told() -> None:
    # A session would die on the node at random.sample(range(41000, 40001)).
    assert fault_at(with_key("clusters.main", "ports", [41000, 40000]), "clusters.main.ports")


def test_a_port_below_1024_is_told_since_no_session_may_bind_it() -> None:
    # The hub takes 1024 and above from a session (spawners/handlers.py), whatever the site says.
    assert fault_at(with_key("clusters.main", "ports", [80, 90]), "clusters.main.ports")


@pytest.mark.parametrize("logs", ["/my logs", "/logs (shared)", "/l\u00f6gs", "/logs;x"])
def test_a_folder_of_logs_that_no_script_can_name_is_told(logs: str) -> None:
    # --output may hold a narrow alphabet only: script.render would refuse every session of this site.
    assert fault_at(with_key("paths", "logs", logs), "paths.logs")


@pytest.mark.parametrize("logs", ["/logs/%u", "/logs/%j"])
def test_a_folder_of_logs_that_slurm_would_read_as_a_pattern_is_told(logs: str) -> None:
    # Slurm puts the user's name for %u, and the hub would look for the log in a folder named '%u'.
    assert fault_at(with_key("paths", "logs", logs), "paths.logs")


def test_a_file_without_authentication_lets_nobody_in_and_says_so() -> None:
    faults = faults_of(LEAST.replace("[authentication]\nallow_all = true\n", ""))
    assert "nobody may log in" in str(faults[0])


# --- References between sections -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "where", "allowed"),
    [
        (
            [('title = "Learn"\npartition = "cpu"', 'title = "Learn"\npartition = "cpus"')],
            "profiles.learn.partition",
            "one of cpu, gpu",
        ),
        (
            [('environment = "torch"', 'environment = "touch"')],
            "profiles.one.environment",
            "one of base, torch, box, full",
        ),
        ([('account = "p1"', 'account = "p9"')], "profiles.one.account", "one of p1, p2, p3"),
        ([('account = "p1"', 'account = "p3"')], "profiles.one.account", "one of p1, p2 on this partition"),
        ([('qos = "short"\nres', 'qos = "huge"\nres')], "profiles.course.qos", "a QoS that one of the accounts lists"),
        ([('features = ["nvme"]', 'features = ["nvme", "fast"]')], "profiles.one.features", "some of nvme, ib"),
        ([("gpus = 1\n", "gpus = 5\n")], "profiles.one.gpus", "at most 4 on partition gpu"),
        ([("gpus = 1\n", "gpus = 1\nshards = 1\n")], "profiles.one.shards", "gpus or shards, not both"),
        ([("shards = 2", "shards = 5")], "profiles.course.shards", "at most 4 on partition gpu"),
        ([("cpus = 8\n", "cpus = 33\n")], "profiles.one.cpus", "at most 32 on partition gpu"),
        ([('memory = "64G"', 'memory = "1T"')], "profiles.one.memory", "at most 240 GB on gpu"),
        ([('time = "4h"', 'time = "2d"')], "profiles.one.time", "at most 1 d on gpu"),
        (
            [('accounts = ["p1", "p2"]', 'accounts = ["p1", "p2", "p8"]')],
            "partitions.gpu.accounts",
            "some of p1, p2, p3",
        ),
        ([("shards_per_gpu = 4", "")], "partitions.gpu.shards_per_gpu", "at least 1 where max_shards is set"),
        ([("max_gpus = 4", 'max_gpus = 4\ncluster = "other"')], "partitions.gpu.cluster", "one of main"),
        (
            [
                ("[partitions.cpu]", "[clusters.second]\n[partitions.cpu]"),
                ("max_gpus = 4", 'max_gpus = 4\ncluster = "main"'),
            ],
            "partitions.cpu.cluster",
            "missing: there are several clusters: main, second",
        ),
        (
            [("[authentication]", '[hub]\ntls_key = "/k"\n[authentication]')],
            "hub.tls_certificate",
            "set both tls_certificate and tls_key, or neither",
        ),
        (
            [("allow_all = true", "allow_all = false")],
            "authentication.allowed_users",
            "nobody may log in: name allowed_users or allowed_groups, or set allow_all",
        ),
        (
            [('method = "pam"', 'method = "class"')],
            "authentication.class_name",
            "belongs to method 'class', and only to it",
        ),
        (
            [('method = "pam"', 'method = "pam"\nclass_name = "a.B"')],
            "authentication.class_name",
            "belongs to method 'class', and only to it",
        ),
        (
            [('method = "pam"', 'method = "shared-password"\nallowed_groups = ["staff"]')],
            "authentication.allowed_groups",
            "belongs to method 'pam'",
        ),
    ],
)
def test_a_reference_that_does_not_hold_is_told(
    edited: Callable[..., str], changes: list[tuple[str, str]], where: str, allowed: str
) -> None:
    text = edited(*changes)
    faults = faults_of(text)
    assert [(fault.where, fault.allowed) for fault in faults] == [(where, allowed)]
    assert faults[0].line, "no line"
    key = where.rpartition(".")[2]
    assert re.match(rf"{key} = |\[", text.splitlines()[faults[0].line - 1])


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True),
        ("A.b_c-9", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("-a", False),
        ("a b", False),
        ("a\nb", False),
        ("ä", False),
        ("a;id", False),
        ("", False),
    ],
)
def test_a_name_of_a_table_has_letters_digits_and_little_else(name: str, good: bool) -> None:
    text = LEAST + f"[accounts.{json.dumps(name)}]\n"
    if good:
        assert name in parse(text).accounts
    else:
        assert "a name has letters" in str(faults_of(text)[0])


@pytest.mark.parametrize("value", ["5", '"x"', "[1]", "true"])
@pytest.mark.parametrize(
    "section",
    [
        "paths",
        "hub",
        "authentication",
        "prices",
        "energy",
        "clusters",
        "partitions",
        "accounts",
        "environments",
        "profiles",
    ],
)
def test_a_section_that_is_no_table_is_told(section: str, value: str) -> None:
    assert "table" in fault_at(f"{section} = {value}\n", section).allowed


@pytest.mark.parametrize("section", ["clusters", "partitions", "accounts", "environments", "profiles"])
def test_an_entry_that_is_no_table_is_told(section: str) -> None:
    text = (
        LEAST + f"[{section}]\nwrong = 5\n"
        if f"[{section}." not in LEAST
        else LEAST.replace(f"[{section}.", f"[{section}]\nwrong = 5\n[{section}.")
    )
    assert fault_at(text, f"{section}.wrong").allowed == f"a table: [{section}.wrong]"


# --- Anything at all -------------------------------------------------------------------------------------------------


def toml(value: object) -> str:
    """Print a value as TOML, tables inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
    return repr(value)


# What TOML can say; strings without surrogates, which are no UTF-8.
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["", "cpu", "gpu", "p1", "p9", "short", "4G", "2h", "/x", "base", "../x", "0", "\n", "$(id)"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def site_or_site_error(text: str) -> None:
    try:
        site = parse(text)
    except SiteError as error:
        assert error.faults
        for fault in error.faults:
            assert fault.where
            assert fault.allowed
            assert fault.line is None or 1 <= fault.line <= text.count("\n") + 1
    else:
        assert isinstance(site, Site)
        for profile in site.profiles.values():
            partition = site.partitions[profile.partition]
            assert profile.cpus <= partition.max_cpus
            assert profile.gpus <= partition.max_gpus
            assert profile.memory <= partition.max_memory
            assert profile.time <= partition.max_time


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each table and value of a file."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += nodes(inner, (*path, key))
    return found


@given(data=st.data())
def test_any_value_in_any_place_gives_a_site_or_a_site_error(site: Site, data: st.DataObject) -> None:
    tree = json.loads(site.model_dump_json(exclude_none=True))
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(nodes(tree)))
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        action = data.draw(st.sampled_from(["set", "set", "drop", "add"]))
        if action == "drop":
            del parent[path[-1]]
        else:
            parent[path[-1] if action == "set" else data.draw(st.text(st.characters(codec="utf-8"), max_size=8))] = (
                data.draw(VALUES)
            )
        if not tree:
            break
    site_or_site_error("\n".join(f"{toml(key)} = {toml(value)}" for key, value in tree.items()))


def test_a_site_written_out_again_is_the_same_site(site: Site) -> None:
    tree = json.loads(site.model_dump_json(exclude_none=True))
    assert parse("\n".join(f"{toml(key)} = {toml(value)}" for key, value in tree.items())) == site


@given(data=st.data())
def test_any_damage_to_the_text_gives_a_site_or_a_site_error(site_text: str, data: st.DataObject) -> None:
    text = site_text
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        text = text[:start] + data.draw(st.text(st.characters(codec="utf-8"), max_size=6)) + text[end:]
    site_or_site_error(text)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("1" * 5000, id="a number of 5000 digits"),
        pytest.param("0x" + "f" * 5000, id="a hexadecimal number of 5000 digits"),
        pytest.param("[" * 5000 + "]" * 5000, id="5000 lists in one another"),
        pytest.param('"' + "9" * 400 + 'G"', id="400 digits in a text"),
        pytest.param("2026-11-22T10:00:00Z", id="a date"),
        pytest.param("nan", id="no number"),
    ],
)
@pytest.mark.parametrize("key", ["max_cpus", "max_memory", "max_time"])
def test_a_value_beyond_what_python_takes_is_a_site_error_too(key: str, value: str) -> None:
    # Python's reader of TOML lets int()'s ValueError and a RecursionError through.
    site_or_site_error(re.sub(rf"^{key} = .*$", f"{key} = {value}", LEAST, flags=re.MULTILINE))


def test_a_key_with_control_characters_is_told_without_them(assert_harmless: Callable[[str], None]) -> None:
    for text in (r'"\u001b[2J" = 1', LEAST + '"x\\ny" = 1\n', LEAST + '[accounts."\\u001b"]\n'):
        with pytest.raises(SiteError) as caught:
            parse(text)
        assert_harmless(str(caught.value))


def test_a_section_is_checked_where_it_is_made_by_hand_too() -> None:
    with pytest.raises(ValidationError):
        Cluster(conf="relative")
    with pytest.raises(ValidationError):
        Partition(max_cpus=0, max_memory="1G", max_time="1h")  # type: ignore[arg-type]


# --- The hub's database ----------------------------------------------------------------------------------------------


def with_database(edited: Callable[..., str], value: str) -> Site:
    return parse(edited(("[authentication]", f'[hub]\ndatabase = "{value}"\n[authentication]')))


@pytest.mark.parametrize(
    "value",
    [
        "sqlite",
        "postgresql://studiolo@db.example.org/studiolo",
        "postgresql://studiolo@db.example.org:5433/studiolo?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem",
        "postgresql://studiolo-hub@/studiolo?host=/var/run/postgresql",
        "postgresql://a%40b@[::1]/studiolo",
    ],
)
def test_a_database_is_sqlite_or_a_postgresql_address(edited: Callable[..., str], value: str) -> None:
    assert with_database(edited, value).hub.database == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "mysql://a@b/c",
        "postgresql+psycopg2://a@b/c",
        "sqlite:////tmp/x.sqlite",
        "postgresql://b/c",
        "postgresql://a@b",
        "postgresql://a@b/",
        "postgresql://a@b/c/d",
        "postgresql://a@/c",
        "postgresql://a@b/c?host=/tmp",
        "postgresql://a@b/c#d",
        "postgresql://a@b:x/c",
        "postgresql://a@b:0/c",
        "postgresql://a@b/c d",
        "postgresql://a@b/c?x",
        "postgresql://a@[b/c",
    ],
)
def test_any_other_database_is_refused_with_what_is_allowed(edited: Callable[..., str], value: str) -> None:
    with pytest.raises(SiteError, match=r"hub\.database.*'sqlite', or postgresql://USER@HOST/NAME"):
        with_database(edited, value)


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://a:geheim@b/c",
        "postgresql://a:geheim@b:5432/c?sslmode=require",
        "postgresql://a:ge@heim@b/c",
        "postgresql://a@b/c?password=geheim",
        "postgresql://a@b/c?sslmode=require&sslpassword=geheim",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(edited: Callable[..., str], value: str) -> None:
    with pytest.raises(SiteError, match="database_password") as caught:
        with_database(edited, value)
    assert "heim" not in str(caught.value)


# --- The way to Slurm --------------------------------------------------------------------------------------------------

CONF = 'conf = "/etc/slurm/slurm.conf"'


def test_slurmrestd_needs_its_address(edited: Callable[..., str]) -> None:
    with pytest.raises(SiteError) as caught:
        parse(edited((CONF, f'{CONF}\nvia = "slurmrestd"')))
    (fault,) = caught.value.faults
    assert fault.where == "clusters.main.rest_url"
    assert "missing" in fault.allowed


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6820",
        "https://slurm.example.org",
        "https://slurm.example.org:443/rest",
        "http://[::1]:6820",
        "unix:///run/slurmrestd/slurmrestd.socket",
    ],
)
def test_slurmrestd_is_reached_by_host_or_socket(edited: Callable[..., str], url: str) -> None:
    site = parse(edited((CONF, f'{CONF}\nvia = "slurmrestd"\nrest_url = "{url}"')))
    assert site.clusters["main"].rest_url == url
    assert site.jwt_key("main") == "/var/lib/studiolo/secrets/slurm_jwt_key_main"


# --- Idle sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "minutes"), [('"never"', 0), ("0", 0), ('"2h"', 120), ("45", 45)])
def test_an_idle_session_may_be_stopped_or_never(edited: Callable[..., str], text: str, minutes: int) -> None:
    assert (
        parse(edited(("[authentication]", f"[hub]\nidle_limit = {text}\n[authentication]"))).hub.idle_limit == minutes
    )


def test_who_is_stopped_is_warned_first(edited: Callable[..., str]) -> None:
    hub = '[hub]\nidle_limit = "20m"\nidle_warning = "30m"\n'
    with pytest.raises(SiteError, match=r"hub\.idle_limit = 20 min: at least hub\.idle_warning, 30 min, or 'never'"):
        parse(edited(("[authentication]", f"{hub}[authentication]")))


@pytest.mark.parametrize("value", ['""', "-1", '"soon"', "true", "1.5"])
def test_any_other_idle_time_is_refused(edited: Callable[..., str], value: str) -> None:
    with pytest.raises(SiteError, match=r"hub\.idle_limit"):
        parse(edited(("[authentication]", f"[hub]\nidle_limit = {value}\n[authentication]")))
