"""The state map's upper tree, in memory: the hashes of all nodes at depths 0 to 20.

Kept sparse, in segments of 16 hashes, so that small ledgers are small: about 2.5 KB a key at first, and
62 MB once every one of the 2^20 buckets has a row, however many keys there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_DEPTH_MIN,
    CHILDREN,
    EMPTY,
    INNER_PREFIX,
)

_SEGMENT_BITS = 4
_SEGMENT_HASHES = 1 << _SEGMENT_BITS
_SEGMENT_MASK = _SEGMENT_HASHES - 1
_CHILDREN_SIZE_BYTES = CHILDREN * HASH_SIZE_BYTES

_sha256 = hashlib.sha256


class StateTree:
    """Nodes by depth and number; a node that was never set is that of a subtree without rows."""

    def __init__(self) -> None:
        self.root = EMPTY[0]
        self._levels: dict[int, dict[int, bytearray]] = {depth: {} for depth in EMPTY}

    def update(self, buckets: Iterable[tuple[int, bytes]]) -> None:
        """Set the hashes of the nodes at depth 20 that changed, as (number, hash), and those above.

        Level by level, each changed node hashed once, so that the cost a key falls as batches grow.
        """
        changed = list(buckets)
        for depth in range(BUCKET_DEPTH_MIN, 0, -BITS_PER_LEVEL):
            self._set(depth, changed)
            level = self._levels[depth]
            parents = dict.fromkeys([number >> BITS_PER_LEVEL for number, _ in changed])
            changed = []
            for number in parents:
                # The four children of a node lie in one segment.
                start = (number & 3) * _CHILDREN_SIZE_BYTES
                children = level[number >> 2][start : start + _CHILDREN_SIZE_BYTES]
                changed.append((number, _sha256(INNER_PREFIX + children).digest()))
        if changed:
            self.root = changed[0][1]

    def siblings(self, bucket: int) -> list[bytes]:
        """Three hashes a level, from depth 20 up: the other children of each node above the bucket."""
        found = []
        number = bucket
        for depth in range(BUCKET_DEPTH_MIN, 0, -BITS_PER_LEVEL):
            segment = self._levels[depth].get(number >> _SEGMENT_BITS)
            first = number & _SEGMENT_MASK & ~(CHILDREN - 1)
            for place in range(first, first + CHILDREN):
                if place == number & _SEGMENT_MASK:
                    continue
                if segment is None:
                    found.append(EMPTY[depth])
                else:
                    found.append(bytes(segment[place * HASH_SIZE_BYTES : (place + 1) * HASH_SIZE_BYTES]))
            number >>= BITS_PER_LEVEL
        return found

    def _set(self, depth: int, hashes: list[tuple[int, bytes]]) -> None:
        level = self._levels[depth]
        empty = EMPTY[depth] * _SEGMENT_HASHES
        for number, hashed in hashes:
            segment = level.get(number >> _SEGMENT_BITS)
            if segment is None:
                segment = level[number >> _SEGMENT_BITS] = bytearray(empty)
            start = (number & _SEGMENT_MASK) * HASH_SIZE_BYTES
            segment[start : start + HASH_SIZE_BYTES] = hashed
