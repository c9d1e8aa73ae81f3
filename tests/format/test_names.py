"""Which names are allowed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format.errors import InvalidName
from stele.format.names import check_document_key, check_document_keys, check_ledger_name, check_table_name


@pytest.mark.parametrize("check", [check_ledger_name, check_table_name])
def test_ledger_and_table_names(check: object) -> None:
    assert callable(check)
    for name in ("a", "Z", "vehicle-registration", "a" * 63, "A_1"):
        assert check(name) == name
    for name in ("", "1a", "_a", "-a", "a" * 64, "a b", "a/b", "a\n", "é", "a.b", "$tables", "a@1", "\ud800"):
        with pytest.raises(InvalidName):
            check(name)


def test_the_error_names_field_and_rule() -> None:
    with pytest.raises(InvalidName) as caught:
        check_table_name("a/b")
    assert caught.value.field == "table"
    assert "63" in caught.value.limit
    with pytest.raises(InvalidName) as caught:
        check_document_key("x" * 513)
    assert caught.value.field == "key"
    assert "512" in caught.value.limit
    assert "513" in str(caught.value)


@pytest.mark.parametrize(
    "key", ["a", "...", "a b", "é" * 256, "x" * 512, "😀" * 128, "a:b?c#d%2F\\\"'", "\u2028"]
)
def test_good_keys(key: str) -> None:
    assert check_document_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "a/b",
        "a\x00",
        "\x1f",
        "\x7f",
        "\x80",
        "\x9f",
        "é" * 257,
        "😀" * 129,
        "x\ud800",
        "\udfff",
    ],
)
def test_bad_keys(key: str) -> None:
    with pytest.raises(InvalidName):
        check_document_key(key)


@given(st.text(min_size=1, max_size=600))
def test_keys_follow_the_rule(key: str) -> None:
    expected = (
        not re.search("[\x00-\x1f\x7f-\x9f/\ud800-\udfff]", key)
        and len(key.encode("utf-8", "surrogatepass")) <= 512
        and key not in (".", "..")
    )
    try:
        check_document_key(key)
    except InvalidName:
        assert not expected
    else:
        assert expected


def passes(check: Callable[[], object]) -> bool:
    try:
        check()
    except InvalidName:
        return False
    return True


KEYS = st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20), min_size=1, max_size=20)
AWKWARD = st.sampled_from(
    ["", ".", "..", "a/b", "/", "\x00", "\x7f", "\xe9", "\ud800", "ab\n", "x" * 512, "x" * 513]
)


@given(st.lists(KEYS | AWKWARD, min_size=1, max_size=5))
def test_keys_together_follow_the_rule_of_each(keys: list[str]) -> None:
    each = all(passes(lambda key=key: check_document_key(key)) for key in keys)  # type: ignore[misc]
    assert passes(lambda: check_document_keys(keys)) == each
