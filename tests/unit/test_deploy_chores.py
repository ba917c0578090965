"""What `make test` decides: how many workers, whose instances it takes away, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import chores
from deploy.errors import DeployError, Interrupted
from deploy.settings import Settings
from deploy.signals import polite

CHECKOUT = Path(__file__).resolve().parents[2]  # not that of what may be installed


@pytest.mark.parametrize(
    ("cpus", "number"),
    [(1, 1), (2, 2), (3, 2), (4, 3), (6, 4), (128, chores.MOST_WORKERS)],
)
def test_all_tests_are_worth_half_the_cpus_and_one(cpus: int, number: int) -> None:
    assert chores.workers(["tests"], cpus, CHECKOUT) == number
    assert chores.workers(["-x", "tests/unit", "tests/hub"], cpus, CHECKOUT) == number
    assert chores.workers(["-v"], cpus, CHECKOUT) == number


@pytest.mark.parametrize(
    "arguments",
    [
        ["tests/hub/test_idle.py"],
        ["-x", "tests/hub/test_idle.py::test_it"],
        ["tests/deploy"],  # a folder of one file
        ["-k", "idle"],
        ["-kidle", "tests/hub"],
        ["tests", "--lf"],
    ],
)
def test_one_file_or_a_choice_by_name_is_worth_one(arguments: list[str]) -> None:
    assert chores.workers(arguments, 16, CHECKOUT) == 1


def test_there_are_no_more_workers_than_files() -> None:
    assert chores.workers(["tests/hub/test_idle.py", "tests/hub/test_tls.py"], 16, CHECKOUT) == 2


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "state", tmp_path / "prefix")


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the state folders that were taken away, in order."""
    names: list[str] = []
    monkeypatch.setattr(chores, "remove_instance", lambda settings: names.append(settings.state.name))
    return names


def test_the_instances_of_all_workers_go_whatever_happens(settings: Settings, removed: list[str]) -> None:
    def act() -> int:
        for name in ("state", "state-gw1", "state-gw12", "state-of-others"):
            settings.state.with_name(name).mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chores.on_own_instance(settings, False, act)
    assert removed == ["state", "state-gw1", "state-gw12"]


def test_an_instance_that_was_there_stays_and_what_came_beside_it_goes(
    settings: Settings, removed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings.state.mkdir()

    def act() -> int:
        settings.state.with_name("state-gw1").mkdir()
        return 1

    assert chores.on_own_instance(settings, False, act) == 1
    assert removed == ["state-gw1"]
    assert f"Kept: {settings.state} (" in capsys.readouterr().out


def test_all_are_kept_where_that_is_wanted(
    settings: Settings, removed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> int:
        for name in ("state", "state-gw1"):
            settings.state.with_name(name).mkdir()
        return 0

    assert chores.on_own_instance(settings, True, act) == 0
    assert removed == []
    assert f"Kept: {settings.state}, {settings.state}-gw1 (" in capsys.readouterr().out


def test_an_instance_that_cannot_be_removed_keeps_no_other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []

    def refuse(one: Settings) -> None:
        tried.append(one.state)
        raise DeployError(f"{one.state.name} is still there")

    monkeypatch.setattr(chores, "remove_instance", refuse)
    beside = Settings(settings.state.with_name("state-gw1"), settings.prefix)
    with pytest.raises(DeployError, match="state is still there\nstate-gw1 is still there"):
        chores.remove_instances([settings, beside])
    assert tried == [settings.state, beside.state]


def test_who_interrupts_the_removal_is_told_what_is_left(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(one: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chores, "remove_instance", interrupted)
    beside = Settings(settings.state.with_name("state-gw1"), settings.prefix)
    with pytest.raises(DeployError) as told:
        chores.remove_instances([settings, beside])
    for one in (settings, beside):
        assert f"STUDIOLO_STATE={one.state} STUDIOLO_PREFIX={one.prefix} make clean" in str(told.value)


INTERRUPTS = """
import os, pathlib, signal, sys, time
try:
    os.kill(os.getppid(), int(sys.argv[2]))
    if int(sys.argv[2]) == signal.SIGINT:
        raise KeyboardInterrupt  # a terminal tells both
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    pathlib.Path(sys.argv[1]).write_text("put back")
"""


@pytest.mark.parametrize(
    ("how", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Interrupted)], ids=["Ctrl-C", "SIGTERM"]
)
def test_what_is_interrupted_puts_back_what_it_changed_before_anything_is_removed(
    tmp_path: Path, how: signal.Signals, raised: type[BaseException]
) -> None:
    file = tmp_path / "file"
    command = [sys.executable, "-c", INTERRUPTS, str(file), str(int(how))]
    heard = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what runs in the background of a shell ignores it
    try:
        with polite(), pytest.raises(raised):
            chores.run_to_its_end(command, os.environ, signal.SIGINT, 20)
    finally:
        signal.signal(signal.SIGINT, heard)
    assert file.read_text() == "put back"


def test_files_with_many_tests_on_a_platform_run_first_and_quick_ones_last(request: pytest.FixtureRequest) -> None:
    """Each stays whole: its tests share fixtures."""
    (conftest,) = (
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(CHECKOUT / "tests" / "conftest.py")
    )
    listed = [("quick", 9, ""), ("few", 2, "platform"), ("many", 5, "platform"), ("also quick", 1, "")]
    items = [
        SimpleNamespace(path=Path(name), fixturenames=[fixture, "tmp_path"])
        for name, count, fixture in listed
        for _ in range(count)
    ]
    conftest.pytest_collection_modifyitems(items)
    found = [(str(path), len(list(group))) for path, group in groupby(items, lambda item: item.path)]
    assert found == [("many", 5), ("few", 2), ("quick", 9), ("also quick", 1)]
