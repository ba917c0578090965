"""What an instance chooses: tag, names, ports; and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slurmbox import instance as instances
from slurmbox.design import CgroupFacts
from slurmbox.errors import InstanceError
from slurmbox.facts import HostFacts
from slurmbox.instance import DEFAULT_STATE, Instance
from slurmbox.people import demo_people

PREFIX = Path("/opt/studiolo")
OTHER = Path("/srv/other/studiolo")
FACTS = HostFacts(
    hostname="host",
    cpus=2,
    memory_mb=24_105,
    slurm_version=(22, 5, 8),
    rest_api="v0.0.38",
    cgroups=CgroupFacts(frozenset({"memory", "freezer", "memsw"}), False, frozenset()),
    real_gpus=None,
)


def anything(_: object) -> bool:
    return True


def nothing(_: object) -> bool:
    return False


def chosen(state: Path = DEFAULT_STATE) -> Instance:
    return instances.with_facts(instances.choose(state, PREFIX, nothing, anything), FACTS, anything)


def test_the_default_folder_has_plain_names() -> None:
    instance = chosen()
    assert (instance.tag, instance.cluster, instance.people_group) == ("", "studiolo", "studiolo-people")
    assert instance.people[0].name == "ada"
    assert instance.ports["public"] == 8000


def test_only_the_default_folder_wants_the_usual_port() -> None:
    assert chosen(OTHER).ports["public"] in instances.PORT_RANGE
    tagged = instances.choose(DEFAULT_STATE, PREFIX, lambda name: name == "ada", anything)
    assert tagged.ports["public"] == 8000  # the folder decides, not the tag


def test_another_folder_has_a_tag_that_stays_the_same() -> None:
    one, two = chosen(OTHER), chosen(OTHER)
    assert one.tag == two.tag == instances.short_hash(str(OTHER))
    assert one.slurm_user == f"studiolo-slurm-{one.tag}"
    assert one.cluster == f"studiolo_{one.tag}"


def test_a_foreign_account_of_the_same_name_leads_to_a_tag() -> None:
    instance = instances.choose(DEFAULT_STATE, PREFIX, lambda name: name == "ada", anything)
    assert instance.tag != ""
    assert instance.people[0].name == f"ada-{instance.tag}"


def test_a_tag_whose_names_are_taken_is_passed_over() -> None:
    first = instances.short_hash(str(OTHER))
    instance = instances.choose(OTHER, PREFIX, lambda name: name.endswith(first), anything)
    assert instance.tag not in {"", first}


def test_no_free_name_at_all_is_said() -> None:
    with pytest.raises(InstanceError, match="No free account names"):
        instances.choose(OTHER, PREFIX, anything, anything)


def test_all_names_fit_unix() -> None:
    instance = chosen(OTHER)
    for name in (*instance.accounts, *instance.groups, instance.people_group):
        assert len(name) <= 31
        assert name.replace("-", "").isalnum()
    assert len(set(instance.accounts)) == len(instance.accounts) == 41


def test_ports_are_free_and_all_different() -> None:
    taken = {8000, 17_000, 17_003}
    instance = instances.choose(DEFAULT_STATE, PREFIX, nothing, lambda port: port not in taken)
    instance = instances.with_facts(instance, FACTS, lambda port: port not in taken)
    ports = [*instance.ports.values(), *instance.slurmd_ports.values()]
    assert len(set(ports)) == len(ports)
    assert not taken & set(ports)
    assert all(port in instances.PORT_RANGE for port in ports)


def test_a_taken_port_is_chosen_anew_and_the_others_stay() -> None:
    before = chosen()
    lost = {before.ports["slurmctld"], before.slurmd_ports["gpu1"]}
    after = instances.replace_taken_ports(before, lambda port: port not in lost)
    assert after.ports["slurmctld"] not in lost
    assert after.slurmd_ports["gpu1"] not in lost
    assert {k: v for k, v in after.ports.items() if k != "slurmctld"} == {
        k: v for k, v in before.ports.items() if k != "slurmctld"
    }
    ports = [*after.ports.values(), *after.slurmd_ports.values()]
    assert len(set(ports)) == len(ports)


def test_no_free_port_is_said() -> None:
    with pytest.raises(InstanceError, match="No free port"):
        instances.choose_ports(("a",), 17_000, nothing)


def test_two_instances_differ_in_cluster_and_job_numbers() -> None:
    one, two = chosen(), chosen(OTHER)
    assert one.cluster != two.cluster
    assert one.first_job_id != two.first_job_id


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    instance = replace(chosen(), state=tmp_path)
    instances.save(instance)
    assert instances.load(tmp_path) == instance
    content = json.loads((tmp_path / "instance.json").read_text())
    assert content["ports"]["slurmd"]["gpu2"] == instance.slurmd_ports["gpu2"]
    assert "ada" in content["accounts"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', '{"format": 99}'])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    (tmp_path / "instance.json").write_text(damage)
    with pytest.raises(InstanceError, match=r"is damaged.*Restore it"):
        instances.load(tmp_path)


def test_a_copied_state_folder_is_refused(tmp_path: Path) -> None:
    instances.save(replace(chosen(), state=tmp_path))
    content = (tmp_path / "instance.json").read_text()
    (tmp_path / "instance.json").write_text(content.replace(str(tmp_path), "/somewhere/else"))
    with pytest.raises(InstanceError, match="can't be moved"):
        instances.load(tmp_path)


@pytest.mark.parametrize(
    "place", ["/", "/var", "relative", "/var/lib/with space", "/var/lib/../x", "/var/lib/a;b", "/var/lib/" + "x" * 80]
)
def test_places_that_can_not_work_are_refused(place: str) -> None:
    with pytest.raises(InstanceError):
        instances.check_place(Path(place))


def test_a_link_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InstanceError):
        instances.check_place(tmp_path / "link" / "state")


def test_a_failed_try_of_control_groups_is_remembered() -> None:
    instance = chosen()
    refused = replace(instance, features=replace(instance.features, cgroup_refused=True))
    assert instances.with_facts(refused, FACTS, anything).confinement.kind == "none"
    assert instance.confinement.kind == "v1"


def test_the_demo_people_are_who_they_are_said_to_be() -> None:
    people = demo_people()
    roles = [p.role for p in people]
    assert {r: roles.count(r) for r in set(roles)} == {
        "company": 4,
        "researcher": 1,
        "trainer": 1,
        "operator": 1,
        "learner": 30,
    }
    assert len({p.group for p in people if p.role == "company"}) == 2
    for person in people:
        assert person.default_account in person.accounts
        assert "playground" in person.accounts
        assert ("fast-lane" in person.accounts) == (person.role in {"company", "researcher"})
        assert ("large-scale" in person.accounts) == (person.role in {"researcher", "trainer"})


def test_a_class_may_be_larger_and_is_remembered() -> None:
    instance = instances.choose(OTHER, PREFIX, nothing, anything, 60)
    learners = [person.name for person in instance.people if person.role == "learner"]
    assert learners[-1] == f"learner60-{instance.tag}"
    assert set(learners) <= set(instance.accounts)
    assert instances.from_json(json.loads(json.dumps(instances.to_json(instance)))).people == instance.people


def test_an_instance_of_before_has_the_usual_class() -> None:
    data = instances.to_json(chosen())
    del data["class_size"]
    assert instances.from_json(data).people == demo_people()
