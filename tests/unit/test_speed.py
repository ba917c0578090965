"""What the hub does once instead of at each start: only where nothing is lost by it."""

from __future__ import annotations

import gc
from typing import Any

import jupyterhub.oauth.provider
import jupyterhub.orm
import pytest
from jupyterhub.utils import compare_token, new_token
from sqlalchemy import create_engine, text

from hub_config import speed

ASK = jupyterhub.orm.register_ping_connection  # before any test has configured a hub


@pytest.fixture
def hash_token(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What JupyterHub hashes an OAuth client's secret with."""
    monkeypatch.setattr(jupyterhub.oauth.provider, "hash_token", jupyterhub.oauth.provider.hash_token)
    speed.hash_once()
    return jupyterhub.oauth.provider.hash_token


def rounds(hashed: str) -> int:
    return int(hashed.split(":")[1])


def test_a_sessions_own_token_is_hashed_once_and_still_recognised(hash_token: Any) -> None:
    token = new_token()
    hashed = hash_token(token)
    assert rounds(hashed) == 1
    assert compare_token(hashed, token)
    assert not compare_token(hashed, new_token())


@pytest.mark.parametrize(
    "secret",
    ["", "correct horse battery staple", "0" * 32, new_token()[:-1], new_token().upper(), new_token() + "a"],
    ids=["empty", "words", "zeros", "too short", "capitals", "too long"],
)
def test_what_somebody_may_have_thought_up_is_stretched(hash_token: Any, secret: str) -> None:
    assert rounds(hash_token(secret)) == rounds(jupyterhub.utils.hash_token(secret)) > 10_000


@pytest.mark.parametrize("trusting", [True, False])
def test_a_file_is_not_asked_for_a_sign_of_life(monkeypatch: pytest.MonkeyPatch, trusting: bool) -> None:
    monkeypatch.setattr(jupyterhub.orm, "register_ping_connection", ASK)
    if trusting:
        speed.trust_files()
    said: list[str] = []
    engine = create_engine("sqlite://", future=True)
    jupyterhub.orm.register_ping_connection(engine)
    with engine.connect() as connection:
        connection.connection.driver_connection.set_trace_callback(said.append)  # type: ignore[union-attr]
    with engine.connect() as connection:
        connection.execute(text("SELECT 2"))
    assert any("SELECT 2" in line for line in said)
    assert any("SELECT 1" in line for line in said) != trusting


def test_what_is_there_when_the_hub_begins_is_not_looked_through_again() -> None:
    before = gc.get_freeze_count()
    try:
        speed.look_past_what_stays()
        assert gc.get_freeze_count() > before + 1000
        assert len(gc.get_objects()) < gc.get_freeze_count()
    finally:
        gc.unfreeze()
