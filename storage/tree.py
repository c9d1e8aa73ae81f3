"""The journal's Merkle tree (RFC 6962, section 2.1), kept as tiles.

Tiles are those of C2SP tlog-tiles: height 8, so that tile (level, index) has up to 256 hashes, each the
root of a complete subtree of 256^level leaves. Only full tiles are stored; the right edge, fewer than
256 hashes a level, is kept in memory and rebuilt at start from the last blocks and the full tiles.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from stele.format.merkle import consistency_proof, inclusion_proof, root_of_leaves, tree_root
from storage import limits
from storage.errors import InvariantBroken

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
HASH_SIZE_BYTES = 32
TILE_SIZE_BYTES = TILE_WIDTH * HASH_SIZE_BYTES

TileReader = Callable[[int, int], bytes]


class JournalTree:
    """The tree over `size` leaf hashes. `read_tile(level, index)` gives the bytes of a full tile."""

    def __init__(self, read_tile: TileReader) -> None:
        self.size = 0
        self._read_tile = read_tile
        self._edge: list[list[bytes]] = [[]]
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Adds a leaf hash; returns the tiles that became full, as (level, index, bytes)."""
        self.size += 1
        self._edge[0].append(leaf)
        full: list[tuple[int, int, bytes]] = []
        level = 0
        while len(self._edge[level]) == TILE_WIDTH:
            hashes = self._edge[level]
            full.append((level, (self.size >> (TILE_HEIGHT * (level + 1))) - 1, b"".join(hashes)))
            self._edge[level] = []
            level += 1
            if level == len(self._edge):
                self._edge.append([])
            self._edge[level].append(root_of_leaves(hashes))
        return full

    def load(self, size: int, leaf_hash_at: Callable[[int], bytes]) -> None:
        """Rebuilds the right edge of a stored tree: at most 255 leaves, and 255 full tiles a level."""
        self.size = size
        count = size
        edge = [[leaf_hash_at(seq) for seq in range(count - count % TILE_WIDTH, count)]]
        level = 0
        while count >= TILE_WIDTH:
            count //= TILE_WIDTH
            first = count - count % TILE_WIDTH
            tiles = (split_tile(self._read_tile(level, index)) for index in range(first, count))
            edge.append([root_of_leaves(hashes) for hashes in tiles])
            level += 1
        self._edge = edge

    def node(self, level: int, index: int) -> bytes:
        """The root of the complete subtree of 2^level leaves number `index`: a HashReader."""
        tile_level, above = divmod(level, TILE_HEIGHT)
        width = 1 << above
        first = index << above
        tile_index, offset = divmod(first, TILE_WIDTH)
        full_tiles = self.size >> (TILE_HEIGHT * (tile_level + 1))
        if tile_index < full_tiles:
            tile = self._tile(tile_level, tile_index)
            hashes = split_tile(tile[offset * HASH_SIZE_BYTES : (offset + width) * HASH_SIZE_BYTES])
        elif tile_index == full_tiles and tile_level < len(self._edge):
            hashes = self._edge[tile_level][offset : offset + width]
        else:
            hashes = []
        if len(hashes) != width:
            raise InvariantBroken(f"the tree of {self.size} leaves has no node {index} at level {level}")
        return root_of_leaves(hashes)

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        return tree_root(size, self.node)

    def inclusion(self, seq: int, size: int) -> list[bytes]:
        return inclusion_proof(seq, size, self.node)

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        return consistency_proof(old_size, new_size, self.node)

    def _tile(self, level: int, index: int) -> bytes:
        tile = self._cache.get((level, index))
        if tile is None:
            tile = self._read_tile(level, index)
            self._cache[level, index] = tile
            if len(self._cache) > limits.TILE_CACHE_ENTRIES:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end((level, index))
        return tile


def split_tile(tile: bytes) -> list[bytes]:
    return [tile[i : i + HASH_SIZE_BYTES] for i in range(0, len(tile), HASH_SIZE_BYTES)]
