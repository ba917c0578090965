"""Two companies in sessions of their own: what the site keeps is there for both, what one keeps is there for it alone."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hubclient import Hub, until
from kernels import Kernel, kernel, printed
from shelves import put, put_model

from studiolo.modelcache import OVERLAY

ADD = """
import pathlib, studiolo
folder = pathlib.Path.home() / "new"
folder.mkdir(exist_ok=True)
(folder / "sales.csv").write_text("item,sold\\nrice,3\\npasta,4\\n")
card = studiolo.data.add(folder, name="our-sales", licence="internal", group={group!r})
"""
# Sets as a member can lay them into their group's folder without Studiolo: another's group on a card, links out of it.
BY_HAND = """
import json, pathlib, shutil
places = pathlib.Path({places!r})
for name in ("lie", "leak"):
    shutil.copytree(places / "our-sales", places / name)
    (places / name).chmod(0o2750)
    card = json.loads((places / name / "croissant.json").read_text()) | dict(name=name)
    if name == "lie":
        card["studiolo:groups"] = []
    else:
        (places / name / "sales.csv").unlink()
        (places / name / "sales.csv").symlink_to("/etc/hostname")
    (places / name / "croissant.json").write_text(json.dumps(card))
(places / "trick").symlink_to(places / "our-sales")
"""
NAMES = "[card.full_name for card in studiolo.data.list()]"


def company(box: Any, word: str) -> str:
    """The unix group of a company."""
    return next(str(name) for name in box.groups if word in name)


def groups_in_a_job(box: Any, person: str) -> list[str]:
    """The groups that a job of somebody's has, by name."""
    command = [
        "runuser",
        "-u",
        person,
        "--",
        "srun",
        "--quiet",
        "--partition=cpu",
        "--time=1",
        "--chdir=/",
        "id",
        "-nG",
    ]
    environment = {**os.environ, "SLURM_CONF": str(box.slurm_conf)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture(scope="module")
def shelf(box: Any) -> Iterator[str]:
    """The site's catalogue with a data set and a model in it, of names that nothing else has; their prefix."""
    tag = f"live-{box.tag}"
    catalogue = Path(box.prefix) / "catalogue"
    made = [
        put(catalogue / "data", f"{tag}-orders", {"orders.csv": b"shop,items\nnorth,3\n"}),
        put_model(catalogue / "models", f"{tag}/small", {"config.json": b'{"model_type": "bert"}'}),
    ]
    yield tag
    for folder in made:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def aurora(hub: Hub, person: Callable[..., str], shelf: str) -> Iterator[Kernel]:
    """Somebody of the one company."""
    with kernel(hub, person("company", 0), {"profile": "learn"}) as running:
        yield running


@pytest.fixture(scope="module")
def lumen(hub: Hub, person: Callable[..., str], shelf: str) -> Iterator[Kernel]:
    """Somebody of the other."""
    with kernel(hub, person("company", 2), {"profile": "learn"}) as running:
        yield running


def test_what_the_site_keeps_is_loaded_in_a_session(aurora: Kernel, shelf: str) -> None:
    aurora.run("import studiolo")
    assert printed(aurora, f"studiolo.data.load('{shelf}-orders')['items'].tolist()") == [3]
    shown = aurora.run("studiolo.data.list()").shown[-1]
    assert f"{shelf}-orders" in shown["text/html"]
    assert "CC0-1.0" in aurora.run(f"studiolo.data.card('{shelf}-orders')").shown[-1]["text/html"]
    refused = aurora.fails(f"studiolo.data.load('{shelf}-order')")
    assert f"Did you mean {shelf}-orders?" in refused
    assert "Traceback" not in refused


def test_a_fresh_platform_has_an_example_in_its_catalogue(aurora: Kernel) -> None:
    aurora.run("import studiolo")
    assert "time-zones" in printed(aurora, NAMES)
    assert printed(aurora, "studiolo.data.load('time-zones').columns.tolist()")[0] == "zone"
    assert "NotKept" in aurora.fails("studiolo.data.remove('time-zones')")
    assert "PermissionError" in aurora.fails("open(studiolo.data.path('time-zones') / 'zones.csv', 'a')")


def test_what_a_company_adds_is_its_own(aurora: Kernel, lumen: Kernel, box: Any) -> None:
    group = company(box, "aurora")
    aurora.run(ADD.format(group=group))
    try:
        folder = Path(box.state) / "groups" / group / "data" / "our-sales"
        found = folder.stat()
        assert (found.st_mode & 0o777, grp.getgrgid(found.st_gid).gr_name) == (0o750, group)
        assert f"{group}:our-sales" in printed(aurora, NAMES)
        assert printed(aurora, "studiolo.data.load('our-sales')['sold'].sum().item()") == 7
        lumen.run("import studiolo")
        assert "our-sales" not in "".join(printed(lumen, NAMES))
        assert "NotAtHand" in lumen.fails("studiolo.data.load('our-sales')")
        # Not by its path either, whatever the library would say.
        assert "PermissionError" in lumen.fails(f"open({str(folder / 'sales.csv')!r})")
        assert "one of your groups" in lumen.fails(ADD.format(group=group))
        assert "PermissionError" in lumen.fails(f"pathlib.Path({str(folder.with_name('mine'))!r}).mkdir()")
    finally:
        aurora.run("studiolo.data.remove('our-sales')")
    assert "our-sales" not in "".join(printed(aurora, NAMES))


def test_who_leaves_a_company_no_longer_sees_what_is_its(
    hub: Hub, person: Callable[..., str], aurora: Kernel, box: Any
) -> None:
    group, ben = company(box, "aurora"), person("company", 1)
    aurora.run(ADD.format(group=group))
    places = Path(box.state) / "groups" / group / "data"
    try:
        with kernel(hub, ben, {"profile": "learn"}) as member:
            member.run("import studiolo")
            assert printed(member, "studiolo.data.load('our-sales')['sold'].sum().item()") == 7
            assert "ask its owner" in member.fails("studiolo.data.remove('our-sales')")
            # What a member puts there by hand is shown for what it is, and hides nothing else.
            member.run(BY_HAND.format(places=str(places)))
            told = aurora.run("studiolo.data.list()").shown[-1]["text/html"]
            assert "our-sales" in told
            assert "studiolo:groups" in told  # a card that names another group
            assert "a link to another place" in told
            for name in ("lie", "trick"):
                assert "CardError" in aurora.fails(f"studiolo.data.load({name!r})")
            assert "this one leads out of it" in aurora.fails("studiolo.data.load('leak')")
        subprocess.run(["gpasswd", "-d", ben, group], check=True, capture_output=True)
        until("Slurm sees that they have left", lambda: group not in groups_in_a_job(box, ben))
        with kernel(hub, ben, {"profile": "learn"}) as former:
            former.run("import studiolo")
            assert "our-sales" not in "".join(printed(former, NAMES))
            assert "NotAtHand" in former.fails("studiolo.data.load('our-sales')")
            assert "PermissionError" in former.fails(f"open({str(places / 'our-sales/sales.csv')!r})")
            assert "one of your groups" in former.fails(ADD.format(group=group))
    finally:
        subprocess.run(["gpasswd", "-a", ben, group], check=True, capture_output=True)
        for name in ("lie", "leak"):
            shutil.rmtree(places / name, ignore_errors=True)
        (places / "trick").unlink(missing_ok=True)
        aurora.run("studiolo.data.remove('our-sales')")


def test_hugging_faces_library_finds_the_sites_models_and_says_at_once_what_is_missing(
    aurora: Kernel, shelf: str
) -> None:
    # Linked while the server starts: nobody has imported studiolo for it.
    overlay = Path(pwd.getpwnam(aurora.person).pw_dir, OVERLAY)
    until("the links of this session", (overlay / f"models--{shelf}--small").exists)
    aurora.run("from huggingface_hub import hf_hub_download")
    assert "bert" in aurora.run(f"print(open(hf_hub_download('{shelf}/small', 'config.json')).read())").text
    missing = aurora.result(aurora.begin(f"hf_hub_download('{shelf}/smal', 'config.json')"))
    assert "LocalEntryNotFoundError" in missing.error
    assert f"Did you mean {shelf}/small?" in missing.text
    assert f"Did you mean {shelf}/small?" in aurora.fails(f"import studiolo; studiolo.models.get('{shelf}/smal')")
