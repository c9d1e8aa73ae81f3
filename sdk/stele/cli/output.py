"""Results on standard output: a table for people, JSON or CSV for programs.

A table is drawn with rich on a terminal and is plain aligned text otherwise. Values are printed as
they are, never as markup, and control characters are escaped: they come from other people's data.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import chain, islice
from typing import Any, Literal

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Format = Literal["table", "json", "csv"]
Item = Mapping[str, Any]

_TABLE_ROWS_AT_ONCE = 200
_controls = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_encoder = msgspec.json.Encoder()


def item_of(value: msgspec.Struct) -> dict[str, Any]:
    """A struct as a JSON object, with times as the server writes them; what is absent is left out."""
    members: dict[str, Any] = {}
    for name, encoded_name, optional in _members_of(type(value)):
        member = getattr(value, name)
        if member is None and optional:
            continue
        if isinstance(member, datetime):
            member = member.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        members[encoded_name] = member
    return members


@cache
def _members_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, bool], ...]:
    fields = msgspec.structs.fields(kind)
    return tuple((field.name, field.encode_name, field.default is None) for field in fields)


class Printer:
    """Prints items in one of the formats."""

    def __init__(self, format: Format) -> None:
        self._format = format
        self._terminal = sys.stdout.isatty()

    def items(self, items: Iterable[Item], columns: Sequence[str]) -> None:
        """Many items, as they come. `columns` are shown in tables and CSV; JSON has all members."""
        if self._format == "json":
            self._json_array(items)
        elif self._format == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_raw(item.get(column)) for column in columns] for item in items)
        else:
            self._tables(iter(items), columns)

    def item(self, item: Item) -> None:
        """One item with all its members."""
        if self._format == "json":
            sys.stdout.write(self._json(item) + "\n")
        elif self._format == "csv":
            self.items([item], list(item))
        else:
            width = max((len(name) for name in item), default=0)
            for name, value in item.items():
                text = _shown(value)
                if isinstance(value, dict | list) and self._terminal:
                    text = "\n" + self._json(value)
                elif isinstance(value, str) and value.count("\n") > 1:
                    text = "\n" + "\n".join(_escaped(line) for line in value.rstrip("\n").split("\n"))
                sys.stdout.write(f"{name.ljust(width)}  {text}\n")

    def _json(self, value: Any) -> str:
        text = _encoder.encode(value)
        return (msgspec.json.format(text, indent=2) if self._terminal else text).decode()

    def _json_array(self, items: Iterable[Item]) -> None:
        separator = "[\n"
        for item in items:
            sys.stdout.write(separator + self._json(item))
            separator = ",\n"
        sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")

    def _tables(self, items: Iterable[Item], columns: Sequence[str]) -> None:
        """Rows in portions, so that a long list begins at once and needs little memory."""
        rows = ([_shown(item.get(column)) for column in columns] for item in items)
        first = True
        while portion := list(islice(rows, _TABLE_ROWS_AT_ONCE)):
            if self._terminal:
                self._rich_table(columns, portion, first)
            else:
                self._plain_table(columns if first else (), portion)
            first = False
        if first and self._terminal:
            sys.stderr.write("nothing found\n")

    def _rich_table(self, columns: Sequence[str], rows: list[list[str]], first: bool) -> None:
        table = Table(box=box.SIMPLE_HEAD, show_header=first, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console(highlight=False, markup=False, emoji=False).print(table)

    def _plain_table(self, columns: Sequence[str], rows: list[list[str]]) -> None:
        lines = list(chain([list(columns)] if columns else [], rows))
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        for line in lines:
            cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _raw(value: Any) -> Any:
    """A CSV cell: text and numbers as they are, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else _compact(value)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return _escaped(value if isinstance(value, str) else _compact(value))


def _compact(value: Any) -> str:
    return _encoder.encode(value).decode()


def _escaped(text: str) -> str:
    return _controls.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
