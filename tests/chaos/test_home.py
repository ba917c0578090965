"""A home without room, or closed: its owner gets in where that is possible, so that they can tidy up, and is told where not."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from chaos import Chaos, full_home
from hubclient import Hub

LEARN = {"profile": "learn"}


@contextmanager
def belonging(user: str, owner: int, mode: int) -> Iterator[None]:
    """A home of another owner and mode."""
    home = pwd.getpwnam(user).pw_dir
    before = os.stat(home)
    os.chown(home, owner, owner)
    os.chmod(home, mode)
    try:
        yield
    finally:
        os.chown(home, before.st_uid, before.st_gid)
        os.chmod(home, before.st_mode & 0o7777)


def save(hub: Hub, user: str) -> Any:
    """Have the person's server save a new notebook; returns its answer."""
    token = hub.call("POST", f"users/{user}/tokens", json={"note": "test", "expires_in": 60}).json()["token"]
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return httpx.put(
        f"{hub.url}user/{user}/api/contents/new.ipynb",
        headers={"Authorization": f"token {token}"},
        json={"type": "notebook", "format": "json", "content": notebook},
        timeout=30,
    )


def test_a_full_home_lets_its_owner_in_and_says_so_when_they_save(hub: Hub, chaos: Chaos, ada: str) -> None:
    with full_home(ada) as data:
        hub.start(ada, LEARN)
        hub.ready(ada)
        job = hub.job(ada)
        answer = save(hub, ada)
        assert answer.status_code == 500
        assert "No space left on device" in answer.json()["message"]
        data.unlink()
        assert save(hub, ada).status_code in (200, 201)
        hub.stop(ada)
        chaos.no_trace(ada, job)


def test_a_read_only_home_lets_its_owner_in_and_says_so_when_they_save(hub: Hub, chaos: Chaos, ada: str) -> None:
    with belonging(ada, 0, 0o555):
        hub.start(ada, LEARN)
        hub.ready(ada)
        job = hub.job(ada)
        answer = save(hub, ada)
        # 500 where this home has never held a notebook's signature, which Jupyter wants to keep before it saves.
        assert answer.status_code in (403, 500)
        assert "Permission denied" in answer.json()["message"]
        hub.stop(ada)
    chaos.no_trace(ada, job)


def test_a_home_that_can_not_be_entered_is_named(hub: Hub, chaos: Chaos, ada: str) -> None:
    with belonging(ada, 0, 0o700):
        hub.start(ada, LEARN)
        told = hub.events(ada)[-1]
    assert told["failed"]
    assert pwd.getpwnam(ada).pw_dir in told["message"]
    assert "Permission denied" in told["message"]
    chaos.no_trace(ada)
