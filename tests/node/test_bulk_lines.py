"""Cutting a document's canonical bytes out of its line's gives what canonicalising it alone gives."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.bulk_lines import Chunk, LineReader
from node.http.problems import Problem
from node.http.router import Router
from node.http.routes import ROUTES
from stele.format.canonical import canonicalize
from stele.format.limits import INTEGER_MAX
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
    return LineReader("cars", lambda name: None, lambda: "made", lambda: b"s" * 32)


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


def test_acknowledgements_follow_the_lines() -> None:
    chunk = Chunk()
    chunk.refuse(3, Problem("invalid-json", "no"))
    for line in (4, 5, 6):
        chunk.add(line, Operation("put", "cars", f"k{line}", b"{}", b""))
    text, accepted, refused = chunk.acknowledge(Committed(9, 0, b"", (7, 8), duplicates=1))
    lines = [msgspec.json.decode(line) for line in text.splitlines()]
    assert (accepted, refused) == (3, 1)
    assert lines[0]["error"]["type"] == "urn:stele:problem:invalid-json"
    assert lines[1:] == [
        {"line": 4, "duplicate": True},
        {"line": 5, "table": "cars", "key": "k5", "version": 7, "seq": 9},
        {"line": 6, "table": "cars", "key": "k6", "version": 8, "seq": 9},
    ]


def test_a_route_declared_twice_is_a_mistake() -> None:
    Router(ROUTES)
    with pytest.raises(ValueError, match="declared twice"):
        Router([*ROUTES, ROUTES[0]])
