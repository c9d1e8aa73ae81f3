"""The journal's Merkle tree (RFC 6962, section 2.1), kept as tiles.

Tiles are those of C2SP tlog-tiles: height 8, so that tile (level, index) has up to 256 hashes, each the
root of a complete subtree of 256^level leaves. Only full tiles are stored; the right edge, fewer than
256 hashes a level, is kept in memory and rebuilt at start from the last blocks and the full tiles.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from stele.format.merkle import consistency_proof, inclusion_proof, node_hash, tree_root
from stele.format.tiles import TILE_HEIGHT, TILE_WIDTH
from storage import limits
from storage.errors import InvariantBroken

HASH_SIZE_BYTES = 32
TILE_SIZE_BYTES = TILE_WIDTH * HASH_SIZE_BYTES

TileReader = Callable[[int, int], bytes]


class Tile:
    """The hashes of one tile and of every node above them inside it: `heights[h]` has those of height h.

    Each node is hashed once, when its right child comes, so that proofs only look hashes up.
    """

    __slots__ = ("heights",)

    def __init__(self, hashes: Iterable[bytes] = ()) -> None:
        self.heights: list[list[bytes]] = [[] for _ in range(TILE_HEIGHT + 1)]
        for each in hashes:
            self.append(each)

    def append(self, added: bytes) -> None:
        for nodes in self.heights:
            nodes.append(added)
            if len(nodes) % 2:
                return
            added = node_hash(nodes[-2], added)

    @property
    def root(self) -> bytes:
        """The root of a full tile."""
        return self.heights[TILE_HEIGHT][0]


class JournalTree:
    """The tree over `size` leaf hashes. `read_tile(level, index)` gives the bytes of a full tile."""

    def __init__(self, read_tile: TileReader) -> None:
        self.size = 0
        self._read_tile = read_tile
        self._edge = [Tile()]
        self._cache: OrderedDict[tuple[int, int], Tile] = OrderedDict()

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Adds a leaf hash; returns the tiles that became full, as (level, index, bytes)."""
        self.size += 1
        full: list[tuple[int, int, bytes]] = []
        level, added, width = 0, leaf, self.size
        while True:
            tile = self._edge[level]
            tile.append(added)
            if width % TILE_WIDTH:
                return full
            width //= TILE_WIDTH
            full.append((level, width - 1, b"".join(tile.heights[0])))
            self._edge[level] = Tile()
            level, added = level + 1, tile.root
            if level == len(self._edge):
                self._edge.append(Tile())

    def load(self, size: int, leaf_hash_at: Callable[[int], bytes]) -> None:
        """Rebuilds the right edge of a stored tree: at most 255 leaves, and 255 full tiles a level."""
        self.size = size
        count = size
        self._edge = [Tile(leaf_hash_at(seq) for seq in range(count - count % TILE_WIDTH, count))]
        level = 0
        while count >= TILE_WIDTH:
            count //= TILE_WIDTH
            first = count - count % TILE_WIDTH
            below = (Tile(split_tile(self._read_tile(level, index))) for index in range(first, count))
            self._edge.append(Tile(tile.root for tile in below))
            level += 1

    def node(self, level: int, index: int) -> bytes:
        """The root of the complete subtree of 2^level leaves number `index`: a HashReader."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index = (index << height) >> TILE_HEIGHT
        place = index - (tile_index << (TILE_HEIGHT - height))
        full_tiles = self.size >> (TILE_HEIGHT * (tile_level + 1))
        nodes: list[bytes] = []
        if tile_index < full_tiles:
            nodes = self._tile(tile_level, tile_index).heights[height]
        elif tile_index == full_tiles and tile_level < len(self._edge):
            nodes = self._edge[tile_level].heights[height]
        if place >= len(nodes):
            raise InvariantBroken(f"the tree of {self.size} leaves has no node {index} at level {level}")
        return nodes[place]

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile, which the tree must have."""
        hashes = self.size >> (TILE_HEIGHT * level)
        if not 0 < width <= min(TILE_WIDTH, hashes - index * TILE_WIDTH):
            raise InvariantBroken(
                f"the tree of {self.size} leaves has no {width} hashes in tile {index} of level {level}"
            )
        if index < hashes // TILE_WIDTH:
            return self._read_tile(level, index)[: width * HASH_SIZE_BYTES]
        return b"".join(self._edge[level].heights[0][:width])

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        return tree_root(size, self.node)

    def inclusion(self, seq: int, size: int) -> list[bytes]:
        return inclusion_proof(seq, size, self.node)

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        return consistency_proof(old_size, new_size, self.node)

    def _tile(self, level: int, index: int) -> Tile:
        tile = self._cache.get((level, index))
        if tile is None:
            tile = Tile(split_tile(self._read_tile(level, index)))
            self._cache[level, index] = tile
            if len(self._cache) > limits.TILE_CACHE_ENTRIES:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end((level, index))
        return tile


def split_tile(tile: bytes) -> list[bytes]:
    return [tile[i : i + HASH_SIZE_BYTES] for i in range(0, len(tile), HASH_SIZE_BYTES)]
