"""The state map of one ledger: its buckets, and the tree above them in memory.

It is the map as of the newest seal: rows of later revisions wait in `LedgerState.unsealed` and here, so that
a proof always fits the newest seal's root. A bucket is one row of the store, as it is hashed, under the first
number of depth 20 that it covers; below depth 20 buckets are not stored apart. The tree is rebuilt from the
buckets when the store is opened.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_HEAD_SIZE_BYTES,
    BUCKET_ROWS_MAX,
    BUCKET_SIZE_BYTES_MAX,
    CHILDREN,
    EMPTY,
    ROW_SIZE_BYTES,
    StateProof,
    bucket_head,
    digit,
    is_bucket,
    node_hash,
    split,
)
from storage import keys
from storage.disk import Rows
from storage.errors import InvariantBroken
from storage.rows import U64
from storage.state_buckets import StateBuckets, WriteBack, hash_of_stored, merge, stored_hash
from storage.state_tree import (
    LEVEL_MAX,
    NODES,
    NUMBERS_END,
    SHIFTS,
    StateTree,
    first_of,
    level_of,
    no_changes,
)

_u32 = struct.Struct(">I")
_first_u32 = _u32.unpack_from
_REST = ROW_SIZE_BYTES - HASH_SIZE_BYTES
_SHIFT = 32 - BITS_PER_LEVEL * LEVEL_MAX
_HEADS: Final = [bucket_head(BITS_PER_LEVEL * level) for level in range(LEVEL_MAX + 1)]
_HEAD = BUCKET_HEAD_SIZE_BYTES
_STAGED_ROWS_MAX: Final = 4 * BUCKET_ROWS_MAX
"""How many rows are put into a bucket one by one before it splits."""
_STAGED_SIZE_BYTES_MAX: Final = _HEAD + _STAGED_ROWS_MAX * ROW_SIZE_BYTES
# The key hashes of a bucket, by its size.
_hashes_of: Final = {
    _HEAD + count * ROW_SIZE_BYTES: struct.Struct(f"{_HEAD}x" + f"{HASH_SIZE_BYTES}s{_REST}x" * count).unpack
    for count in range(_STAGED_ROWS_MAX)
}

_sha256 = hashlib.sha256


class StateMap:
    """The map of the ledger with this number, as of its newest seal, with what is staged for the next one."""

    def __init__(self, disk: Rows, number: int, write_back: WriteBack) -> None:
        self._disk = disk
        self._number = number
        self.tree = StateTree()
        self.buckets = StateBuckets(disk, number, self.tree, write_back)
        # By their nodes, buckets that change with the next seal, and what changes in the tree then.
        self._staged: dict[int, bytes] = {}
        self._changes = no_changes()
        # Staged ones with too many rows, which split in the seal; and rows of those with so many that they
        # would be copied again and again.
        self._full: set[int] = set()
        self._more: dict[int, list[bytes]] = {}
        self._level = 0
        self.staged_rows = 0
        """How many rows were staged since the newest seal; those of one key count each."""

    @property
    def root(self) -> bytes:
        return self.tree.root

    def load(self) -> int:
        """Rebuilds the tree: one pass over the buckets of the disk. Returns from which block on what blocks
        did is to be done again, since the disk may have the map as of then. Raises InvariantBroken for what
        is none."""
        prefix = keys.of_ledger(b"S", self._number)
        stored = self._disk.get(keys.state_written(self._number))
        try:
            self.tree.load(self._loaded(len(prefix), self._disk.scan(prefix, keys.end_of(prefix))))
            size: int = 0 if stored is None else U64.unpack(stored)[0]
        except (IndexError, struct.error) as error:
            raise InvariantBroken(
                f"ledger {self._number}: a row of the state map is damaged; steled fsck names it"
            ) from error
        self.buckets.loaded(size)
        return size

    def _loaded(self, start: int, stored: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[int, int, bytes]]:
        for key, bucket in stored:
            first, hashed = _u32.unpack(key[start:])[0], stored_hash(bucket)
            level = bucket[1]
            number = first >> SHIFTS[level]
            # Elsewhere nobody would find it, though the root comes out right.
            if first != number << SHIFTS[level] or first >= NUMBERS_END:
                raise IndexError("a bucket lies where none begins")
            yield level, number, hashed

    def stage(self, rows: Sequence[bytes]) -> None:
        """Puts packed rows into their buckets, each instead of an older one of its key, for the next seal."""
        sha256, inner, shifts, nodes = _sha256, self.tree.inner, SHIFTS, NODES
        staged, kept, changes = self._staged, self.buckets.kept, self._changes
        level = self._level
        for row in rows:
            number = _first_u32(row)[0] >> _SHIFT
            # Buckets are nearly all at one level or the next, so the one before is where to begin.
            while inner[level][number >> shifts[level]]:
                level += 1
            while level and not inner[level - 1][number >> shifts[level - 1]]:
                level -= 1
            place = number >> shifts[level]
            node = nodes[level] | place
            bucket = staged.get(node) or kept.get(node) or self._stored(node)
            if len(bucket) >= _STAGED_SIZE_BYTES_MAX:
                staged[node] = bucket
                self._more.setdefault(node, []).append(row)
                continue
            staged[node] = bucket = _put(bucket, row)
            if len(bucket) <= BUCKET_SIZE_BYTES_MAX:
                changes[level][place] = sha256(bucket).digest()
            else:
                self._full.add(node)
        self._level = level
        self.staged_rows += len(rows)

    def _stored(self, node: int) -> bytes:
        """The bucket of a node, as of the newest seal, of which the disk has what is not empty."""
        bucket, head = self.buckets.at(node), _HEADS[level_of(node)]
        if bucket and bucket.startswith(head):
            return bucket
        if bucket or self.tree.hash_of(node) != EMPTY:
            raise self._damaged(node)
        return head

    def _damaged(self, node: int) -> InvariantBroken:
        return InvariantBroken(
            f"ledger {self._number}: state bucket {first_of(node)} is not the one that the newest seal "
            "commits to"
        )

    def seal(self, size: int) -> dict[int, bytes]:
        """Makes what was staged the map, as of a journal of `size` blocks with the seal. Returns the buckets
        that changed, by their nodes: those with a head alone are without rows."""
        staged = self._staged
        self.buckets.outdate(staged)
        divided = []
        for node in self._full | self._more.keys():
            bucket = staged.pop(node)
            level, rows = bucket[1], bucket[_HEAD:]
            if node in self._more:
                rows = merge(rows, self._more[node])
            if level == LEVEL_MAX or is_bucket(rows):
                # Below depth 20 buckets are not stored apart; others had few keys, but those many times.
                staged[node] = bucket = _HEADS[level] + rows
                self._changes[level][node ^ NODES[level]] = hash_of_stored(bucket)
                continue
            divided.append(node)
            self.buckets.divided(node, self._divide(level, node ^ NODES[level], rows))
        self.tree.seal(self._changes)
        self.buckets.change(staged, divided, size, self.staged_rows)
        self.forget()
        return staged

    def _divide(self, level: int, number: int, rows: bytes) -> list[int]:
        """Stages a node with too many rows as the buckets that it splits into; which these are."""
        self._changes[level].pop(number, None)
        self.tree.set_inner(level, number)
        children = split(rows, BITS_PER_LEVEL * level)
        level, number = level + 1, number << BITS_PER_LEVEL
        head, first, changes = _HEADS[level], NODES[level] | number, self._changes[level]
        into = []
        for child, own in enumerate(children):
            if level < LEVEL_MAX and not is_bucket(own):
                into += self._divide(level, number | child, own)
                continue
            bucket = head + own
            self._staged[first | child] = bucket
            changes[number | child] = hash_of_stored(bucket)
            into.append(first | child)
        return into

    def forget(self) -> None:
        """Drops what was staged."""
        self._staged, self._changes = {}, no_changes()
        self._full, self._more = set(), {}
        self.staged_rows = 0

    def proof(self, key_hash: bytes) -> StateProof:
        """The proof of what the map says of a key, or that it says nothing.

        Raises InvariantBroken when the store has another bucket than the newest seal.
        """
        node = self.tree.bucket_of(key_hash)
        level = level_of(node)
        bucket = self.buckets.at(node) or _HEADS[level]
        try:
            proof = _proof_below(bucket[_HEAD:], level, key_hash)
        except IndexError:
            raise self._damaged(node) from None
        if not bucket.startswith(_HEADS[level]) or proof.top(key_hash) != self.tree.hash_of(node):
            raise self._damaged(node)
        return proof._replace(siblings=proof.siblings + self.tree.siblings(level, node ^ NODES[level]))


def _proof_below(rows: bytes, level: int, key_hash: bytes) -> StateProof:
    """The part of a proof that lies within a stored bucket. May raise IndexError for rows of no bucket."""
    depth = BITS_PER_LEVEL * level
    below: list[list[bytes]] = []
    while not is_bucket(rows):
        children = split(rows, depth)
        own = digit(key_hash, depth)
        depth += BITS_PER_LEVEL
        below.append([node_hash(children[i], depth) for i in range(CHILDREN) if i != own])
        rows = children[own]
    return StateProof(depth, rows, [sibling for each in reversed(below) for sibling in each])


def _put(bucket: bytes, row: bytes) -> bytes:
    """The bucket, of less than _STAGED_ROWS_MAX rows and head included, with the row."""
    hashes = _hashes_of[len(bucket)](bucket)
    hashed = row[:HASH_SIZE_BYTES]
    place = bisect_left(hashes, hashed)
    start = _HEAD + place * ROW_SIZE_BYTES
    known = place < len(hashes) and hashes[place] == hashed
    return bucket[:start] + row + bucket[start + ROW_SIZE_BYTES if known else start :]
