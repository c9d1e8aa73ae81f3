"""The upper nodes of a state map, in memory, as of its newest seal: those at depths 0 to 20.

A node is at a level (half its depth) and has a number in it; `NODES[level] | number` is both in one, by which
buckets go. The hashes of four children stand side by side behind an 03, as their parent hashes them, so that
a node costs one slice and one hash; 64 such groups make a page, and a page is there once one of its nodes is.
So a small ledger's tree is small, and one whose 2^20 nodes at depth 20 all have rows takes 45 MB, however
many keys there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import BITS_PER_LEVEL, CHILDREN, EMPTY, INNER_PREFIX

LEVEL_MAX: Final = 10

NUMBERS_END: Final = 1 << BITS_PER_LEVEL * LEVEL_MAX
"""What the numbers of depth 20 are below."""

SHIFTS: Final = [BITS_PER_LEVEL * (LEVEL_MAX - level) for level in range(LEVEL_MAX + 1)]
"""From a number of depth 20 to that of the node above it, by level."""

NODES: Final = [1 << BITS_PER_LEVEL * level for level in range(LEVEL_MAX + 1)]
"""By level: node number 0, level and number in one. So nodes of all levels can be in one dictionary, close
together: first numbers would be multiples of 4, 16 or 64, which it would send to the same few places."""

_PAGE_GROUPS = 64
_PAGE_NODES = CHILDREN * _PAGE_GROUPS
_GROUP_SIZE_BYTES = len(INNER_PREFIX) + CHILDREN * HASH_SIZE_BYTES
_UNTOUCHED = (INNER_PREFIX + EMPTY * CHILDREN) * _PAGE_GROUPS


def _node(place: int) -> slice:
    group, child = divmod(place, CHILDREN)
    start = group * _GROUP_SIZE_BYTES + len(INNER_PREFIX) + child * HASH_SIZE_BYTES
    return slice(start, start + HASH_SIZE_BYTES)


# Made once: a slice of two numbers that are computed costs as much as a third of a hash.
_GROUPS = [slice(n * _GROUP_SIZE_BYTES, (n + 1) * _GROUP_SIZE_BYTES) for n in range(_PAGE_GROUPS)]
_NODES = [_node(n) for n in range(_PAGE_NODES)]

_NONE_INNER = bytes(1 << BITS_PER_LEVEL * LEVEL_MAX)
_sha256 = hashlib.sha256

Changes = list[dict[int, bytes]]
"""By level: the number of a node that changed, and its hash."""


def no_changes() -> Changes:
    return [{} for _ in range(LEVEL_MAX + 1)]


def level_of(node: int) -> int:
    return (node.bit_length() - 1) // BITS_PER_LEVEL


def first_of(node: int) -> int:
    """The first number of depth 20 that a node covers."""
    return node << SHIFTS[level_of(node)] ^ NUMBERS_END


def end_of(node: int) -> int:
    """The number of depth 20 after the last one that a node covers."""
    return first_of(node) + (1 << SHIFTS[level_of(node)])


class StateTree:
    """Nodes by level and number; a node that was never set has no rows.

    `inner[level][number]` is true of an inner node. The last level in it has none yet.
    """

    def __init__(self) -> None:
        self.root = EMPTY
        self.inner: list[bytearray | bytes] = [bytearray(1)]
        self.buckets = 1
        """How many nodes are buckets, empty ones too."""
        self._pages: list[dict[int, bytearray]] = [{} for _ in range(LEVEL_MAX + 1)]

    def set_inner(self, level: int, number: int) -> None:
        """The node is an inner one from now on: it has got too many rows. Its parent is one already."""
        if level + 1 == len(self.inner):
            size = 1 << BITS_PER_LEVEL * (level + 1)
            self.inner.append(_NONE_INNER if level + 1 == LEVEL_MAX else bytearray(size))
        flags = self.inner[level]
        if not isinstance(flags, bytearray):
            raise IndexError(f"nodes of level {level} do not split in memory")
        flags[number] = 1
        self.buckets += CHILDREN - 1

    def seal(self, changes: Changes) -> None:
        """Set these nodes, and hash those above them; each once, however many changed below it."""
        sha256 = _sha256
        for level in range(LEVEL_MAX, 0, -1):
            pages, above = self._pages[level], changes[level - 1]
            parents: dict[int, bytearray] = {}
            for number, hashed in changes[level].items():
                page = pages.get(number >> 8)
                if page is None:
                    page = pages[number >> 8] = bytearray(_UNTOUCHED)
                page[_NODES[number & 255]] = hashed
                parents[number >> 2] = page
            for number, page in parents.items():
                above[number] = sha256(page[_GROUPS[number & 63]]).digest()
        self.root = changes[0].get(0, self.root)

    def load(self, buckets: Iterable[tuple[int, int, bytes]]) -> None:
        """Fill an empty tree with its buckets in order: level, number, hash. Raises IndexError for one of no
        tree, and for one that lies in another."""
        for level, number, hashed in buckets:
            self._make_room(level, number)
            self._set(level, number, hashed)
        for level in range(len(self.inner) - 2, -1, -1):
            flags = self.inner[level]
            number = flags.find(1)
            while number >= 0:
                page = self._pages[level + 1][number // _PAGE_GROUPS]
                self._set(level, number, _sha256(page[_GROUPS[number % _PAGE_GROUPS]]).digest())
                number = flags.find(1, number + 1)

    def _make_room(self, level: int, number: int) -> None:
        """Have a node's parent, and those above it, be inner ones. Only buckets have hashes yet."""
        if level and not (level < len(self.inner) and self.inner[level - 1][number >> BITS_PER_LEVEL]):
            level, number = level - 1, number >> BITS_PER_LEVEL
            self._make_room(level, number)
            if self.node(level, number) != EMPTY:
                raise IndexError("a bucket lies in another one")
            self.set_inner(level, number)

    def _set(self, level: int, number: int, hashed: bytes) -> None:
        if level == 0:
            self.root = hashed
            return
        page = self._pages[level].get(number >> 8)
        if page is None:
            page = self._pages[level][number >> 8] = bytearray(_UNTOUCHED)
        page[_NODES[number & 255]] = hashed

    def node(self, level: int, number: int) -> bytes:
        """The hash of a node."""
        if level == 0:
            return self.root
        page = self._pages[level].get(number // _PAGE_NODES)
        return EMPTY if page is None else bytes(page[_NODES[number % _PAGE_NODES]])

    def hash_of(self, node: int) -> bytes:
        """As `node`, of a level and number in one."""
        level = level_of(node)
        return self.node(level, node ^ NODES[level])

    def bucket_over(self, number: int) -> int:
        """The node that is a bucket and covers a number of depth 20."""
        inner, level = self.inner, 0
        while inner[level][number >> SHIFTS[level]]:
            level += 1
        return NODES[level] | number >> SHIFTS[level]

    def bucket_of(self, key_hash: bytes) -> int:
        """The node that is the bucket of a key."""
        return self.bucket_over(int.from_bytes(key_hash[:4], "big") >> 32 - BITS_PER_LEVEL * LEVEL_MAX)

    def siblings(self, level: int, number: int) -> list[bytes]:
        """Three hashes a level, from `level` up: the other children of each node above this one."""
        found: list[bytes] = []
        for each in range(level, 0, -1):
            page: bytes | bytearray = self._pages[each].get(number // _PAGE_NODES) or _UNTOUCHED
            place = number % _PAGE_NODES
            first = place - place % CHILDREN
            found += [bytes(page[_NODES[n]]) for n in range(first, first + CHILDREN) if n != place]
            number //= CHILDREN
        return found
