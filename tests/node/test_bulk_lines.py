"""Cutting a document's canonical bytes out of its line's gives what canonicalising it alone gives, and lines
that are read together what they are one by one."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.bulk_lines import Chunk, LineCutter, LineReader, TooLong
from node.http.problems import Problem
from node.http.router import Router
from node.http.routes import ROUTES
from node.limits import BULK_CHUNK_LINES_MAX, BULK_LINE_SIZE_BYTES_MAX, DOCUMENT_SIZE_BYTES_MAX
from stele.format.canonical import canonicalize
from stele.format.limits import DOCUMENT_KEY_SIZE_BYTES_MAX, INTEGER_MAX, JSON_DEPTH_MAX
from storage.commands import Operation
from storage.outcomes import Committed

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(-1e15, 1e15, allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def reader() -> LineReader:
    return LineReader("cars", check_table, lambda: "made", lambda count: [b"s" * 32] * count)


def check_table(name: str) -> None:
    if name == "dropped":
        raise Problem("table-dropped", "it was dropped")


@given(
    st.dictionaries(TEXT, VALUES, max_size=5),
    st.fixed_dictionaries({}, optional={"key": KEYS, "table": st.just("t"), "op": st.just("put")}),
    st.randoms(),
)
def test_the_payload_is_the_canonical_document(
    data: dict[str, Any], others: dict[str, str], random: Any
) -> None:
    if others.get("key") in (".", ".."):
        return
    members = [("data", data), *others.items()]
    random.shuffle(members)
    operation = reader().read(msgspec.json.encode(dict(members)))
    assert operation.payload == canonicalize(data)
    assert operation.key == others.get("key", "made")
    assert operation.table == others.get("table", "cars")


AWKWARD = st.text(st.sampled_from('ab:,"\\{}\n\u00e9\ud7ff\ue000\U0001f600'), max_size=4)
DOCUMENTS = st.dictionaries(AWKWARD | st.sampled_from(["key", "data"]), VALUES | AWKWARD, max_size=4)
PUTS = st.builds(
    lambda data, others, escaped: json.dumps({"data": data} | others, ensure_ascii=escaped).encode(),
    DOCUMENTS,
    st.fixed_dictionaries({"key": KEYS | AWKWARD}, optional={"table": st.sampled_from(["t", "dropped"])}),
    st.booleans(),
)
ODD = st.sampled_from(
    [
        b"",
        b"{}",
        b"{} {}",
        b" {}",
        b"{}\r",
        b"[1]",
        b'{"key":"a"}',
        b'{"data":{}}',
        b'{"data":[],"key":"a"}',
        b'{"data":null,"key":"a"}',
        b'{"op":"delete","key":"a"}',
        b'{"op":"put","key":"a","data":{}}',
        b'{"key":"a","data":{}}{"key":"b","data":{}}',
        b'{"key":"a","data":{}} {"key":"b","data":{}}',
        b'{"key":"a","data":{}},{"key":"b","data":{}}',
        b'{"key":"a","data":{"b":[{}',
        b'{"key":"a","data":{"b":[{},',
        b"{}]}}",
        b'{"key":"a","data":{"b":{}',
        b'{"key":"a","key":"b","data":{}}',
        b'{"key":"a","data":{"b":1,"b":2}}',
        b'{"key":"a","data":{"b":1e400}}',
        b'{"key":"a","data":{"b":9007199254740993}}',
        b'{"key":"a","data":{"b":9007199254740993.0}}',
        b'{"key":"a","data":{"b":1E2}}',
        b'{"key":"a","data":{"b":-0.0}}',
        b'{"key":"a","data":{"b":NaN}}',
        b'{"key":"a","data":{"b":"\xff"}}',
        b'{"key":"a","data":{"b":"\\ud800"}}',
        b'{"key":"a","data":{"b":"\\u0062\\n"}}',
        b'{"key":"a\xc3\xa9","data":{"\xee\x80\x80":1,"\xf0\x9f\x98\x80":2}}',
        b'{"key":"a/b","data":{}}',
        b'{"key":"..","data":{}}',
        b'{"key":"","data":{}}',
        b'{"key":7,"data":{}}',
        b'{"key":"a","table":7,"data":{}}',
    ]
)


def one_by_one(lines: list[bytes]) -> list[Operation] | None:
    try:
        return [reader().read(line) for line in lines]
    except Problem:
        return None


@given(st.lists(PUTS | ODD, min_size=1, max_size=6))
def test_lines_read_together_are_what_they_are_one_by_one(lines: list[bytes]) -> None:
    together = reader().read_together(b"\n".join(lines))
    assert together is None or together == one_by_one(lines)


def test_plain_puts_are_read_together() -> None:
    documents: list[dict[str, Any]] = [
        {},
        {"n": -1, "list": [1, None, {"deep": [{"deeper": [True]}]}], "key": ',"key":'},
        {"half": 0.5, "whole": 2.0, "text": "a\\\n.\u00e9\U0001f600", "\u00e9": {"key": "data"}},
    ]
    for each in (documents[:2], documents):
        lines = [msgspec.json.encode({"key": "\u00e9", "table": "t", "data": data}) for data in each]
        together = reader().read_together(b"\n".join(lines))
        assert together is not None
        assert together == one_by_one(lines)
        assert [operation.payload for operation in together] == [canonicalize(data) for data in each]


@pytest.mark.parametrize(
    "line",
    [
        b'{"key":"a","data":' + b'{"b":' * JSON_DEPTH_MAX + b"1" + b"}" * JSON_DEPTH_MAX + b"}",
        b'{"key":"a","data":' + b'{"b":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"key":"a","data":{"b":"' + b"x" * DOCUMENT_SIZE_BYTES_MAX + b'"}}',
        b'{"key":"a","data":{}' + b" " * BULK_LINE_SIZE_BYTES_MAX + b"}",
        b'{"key":"' + b"a" * (DOCUMENT_KEY_SIZE_BYTES_MAX + 1) + b'","data":{}}',
    ],
    ids=["deep", "very-deep", "long-document", "long-line", "long-key"],
)
def test_a_line_past_a_limit_is_not_read_together(line: bytes) -> None:
    lines = [b'{"key":"a","data":{}}', line]
    assert reader().read_together(b"\n".join(lines)) is None
    assert one_by_one(lines) is None


LONGEST = 6


@given(
    st.lists(
        st.sampled_from([b"", b"a", b"\r", b"x" * LONGEST, b"y" * (LONGEST + 1), b"z" * 3 * LONGEST]),
        max_size=8,
    ),
    st.booleans(),
    st.data(),
)
def test_lines_are_the_same_however_they_are_cut(
    lines: list[bytes], ended: bool, data: st.DataObject
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    if not ended:
        stream, lines = stream[:-1], lines if lines and lines[-1] else lines[:-1]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    cutter, found = LineCutter(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("node.limits.BULK_LINE_SIZE_BYTES_MAX", LONGEST)
        for start, end in pairwise([0, *cuts, len(stream)]):
            found += [*cutter.cut(stream[start:end])] if start < end else []
        found += [*cutter.end()]
    # Who reads a line is told how long it may be; the cutter only keeps no more than that.
    each = [
        line for text in found for line in ([b"y" * 9] if isinstance(text, TooLong) else text.split(b"\n"))
    ]
    assert [line if len(line) <= LONGEST else None for line in each] == [
        line if len(line) <= LONGEST else None for line in lines
    ]


def test_a_chunk_takes_no_more_than_fits() -> None:
    operations = [Operation("put", "t", "k", b"x" * 1000, b"")] * 1200
    chunk = Chunk()
    chunk.refuse(1, Problem("invalid-json", "no"))
    assert (chunk.take(2, operations[:100]), chunk.full) == (100, False)
    assert (chunk.take(102, operations), chunk.full) == (BULK_CHUNK_LINES_MAX - 101, True)
    assert (chunk.first_line, chunk.last_line, chunk.lines) == (2, BULK_CHUNK_LINES_MAX, BULK_CHUNK_LINES_MAX)
    large = Chunk()
    assert (large.take(1, [Operation("put", "t", "k", b"x" * 100_000, b"")] * 9), large.full) == (6, True)


def test_acknowledgements_follow_the_lines() -> None:
    chunk = Chunk()
    chunk.refuse(3, Problem("invalid-json", "no"))
    for line in (4, 5, 6):
        chunk.take(line, [Operation("put", "cars", f"k{line}", b"{}", b"")])
    text, accepted, refused = chunk.acknowledge(Committed(9, 0, b"", (7, 8), duplicates=1))
    lines = [msgspec.json.decode(line) for line in text.splitlines()]
    assert (accepted, refused) == (3, 1)
    assert lines[0]["error"]["type"] == "urn:stele:problem:invalid-json"
    assert lines[1:] == [
        {"line": 4, "duplicate": True},
        {"line": 5, "table": "cars", "key": "k5", "version": 7, "seq": 9},
        {"line": 6, "table": "cars", "key": "k6", "version": 8, "seq": 9},
    ]


def test_an_outcome_that_is_not_of_these_lines_is_never_acknowledged() -> None:
    chunk = Chunk()
    chunk.take(1, [Operation("put", "cars", f"k{n}", b"{}", b"") for n in range(3)])
    with pytest.raises(ValueError, match="shorter"):
        chunk.acknowledge(Committed(9, 0, b"", (0, 0)))


def test_a_route_declared_twice_is_a_mistake() -> None:
    Router(ROUTES)
    with pytest.raises(ValueError, match="declared twice"):
        Router([*ROUTES, ROUTES[0]])
