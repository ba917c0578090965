"""What JupyterHub could not write down at a session's end is tried again, and nothing else is touched."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from spawners import tidy


class Database:
    """Counts how often a broken transaction was given up."""

    rollbacks = 0

    def rollback(self) -> None:
        self.rollbacks += 1


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(tidy, "object_session", lambda _: database)
    return database


def spawner_of(failures: int, *, stop_pending: bool, server: object) -> Any:
    """A spawner whose user's ``stop`` fails so many times, then tidies up as JupyterHub's does."""
    spawner = SimpleNamespace(name="", _log_name="ada", log=logging.getLogger("test"), stops=0)
    spawner._stop_pending, spawner.server, spawner._spawn_future = stop_pending, server, None

    async def stop(name: str) -> None:
        spawner.stops += 1
        if spawner.stops <= failures:
            raise OperationalError("COMMIT", {}, Exception("database or disk is full"))
        spawner._stop_pending, spawner.server = False, None

    spawner.user = SimpleNamespace(spawners={"": spawner}, stop=stop, orm_user=object())
    return spawner


@pytest.mark.parametrize(("stop_pending", "server"), [(True, None), (False, object())])
def test_it_is_tried_until_it_succeeds(
    virtually: Callable[[Any], Any], database: Database, stop_pending: bool, server: object
) -> None:
    spawner = spawner_of(3, stop_pending=stop_pending, server=server)
    virtually(tidy.tidy_up(spawner))
    assert spawner.stops == database.rollbacks == 4
    assert not spawner._stop_pending
    assert spawner.server is None


def test_what_is_tidy_is_left_alone(virtually: Callable[[Any], Any], database: Database) -> None:
    spawner = spawner_of(0, stop_pending=False, server=None)
    virtually(tidy.tidy_up(spawner))
    assert spawner.stops == database.rollbacks == 0


def test_a_newer_session_of_that_name_is_left_alone(virtually: Callable[[Any], Any], database: Database) -> None:
    spawner = spawner_of(0, stop_pending=False, server=object())
    spawner.user.spawners[""] = object()
    virtually(tidy.tidy_up(spawner))
    assert spawner.stops == database.rollbacks == 0


def test_a_start_that_jupyterhub_still_waits_for_is_left_to_it(
    virtually: Callable[[Any], Any], database: Database
) -> None:
    spawner = spawner_of(0, stop_pending=False, server=object())

    class Waited:
        """A start that is under way for the first three looks."""

        looks = 0

        def done(self) -> bool:
            self.looks += 1
            assert spawner.stops == 0
            return self.looks > 3

    spawner._spawn_future = Waited()
    virtually(tidy.tidy_up(spawner))
    assert (spawner._spawn_future.looks, spawner.stops) == (4, 1)
