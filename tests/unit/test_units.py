"""Memory and time: what people write, what Slurm writes, and the way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from studiolo.units import (
    MAX_MEMORY_MB,
    MAX_MINUTES,
    memory_words,
    minutes_words,
    parse_memory,
    parse_minutes,
    slurm_memory,
    slurm_time,
)

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
    st.from_regex(r"[0-9.:\- ]{1,40}[dhmKMGTiB ]*"),
)

# More digits than a float (308) or Python's reader of integers (4300) takes.
LONG, LONGER = "9" * 400, "9" * 5000


@pytest.mark.parametrize(
    ("written", "mebibytes"),
    [
        ("16G", 16384),
        ("16g", 16384),
        ("16GB", 16384),
        ("16GiB", 16384),
        ("16 gb", 16384),
        ("  16G  ", 16384),
        ("1.5T", 1572864),
        ("0.5G", 512),
        ("512M", 512),
        ("512MB", 512),
        ("512", 512),
        (512, 512),
        ("2048K", 2),
        ("1K", 1),
        ("1025K", 2),
        ("0001G", 1024),
        ("1024T", MAX_MEMORY_MB),
        (1, 1),
    ],
)
def test_memory_is_read_as_people_and_slurm_write_it(written: object, mebibytes: int) -> None:
    assert parse_memory(written) == mebibytes


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "G",
        "0",
        "0G",
        "-1G",
        "+1G",
        "1e3",
        "16P",
        "16 G B",
        "16G 1M",
        "1,5G",
        ".5G",
        "5.G",
        "1025T",
        "٣G",
        "１６G",
        "²",
        "16\u212a",  # the Kelvin sign, which folds to a k
        "nan",
        "inf",
        "16G;id",
        "16G\x00",
        "$(id)",
        None,
        True,
        False,
        0,
        -1,
        1 << 31,
        16.0,
        float("nan"),
        ["16G"],
        {"G": 16},
        b"16G",
    ],
)
def test_what_is_no_memory_is_refused_with_what_is_allowed(written: object) -> None:
    with pytest.raises(ValueError, match=r"^memory (is a number|must lie between)"):
        parse_memory(written)


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        ("90", 90),
        (90, 90),
        ("90m", 90),
        ("90 min", 90),
        ("90 minutes", 90),
        ("1 minute", 1),
        ("2h", 120),
        ("2 H", 120),
        ("2 hours", 120),
        ("1 hour", 60),
        ("1.5h", 90),
        ("0.01h", 1),
        ("1h 30m", 90),
        ("1h30m", 90),
        ("1d", 1440),
        ("1 day", 1440),
        ("2 days", 2880),
        ("1d 12h", 2160),
        ("1d12h30m", 2190),
        ("30:00", 30),
        ("30:01", 31),
        ("0:30", 1),
        ("2:00:00", 120),
        ("02:00:01", 121),
        ("1-0", 1440),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("1-12:30:00", 2190),
        ("1-12:30:01", 2191),
        ("0-00:01:00", 1),
        ("366d", MAX_MINUTES),
    ],
)
def test_time_is_read_as_people_and_slurm_write_it(written: object, minutes: int) -> None:
    assert parse_minutes(written) == minutes


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "0",
        "0m",
        "0:00",
        "-5",
        "+5",
        "h",
        "d h m",
        "m5",
        "1h30",
        "1m 1h",
        "1.5d",
        "1.5",
        "2h:30",
        "1:2:3:4",
        "1-",
        "-1-0",
        "1--1",
        "367d",
        "527041",
        "1e3",
        "nan",
        "inf",
        "infinite",
        "UNLIMITED",
        "٣h",
        "２h",
        "2h;id",
        "2h\x00",
        "2 weeks",
        None,
        True,
        False,
        0,
        -1,
        float("nan"),
        float("inf"),
        1e300,
        [2],
        {"h": 2},
        b"2h",
    ],
)
def test_what_is_no_time_is_refused_with_what_is_allowed(written: object) -> None:
    with pytest.raises(ValueError, match=r"^a time (is minutes|must lie between)"):
        parse_minutes(written)


@pytest.mark.parametrize("parse", [parse_memory, parse_minutes])
@given(value=ANYTHING)
def test_any_value_at_all_is_a_bounded_number_or_a_value_error(parse: Callable[[object], int], value: object) -> None:
    try:
        number = parse(value)
    except ValueError as error:
        assert str(error).startswith(("memory ", "a time "))
    else:
        assert type(number) is int
        assert 1 <= number <= (MAX_MEMORY_MB if parse is parse_memory else MAX_MINUTES)


@pytest.mark.parametrize("parse", [parse_memory, parse_minutes])
@pytest.mark.parametrize(
    "written",
    [
        pytest.param(LONG, id="400 digits"),
        pytest.param(f"{LONG}G", id="400 digits G"),
        pytest.param(f"{LONG}d", id="400 digits d"),
        pytest.param(f"{LONG}h", id="400 digits h"),
        pytest.param(f"{LONG}m", id="400 digits m"),
        pytest.param(f"{LONG}:0", id="400 digits and seconds"),
        pytest.param(f"1-{LONG}:00:00", id="a day and 400 digits"),
        pytest.param(LONGER, id="5000 digits"),
        pytest.param(f"{LONGER}m", id="5000 digits m"),
        pytest.param(10**400, id="an integer of 400 digits"),
        pytest.param(10**5000, id="an integer of 5000 digits"),
    ],
)
def test_a_number_of_hundreds_of_digits_is_refused_as_any_other(
    parse: Callable[[object], int], written: object
) -> None:
    with pytest.raises(ValueError, match=r"^(memory|a time) "):
        parse(written)


@given(st.integers(1, MAX_MINUTES))
@example(1)
@example(59)
@example(60)
@example(1439)
@example(1440)
@example(MAX_MINUTES)
def test_minutes_come_back_from_slurms_way_of_writing_them(minutes: int) -> None:
    assert parse_minutes(slurm_time(minutes)) == minutes
    assert parse_minutes(minutes_words(minutes)) == minutes
    assert parse_minutes(str(minutes)) == minutes


@given(st.integers(1, MAX_MEMORY_MB))
def test_memory_comes_back_from_slurms_way_of_writing_it(mebibytes: int) -> None:
    assert parse_memory(slurm_memory(mebibytes)) == mebibytes
    assert parse_memory(str(mebibytes)) == mebibytes


@given(st.integers(1, MAX_MEMORY_MB))
def test_memory_in_words_is_within_a_thousandth_of_it(mebibytes: int) -> None:
    assert abs(parse_memory(memory_words(mebibytes)) - mebibytes) <= 1 + mebibytes / 1000


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (1, "0-00:01:00"),
        (90, "0-01:30:00"),
        (1440, "1-00:00:00"),
        (2190, "1-12:30:00"),
        (MAX_MINUTES, "366-00:00:00"),
    ],
)
def test_slurm_is_told_days_hours_minutes_and_seconds(minutes: int, text: str) -> None:
    assert slurm_time(minutes) == text


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "0 min"),
        (1, "1 min"),
        (60, "1 h"),
        (90, "1 h 30 min"),
        (1440, "1 d"),
        (2160, "1 d 12 h"),
        (1441, "1 d 1 min"),
    ],
)
def test_minutes_are_told_to_people_in_their_words(minutes: int, words: str) -> None:
    assert minutes_words(minutes) == words


@pytest.mark.parametrize(
    ("mebibytes", "words"),
    [
        (1, "1 MB"),
        (1023, "1023 MB"),
        (1024, "1 GB"),
        (1536, "1.5 GB"),
        (16384, "16 GB"),
        (1 << 20, "1 TB"),
        (3 << 19, "1.5 TB"),
    ],
)
def test_memory_is_told_to_people_in_their_words(mebibytes: int, words: str) -> None:
    assert memory_words(mebibytes) == words


def test_slurm_is_told_the_unit_of_memory_always() -> None:
    assert slurm_memory(16384) == "16384M"
