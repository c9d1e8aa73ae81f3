"""Addresses of tiles and bytes of entry bundles, as C2SP tlog-tiles has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format.errors import InvalidTile
from stele.format.limits import TREE_SIZE_MAX
from stele.format.tiles import TilePlace, entry_bundle, parse_tile_level, parse_tile_place


@pytest.mark.parametrize(
    ("index", "width", "text"),
    [
        (0, 256, "000"),
        (999, 256, "999"),
        (1_000, 256, "x001/000"),
        (1_234_067, 256, "x001/x234/067"),
        (273, 112, "273.p/112"),
        (1_234_067, 1, "x001/x234/067.p/1"),
    ],
)
def test_places(index: int, width: int, text: str) -> None:
    assert str(TilePlace(index, width)) == text
    assert parse_tile_place(text) == TilePlace(index, width)


@given(st.integers(0, (TREE_SIZE_MAX >> 8) - 1), st.integers(1, 256))
def test_every_place_has_one_address(index: int, width: int) -> None:
    assert parse_tile_place(str(TilePlace(index, width))) == TilePlace(index, width)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00",
        "0000",
        "x000/000",
        "x001/x234/67",
        "001/000",
        "x001",
        "x001/x000",
        "000/",
        "/000",
        "000.p",
        "000.p/",
        "000.p/0",
        "000.p/01",
        "000.p/256",
        "000.p/1/",
        "000.P/1",
        "+01",
        "٠٠٠",
        "000\n",
        "x999/x999/x999/x999/999",
        "x001/x000/x000/x000/x000/x000/000",
    ],
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InvalidTile):
        parse_tile_place(text)


@given(st.text(alphabet="x0123456789./p", max_size=24))
def test_whatever_is_taken_is_canonical(text: str) -> None:
    try:
        place = parse_tile_place(text)
    except InvalidTile:
        return
    assert str(place) == text


def test_levels() -> None:
    assert [parse_tile_level(text) for text in ("0", "9", "63")] == [0, 9, 63]
    for text in ("", "-1", "00", "07", "64", "100", "entries", "٣", "1\n"):
        with pytest.raises(InvalidTile):
            parse_tile_level(text)


def test_the_tree_that_a_tile_needs() -> None:
    assert TilePlace(0, 1).tree_size(0) == 1
    assert TilePlace(272, 256).tree_size(0) == 273 * 256
    assert TilePlace(1, 17).tree_size(1) == 273 * 256
    assert TilePlace(0, 1).tree_size(2) == 65_536


def test_bundles() -> None:
    assert entry_bundle([]) == b""
    assert entry_bundle([b"", b"ab", b"c" * 256]) == b"\0\0" + b"\0\2ab" + b"\1\0" + b"c" * 256
    assert len(entry_bundle([bytes(0xFFFF)])) == 2 + 0xFFFF
    with pytest.raises(InvalidTile):
        entry_bundle([bytes(0x10000)])
