"""Cards of data sets: Croissant files from anybody -> values, or every fault. Nothing of a hostile one is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.errors import CardError
from studiolo.holdings.card import Card, Place, as_json, format_of, parse_card
from studiolo.holdings.show import bytes_words, card_html, card_text

PLACE = Place("site", Path("/srv/data"))
FOLDER = Path("/srv/data/sales")


def good(**changes: Any) -> dict[str, Any]:
    """A card that is as it should be, but for ``changes``; a key that is ``None`` is left out."""
    card = {
        "@context": {"@vocab": "https://schema.org/"},
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "sales",
        "description": "What was sold.\nIn a shop.",
        "license": "https://creativecommons.org/publicdomain/zero/1.0/",
        "citeAs": "A. Keller: Sales, 2026",
        "url": "https://example.org/sales",
        "rai:dataLimitations": "One shop only.",
        "studiolo:simulated": True,
        "studiolo:groups": [],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "sales.csv",
                "name": "sales.csv",
                "contentUrl": "sales.csv",
                "contentSize": "12 B",
                "encodingFormat": "text/csv",
                "sha256": "0" * 64,
            }
        ],
    }
    return {key: value for key, value in (card | changes).items() if value is not None}


def with_file(**changes: Any) -> dict[str, Any]:
    (file,) = good()["distribution"]
    return good(distribution=[{key: value for key, value in (file | changes).items() if value is not None}])


def with_files(**changes: Any) -> dict[str, Any]:
    files = {
        "@type": "cr:FileSet",
        "name": "pictures",
        "includes": "**/*.png",
        "encodingFormat": "image/png",
        "studiolo:files": 3,
        "studiolo:size": "30 B",
        "studiolo:sha256": "A" * 64,
    }
    return good(distribution=[{key: value for key, value in (files | changes).items() if value is not None}])


def parsed(card: Any) -> Card:
    return parse_card(card if isinstance(card, str) else json.dumps(card), PLACE, FOLDER)


def faults(card: Any) -> dict[str, str]:
    with pytest.raises(CardError) as refused:
        parsed(card)
    assert "/srv/data/sales/croissant.json" in str(refused.value)
    return {fault.where: fault.allowed for fault in refused.value.faults}


def test_a_card_says_what_where_from_for_whom_and_what_not_to_use_it_for() -> None:
    card = parsed(good())
    assert (card.name, card.full_name, card.size, card.simulated, card.groups) == ("sales", "sales", 12, True, ())
    assert card.limits == "One shop only."
    (part,) = card.parts
    assert (part.name, part.format, part.patterns, part.many) == ("sales.csv", "csv", ("sales.csv",), False)
    for text in (repr(card), card._repr_html_()):
        for fact in ("publicdomain", "One shop only.", "A. Keller", "12 bytes", "simulated", "everybody"):
            assert fact in text


def test_many_files_of_one_kind_are_one_part() -> None:
    (part,) = parsed(with_files()).parts
    assert (part.format, part.patterns, part.files, part.size, part.many) == ("image", ("**/*.png",), 3, 30, True)
    assert part.sha256 == "a" * 64


def test_keys_of_croissant_that_are_not_ours_to_check_are_let_be() -> None:
    assert (
        parsed(good(recordSet=[{"@type": "cr:RecordSet"}], creator={"name": "A"}, isLiveDataset=False)).name == "sales"
    )


@pytest.mark.parametrize(
    ("card", "where"),
    [
        (good(name="Sales"), "name"),  # not its folder's
        (good(name="../sales"), "name"),
        (good(name=None), "name"),
        (good(license=None), "license"),
        (good(license=""), "license"),
        (good(description=["a"]), "description"),
        (good(description="a\x1b[31m"), "description"),
        (good(citeAs=None, url=None), "citeAs"),
        (good(conformsTo="http://example.org"), "conformsTo"),
        (good(**{"@type": "sc:Person"}), "@type"),
        (good(**{"rai:dataLimitations": None}), "rai:dataLimitations"),
        (good(**{"studiolo:simulated": "no"}), "studiolo:simulated"),
        (good(**{"studiolo:groups": ["../x"]}), "studiolo:groups[0]"),
        (good(**{"studiolo:groups": None}), "studiolo:groups"),
        (good(distribution=[]), "distribution"),
        (good(distribution={"a": 1}), "distribution"),
        (good(distribution=[{"@type": "cr:Field"}]), "distribution[0].@type"),
        (good(distribution=good()["distribution"] * 2), "distribution[1].name"),
        (with_file(sha256="0" * 63), "distribution[0].sha256"),
        (with_file(sha256=None), "distribution[0].sha256"),
        (with_file(contentSize="12 kB"), "distribution[0].contentSize"),
        (with_file(contentSize=-1), "distribution[0].contentSize"),
        (with_file(contentSize=1.5), "distribution[0].contentSize"),
        (with_files(**{"studiolo:files": 0}), "distribution[0].studiolo:files"),
        (with_files(includes=["**/**/a"]), "distribution[0].includes[0]"),
        (with_files(includes="*" * 9), "distribution[0].includes[0]"),
        (with_files(includes="{a,b}.png"), "distribution[0].includes[0]"),
        (with_files(includes="../*.png"), "distribution[0].includes[0]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_key(card: dict[str, Any], where: str) -> None:
    assert list(faults(card)) == [where]


@pytest.mark.parametrize(
    "path",
    ["../other/sales.csv", "/etc/passwd", "a/../../b.csv", "~/x.csv", "https://example.org/x.csv", "a\\b.csv", "", ".",
     ".hidden/x.csv", "x\0.csv", "x\n.csv", "file:///etc/passwd", "a" * 600],
)  # fmt: skip
def test_a_path_that_could_lead_out_of_the_folder_is_refused(path: str) -> None:
    assert list(faults(with_file(contentUrl=path))) == ["distribution[0].contentUrl"]


@pytest.mark.parametrize("name", ["a.pkl", "A.PICKLE", "model.pt", "weights.pth", "x.joblib", "last.ckpt"])
def test_pickles_are_refused_by_their_name(name: str) -> None:
    assert "pickles" in faults(with_file(contentUrl=name))["distribution[0].contentUrl"]


@pytest.mark.parametrize("media", ["application/x-pickle", "application/python-pickle", "text/x-python"])
def test_pickles_and_programs_are_refused_by_their_media_type(media: str) -> None:
    assert "pickles" in faults(with_file(encodingFormat=media))["distribution[0].encodingFormat"]


def test_all_faults_are_told_at_once() -> None:
    assert len(faults(with_file(sha256="x", contentUrl="/x", contentSize="?"))) == 3


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", '"text"', "[" * 100_000, '{"a":' * 100_000, '{"name": NaN}', '{"name": ' + "9" * 5000 + "}",
     '{"name": "a", "name": "b"}', "null", "\ufeff{}"],
)  # fmt: skip
def test_what_is_no_object_of_json_is_refused(text: str) -> None:
    assert faults(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_json_it_is_it_is_read_or_refused(value: Any) -> None:
    faults(json.dumps(value))


@given(
    st.sampled_from(sorted(good())),
    st.none() | st.text() | st.integers() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
)
def test_whatever_stands_at_a_key_the_card_is_read_or_refused(key: str, value: Any) -> None:
    try:
        card = parsed(good() | {key: value})
    except CardError as refused:
        assert refused.faults
    else:
        assert card_text(card)
        assert card_html(card)


@pytest.mark.parametrize("groups", [[], ["lumen"], ["aurora", "lumen"]])
def test_in_a_groups_folder_a_card_is_for_that_group(groups: list[str]) -> None:
    place = Place("aurora", FOLDER.parent)
    assert parse_card(json.dumps(good(**{"studiolo:groups": ["aurora"]})), place, FOLDER).groups == ("aurora",)
    with pytest.raises(CardError, match=r"studiolo:groups = .*: \['aurora'\], in whose folder it lies"):
        parse_card(json.dumps(good(**{"studiolo:groups": groups})), place, FOLDER)


def test_what_is_written_is_read_back_as_the_same() -> None:
    aurora = good(**{"studiolo:groups": ["aurora"], "studiolo:simulated": False})
    for told in (good(), with_files(), aurora, {**good(), "studiolo:simulated": None}):
        card = parsed(told)
        assert parsed(as_json(card)) == card


def test_a_card_in_a_notebook_is_text_whatever_it_says() -> None:
    card = parsed(good(description="<script>alert(1)</script>", url="javascript:alert(1)", license='"><img src=x>'))
    html = card._repr_html_()
    for markup in ("<script", "<img", 'href="javascript'):
        assert markup not in html


@pytest.mark.parametrize(
    ("path", "media", "expected"),
    [("a.csv", "", "csv"), ("a.CSV.gz", "", "csv"), ("a", "text/csv", "csv"), ("a", "text/csv; charset=utf-8", "csv"),
     ("a.parquet", "application/octet-stream", "parquet"), ("a.npz", "", "npz"), ("a.nc", "application/x-netcdf", "other"),
     ("a.jpeg", "", "image"), ("a", "image/*", "image"), ("a.log", "", "text")],
)  # fmt: skip
def test_the_format_follows_the_media_type_then_the_name(path: str, media: str, expected: str) -> None:
    assert format_of(path, media) == expected


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_500_000, "1.5 MB"),
        (999_600, "1 MB"),
        (10**19, "1e+04 PB"),
    ],
)
def test_sizes_are_told_as_people_say_them(size: int, words: str) -> None:
    assert bytes_words(size) == words
