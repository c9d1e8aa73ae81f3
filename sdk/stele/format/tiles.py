"""Tiles as C2SP tlog-tiles serves them: their addresses, and the bytes of entry bundles.

A tile has up to 256 hashes of one level; a bundle has the up to 256 log entries below a tile of level 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from stele.format.errors import InvalidTile
from stele.format.limits import TREE_SIZE_MAX

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_LEVEL_MAX = 63
ENTRY_SIZE_BYTES_MAX = (1 << 16) - 1

_LENGTH_SIZE_BYTES = 2
_GROUP = 1_000
_LEVEL = re.compile("0|[1-9][0-9]?")
# At most six groups of three digits: far above the index of any tile of a tree of TREE_SIZE_MAX leaves.
_PLACE = re.compile(r"((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class TilePlace:
    """Which tile of its level, and how many hashes (or entries) of it: 256 of a full one, else fewer."""

    index: int
    width: int

    def __str__(self) -> str:
        """The end of the tile's address: `x001/x234/067`, and `.p/W` behind it when it is partial."""
        rest, last = divmod(self.index, _GROUP)
        text = f"{last:03}"
        while rest:
            rest, group = divmod(rest, _GROUP)
            text = f"x{group:03}/{text}"
        return text if self.width == TILE_WIDTH else f"{text}.p/{self.width}"

    def tree_size(self, level: int) -> int:
        """Leaves that a tree must have for the tile at `level` to have all of these hashes."""
        return (self.index * TILE_WIDTH + self.width) << (TILE_HEIGHT * level)


def parse_tile_level(text: str) -> int:
    """The level in a tile's address, 0 to 63. Raises InvalidTile."""
    if _LEVEL.fullmatch(text) is None or int(text) > TILE_LEVEL_MAX:
        raise InvalidTile(f"{text[:16]!r} is no level of tiles: 0 to {TILE_LEVEL_MAX}, without leading zeros")
    return int(text)


def parse_tile_place(text: str) -> TilePlace:
    """What follows the level in a tile's address; only the one canonical form. Raises InvalidTile."""
    match = _PLACE.fullmatch(text)
    if match is not None:
        index = int(match[1].replace("x", "").replace("/", ""))
        place = TilePlace(index, TILE_WIDTH if match[2] is None else int(match[2]))
        if str(place) == text and place.tree_size(0) <= TREE_SIZE_MAX:
            return place
    raise InvalidTile(f"{text[:64]!r} is no place of a tile: x001/x234/067, or 067.p/W with W from 1 to 255")


def entry_bundle(entries: Iterable[bytes]) -> bytes:
    """Each entry with its length, a big-endian uint16, before it. Raises InvalidTile when one is too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > ENTRY_SIZE_BYTES_MAX:
            raise InvalidTile(f"an entry has {len(entry)} bytes; at most {ENTRY_SIZE_BYTES_MAX} fit a bundle")
        parts.append(len(entry).to_bytes(_LENGTH_SIZE_BYTES, "big"))
        parts.append(entry)
    return b"".join(parts)
