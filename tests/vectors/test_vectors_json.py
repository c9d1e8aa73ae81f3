"""Canonical JSON against the test data of RFC 8785's author and the RFC's own samples."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from stele.format.canonical import canonicalize, parse
from stele.format.errors import CanonicalError
from tests.vectors import load

# RFC 8785 appendix B: the double's bits and its text.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]
# Integers past 2^53 - 1 once written, which Stele refuses.
TOO_LARGE = ["4340000000000000", "c340000000000000", "4430000000000000", "444b1ae4d6e2ef4e"]


def double(bits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("case", load("jcs_vectors")["cases"], ids=lambda case: case["name"])
def test_json_canonicalization_testdata(case: dict[str, Any]) -> None:
    value, canonical = parse(case["input"].encode())
    assert canonical.decode() == case["output"]
    assert canonicalize(value).decode() == case["output"]
    assert canonicalize(json.loads(case["input"])).decode() == case["output"]


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_of_appendix_b(bits: str, text: str) -> None:
    assert canonicalize(double(bits)).decode() == text
    assert parse(b"[%s]" % repr(double(bits)).encode())[1].decode() == f"[{text}]"


@pytest.mark.parametrize("bits", TOO_LARGE)
def test_integral_numbers_past_the_exact_range_are_refused(bits: str) -> None:
    for attempt in (
        lambda: canonicalize(double(bits)),
        lambda: parse(repr(double(bits)).encode()),
        lambda: parse(b'{"n":%d}' % int(double(bits))),
    ):
        with pytest.raises(CanonicalError) as caught:
            attempt()
        assert caught.value.code == "number-out-of-range"


def test_member_order_of_section_3_2_3() -> None:
    text = r"""{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis"}"""
    _, canonical = parse(text.encode())
    assert list(json.loads(canonical)) == ["\r", "1", "\x80", "ö", "€", "\U0001f600", "\ufb33"]
