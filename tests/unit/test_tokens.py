"""Tokens for slurmrestd: short-lived, renewed in time, never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from studiolo.errors import LauncherFailed
from studiolo.slurm.tokens import LIFETIME_SECONDS, SPARE_SECONDS, Tokens

KEY = bytes(range(200, 232))


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> Tokens:
    (tmp_path / "key").write_bytes(KEY)
    return Tokens(tmp_path / "key", clock)


def read(token: str) -> dict[str, object]:
    """What slurmctld reads in a token, its signature checked; the test's clock is not the host's."""
    content: dict[str, object] = jwt.decode(
        token, KEY, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False}
    )
    return content


def test_a_token_names_its_person_and_lives_for_less_than_five_minutes(tokens: Tokens, clock: Clock) -> None:
    assert read(tokens.token("ada")) == {
        "iat": int(clock.now),
        "exp": int(clock.now) + LIFETIME_SECONDS,
        "sun": "ada",
    }
    assert LIFETIME_SECONDS <= 300


def test_everybody_has_a_token_of_their_own_which_is_made_once(tokens: Tokens) -> None:
    assert tokens.token("ada") == tokens.token("ada")
    assert tokens.token("ada") != tokens.token("ben")


@pytest.mark.parametrize("later", [*range(0, 2 * LIFETIME_SECONDS, 7), -5, -3600])
def test_a_token_outlives_its_question_whatever_the_clock_does(tokens: Tokens, clock: Clock, later: int) -> None:
    tokens.token("ada")
    clock.now += later
    left = int(str(read(tokens.token("ada"))["exp"])) - clock.now
    assert SPARE_SECONDS <= left <= LIFETIME_SECONDS


def test_outdated_tokens_are_forgotten(tokens: Tokens, clock: Clock) -> None:
    for number in range(50):
        tokens.token(f"learner{number}")
    clock.now += LIFETIME_SECONDS
    tokens.token("ada")
    assert list(tokens._tokens) == ["ada"]


def test_a_changed_key_counts_with_the_next_token(tokens: Tokens, clock: Clock) -> None:
    before = tokens.token("ada")
    tokens.key_file.write_bytes(KEY[::-1])
    clock.now += LIFETIME_SECONDS
    with pytest.raises(jwt.InvalidSignatureError):
        read(tokens.token("ada"))
    assert read(before)


def test_a_token_for_a_wrong_clock_is_not_kept(tokens: Tokens, clock: Clock) -> None:
    assert int(str(read(tokens.probe("hub"))["exp"])) > clock.now + 12 * 3600
    assert tokens._tokens == {}


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_a_key_that_is_none_is_the_operators_to_mend_and_its_content_is_not_told(
    tokens: Tokens, content: bytes | None, assert_harmless: Callable[[str], None]
) -> None:
    tokens.key_file.unlink()
    if content is not None:
        tokens.key_file.write_bytes(content)
    with pytest.raises(LauncherFailed) as caught:
        tokens.token("ada")
    assert str(tokens.key_file) in str(caught.value)
    assert "short" not in str(caught.value)
    assert_harmless(str(caught.value))


def test_nothing_that_is_printed_holds_a_token_or_the_key(tokens: Tokens) -> None:
    token = tokens.token("ada")
    for text in (repr(tokens), str(tokens), repr(vars(tokens)), repr(tokens._tokens)):
        assert token not in text
        assert token.rpartition(".")[2] not in text
        assert repr(KEY) not in text
