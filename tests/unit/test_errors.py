"""Errors: whose move it is, and messages that name every fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from studiolo.errors import (
    Fault,
    LauncherFailed,
    RequestError,
    SiteError,
    SlurmError,
    SlurmRefused,
    SlurmUnavailable,
    StudioloError,
    shown,
)


def test_every_error_is_one_that_studiolo_raises_on_purpose() -> None:
    for kind in (SiteError, RequestError, SlurmError):
        assert issubclass(kind, StudioloError)
    for kind in (LauncherFailed, SlurmRefused, SlurmUnavailable):
        assert issubclass(kind, SlurmError)


def test_no_answer_is_never_taken_for_a_refusal() -> None:
    assert not issubclass(SlurmUnavailable, SlurmRefused)
    assert not issubclass(SlurmRefused, SlurmUnavailable)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("cpus", "99", "at most 16"), "cpus = 99: at most 16"),
        (Fault("cpus", "", "missing"), "cpus: missing"),
        (Fault("hub.port", "0", "at least 1", 7), "line 7: hub.port = 0: at least 1"),
        (Fault("hub.port", "", "missing", 7), "line 7: hub.port: missing"),
    ],
)
def test_a_fault_names_line_key_value_and_what_is_allowed(fault: Fault, text: str) -> None:
    assert str(fault) == text


def test_a_site_error_lists_all_faults_and_names_the_file() -> None:
    faults = [Fault("a", "1", "two"), Fault("b", "", "missing", 3)]
    error = SiteError(faults, "/etc/studiolo/site.toml")
    assert error.faults == tuple(faults)
    assert str(error).splitlines() == [
        "/etc/studiolo/site.toml: 2 fault(s) to mend",
        "  a = 1: two",
        "  line 3: b: missing",
    ]


def test_a_request_error_lists_all_faults() -> None:
    error = RequestError([Fault("gpus", "9", "at most 4"), Fault("cpus", "0", "at least 1")])
    assert str(error).splitlines()[1:] == ["  gpus = 9: at most 4", "  cpus = 0: at least 1"]


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        (SlurmRefused, "Slurm refused to submit: "),
        (SlurmUnavailable, "Slurm did not answer when asked to submit: "),
        (LauncherFailed, "The hub was not able to submit on your behalf: "),
    ],
)
def test_slurms_own_words_are_kept(kind: type[SlurmError], start: str) -> None:
    error = kind("submit", "sbatch: error: Invalid account {or} partition %s\n")
    assert error.words == "sbatch: error: Invalid account {or} partition %s"
    assert error.action == "submit"
    assert str(error) == start + error.words


def test_a_program_that_fails_without_a_word_still_gives_a_sentence() -> None:
    assert SlurmRefused("submit", " \n").words == "no reason given"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
@example("\x1b]0;title\x07")
@example("line\nline\r\x00")
@example("\u202egnp.exe")
@example("\ud800")
@example(["\x1b[2J", {"\n": "\u2028"}])
def test_any_value_is_shown_short_and_without_control_characters(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert 1 <= len(text) <= 80
    text.encode()


def test_a_long_value_is_cut_where_the_message_says_so() -> None:
    assert shown("x" * 500, limit=10) == "'xxxxxxxx…"


def test_a_number_too_long_for_python_to_print_is_shown_all_the_same(assert_harmless: Callable[[str], None]) -> None:
    # repr() of an integer of more than 4300 digits is a ValueError; TOML can hold one, in hexadecimal.
    assert_harmless(shown(10**5000))


def test_a_list_nested_too_deep_for_python_to_print_is_shown_all_the_same(
    assert_harmless: Callable[[str], None],
) -> None:
    # json.loads takes almost as many levels as the stack has; repr() of the same value needs more and is a RecursionError.
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert_harmless(shown(nested))
