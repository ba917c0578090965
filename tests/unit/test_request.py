"""The gate: whatever comes in, a Request within the site's limits comes out, or every fault is told."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from studiolo.errors import RequestError
from studiolo.request import FIELDS, MAX_WORKDIR, Request, check
from studiolo.site import Site
from studiolo.units import parse_memory, parse_minutes

# --- Whatever may come in --------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(), max_size=40)  # surrogates included: JSON can carry them
GOOD = {
    "profile": ["learn", "quarter", "one", "course"],
    "partition": ["cpu", "gpu"],
    "gpus": [0, 1, 4, "1", " 2 "],
    "shards": [0, 1, 4, "3"],
    "cpus": [1, 8, 16, "4"],
    "memory": ["4G", "60G", 1024, "512M"],
    "minutes": [1, 90, "2h", "1:00:00", "90m"],
    "hours": [1, 2.5, "8", "0.5"],
    "account": ["p1", "p2", "p3"],
    "qos": ["short", "long"],
    "reservation": ["course-2026", "r_1.x"],
    "features": [["nvme"], "nvme,ib", ["ib", "nvme"], ("ib",), []],
    "environment": ["base", "torch", "box", "full"],
    "workdir": ["~/work", "/data/p1", "a b; rm -rf $HOME", "~", "ö"],
}
NASTY = st.sampled_from(
    [
        "\n#SBATCH --uid=0",
        "\r\n",
        "\x00",
        "\x1b[2J",
        "\u2028",
        "\x85",
        "\ud800",
        "\u202e",
        ";id",
        "$(id)",
        "`id`",
        "' --uid=0 '",
        '"',
        "\\",
        "|",
        "&",
        ",",
        "..",
        "%",
        "--",
        "*",
        "{0}",
        "#",
    ]
)


def _spoilt(text: str) -> st.SearchStrategy[str]:
    """A good text with something that does not belong to it, or in other letters or digits."""
    return st.one_of(
        NASTY.map(lambda nasty: text + nasty),
        NASTY.map(lambda nasty: nasty + text),
        st.just(text.upper()),
        st.just(text.swapcase()),
        st.just(text.translate({ord(d): chr(0x0660 + int(d)) for d in string.digits})),
        st.just(text.translate({ord(d): chr(0xFF10 + int(d)) for d in string.digits})),
        st.just("-" + text),
        st.just(text * 100),
    )


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(1, 40).map(lambda digits: 10**digits),
    st.floats(),
    st.sampled_from([float("nan"), float("inf"), -0.0, 1e308, 2**31, 2**32, 2**63, 2**64, 10**9 - 1, 10**9]),
    TEXT,
    NASTY,
    st.integers(0, 40).map(lambda digits: "9" * digits),
    st.sampled_from(["²", "٣", "１", "1_000", "+1", "1e3", "0x10", "1.0", "null", "true", "NaN"]),
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
UNKNOWN = st.one_of(
    TEXT,
    st.sampled_from(
        ["Partition", "CPUS", "gpu", "uid", "gid", "script", "job-name", "req_partition", "cmd", "__class__", "faults"]
    ),
    st.sampled_from(FIELDS).map(lambda key: key + "\n"),
    st.sampled_from(FIELDS).map(str.title),
)


@st.composite
def options(draw: st.DrawFn) -> dict[str, object]:
    """Options as a form or REST may bring them: mostly good, a little spoilt, or nothing of the kind."""
    given_options: dict[str, object] = {}
    for key in draw(st.lists(st.sampled_from(FIELDS), unique=True, max_size=5)):
        good = draw(st.sampled_from(GOOD[key]))
        kind = draw(st.integers(0, 9))
        given_options[key] = good if kind < 8 else draw(_spoilt(str(good)) if kind == 8 else JSON)
    if draw(st.integers(0, 9)) == 0:
        given_options[draw(UNKNOWN)] = draw(JSON)
    return given_options


def good_options() -> st.SearchStrategy[dict[str, object]]:
    """Options that are each of the right kind; they need not fit one another."""
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in GOOD.items()})


# --- What must hold of whatever comes out ----------------------------------------------------------------------------


def assert_within_limits(request: Request, site: Site) -> None:
    """Everything that the rest of Studiolo relies on, said anew and not by way of the gate's own code."""
    assert request.profile in site.profiles
    assert request.environment in site.environments
    partition = site.partitions[request.partition]
    assert request.cluster == "main"
    for value in (request.gpus, request.shards, request.cpus, request.memory, request.minutes):
        assert type(value) is int
    assert 0 <= request.gpus <= partition.max_gpus
    assert 0 <= request.shards <= partition.max_shards
    assert not (request.gpus and request.shards)
    assert 1 <= request.cpus <= partition.max_cpus
    assert 1 <= request.memory <= partition.max_memory
    assert 1 <= request.minutes <= partition.max_time
    if request.account is not None:
        assert request.account in site.accounts
        assert not partition.accounts or request.account in partition.accounts
    if request.qos is not None:
        charged = [request.account] if request.account else list(site.accounts)
        assert any(request.qos in site.accounts[name].qos for name in charged)
    if request.reservation is not None:
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", request.reservation)
    assert type(request.features) is tuple
    assert len(set(request.features)) == len(request.features)
    assert set(request.features) <= set(partition.features)
    if request.workdir is not None:
        assert request.workdir.isprintable()
        assert 1 <= len(request.workdir.encode()) <= MAX_WORKDIR


def assert_told(error: RequestError, assert_harmless: Callable[[str], None]) -> None:
    """Each fault names its field and what is allowed, one line each."""
    assert error.faults
    for fault in error.faults:
        assert fault.where
        assert fault.allowed
    assert_harmless(str(error))
    assert str(error).count("\n") == len(error.faults)


@settings(max_examples=5 * settings.default.max_examples)
@given(raw=options())
def test_any_options_become_a_request_within_the_limits_or_are_refused_with_every_fault(
    site: Site, assert_harmless: Callable[[str], None], raw: dict[str, object]
) -> None:
    try:
        request = check(raw, site)
    except RequestError as error:
        event("refused")
        assert_told(error, assert_harmless)
    else:
        event("granted")
        assert_within_limits(request, site)
        assert set(raw) <= set(FIELDS)
        assert_granted_as_asked(request, raw)


def assert_granted_as_asked(request: Request, raw: Mapping[str, Any]) -> None:
    """What was asked for and granted is what was asked for."""
    asked = {key: value for key, value in raw.items() if value not in (None, "", [])}
    for key in ("profile", "partition", "account", "qos", "reservation", "environment", "workdir"):
        if key in asked:
            assert getattr(request, key) == asked[key]
    for key in ("gpus", "shards", "cpus"):
        if key in asked:
            assert getattr(request, key) == int(asked[key])
    if "memory" in asked:
        assert request.memory == parse_memory(asked["memory"])
    if "minutes" in asked:
        assert request.minutes == parse_minutes(asked["minutes"])
    if "hours" in asked:
        assert 60 * float(asked["hours"]) <= request.minutes < 60 * float(asked["hours"]) + 1
    if "features" in asked:
        names = asked["features"].split(",") if isinstance(asked["features"], str) else asked["features"]
        assert set(request.features) == {name.strip() for name in names}


@given(raw=JSON)
def test_any_value_at_all_in_place_of_the_options_is_a_request_or_refused(
    site: Site, assert_harmless: Callable[[str], None], raw: Any
) -> None:
    try:
        request = check(raw, site)
    except RequestError as error:
        assert_told(error, assert_harmless)
    else:
        assert raw is None or isinstance(raw, dict)
        assert_within_limits(request, site)


@given(raw=good_options())
def test_good_values_are_refused_only_for_not_fitting_one_another(site: Site, raw: dict[str, object]) -> None:
    try:
        assert_within_limits(check(raw, site), site)
    except RequestError as error:
        for fault in error.faults:
            assert re.search(
                r"on partition |not both|this partition offers none|some of nvme|one of (short|p1)|nothing can be chosen",
                fault.allowed,
            ), fault


@given(raw=options(), field=st.sampled_from(FIELDS), value=JSON)
def test_the_same_options_are_answered_the_same_twice_and_stay_as_they_were(
    site: Site, raw: dict[str, object], field: str, value: object
) -> None:
    raw = {**raw, field: value}
    before = repr(raw)
    answers = []
    for _ in range(2):
        try:
            answers.append(repr(check(raw, site)))
        except RequestError as error:
            answers.append(str(error))
    assert answers[0] == answers[1]
    assert repr(raw) == before


@given(
    fields=st.lists(st.sampled_from(FIELDS), unique=True, min_size=1),
    wrong=st.sampled_from([{"x": 1}, [[1]], "\x00", "\n1", True]),
)
def test_all_faults_are_told_at_once(site: Site, fields: list[str], wrong: object) -> None:
    with pytest.raises(RequestError) as caught:
        check(dict.fromkeys(fields, wrong), site)
    assert set(fields) <= {fault.where for fault in caught.value.faults}


@given(keys=st.lists(UNKNOWN.filter(lambda key: key not in FIELDS), unique=True, min_size=1, max_size=4))
@example(keys=["Partition"])
@example(keys=["partition "])
@example(keys=["partition\x00"])
def test_unknown_fields_are_refused_whatever_they_hold_and_the_known_ones_listed(site: Site, keys: list[str]) -> None:
    for value in (None, "", [], 1):
        with pytest.raises(RequestError) as caught:
            check(dict.fromkeys(keys, value), site)
        assert len(caught.value.faults) == len(keys)
        for fault in caught.value.faults:
            assert all(field in fault.allowed for field in FIELDS)


# Numbers of more digits than float() or repr() take, and lists deeper than repr() goes: neither may be an error of
# another kind, which the hub would answer with 500 and a traceback in its log.
LONG = {"400 digits": "9" * 400, "5000 digits": "9" * 5000}


@pytest.mark.parametrize("unit", ["", "G", "d", "h", "m", ":00", ":00:00", "-0"])
@pytest.mark.parametrize("digits", LONG)
@pytest.mark.parametrize("field", ["memory", "minutes", "hours", "cpus", "gpus", "shards"])
def test_a_number_of_hundreds_of_digits_is_refused_as_any_other(
    site: Site, assert_harmless: Callable[[str], None], field: str, digits: str, unit: str
) -> None:
    with pytest.raises(RequestError) as caught:
        check({field: LONG[digits] + unit}, site)
    assert_told(caught.value, assert_harmless)
    assert [fault.where for fault in caught.value.faults] == [field]
    assert "set_int_max_str_digits" not in str(caught.value)


@pytest.mark.parametrize("digits", [400, 4300, 5000])
@pytest.mark.parametrize("field", FIELDS)
def test_an_integer_of_hundreds_of_digits_is_refused_as_any_other(
    site: Site, assert_harmless: Callable[[str], None], field: str, digits: int
) -> None:
    with pytest.raises(RequestError) as caught:
        check({field: 10**digits}, site)
    assert_told(caught.value, assert_harmless)
    assert [fault.where for fault in caught.value.faults] == [field]


@pytest.mark.parametrize("field", FIELDS)
def test_the_deepest_value_that_json_can_bring_is_refused_as_any_other(site: Site, field: str) -> None:
    deepest: object = None
    for depth in range(100, 100_000, 10):  # the limit differs between versions of Python
        try:
            deepest = json.loads("[" * depth + "]" * depth)
        except RecursionError:
            break

    def deeper_in_the_stack() -> None:
        with pytest.raises(RequestError):
            check({field: deepest}, site)

    deeper_in_the_stack()


# --- Tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [None, {}, {"cpus": None, "memory": "", "features": []}])
def test_nothing_asked_for_is_the_first_profile(site: Site, raw: Any) -> None:
    assert check(raw, site) == Request(
        profile="learn",
        cluster="main",
        partition="cpu",
        gpus=0,
        shards=0,
        cpus=2,
        memory=4096,
        minutes=120,
        account=None,
        qos=None,
        reservation=None,
        features=(),
        environment="base",
        workdir=None,
    )


@pytest.mark.parametrize("name", ["learn", "quarter", "one", "course"])
def test_every_profile_of_the_site_is_granted_as_it_stands(site: Site, name: str) -> None:
    request, profile = check({"profile": name}, site), site.profiles[name]
    for key in ("partition", "gpus", "shards", "cpus", "memory", "account", "qos", "reservation", "features"):
        assert getattr(request, key) == getattr(profile, key)
    assert request.minutes == profile.time
    assert request.environment == (profile.environment or "base")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"profile": "one", "gpus": 2}, {"gpus": 2, "shards": 0}),
        ({"profile": "one", "shards": 2}, {"gpus": 0, "shards": 2}),
        ({"profile": "quarter", "gpus": 1}, {"gpus": 1, "shards": 0}),
        ({"profile": "quarter", "gpus": 0}, {"gpus": 0, "shards": 0}),
        ({"profile": "one", "gpus": 0, "shards": 1}, {"gpus": 0, "shards": 1}),
        ({"gpus": "0"}, {"gpus": 0, "partition": "cpu"}),
        ({"partition": "gpu"}, {"partition": "gpu", "cpus": 2}),
        ({"cpus": "16"}, {"cpus": 16}),
        ({"memory": "60G"}, {"memory": 61440}),
        ({"memory": 61440}, {"memory": 61440}),
        ({"memory": 64}, {"memory": 64}),
        ({"minutes": "480"}, {"minutes": 480}),
        ({"minutes": "8h"}, {"minutes": 480}),
        ({"hours": 8}, {"minutes": 480}),
        ({"hours": "1.5"}, {"minutes": 90}),
        ({"hours": 1.51}, {"minutes": 91}),
        ({"profile": "one", "account": "p2"}, {"account": "p2", "qos": None}),
        ({"profile": "course", "account": "p1"}, {"account": "p1", "qos": "short"}),
        ({"account": "p1", "qos": "long"}, {"qos": "long"}),
        ({"qos": "long"}, {"qos": "long", "account": None}),
        ({"account": "p3"}, {"account": "p3"}),
        ({"profile": "one", "features": "ib,nvme,ib"}, {"features": ("ib", "nvme")}),
        ({"profile": "one", "features": ["ib"]}, {"features": ("ib",)}),
        ({"environment": "box"}, {"environment": "box"}),
        ({"reservation": "my-res"}, {"reservation": "my-res"}),
        ({"workdir": "~/a b"}, {"workdir": "~/a b"}),
        ({"workdir": "x" * MAX_WORKDIR}, {"workdir": "x" * MAX_WORKDIR}),
    ],
)
def test_what_is_asked_for_overrides_the_profile(
    site: Site, raw: dict[str, object], expected: dict[str, object]
) -> None:
    request = check(raw, site)
    assert {key: getattr(request, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("raw", "faults"),
    [
        ({"profile": "big"}, ["profile = 'big': one of learn, quarter, one, course"]),
        ({"profile": "Learn"}, ["profile = 'Learn': one of learn, quarter, one, course"]),
        ({"profile": ["learn"]}, ["profile = ['learn']: one of learn, quarter, one, course"]),
        ({"partition": "gpu\n"}, ["partition = 'gpu\\n': text without line breaks or control characters"]),
        ({"cpus": 17}, ["cpus = 17: at most 16 on partition cpu"]),
        ({"cpus": 0}, ["cpus = 0: at least 1 on partition cpu"]),
        ({"cpus": "0"}, ["cpus = 0: at least 1 on partition cpu"]),
        ({"cpus": -1}, ["cpus = -1: a whole number, 0 or more"]),
        ({"cpus": 2.0}, ["cpus = 2.0: a whole number, 0 or more"]),
        ({"cpus": True}, ["cpus = True: a whole number, 0 or more"]),
        ({"cpus": "²"}, ["cpus = '²': a whole number, 0 or more"]),
        ({"cpus": "٣"}, ["cpus = '٣': a whole number, 0 or more"]),
        ({"cpus": "1_0"}, ["cpus = '1_0': a whole number, 0 or more"]),
        ({"cpus": 10**9}, ["cpus = 1000000000: a whole number, 0 or more"]),
        ({"gpus": 1}, ["gpus = 1: at most 0 on partition cpu"]),
        ({"profile": "one", "gpus": 5}, ["gpus = 5: at most 4 on partition gpu"]),
        ({"profile": "one", "gpus": 1, "shards": 1}, ["shards = 1: whole gpus or shards, not both"]),
        # Meant as GB, and no Python would begin in it.
        ({"memory": 16}, ["memory = 16 MB: at least 64 MB; a bare number counts in MB, and '16G' is 16 GB"]),
        ({"memory": "63M"}, ["memory = 63 MB: at least 64 MB; a bare number counts in MB, and '16G' is 16 GB"]),
        ({"memory": "61G"}, ["memory = 61 GB: at most 60 GB on partition cpu"]),
        ({"memory": float("nan")}, ["memory = nan: memory is a number with K, M, G or T, such as '16G'"]),
        ({"minutes": "9h"}, ["minutes = 9 h: at most 8 h on partition cpu"]),
        ({"hours": 9}, ["hours = 9 h: at most 8 h on partition cpu"]),
        ({"hours": "2h"}, ["hours = '2h': hours as a number, such as 2 or 1.5"]),
        ({"hours": 1, "minutes": 5}, ["hours = 1: minutes or hours, not both"]),
        ({"account": "p9"}, ["account = 'p9': one of p1, p2, p3 on partition cpu"]),
        ({"profile": "one", "account": "p3"}, ["account = 'p3': one of p1, p2 on partition gpu"]),
        ({"qos": "long", "account": "p2"}, ["qos = 'long': one of short"]),
        ({"qos": "short", "account": "p3"}, ["qos = 'short': nothing can be chosen here"]),
        ({"reservation": "a b"}, ["reservation = 'a b': the name of a reservation: letters, digits, '_', '.' and '-'"]),
        ({"features": "nvme"}, ["features = 'nvme': this partition offers none"]),
        ({"profile": "one", "features": "fast"}, ["features = 'fast': some of nvme, ib"]),
        ({"profile": "one", "features": ["nvme", 1]}, ["features = ['nvme', 1]: some of nvme, ib"]),
        ({"environment": "tf"}, ["environment = 'tf': one of base, torch, box, full"]),
        ({"workdir": "a\nb"}, ["workdir = 'a\\nb': text without line breaks or control characters"]),
        ({"workdir": 5}, ["workdir = 5: a folder, absolute or below your home, at most 4096 bytes"]),
        ({"uid": 0}, [f"'uid': unknown; known are: {', '.join(FIELDS)}"]),
        # What comes with the profile must fit the partition that was chosen in its place.
        (
            {"profile": "one", "partition": "cpu"},
            [
                "gpus = 1 (from profile one): at most 0 on partition cpu",
                "memory = 64 GB (from profile one): at most 60 GB on partition cpu",
                "features = 'nvme' (from profile one): this partition offers none",
            ],
        ),
        (
            {"cpus": 99, "memory": "x", "colour": "red", "minutes": "9h"},
            [
                f"'colour': unknown; known are: {', '.join(FIELDS)}",
                "memory = 'x': memory is a number with K, M, G or T, such as '16G'",
                "cpus = 99: at most 16 on partition cpu",
                "minutes = 9 h: at most 8 h on partition cpu",
            ],
        ),
        ("cpus=1", ["the request = 'cpus=1': an object of fields and values"]),
        ([1], ["the request = [1]: an object of fields and values"]),
    ],
)
def test_a_fault_names_field_value_and_what_is_allowed(site: Site, raw: Any, faults: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        check(raw, site)
    assert [str(fault) for fault in caught.value.faults] == faults


def test_a_folder_of_too_many_bytes_is_refused_though_its_letters_are_few_enough(site: Site) -> None:
    with pytest.raises(RequestError):
        check({"workdir": "ö" * MAX_WORKDIR}, site)


@pytest.mark.parametrize("field", ["gpus", "shards", "cpus", "memory", "minutes", "hours"])
@pytest.mark.parametrize("value", ["1\n", "\n1", "1\r", "1\x0b", "1\x1c", "1\x85", "1\u2028"])
def test_a_number_with_a_line_break_or_control_character_around_it_is_refused(
    site: Site, field: str, value: str
) -> None:
    # str.strip and int() both take them for blanks: the number is harmless, the promise is that they are refused.
    with pytest.raises(RequestError) as caught:
        check({"profile": "quarter", "shards": 0, field: value}, site)
    assert [fault.where for fault in caught.value.faults] == [field]


@pytest.mark.parametrize("value", ["nvme\n", "\x1cnvme", "nvme,ib\x85", ["nvme\n"]])
def test_a_feature_with_a_line_break_or_control_character_around_it_is_refused(site: Site, value: object) -> None:
    with pytest.raises(RequestError):
        check({"profile": "one", "features": value}, site)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), {}, {"a": 1}, [None], [{}], False, True, "\x00", "\n", "\ud800", b"x"])
def test_values_of_the_wrong_kind_are_refused_in_every_field(site: Site, field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        check({field: value}, site)
    assert field in {fault.where for fault in caught.value.faults}


def test_a_request_can_not_be_changed(site: Site) -> None:
    with pytest.raises(AttributeError):
        check({}, site).cpus = 99  # type: ignore[misc]
