"""Golden files: what is asked for above a line, what comes of it below.

``scripts/*.txt`` hold the batch script of a request, ``refused/*.txt`` what its owner is told. The lines above are those
of ``studiolo script FIELD=VALUE …``, which takes them through the same gate and the same script as a session; lines
that begin with ``#`` say why the case is there. The site is that of the unit tests.

Written anew, to be looked over, by ``STUDIOLO_WRITE_GOLDEN=1 pytest tests/golden``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studiolo.cli import main

HERE = Path(__file__).parent
SITE = HERE.parent / "unit" / "site_for_tests.toml"
LINE = "---\n"


def cases(folder: str) -> list[Path]:
    found = sorted((HERE / folder).glob("*.txt"))
    assert found, f"no cases in {folder}"
    return found


def read(case: Path) -> tuple[str, list[str], str]:
    """Split a case: the text above the line, the options in it, and what is expected."""
    above, line, expected = case.read_text(encoding="utf-8").partition(LINE)
    assert line, f"{case.name} has no line of ---"
    return above, [option for option in above.splitlines() if option and not option.startswith("#")], expected


def compare(case: Path, above: str, said: str, expected: str) -> None:
    if os.environ.get("STUDIOLO_WRITE_GOLDEN"):
        case.write_text(above + LINE + said, encoding="utf-8")
    else:
        assert said == expected


@pytest.mark.parametrize("case", cases("scripts"), ids=lambda case: case.stem)
def test_a_request_gives_the_script_below_the_line(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    above, options, expected = read(case)
    assert main(["script", "--site", str(SITE), *options]) == 0
    compare(case, above, capsys.readouterr().out, expected)


@pytest.mark.parametrize("case", cases("refused"), ids=lambda case: case.stem)
def test_a_request_is_refused_with_the_words_below_the_line(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    above, options, expected = read(case)
    assert main(["script", "--site", str(SITE), *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    compare(case, above, said.err, expected)
