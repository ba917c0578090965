"""The example in the catalogue: the world's time zones, from the package ``tzdata`` that the environment holds anyway."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import datetime
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

from deploy.catalogue import Offer

YEAR = 2026
COLUMNS = ("zone", "countries", "latitude", "longitude", "utc_january", "utc_july")

# ISO 6709 as the table has it: ±DDMM±DDDMM or ±DDMMSS±DDDMMSS.
_PLACE = re.compile(r"([+-])(\d{2})(\d{2})(\d{2})?([+-])(\d{3})(\d{2})(\d{2})?", re.ASCII)


def offer() -> Offer:
    """The set as it goes into the catalogue; its version is that of the package."""
    return Offer(
        name="time-zones",
        version=version("tzdata"),
        description=(
            "The time zones of the world: a place for each, where it lies, and how far its clocks are from UTC.\n"
            "zone: its name; countries: those that keep this time; latitude, longitude: degrees, north and east are positive; "
            f"utc_january, utc_july: hours that local clocks are ahead of UTC at noon UTC of 15 January and 15 July {YEAR}."
        ),
        licence="Public domain",
        citation="Time Zone Database, Internet Assigned Numbers Authority (IANA)",
        url="https://www.iana.org/time-zones",
        limits=(
            "One place stands for a whole zone; borders are not in it. Governments change their clocks at short notice, so "
            "the future is a forecast. Takes no position on legal or territorial claims."
        ),
        simulated=False,
        write=write,
    )


def write(folder: Path) -> None:
    """Write the set's one file."""
    with open(folder / "zones.csv", "x", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows())


def rows() -> Iterator[tuple[str, str, float, float, float, float]]:
    """A row for each zone, in the order of :data:`COLUMNS`."""
    # Names and not codes: readers of tables take Namibia's, NA, for a missing value.
    names = {code: name for code, name, *_ in _table("iso3166.tab")}
    for codes, place, zone, *_ in _table("zone1970.tab"):
        countries = "; ".join(names[code] for code in codes.split(","))
        yield zone, countries, *degrees(place), _offset(zone, 1), _offset(zone, 7)


def degrees(place: str) -> tuple[float, float]:
    """Latitude and longitude in degrees. Raises ``ValueError`` for what is not ISO 6709 as the table has it."""
    found = _PLACE.fullmatch(place)
    if not found:
        raise ValueError(f"{place!a} is no place of the table of time zones")
    north, *latitude = found.groups()[:4]
    east, *longitude = found.groups()[4:]
    return _decimal(north, latitude), _decimal(east, longitude)


def _decimal(sign: str, parts: list[str]) -> float:
    whole, minutes, seconds = (int(part or 0) for part in parts)
    return round((-1 if sign == "-" else 1) * (whole + minutes / 60 + seconds / 3600), 4)


def _offset(zone: str, month: int) -> float:
    # The package's own rules, whatever this host has.
    with (resources.files("tzdata") / "zoneinfo" / zone).open("rb") as file:
        rules = ZoneInfo.from_file(file, key=zone)
    local = datetime(YEAR, month, 15, 12, tzinfo=ZoneInfo("UTC")).astimezone(rules)
    offset = local.utcoffset()
    assert offset is not None
    return offset.total_seconds() / 3600


def _table(name: str) -> Iterator[list[str]]:
    text = (resources.files("tzdata") / "zoneinfo" / name).read_text(encoding="utf-8")
    return (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
