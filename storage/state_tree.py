"""The state map's upper tree, in memory: the hashes of all nodes at depths 0 to 20.

Kept sparse, in pages: a page has the 16 hashes four bits below a node, and the 4 between. So small
ledgers are small (up to 3 KB a key at first), and one whose 2^20 buckets all have rows takes 58 MB,
however many keys there are.
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
_PAGE_LEAVES = 1 << _PAGE_BITS
_PAGE_MASK = _PAGE_LEAVES - 1
_GROUP_SIZE_BYTES = CHILDREN * HASH_SIZE_BYTES
_BETWEEN = _PAGE_LEAVES * HASH_SIZE_BYTES
"""Where in a page the four hashes between its leaves and its node begin."""

_sha256 = hashlib.sha256


class StateTree:
    """Nodes by depth and number; a node that was never set is that of a subtree without rows."""

    def __init__(self) -> None:
        self.root = EMPTY[0]
        # From the bottom up: pages by the number of their node, and what an untouched page holds.
        self._levels: list[tuple[dict[int, bytearray], bytes]] = [
            ({}, EMPTY[depth] * _PAGE_LEAVES + EMPTY[depth - BITS_PER_LEVEL] * CHILDREN)
            for depth in range(BUCKET_DEPTH_MIN, 0, -_PAGE_BITS)
        ]
        self._buckets = self._levels[0][0]

    def update(self, numbers: Sequence[int], hashes: Sequence[bytes]) -> None:
        """Set the hashes of the nodes at depth 20 with these numbers, which ascend, and those above.

        A node is hashed once, when the last change below it is in, so that the cost of a change falls as
        batches grow.
        """
        following = iter([*numbers[1:], 1 << (BUCKET_DEPTH_MIN + _PAGE_BITS)])
        for number, hashed in zip(numbers, hashes, strict=True):
            differing = number ^ next(following)
            for pages, untouched in self._levels:
                page = pages.get(number >> _PAGE_BITS)
                if page is None:
                    page = pages[number >> _PAGE_BITS] = bytearray(untouched)
                place = number & _PAGE_MASK
                start = place * HASH_SIZE_BYTES
                page[start : start + HASH_SIZE_BYTES] = hashed
                differing >>= BITS_PER_LEVEL
                if not differing:
                    break  # the next change is below the same node
                group = place >> BITS_PER_LEVEL
                start = group * _GROUP_SIZE_BYTES
                hashed = _sha256(INNER_PREFIX + page[start : start + _GROUP_SIZE_BYTES]).digest()
                start = _BETWEEN + group * HASH_SIZE_BYTES
                page[start : start + HASH_SIZE_BYTES] = hashed
                differing >>= BITS_PER_LEVEL
                if not differing:
                    break
                hashed = _sha256(INNER_PREFIX + page[_BETWEEN:]).digest()
                number >>= _PAGE_BITS
            else:
                self.root = hashed

    def has_rows(self, bucket: int) -> bool:
        """Whether the node at depth 20 with this number has any."""
        page = self._buckets.get(bucket >> _PAGE_BITS)
        if page is None:
            return False
        start = (bucket & _PAGE_MASK) * HASH_SIZE_BYTES
        return page[start : start + HASH_SIZE_BYTES] != EMPTY[BUCKET_DEPTH_MIN]

    def siblings(self, bucket: int) -> list[bytes]:
        """Three hashes a level, from depth 20 up: the other children of each node above the bucket."""
        found: list[bytes] = []
        number = bucket
        for pages, untouched in self._levels:
            page = pages.get(number >> _PAGE_BITS, untouched)
            place = number & _PAGE_MASK
            group = place >> BITS_PER_LEVEL
            found += _others(page, group * _GROUP_SIZE_BYTES, place & (CHILDREN - 1))
            found += _others(page, _BETWEEN, group)
            number >>= _PAGE_BITS
        return found


def _others(page: bytes | bytearray, start: int, own: int) -> list[bytes]:
    group = bytes(page[start : start + _GROUP_SIZE_BYTES])
    return [
        group[place * HASH_SIZE_BYTES : (place + 1) * HASH_SIZE_BYTES]
        for place in range(CHILDREN)
        if place != own
    ]
