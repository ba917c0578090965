"""The documents tell the truth: what is generated is current, what is linked exists, what is named can be run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from spawners import verdict
from spawners.choosing import Choosing
from spawners.offers import offers
from studiolo import cli
from studiolo.request import FIELDS
from studiolo.site import MANY, SINGLE, Site, parse
from studiolo.site_example import example, reference
from studiolo.slurm.facts import NodeFacts, PartitionFacts, PendingJob, ReservationFacts, assemble
from studiolo.slurm.resources import Resources
from studiolo.slurm.snapshot import FactsCache, Reading

CHECKOUT = Path(__file__).resolve().parents[2]
NODE = NodeFacts("gpu1", "10.0.0.1", ("IDLE",), "", Resources(8, 1024), Resources(8, 1024), (), ("gpu",))
MAINTENANCE = ReservationFacts("maintenance", 60, 120, ("gpu1",), flags=("MAINT",))
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])


def test_the_example_site_file_is_the_one_that_the_schema_gives() -> None:
    # python -m studiolo.site_example toml > site.example.toml
    assert (CHECKOUT / "site.example.toml").read_text(encoding="utf-8") == example()


def test_the_example_site_file_passes_its_own_check() -> None:
    assert parse(example()).partitions


def test_every_key_of_the_site_file_has_a_heading() -> None:
    text = reference()
    for name, kind in {**SINGLE, **MANY}.items():
        for key in kind.model_fields:
            assert f"\n### {name}.{key}\n" in text


def test_the_site_file_of_the_guide_for_centres_is_good() -> None:
    guide = (CHECKOUT / "docs/howto/own-centre.md").read_text(encoding="utf-8")
    site, by_slurmrestd = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    assert parse(site).profiles
    # The other way's table stands in the place of the first one's.
    tables = re.sub(r"\[clusters\.example\].*?\n\n", by_slurmrestd, site, flags=re.DOTALL)
    assert parse(tables).clusters["example"].via == "slurmrestd"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.endswith("reference/site-file.md"):
            assert (page.parent / target).exists(), target


def test_pages_show_every_picture_of_the_product_and_no_other() -> None:
    # docs/pictures.py takes them, and imports a browser: here it is enough to know what is there.
    taken = {path.name for path in (CHECKOUT / "docs/images").glob("*.png")}
    told = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"images/([\w-]+\.png)", told)) == taken


def test_every_command_of_the_makefile_is_explained() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    page = (CHECKOUT / "docs/reference/commands.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"^(up down .*):$", makefile, re.MULTILINE)
    for word in words.split():
        assert f"`make {word}`" in page


def test_every_subcommand_of_studiolo_and_every_field_of_a_request_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (CHECKOUT / "docs/reference/commands.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert commands
    for command in commands:
        assert f"`studiolo {command}" in page
    for field in FIELDS:
        assert f"`{field}`" in page


def test_every_metric_and_every_field_of_what_is_free_is_explained() -> None:
    site = parse((CHECKOUT / "tests/unit/site_for_tests.toml").read_text(encoding="utf-8"))
    page = (CHECKOUT / "docs/reference/what-is-free.md").read_text(encoding="utf-8")
    source = (CHECKOUT / "spawners/metrics.py").read_text(encoding="utf-8")
    names = re.findall(r'"(studiolo_[a-z_]+)"', source)
    assert names
    for name in names:
        assert f"`{name}" in page
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    told = json.loads(example)
    real = offered(site)
    assert set(told) == set(real)
    for key in ("profiles", "accounts", "partitions"):
        (shown,), (found, *_others) = told[key].values(), real[key].values()
        assert set(shown) == set(found)
        for field, value in shown.items():
            if isinstance(value, dict) and isinstance(found[field], dict):
                assert set(value) == set(found[field])
    assert set(told["reservations"][0]) == set(real["reservations"][0])
    kinds = set(re.findall(r"^\| `([a-z-]+)` \|", page.partition("| Obstacle |")[2].partition("##")[0], re.MULTILINE))
    assert kinds == set(get_args(verdict.Kind))


def offered(site: Site) -> dict[str, Any]:
    """What the hub tells of a small cluster that nobody has to be asked about."""
    slurm: Any = SimpleNamespace(facts=None, budgets=None, estimate=None)
    watcher: Any = SimpleNamespace(heard=0.0, silent_since=None)
    facts = FactsCache(slurm)
    facts.last = Reading(
        assemble(0.0, [NODE], [PartitionFacts("gpu", "UP", 60)], [MAINTENANCE], [PendingJob(7, "gpu", 1)])
    )
    choosing = Choosing(site, {"main": slurm}, {"main": facts}, {"main": watcher})
    return offers(choosing, "ada", 0.0, may_ask=False)
