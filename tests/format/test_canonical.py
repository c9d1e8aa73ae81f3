"""Canonical JSON: equal to the rfc8785 package where that accepts, and strict beyond it."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from stele.format import canonical
from stele.format.canonical import canonicalize, parse, parse_object
from stele.format.errors import CanonicalError
from stele.format.limits import DOCUMENT_SIZE_BYTES_MAX, INTEGER_MAX, JSON_DEPTH_MAX

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# Where byte orders part: ASCII, just below the surrogates, just above them, and past U+FFFF.
EDGE_TEXT = st.text(
    st.sampled_from('a\x7f\x1f"\\/é\ud7ff\ue000\uffff\U00010000\U0001f600\U0010ffff'), max_size=3
)
TEXT = ANY_TEXT | EDGE_TEXT


def allowed(number: float) -> bool:
    """Whether a double has a canonical form here: no integer past 2^53 - 1 once written."""
    return not (number.is_integer() and INTEGER_MAX < abs(number) < 1e21)


ANY_DOUBLE = st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack(">d", raw)[0])
MAGNITUDES = st.builds(lambda m, e: m * 10.0**e, st.floats(-10, 10), st.integers(-30, 30))
FLOATS = (ANY_DOUBLE | MAGNITUDES | st.floats()).filter(math.isfinite).filter(allowed)
INTEGERS = st.integers(-INTEGER_MAX, INTEGER_MAX)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=25,
)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=8)


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1]))
def test_equals_the_rfc8785_package(document: dict[str, Any], ensure_ascii: bool, indent: int | None) -> None:
    expected = rfc8785.dumps(document)
    text = json.dumps(document, ensure_ascii=ensure_ascii, indent=indent).encode()
    value, written = parse_object(text)
    assert written == expected
    assert canonicalize(document) == expected
    assert canonicalize(value) == expected


@given(DOCUMENTS)
def test_canonical_bytes_are_their_own_canonical_form(document: dict[str, Any]) -> None:
    first = canonicalize(document)
    value, second = parse_object(first)
    assert second == first
    assert parse_object(second)[0] == value


@given(FLOATS)
@example(1e-4)
@example(9.999999999999999e-05)
@example(1e15)
@example(999999999999999.9)
@example(-0.0)
@example(2.0**53 - 1)
@example(1e21)
@example(1e-7)
def test_every_double(number: float) -> None:
    expected = b"[" + rfc8785.dumps(number) + b"]"
    for text in (repr(number), f"{number:.17e}", f"{number:.25E}"):
        assert parse(f"[{text}]".encode())[1] == expected


@given(st.integers(0, 0x10FFFF).filter(lambda point: not 0xD800 <= point <= 0xDFFF))
def test_every_character(point: int) -> None:
    text = chr(point)
    expected = rfc8785.dumps({text: text})
    assert parse(json.dumps({text: text}).encode())[1] == expected
    assert parse(json.dumps({text: text}, ensure_ascii=False).encode())[1] == expected


SEEDS = [
    b'{"a":[1,2.5,true,null,"x\\n"],"b":{"c":-1e5,"d":"\\u00e9"}}',
    b'{"k":1,"k":2}',
    b'[0.1,-0,1E3,12000.00,"\xc3\xa9\xf0\x9f\x98\x80",9007199254740991]',
    b'{"a":{"b":{"c":[[],{},[{"a:b":":"}]]}}}',
    b'{"b":[1,true,null,"x\\n",9007199254740991],"a":{"d":-0,"c":[{}]}}',
]
BYTES = st.sampled_from(
    [bytes([b]) for b in b'{}[]",:0159.eE+-\\/bnu truefalsn\x01\x7f\xc3\xa9\xed\xa0\xf0\n']
)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 70), st.sampled_from("ird"), BYTES), max_size=5),
)
def test_the_fast_way_never_differs_from_the_careful_way(
    seed: bytes, edits: list[tuple[int, str, bytes]]
) -> None:
    data = bytearray(seed)
    for at, kind, byte in edits:
        data[at : at + (kind != "i")] = b"" if kind == "d" else byte
    fast = canonical._parse_fast(bytes(data))
    if fast is not None:
        value = canonical._read(bytes(data))
        assert fast == (value, canonical._write(value))


def test_ordinary_documents_take_the_fast_way() -> None:
    for text in (
        '{"vin":"1HG","year":2003,"price":12999.99,"whole":12000.0,"ok":true,"lien":null}',
        '{"owner":"Jörg Müller","größe":[1,2,{"é":0.5}],"note":"line\\nbreak \\"quoted\\" 😀"}',
    ):
        assert canonical._parse_fast(text.encode()) is not None


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        (b"", "json-syntax", ""),
        (b'{"a":1,}', "json-syntax", ""),
        (b'{"a":"\x01"}', "json-syntax", ""),
        (b"\xef\xbb\xbf{}", "json-syntax", ""),
        (b'{"a":01}', "json-syntax", ""),
        (b'{"a":1,"a":2}', "duplicate-member", "/a"),
        (b'{"x":[{"a":1,"\\u0061":2}]}', "duplicate-member", "/x/0/a"),
        (b'{"a":{"b~/c":[0,9007199254740992]}}', "number-out-of-range", "/a/b~0~1c/1"),
        (b'{"a":-9007199254740992}', "number-out-of-range", "/a"),
        (b'{"a":1e400}', "number-out-of-range", "/a"),
        (b'{"a":-1e400}', "number-out-of-range", "/a"),
        (b'{"a":1e20}', "number-out-of-range", "/a"),
        (b'{"a":' + b"9" * 5000 + b"}", "number-out-of-range", "/a"),
        (b'{"a":NaN}', "not-finite", ""),
        (b'{"a":-Infinity}', "not-finite", ""),
        (b'{"a":"\xff"}', "invalid-utf8", ""),
        (b'{"a":"\xed\xa0\x80"}', "invalid-utf8", ""),
        (b'{"a":"\xc0\x80"}', "invalid-utf8", ""),
        (b'{"a":"x\\ud800y"}', "lone-surrogate", "/a"),
        (b'{"\\udc00":1}', "lone-surrogate", "/\\udc00"),
        (b"[" * 65 + b"]" * 65, "too-deep", "/0" * 64),
        (b"[" * 200_000, "too-deep", ""),
        (b'{"a":' * 200_000, "too-deep", ""),
        (b"[]", "not-an-object", ""),
        (b"3", "not-an-object", ""),
        (b'"x"', "not-an-object", ""),
        (b"null", "not-an-object", ""),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_refused_text(text: bytes, code: str, path: str) -> None:
    with pytest.raises(CanonicalError) as caught:
        parse_object(text, size_bytes_max=2_000_000)
    assert (caught.value.code, caught.value.path) == (code, path)
    assert caught.value.message


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        ({"a": float("nan")}, "not-finite", "/a"),
        ({"a": [float("inf")]}, "number-out-of-range", "/a/0"),
        ({"a": 2**53}, "number-out-of-range", "/a"),
        ({"a": {1: 2}}, "unsupported-type", "/a"),
        ({"a": b"bytes"}, "unsupported-type", "/a"),
        ({"a": "\udfff"}, "lone-surrogate", "/a"),
    ],
)
def test_refused_values(value: object, code: str, path: str) -> None:
    with pytest.raises(CanonicalError) as caught:
        canonicalize(value)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_value_that_holds_itself_is_too_deep() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CanonicalError) as caught:
        canonicalize(loop)
    assert caught.value.code == "too-deep"


def test_the_depth_limit_is_exact() -> None:
    deepest = b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX
    assert parse(deepest)[1] == deepest
    nested = b'{"a":' * JSON_DEPTH_MAX + b"1" + b"}" * JSON_DEPTH_MAX
    assert parse(nested)[1] == nested
    with pytest.raises(CanonicalError):
        parse(b'{"a":' + nested + b"}")


def test_the_size_limit_is_exact_and_checked_on_both_forms() -> None:
    fits = b'{"a":"' + b"x" * (DOCUMENT_SIZE_BYTES_MAX - 8) + b'"}'
    assert parse_object(fits)[1] == fits
    with pytest.raises(CanonicalError) as caught:
        parse_object(fits + b" ")
    assert caught.value.code == "too-large"
    assert str(DOCUMENT_SIZE_BYTES_MAX) in caught.value.message
    grows = b"[1e15]"  # sixteen digits once written out
    with pytest.raises(CanonicalError) as caught:
        parse(grows, size_bytes_max=len(grows))
    assert caught.value.code == "too-large"


def test_canonicalize_leaves_its_argument_alone() -> None:
    value = {"b": 2.0, "a": (1, -0.0)}
    assert canonicalize(value) == b'{"a":[1,0],"b":2}'
    assert value == {"b": 2.0, "a": (1, -0.0)}
    assert isinstance(value["b"], float)
