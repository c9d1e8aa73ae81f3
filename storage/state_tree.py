"""The state map's upper tree, in memory: the hashes of all nodes at depths 0 to 20.

Kept sparse, in pages: a page has the 64 hashes six bits below a node, and the 16 and 4 between. So small
ledgers are small (up to 3 KB a key at first), and one whose 2^20 buckets all have rows takes 47 MB,
however many keys there are. The hashes stand in a page as what they are hashed from: 03 before every
four, so that a node costs one slice and one hash.

Changes come in while proofs are made of the newest seal. Depths 20 to 14, where hardly any two changes share
a node, are hashed in place as changes come; what a bucket's hash was is remembered until the next seal, and
a proof puts the old ones back into a copy of its page. What is above depth 14 is hashed once, by the seal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_DEPTH_MIN,
    CHILDREN,
    EMPTY,
    INNER_PREFIX,
)

_LEVELS: Final = 3
_PAGE_BITS = _LEVELS * BITS_PER_LEVEL
_PAGE_WIDTH = 1 << _PAGE_BITS
_PAGE_MASK = _PAGE_WIDTH - 1
_CHILD_MASK = CHILDREN - 1
_GROUP_SIZE_BYTES = len(INNER_PREFIX) + CHILDREN * HASH_SIZE_BYTES

# Where the groups of four begin in a page, by how far they are above its leaves: 16, then 4, then 1.
_FIRST_GROUPS = (0, 16, 20)


def _group(level: int, number: int) -> slice:
    start = (_FIRST_GROUPS[level] + number) * _GROUP_SIZE_BYTES
    return slice(start, start + _GROUP_SIZE_BYTES)


def _node(level: int, number: int) -> slice:
    start = _group(level, number >> BITS_PER_LEVEL).start
    start += len(INNER_PREFIX) + (number & _CHILD_MASK) * HASH_SIZE_BYTES
    return slice(start, start + HASH_SIZE_BYTES)


# Made once: a slice of two numbers that are computed costs as much as a third of a hash.
_GROUPS = [[_group(level, n) for n in range(_PAGE_WIDTH >> 2 * (level + 1))] for level in range(_LEVELS)]
_NODES = [[_node(level, n) for n in range(_PAGE_WIDTH >> 2 * level)] for level in range(_LEVELS)]
_LEAVES = _NODES[0]
_OWN = _GROUPS[_LEVELS - 1][0]
# The way up from each leaf: what to hash, where it goes, what to hash then, and where that goes.
_PATHS = [
    (_LEAVES[n], _GROUPS[0][n >> 2], _NODES[1][n >> 2], _GROUPS[1][n >> 4], _NODES[2][n >> 4])
    for n in range(_PAGE_WIDTH)
]

_sha256 = hashlib.sha256

_Pages = dict[int, bytearray]


class StateTree:
    """Nodes by depth and number; a node that was never set is that of a subtree without rows."""

    def __init__(self) -> None:
        self.root = EMPTY[0]
        # From the bottom up: pages by the number of their node, and what an untouched page holds. The last
        # one has four leaves only, at depth 2.
        self._levels: list[tuple[_Pages, bytes]] = [
            ({}, _untouched(depth)) for depth in range(BUCKET_DEPTH_MIN, 0, -_PAGE_BITS)
        ]
        self._lowest, self._untouched = self._levels[0]
        self._before: dict[int, bytearray] = {}
        self._changed: dict[int, bytes] = {}

    def has_rows(self, bucket: int) -> bool:
        """Whether the node at depth 20 with this number has any, as of what was staged."""
        page = self._lowest.get(bucket >> _PAGE_BITS)
        return page is not None and page[_LEAVES[bucket & _PAGE_MASK]] != EMPTY[BUCKET_DEPTH_MIN]

    def load(self, buckets: Iterable[tuple[int, bytes]]) -> None:
        """Fill an empty tree with the hashes of nodes at depth 20, in the order of their numbers."""
        for number, children in groupby(buckets, lambda each: each[0] >> _PAGE_BITS):
            page = self._lowest[number] = bytearray(self._untouched)
            for bucket, hashed in children:
                page[_LEAVES[bucket & _PAGE_MASK]] = hashed
            for level in range(_LEVELS - 1):
                for group, node in zip(_GROUPS[level], _NODES[level + 1], strict=True):
                    page[node] = _sha256(page[group]).digest()
            self._changed[number] = _sha256(page[_OWN]).digest()
        self.seal()

    def stage(self, buckets: Mapping[int, bytes]) -> None:
        """Set the hashes of nodes at depth 20 by their numbers, for the next seal."""
        sha256, pages, before, changed = _sha256, self._lowest, self._before, self._changed
        for bucket, hashed in buckets.items():
            number = bucket >> _PAGE_BITS
            page = pages.get(number)
            if page is None:
                page = pages[number] = bytearray(self._untouched)
            leaf, group, node, upper_group, upper_node = _PATHS[bucket & _PAGE_MASK]
            if bucket not in before:
                before[bucket] = page[leaf]
            page[leaf] = hashed
            page[node] = sha256(page[group]).digest()
            page[upper_node] = sha256(page[upper_group]).digest()
            changed[number] = sha256(page[_OWN]).digest()

    def seal(self) -> None:
        """Hash the rest, and make what was staged the tree. A node is hashed once, so that the cost of a
        change falls as there are more of them."""
        sha256, changed = _sha256, self._changed
        if not changed:
            return
        for pages, untouched in self._levels[1:]:
            for number, hashed in changed.items():
                above = pages.get(number >> _PAGE_BITS)
                if above is None:
                    above = pages[number >> _PAGE_BITS] = bytearray(untouched)
                above[_LEAVES[number & _PAGE_MASK]] = hashed
            numbers: Iterable[int] = changed
            for level in range(_LEVELS - 1):
                groups, nodes, bits = _GROUPS[level], _NODES[level + 1], _PAGE_BITS - 2 * (level + 1)
                numbers, mask = dict.fromkeys([number >> 2 for number in numbers]), (1 << bits) - 1
                for number in numbers:
                    page, place = pages[number >> bits], number & mask
                    page[nodes[place]] = sha256(page[groups[place]]).digest()
            own = dict.fromkeys([number >> 2 for number in numbers])
            changed = {number: sha256(pages[number][_OWN]).digest() for number in own}
        # Four leaves make one group, which is all that the last page hashes.
        self.root = sha256(self._levels[-1][0][0][_GROUPS[0][0]]).digest()
        self._before.clear()
        self._changed.clear()

    def forget(self) -> None:
        """Drop what is staged: the nodes are again what they were in the newest seal."""
        self.stage({bucket: bytes(hashed) for bucket, hashed in self._before.items()})
        self._before.clear()
        self._changed.clear()

    def siblings(self, bucket: int) -> list[bytes]:
        """Three hashes a level, from depth 20 up as of the newest seal: the other children of each node
        above the bucket."""
        found: list[bytes] = []
        number = bucket
        depth = BUCKET_DEPTH_MIN
        page: bytes | bytearray = self._sealed_page(bucket >> _PAGE_BITS)
        for pages, untouched in self._levels:
            if depth < BUCKET_DEPTH_MIN:
                page = pages.get(number >> _PAGE_BITS, untouched)
            place = number & _PAGE_MASK
            for nodes in _NODES[: depth // BITS_PER_LEVEL]:
                first = place & ~_CHILD_MASK
                found += [bytes(page[nodes[n]]) for n in range(first, first + CHILDREN) if n != place]
                place >>= BITS_PER_LEVEL
            number >>= _PAGE_BITS
            depth -= _PAGE_BITS
        return found

    def _sealed_page(self, number: int) -> bytes | bytearray:
        """A page of the lowest level as of the newest seal."""
        page = self._lowest.get(number, self._untouched)
        first = number << _PAGE_BITS
        before = [(n, hashed) for n in range(_PAGE_WIDTH) if (hashed := self._before.get(first + n))]
        if not before:
            return page
        page = bytearray(page)
        for place, hashed in before:
            leaf, group, node, upper_group, upper_node = _PATHS[place]
            page[leaf] = hashed
            page[node] = _sha256(page[group]).digest()
            page[upper_node] = _sha256(page[upper_group]).digest()
        return page


def _untouched(depth: int) -> bytes:
    """A page without rows below it; its leaves are at `depth`."""
    groups = ((level, 16 >> 2 * level) for level in range(_LEVELS) if depth >= 2 * (level + 1))
    page = b"".join(
        (INNER_PREFIX + EMPTY[depth - BITS_PER_LEVEL * level] * CHILDREN) * count for level, count in groups
    )
    return page
