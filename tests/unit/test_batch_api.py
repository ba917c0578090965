"""The form of "Run as batch job": what it offers, and how what is typed becomes values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from spawners import batch_api
from spawners.batch_api import form_of, read_values
from studiolo.batch.parameters import Parameter
from studiolo.desk import Desk
from studiolo.errors import Fault, RequestError, SlurmUnavailable, StudioloError
from studiolo.session import Session
from studiolo.site import Site

PARAMETERS = (
    Parameter("epochs", "int", 3, True, "3", "how often"),
    Parameter("rate", "float", 0.1, True, "0.1"),
    Parameter("name", "str", "first", True, "'first'"),
    Parameter("layers", "list", [1], True, "[1]"),
)


@pytest.fixture
def at(site: Site) -> Iterator[Desk]:
    asked = {"profile": site.default_profile, "cpus": 2, "memory": 2048, "minutes": 90}
    made = Desk(site, Session(1, "n", "cpu", "", 2, 2048, 0, 0, None, "s1", asked))
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


def test_a_form_has_the_notebooks_parameters_and_the_sessions_resources_with_their_limits(
    at: Desk, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studiolo.jobs.parameters_of", lambda notebook: PARAMETERS)
    told = form_of(at, "/home/ada/train.ipynb")
    assert told["parameters"][0] == {"name": "epochs", "kind": "int", "value": "3", "help": "how often"}
    resources = {each["name"]: each for each in told["resources"]}
    assert resources["cpus"]["value"] == "2"
    assert resources["memory"]["value"] == "2 GB"
    assert resources["minutes"]["value"] == "1 h 30 min"
    partition = site.partitions[site.profiles[site.default_profile].partition]
    assert resources["cpus"]["most"] == str(partition.max_cpus)
    assert all(each["most"] != "0" for each in told["resources"])
    # This session's partition has none: those of another one can be asked for.
    assert partition.max_gpus == 0
    assert (resources["gpus"]["value"], resources["gpus"]["most"]) == ("0", "4")
    assert "shards" not in resources


@pytest.mark.parametrize(
    ("trouble", "fields"),
    [
        (RequestError([Fault("epochs", "many", "a number"), Fault("cpus", "99", "at most 8")]), ["epochs", "cpus"]),
        (SlurmUnavailable("submit your job", "no answer"), []),
    ],
)
def test_a_refusal_names_the_fields_that_it_is_about(trouble: StudioloError, fields: list[str]) -> None:
    said: list[str] = []
    handler = SimpleNamespace(set_status=lambda status: None, set_header=lambda *pair: None, finish=said.append)

    def refused() -> None:
        raise trouble

    asyncio.run(batch_api._Batch.answered(handler, refused))  # type: ignore[arg-type]
    assert json.loads(said[0]) == {"message": str(trouble), "fields": fields}


def test_what_the_form_writes_can_be_read_back(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studiolo.jobs.parameters_of", lambda notebook: PARAMETERS)
    told = form_of(at, "/home/ada/train.ipynb")
    assert read_values(PARAMETERS, {each["name"]: each["value"] for each in told["parameters"]}) == {}
    request = at.check({each["name"]: each["value"] for each in told["resources"]})
    assert (request.cpus, request.memory, request.minutes) == (2, 2048, 90)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"epochs": "5"}, {"epochs": 5}),
        ({"epochs": " 3 "}, {}),
        ({"rate": "1e-3"}, {"rate": 0.001}),
        ({"name": "second"}, {"name": "second"}),
        ({"name": "'second'"}, {"name": "second"}),
        ({"name": "2024"}, {"name": "2024"}),
        ({"layers": "[64, 64]"}, {"layers": [64, 64]}),
        ({"epochs": 5}, {}),
    ],
)
def test_what_is_typed_becomes_a_value(typed: dict[str, str], value: dict[str, object]) -> None:
    assert read_values(PARAMETERS, typed) == value


@pytest.mark.parametrize("text", ["six", "__import__('os').system('true')", "(" * 5000, "1 +", "open('/etc/passwd')"])
def test_nothing_that_is_typed_is_ever_run(text: str) -> None:
    with pytest.raises(RequestError, match="epochs"):
        read_values(PARAMETERS, {"epochs": text})


def test_each_field_that_can_not_be_read_is_named() -> None:
    with pytest.raises(RequestError) as caught:
        read_values(PARAMETERS, {"epochs": "six", "rate": "fast", "name": "fine"})
    assert [fault.where for fault in caught.value.faults] == ["epochs", "rate"]


def test_resources_that_no_form_has_are_refused() -> None:
    handler = object.__new__(batch_api.BatchHandler)
    with pytest.raises(RequestError, match="reservation"):
        handler.send("/x.ipynb", {"parameters": {}, "resources": {"reservation": "r"}})
