"""CSV columns with types, inferred so that no value changes. Pure.

A column is "integer" when every cell that is not empty is written as JSON writes an integer and lies
within 2^53 - 1: 7 and -3, but not 007, +7 or 1e3, which may be codes. It is "number" when every
such cell is a decimal whose value a 64-bit float keeps (12.50 becomes 12.5; 1e3 alone may be a
code). Every other column is "text".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, Literal

from stele.cli.exits import InputError

ColumnType = Literal["integer", "number", "text"]
Empty = Literal["absent", "null"]

INTEGER_MAX = 2**53 - 1
ROWS_AT_ONCE = 2_000

_integer_matches = re.compile("0|-?[1-9][0-9]{0,15}").fullmatch
_number_matches = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,17}(?:[eE][+-]?[0-9]{1,3})?)?").fullmatch


def is_integer(cell: str) -> bool:
    return _integer_matches(cell) is not None and -INTEGER_MAX <= int(cell) <= INTEGER_MAX


def is_number(cell: str) -> bool:
    """Whether the shortest text of the nearest float has the value that is written."""
    if _number_matches(cell) is None:
        return False
    value = float(cell)
    if abs(value) > INTEGER_MAX or (value == 0 and cell.startswith("-")):
        return False  # no canonical JSON form here
    return Decimal(repr(value)) == Decimal(cell)


def infer(rows: Iterable[Sequence[str]], names: Sequence[str], nulls: frozenset[str]) -> list[ColumnType]:
    """The type of each column over all `rows`. A column without any value is text."""
    types: list[ColumnType | None] = [None] * len(names)
    reader = iter(rows)
    while portion := list(islice(reader, ROWS_AT_ONCE)):
        for place, column in enumerate(zip(*portion, strict=True)):
            if types[place] != "text":
                types[place] = _widened(types[place], set(column) - nulls)
    return [kind or "text" for kind in types]


def _widened(kind: ColumnType | None, cells: set[str]) -> ColumnType | None:
    if not cells:
        return kind
    if kind != "number" and all(map(is_integer, cells)):
        return "integer"
    return "number" if all(map(is_number, cells)) else "text"


def records(
    rows: Iterable[Sequence[str]],
    names: Sequence[str],
    types: Sequence[ColumnType],
    *,
    nulls: frozenset[str],
    empty: Empty,
) -> Iterator[dict[str, Any]]:
    """Each row as a document. Raises InputError for a cell that is not of its column's type.

    Works a column at a time and converts each distinct cell of a portion once: cells repeat a lot.
    """
    filler = None if empty == "null" else _ABSENT
    reader = iter(rows)
    first = 1
    while portion := list(islice(reader, ROWS_AT_ONCE)):
        columns: list[Iterator[Any]] = []
        gaps = False
        for name, kind, cells in zip(names, types, zip(*portion, strict=True), strict=True):
            distinct = set(cells)
            empties = distinct & nulls
            gaps = gaps or bool(empties)
            try:
                values = _converted(kind, distinct - nulls)
            except _WrongKind as wrong:
                number = first + cells.index(wrong.cell)
                raise InputError(
                    f"record {number}: {wrong.cell[:80]!r} in column {name!r} is of another kind than the "
                    f"cells above it; load the column with --text {name}"
                ) from None
            values |= dict.fromkeys(empties, filler)
            columns.append(map(values.__getitem__, cells))
        documents = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
        yield from map(_without_absent, documents) if gaps and filler is _ABSENT else documents
        first += len(portion)


_ABSENT = object()


class _WrongKind(ValueError):
    def __init__(self, cell: str) -> None:
        super().__init__(cell)
        self.cell = cell


def _without_absent(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not _ABSENT}


def _converted(kind: ColumnType, cells: set[str]) -> dict[str, Any]:
    if kind == "text":
        return dict(zip(cells, cells, strict=True))
    fits, convert = (is_integer, int) if kind == "integer" else (is_number, float)
    values: dict[str, Any] = {}
    for cell in cells:
        if not fits(cell):
            raise _WrongKind(cell)
        values[cell] = convert(cell)
    return values
