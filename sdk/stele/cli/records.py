"""From an input file to the lines of a bulk load."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import msgspec

from stele.cli.columns import ColumnType, Empty, infer, records
from stele.cli.exits import InputError, UsageError
from stele.cli.sources import Source
from stele.client import BulkLine

CSV_FIELD_SIZE_CHARACTERS_MAX = 2**20
SAMPLE_ROWS_MAX = 10_000
"""What of an input that cannot be read twice is looked at to find the types of its columns."""

LINE_SIZE_BYTES_MAX = 64 * 1024 * 1024

KeyOf = Callable[[dict[str, Any], int], str]
_placeholders = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class CsvRules:
    """How CSV is read: see the flags of `stele bulk`."""

    delimiter: str = ","
    text: tuple[str, ...] = ()
    all_text: bool = False
    nulls: frozenset[str] = field(default_factory=lambda: frozenset({""}))
    empty: Empty = "absent"


def key_rule(field_name: str | None, template: str | None) -> KeyOf | None:
    """How a document's key is made; None: the lines bring their keys. Raises UsageError."""
    if field_name is not None and template is not None:
        raise UsageError("--key and --key-template exclude each other")
    if field_name is not None:
        return lambda document, number: _key_part(document, field_name, number)
    if template is None:
        return None
    # Text and field names take turns, beginning and ending with text.
    texts_and_names = _placeholders.split(template)
    if len(texts_and_names) == 1:
        raise UsageError('--key-template needs a field in braces, such as "{carrier}-{flight}" or "{#}"')
    parts = [(text, place % 2 == 1) for place, text in enumerate(texts_and_names)]
    return lambda document, number: "".join(
        [_key_part(document, text, number) if is_name else text for text, is_name in parts]
    )


def _key_part(document: dict[str, Any], name: str, number: int) -> str:
    if name == "#":
        return str(number)
    value = document.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    found = "is not there" if value is None else f"is {type(value).__name__}, not text or a whole number"
    raise InputError(f"record {number}: the key's field {name!r} {found}")


def ndjson_lines(source: Source, key_of: KeyOf | None) -> Iterator[BulkLine | bytes]:
    """Lines of NDJSON. With a key rule each is a document; without, each is {"key", "data", …} already."""
    number = 0
    while line := source.stream.readline(LINE_SIZE_BYTES_MAX):
        text = line.strip()
        if not text:
            continue
        number += 1
        if key_of is None:
            yield text
            continue
        try:
            # Only to find the key: the text itself goes to the server, which judges it.
            document = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"record {number} is not a JSON object: {error}") from error
        yield BulkLine(key=key_of(document, number), data=msgspec.Raw(text))


def csv_lines(source: Source, key_of: KeyOf | None, rules: CsvRules) -> Iterator[BulkLine]:
    """Rows of CSV as documents, their columns typed. Without a key rule the server makes the keys."""
    types: list[ColumnType] | None = None
    if source.rewindable and not rules.all_text:
        with _text_of(source) as text:
            names, rows = _csv_rows(text, rules.delimiter, source.name)
            types = infer(rows, names, rules.nulls)
        source.rewind()
    with _text_of(source) as text:
        names, rows = _csv_rows(text, rules.delimiter, source.name)
        if types is None:
            sample = [] if rules.all_text else list(islice(rows, SAMPLE_ROWS_MAX))
            types = infer(sample, names, rules.nulls)
            rows = chain(sample, rows)
        documents = records(
            rows, names, _overridden(types, names, rules), nulls=rules.nulls, empty=rules.empty
        )
        for number, document in enumerate(documents, start=1):
            yield BulkLine(key=None if key_of is None else key_of(document, number), data=document)


def _overridden(types: Sequence[ColumnType], names: Sequence[str], rules: CsvRules) -> list[ColumnType]:
    unknown = sorted(set(rules.text) - set(names))
    if unknown:
        raise UsageError(f"--text names columns that are not there: {', '.join(unknown)}")
    return ["text" if name in rules.text else kind for name, kind in zip(names, types, strict=True)]


@contextmanager
def _text_of(source: Source) -> Iterator[io.TextIOWrapper]:
    """The source as text. Detached at the end, because a wrapper closes its stream when it goes."""
    text = io.TextIOWrapper(source.stream, encoding="utf-8-sig", errors="strict", newline="")
    try:
        yield text
    finally:
        text.detach()


def _csv_rows(text: io.TextIOWrapper, delimiter: str, name: str) -> tuple[list[str], Iterator[list[str]]]:
    csv.field_size_limit(CSV_FIELD_SIZE_CHARACTERS_MAX)
    try:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
    except TypeError as error:
        raise UsageError(f"--delimiter must be one character: {error}") from error
    rows = _checked(reader, name)
    names = next(rows, None)
    if names is None:
        raise InputError(f"{name} has no header line")
    if "" in names or len(set(names)) != len(names):
        raise InputError(f"{name}: every column needs a name of its own in the header line")
    return names, rows


def _checked(reader: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    """The header and the rows that are not empty, all of one width."""
    width = 0
    number = -1
    try:
        for row in reader:
            if not row:
                continue
            number += 1
            if len(row) != width:
                if number:
                    raise InputError(f"{name}: record {number} has {len(row)} cells, the header has {width}")
                width = len(row)
            yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{name} is not CSV in UTF-8: {error}") from error
