"""The state map's upper tree, in memory: the hashes of all nodes at depths 0 to 20.

Kept sparse, in pages: a page has the 16 hashes four bits below a node, and the 4 between. So small
ledgers are small (up to 3 KB a key at first), and one whose 2^20 buckets all have rows takes 58 MB,
however many keys there are. The hashes stand in a page as what they are hashed from: 03 before every
four, so that a node costs one slice and one hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_DEPTH_MIN,
    CHILDREN,
    EMPTY,
    INNER_PREFIX,
)

_PAGE_BITS = 2 * BITS_PER_LEVEL
_PAGE_MASK = (1 << _PAGE_BITS) - 1
_CHILD_MASK = CHILDREN - 1
_GROUP_SIZE_BYTES = len(INNER_PREFIX) + CHILDREN * HASH_SIZE_BYTES


def _group(number: int) -> slice:
    """Where in a page the input of an inner node's hash stands: one of four, then the page's own."""
    return slice(number * _GROUP_SIZE_BYTES, (number + 1) * _GROUP_SIZE_BYTES)


def _child(place: int) -> slice:
    """Where in a page one hash stands: those of its 16 leaves, then the four between."""
    start = (
        _group(place >> BITS_PER_LEVEL).start + len(INNER_PREFIX) + (place & _CHILD_MASK) * HASH_SIZE_BYTES
    )
    return slice(start, start + HASH_SIZE_BYTES)


# Made once: a slice of two numbers that are computed costs as much as a third of a hash.
_GROUPS = [_group(number) for number in range(CHILDREN)]
_OWN = _group(CHILDREN)
_LEAVES = [_child(place) for place in range(CHILDREN * CHILDREN)]
_BETWEEN = [_child(CHILDREN * CHILDREN + place) for place in range(CHILDREN)]

_sha256 = hashlib.sha256


class StateTree:
    """Nodes by depth and number; a node that was never set is that of a subtree without rows."""

    def __init__(self) -> None:
        self.root = EMPTY[0]
        # From the bottom up: pages by the number of their node, and what an untouched page holds.
        self._levels: list[tuple[dict[int, bytearray], bytes]] = [
            ({}, _untouched(depth)) for depth in range(BUCKET_DEPTH_MIN, 0, -_PAGE_BITS)
        ]
        self._buckets = self._levels[0][0]

    def update(self, numbers: Sequence[int], hashes: Sequence[bytes]) -> None:
        """Set the hashes of the nodes at depth 20 with these numbers, which ascend, and those above.

        A level at a time: a node is hashed once, when all changes below it are in, so that the cost of a
        change falls as batches grow.
        """
        if not numbers:
            return
        sha256 = _sha256
        for pages, untouched in self._levels:
            for number, hashed in zip(numbers, hashes, strict=True):
                page = pages.get(number >> _PAGE_BITS)
                if page is None:
                    page = pages[number >> _PAGE_BITS] = bytearray(untouched)
                page[_LEAVES[number & _PAGE_MASK]] = hashed
            for group in dict.fromkeys([number >> BITS_PER_LEVEL for number in numbers]):
                page = pages[group >> BITS_PER_LEVEL]
                place = group & _CHILD_MASK
                page[_BETWEEN[place]] = sha256(page[_GROUPS[place]]).digest()
            numbers = list(dict.fromkeys([number >> _PAGE_BITS for number in numbers]))
            hashes = [sha256(pages[number][_OWN]).digest() for number in numbers]
        self.root = hashes[0]

    def has_rows(self, bucket: int) -> bool:
        """Whether the node at depth 20 with this number has any."""
        page = self._buckets.get(bucket >> _PAGE_BITS)
        return page is not None and page[_LEAVES[bucket & _PAGE_MASK]] != EMPTY[BUCKET_DEPTH_MIN]

    def siblings(self, bucket: int) -> list[bytes]:
        """Three hashes a level, from depth 20 up: the other children of each node above the bucket."""
        found: list[bytes] = []
        number = bucket
        for pages, untouched in self._levels:
            page = pages.get(number >> _PAGE_BITS, untouched)
            place = number & _PAGE_MASK
            group = place >> BITS_PER_LEVEL
            first = group * CHILDREN
            found += _others(page, _LEAVES[first : first + CHILDREN], place & _CHILD_MASK)
            found += _others(page, _BETWEEN, group)
            number >>= _PAGE_BITS
        return found


def _untouched(depth: int) -> bytes:
    """A page without rows below it; its leaves are at `depth`."""
    leaves = INNER_PREFIX + EMPTY[depth] * CHILDREN
    return leaves * CHILDREN + INNER_PREFIX + EMPTY[depth - BITS_PER_LEVEL] * CHILDREN


def _others(page: bytes | bytearray, children: Sequence[slice], own: int) -> list[bytes]:
    return [bytes(page[child]) for place, child in enumerate(children) if place != own]
