"""Names of sessions and how many there may be: decided by plain functions, told in words."""

from __future__ import annotations

import pytest

from spawners.named import kept_names, limit_refusal, name_refusal, title_refusal


@pytest.mark.parametrize("name", ["a", "gpu-work", "run2", "a" * 30])
def test_a_plain_name_is_taken(name: str) -> None:
    assert name_refusal(name) == ""


@pytest.mark.parametrize(
    "name", ["", "A", "a/b", "..", "a--b", "1a", "a-", "-a", "a\n", "é", "a" * 31, None, 7, ["a"], b"a"]
)
def test_any_other_name_is_refused_with_the_rule(name: object) -> None:
    assert "up to 30 small letters, digits and single hyphens" in name_refusal(name)


def test_a_refused_name_is_quoted_short_and_harmless() -> None:
    words = name_refusal("\x1b[31m" + "a" * 10_000)
    assert words.isprintable()
    assert len(words) < 250


@pytest.mark.parametrize("title", ["a", "Training run 2", "数学", "<b>", "100 %", "x" * 60])
def test_a_title_may_be_any_text_on_one_line(title: str) -> None:
    assert title_refusal(title) == ""


@pytest.mark.parametrize("title", ["", " a", "a ", "a  b", "a\tb", "a\nb", "a\u202eb", "x" * 61, None, 7])
def test_any_other_title_is_refused(title: object) -> None:
    assert "up to 60 printable characters" in title_refusal(title)


def test_under_the_limit_there_is_nothing_to_say() -> None:
    assert limit_refusal(["", "second"], 3) == ""
    assert limit_refusal([], 1) == ""


def test_at_the_limit_it_says_what_is_there_what_is_allowed_and_whose_move_it_is() -> None:
    words = limit_refusal(["", "second"], 2)
    assert words == (
        "You have 2 sessions (the one without a name, second), and 2 at once are what a person may have here. "
        "Stop one first."
    )
    assert "Stop it first" in limit_refusal([""], 1)


def test_as_many_names_are_kept_as_sessions_may_be_there() -> None:
    assert kept_names(1) == kept_names(20) == 20
    assert kept_names(50) == 50
