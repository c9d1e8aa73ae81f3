"""Query strings, decoded strictly into the Struct that a route declares.

A parameter that the route does not know, or that comes twice, is refused: a misspelt `as_of_seq`
would otherwise answer with the present.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, UnsetType

from node import limits
from node.http.problems import Problem
from stele.format.errors import InvalidTime
from stele.format.times import parse_time

NUMBER_MAX = (1 << 53) - 1
"""Numbers beyond this are not exact in every JSON reader (RFC 8259, section 6)."""

Seq = Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="Number of a block, from 0.")]
Size = Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="A number of blocks.")]
Version = Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="Version of a document, from 0.")]
Consistency = Annotated[
    Literal["strong", "snapshot"],
    Meta(
        description=(
            "strong: as of now, confirmed by the leader. snapshot: what the answering node has applied."
        )
    ),
]
Limit = Annotated[int, Meta(ge=1, le=limits.PAGE_LIMIT_MAX, description="Rows of a page.")]
Cosignatures = Annotated[
    int,
    Meta(
        ge=0,
        le=limits.VOTERS_MAX,
        description="Wait, for a few seconds, until so many replicas have cosigned the checkpoint.",
    ),
]
Witnesses = Annotated[
    str,
    Meta(
        max_length=1024,
        description="Names of keys, separated by commas, that must have cosigned it too: outside witnesses "
        "that the nodes are set up to ask.",
    ),
]
Time = Annotated[
    str,
    Meta(
        description="RFC 3339 time, for example 2026-11-23T13:35:31.123456Z.",
        extra_json_schema={"format": "date-time"},
    ),
]


class Query(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A route without query parameters; base of those that have some."""


class ReadQuery(Query, kw_only=True, frozen=True):
    consistency: Consistency = "strong"
    min_seq: (
        Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="Wait until the node has applied this block.")]
        | UnsetType
    ) = UNSET


class ViewQuery(ReadQuery, kw_only=True, frozen=True):
    as_of_seq: (
        Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="Show the state after this block.")] | UnsetType
    ) = UNSET
    as_of: Time | UnsetType = UNSET


QueryType = TypeVar("QueryType", bound=Query)

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_FIELD = re.compile(r" - at `\$\.([^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"missing required field `([^`]*)`")
_OFFSET = re.compile(r"(:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:[0-9]{2})\Z")
_BOUND = re.compile(r"Expected `int` (?:>=|<=) (-?[0-9]+)")
_LENGTH = re.compile(r"of length (?:>=|<=) ([0-9]+)")


def parse_query(kind: type[QueryType], text: str) -> QueryType:
    """Decode a raw query string. Raises Problem (unknown-parameter, invalid-parameter)."""
    pairs: list[tuple[str, str]] = []
    try:
        if text:
            pairs = parse_qsl(
                text,
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=limits.QUERY_PARAMETERS_MAX,
            )
    except ValueError as error:
        raise Problem("invalid-parameter", f"the query string cannot be read: {error}") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem("invalid-parameter", f"{twice!r} is given twice", field=twice)
    for field in msgspec.structs.fields(kind):
        if field.name in values:
            _check_text(field, values[field.name])
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise parameter_problem(error, kind) from error


def parse_moment(field: str, text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time. Raises Problem (invalid-parameter)."""
    # A plus sign that is not escaped reads as a space in a query string (WHATWG URL, section 5.1).
    text = _OFFSET.sub(r"\1+\2", text)
    try:
        return parse_time(text)
    except InvalidTime as error:
        raise Problem("invalid-parameter", str(error), field=field) from error


def _check_text(field: msgspec.structs.FieldInfo, text: str) -> None:
    # msgspec's lax mode also reads 1e2, 5.0 and TRUE. One way to write a number is enough.
    kind = _plain_type(field.type)
    if kind is int and not _INTEGER.fullmatch(text):
        raise Problem("invalid-parameter", f"{field.name!r} must be a whole number", field=field.name)
    if kind is bool and text not in ("true", "false"):
        raise Problem("invalid-parameter", f"{field.name!r} must be true or false", field=field.name)


def _plain_type(kind: Any) -> Any:
    """`Annotated[int, …] | UnsetType` → int."""
    for member in getattr(kind, "__args__", ()):
        if member is not UnsetType:
            return _plain_type(member)
    return kind


def parameter_problem(error: msgspec.ValidationError, kind: type[Query]) -> Problem:
    text = str(error)
    unknown = _UNKNOWN.search(text)
    if unknown:
        known = ", ".join(field.name for field in msgspec.structs.fields(kind)) or "none"
        name = unknown.group(1)
        return Problem(
            "unknown-parameter", f"there is no parameter {name!r} here (known: {known})", field=name
        )
    return _value_problem("invalid-parameter", text)


def field_problem(error: msgspec.ValidationError) -> Problem:
    """The 422 for a JSON body that does not have the expected form."""
    return _value_problem("invalid-field", str(error))


def _value_problem(slug: str, text: str) -> Problem:
    at = _FIELD.search(text)
    named = _UNKNOWN.search(text) or _MISSING.search(text)
    field: str | UnsetType = at.group(1) if at else UNSET
    if named:
        field = f"{field}.{named.group(1)}" if at else named.group(1)
    bound = _BOUND.search(text) or _LENGTH.search(text)
    limit = int(bound.group(1)) if bound else UNSET
    return Problem(slug, text.replace("`$.", "`"), field=field, limit=limit)
