"""What slurmrestd says of accounts, by API version, and what Studiolo reads in it.

v0.0.38 was recorded on Slurm 22.05.8; ``built`` answers are written by hand in the shape of 24.11's own OpenAPI description.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studiolo.slurm.budgets import GpuHours, parse_associations
from studiolo.slurm.rest_budgets import rest_budgets, rest_usage

HERE = Path(__file__).parent
FOLDER = HERE / "slurmrestd_budgets"


def recorded(name: str) -> dict[str, Any]:
    answer = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("name", ["associations_22.05_v0.0.38", "associations_built_v0.0.42"])
def test_accounting_says_of_people_and_defaults_what_the_command_says(name: str) -> None:
    found = rest_budgets(recorded(name), 7.0)
    said = parse_associations((HERE / "scontrol_assoc_mgr/embedded_22.05.txt").read_text(encoding="utf-8"), 7.0)
    assert set(found.accounts) == set(said.accounts)
    for person in ("ada", "emil", "root"):
        assert (found.of(person), found.defaults[person]) == (said.of(person), said.defaults[person])
    # A limit is known, what is used of it is not: nothing is told to be left, and nothing used up.
    assert found.gpu_hours("ada", "fast-lane") == GpuHours(10000.0, None)
    assert found.gpu_hours("ada", "fast-lane").left is None


def test_slurmctld_adds_what_has_been_used() -> None:
    usage = rest_usage(recorded("shares_built_v0.0.42"))
    assert usage["playground", ""] == {"cpu": 120, "gres/gpu": 90, "billing": 360}
    assert usage["playground", "ada"]["gres/gpu"] == 60
    found = rest_budgets(recorded("associations_built_v0.0.42"), 7.0, usage)
    assert found.gpu_hours("ada", "fast-lane") == GpuHours(10000.0, 0.0)
    assert found.gpu_hours("ada", "root") == GpuHours(None, 2.5)


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"associations": {}}, {"associations": [7]}, {"associations": [{}]},
               {"associations": [{"account": "p", "user": 7}]}, {"associations": [{"account": "p"}]}]
)  # fmt: skip
def test_an_answer_of_another_shape_about_accounts_is_no_answer(answer: object) -> None:
    with pytest.raises(ValueError, match="."):
        rest_budgets(answer, 7.0)


@pytest.mark.parametrize(
    "amount", [{"name": "cpu"}, {"name": "cpu", "value": "7"}, {"name": "cpu", "value": True}, {"name": "cpu", "value": -1},
               {"name": "cpu", "value": float("nan")}, {"name": 7, "value": 7}, 7]
)  # fmt: skip
def test_an_answer_of_another_shape_about_use_is_no_answer(amount: object) -> None:
    entry = {"name": "p", "parent": "", "type": ["ASSOCIATION"], "tres": {"usage": [amount]}}
    with pytest.raises(ValueError, match="."):
        rest_usage({"shares": {"shares": [entry]}})
