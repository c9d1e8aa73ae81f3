"""The state map of one ledger: its buckets on the disk, the tree above them in memory.

It is the map as of the newest seal: rows of later revisions wait in `LedgerState.unsealed` and here, so that
a proof always fits the newest seal's root. A bucket is one row of the store, as it is hashed, under the first
number of depth 20 that it covers; below depth 20 buckets are not stored apart. The tree is rebuilt from the
buckets when the store is opened.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_HEAD_SIZE_BYTES,
    BUCKET_PREFIX,
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
from storage import keys, limits
from storage.disk import Disk
from storage.errors import InvariantBroken
from storage.state_tree import LEVEL_MAX, Changes, StateTree, no_changes

BUCKETS_END: Final = 1 << BITS_PER_LEVEL * LEVEL_MAX
"""What the numbers of buckets are below."""

_u32 = struct.Struct(">I")
_first_u32 = _u32.unpack_from
_SHIFT = 32 - BITS_PER_LEVEL * LEVEL_MAX
# From a number of depth 20 to that of the node above it, by level.
_SHIFTS: Final = [BITS_PER_LEVEL * (LEVEL_MAX - level) for level in range(LEVEL_MAX + 1)]
_HEADS: Final = [bucket_head(BITS_PER_LEVEL * level) for level in range(LEVEL_MAX + 1)]
_HEAD = BUCKET_HEAD_SIZE_BYTES

_sha256 = hashlib.sha256


class StateMap:
    """The map of the ledger with this number, as of its newest seal, with what is staged for the next one."""

    def __init__(self, disk: Disk, number: int, recent: RecentBuckets) -> None:
        self._disk = disk
        self._number = number
        self._recent = recent
        self._tree = StateTree()
        # Buckets that change with the next seal, by their first numbers, and their hashes.
        self._staged: dict[int, bytes] = {}
        self._hashes: dict[int, bytes] = {}
        # New rows of full buckets. What splits costs in proportion to its rows, and that once a seal.
        self._full: dict[int, list[bytes]] = {}
        self._level = 0
        self.staged_rows = 0
        """How many rows were staged since the newest seal; those of one key count each."""

    @property
    def root(self) -> bytes:
        return self._tree.root

    def load(self) -> None:
        """Rebuilds the tree: one pass over the buckets. Raises InvariantBroken for what is none."""
        prefix = keys.of_ledger(b"S", self._number)
        try:
            self._tree.load(self._loaded(len(prefix), self._disk.scan(prefix, keys.end_of(prefix))))
        except (IndexError, struct.error) as error:
            raise InvariantBroken(
                f"ledger {self._number}: a bucket of the state map is damaged; steled fsck names it"
            ) from error

    def _loaded(self, start: int, stored: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[int, int, bytes]]:
        for key, bucket in stored:
            first, level = _u32.unpack(key[start:])[0], bucket[1]
            number = first >> _SHIFTS[level]
            # Elsewhere nobody would find it, though the root comes out right.
            if first != number << _SHIFTS[level] or first >= BUCKETS_END:
                raise IndexError("a bucket lies where none begins")
            yield level, number, stored_hash(bucket)

    def stage(self, rows: Iterable[bytes], read: Callable[[bytes], bytes | None]) -> None:
        """Puts packed rows into their buckets, each instead of an older one of its key, for the next seal.

        `read` gives a bucket, as of the newest seal, by its key in the store.
        """
        sha256, staged, full, inner, shifts = _sha256, self._staged, self._full, self._tree.inner, _SHIFTS
        level = self._level
        changed: dict[int, None] = {}
        for row in rows:
            number = _first_u32(row)[0] >> _SHIFT
            # Buckets are nearly all at one level or the next, so the one before is where to begin.
            while inner[level][number >> shifts[level]]:
                level += 1
            while level and not inner[level - 1][number >> shifts[level - 1]]:
                level -= 1
            first = number >> shifts[level] << shifts[level]
            bucket = staged.get(first)
            if bucket is None:
                bucket = staged[first] = self._bucket(level, first, read)
            if len(bucket) < BUCKET_SIZE_BYTES_MAX:
                staged[first] = _put(bucket, row)
                changed[first] = None
            else:
                full.setdefault(first, []).append(row)
            self.staged_rows += 1
        self._level = level
        hashes = self._hashes
        for first in changed:
            hashes[first] = sha256(staged[first]).digest()

    def _bucket(self, level: int, first: int, read: Callable[[bytes], bytes | None]) -> bytes:
        """As of the newest seal."""
        key = keys.state_bucket(self._number, first)
        bucket = self._recent.pop(key, None) or read(key)
        if bucket and bucket.startswith(_HEADS[level]):
            return bucket
        if bucket or self._tree.node(level, first >> _SHIFTS[level]) != EMPTY:
            raise self._damaged(first)
        return _HEADS[level]

    def _damaged(self, first: int) -> InvariantBroken:
        return InvariantBroken(
            f"ledger {self._number}: state bucket {first} is not the one that the newest seal commits to"
        )

    def seal(self, write: Callable[[bytes, bytes], None]) -> None:
        """Makes what was staged the map; `write` takes each bucket that changed, by its key in the store.
        One without a byte is no longer there."""
        staged, changes = self._staged, no_changes()
        for first, rows in self._full.items():
            self._hashes.pop(first, None)
            bucket = staged[first]
            self._divide(bucket[1], first, merge(bucket[_HEAD:], rows), changes)
        for first, hashed in self._hashes.items():
            level = staged[first][1]
            changes[level][first >> _SHIFTS[level]] = hashed
        self._tree.seal(changes)
        sealed = {keys.state_bucket(self._number, first): staged[first] for first in sorted(staged)}
        for key, bucket in sealed.items():
            write(key, bucket)
        self._recent.keep(sealed)
        self.forget()

    def _divide(self, level: int, first: int, rows: bytes, changes: Changes) -> None:
        """Stages a node with these rows, as however many buckets."""
        number = first >> _SHIFTS[level]
        if level == LEVEL_MAX or is_bucket(rows):
            # Of the first child without rows, what the store has under the number is the whole before.
            self._staged[first] = _HEADS[level] + rows if rows else b""
            if rows:
                changes[level][number] = node_hash(rows, BITS_PER_LEVEL * level)
            return
        self._tree.set_inner(level, number)
        for child, own in enumerate(split(rows, BITS_PER_LEVEL * level)):
            if own or child == 0:
                self._divide(level + 1, first + (child << _SHIFTS[level + 1]), own, changes)

    def forget(self) -> None:
        """Drops what was staged."""
        self._staged, self._hashes, self._full = {}, {}, {}
        self.staged_rows = 0

    def bucket_of(self, key_hash: bytes) -> tuple[int, int]:
        """The level and the first number of the bucket that a key belongs to."""
        return self._bucket_over(_first_u32(key_hash)[0] >> _SHIFT)

    def _bucket_over(self, number: int) -> tuple[int, int]:
        inner, level = self._tree.inner, 0
        while inner[level][number >> _SHIFTS[level]]:
            level += 1
        return level, number >> _SHIFTS[level] << _SHIFTS[level]

    def first_bucket(self, start: int, end: int) -> int | None:
        """The first of the buckets with rows that begin at number `start` or after it, before `end`."""
        while start < end:
            level, first = self._bucket_over(start)
            if first == start and self._tree.node(level, first >> _SHIFTS[level]) != EMPTY:
                return first
            start = first + (1 << _SHIFTS[level])
        return None

    def proof(self, key_hash: bytes) -> StateProof:
        """The proof of what the map says of a key, or that it says nothing.

        Raises InvariantBroken when the store has another bucket than the newest seal.
        """
        level, first = self.bucket_of(key_hash)
        number = first >> _SHIFTS[level]
        bucket = self._disk.get(keys.state_bucket(self._number, first)) or _HEADS[level]
        try:
            proof = _proof_below(bucket[_HEAD:], level, key_hash)
        except IndexError:
            raise self._damaged(first) from None
        if not bucket.startswith(_HEADS[level]) or proof.top(key_hash) != self._tree.node(level, number):
            raise self._damaged(first)
        return proof._replace(siblings=proof.siblings + self._tree.siblings(level, number))


class RecentBuckets(dict[bytes, bytes]):
    """The buckets of the newest seals of all ledgers of a store, by their keys in it, so that those that
    change again and again cost no reading. One that changes is taken out (`pop`)."""

    def keep(self, sealed: dict[bytes, bytes]) -> None:
        """Keeps those of a seal that did not outgrow a bucket, and of older ones what there is room for."""
        self.update((key, bucket) for key, bucket in sealed.items() if len(bucket) <= BUCKET_SIZE_BYTES_MAX)
        # One walk for all that go: each walk passes the places of all that went before.
        for key in list(islice(self, max(0, len(self) - limits.RECENT_BUCKETS_MAX))):
            del self[key]


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


def merge(rows: bytes, others: list[bytes]) -> bytes:
    """Packed rows with `others`, each instead of an older row of its key if there is one."""
    starts = range(0, len(rows), ROW_SIZE_BYTES)
    by_key = {rows[i : i + HASH_SIZE_BYTES]: rows[i : i + ROW_SIZE_BYTES] for i in starts}
    by_key.update((row[:HASH_SIZE_BYTES], row) for row in others)
    return b"".join(sorted(by_key.values()))


def stored_hash(bucket: bytes) -> bytes:
    """Of what the store has as a bucket. Raises IndexError when it is none, or has not the form of one."""
    if bucket[0] != BUCKET_PREFIX[0] or bucket[1] > LEVEL_MAX or len(bucket) == _HEAD:
        raise IndexError("it is no bucket of the state map")
    if len(bucket) <= BUCKET_SIZE_BYTES_MAX:
        return _sha256(bucket).digest()
    rows = bucket[_HEAD:]
    # Its hash is that of the buckets below it, which does not say where and in what order their rows lie.
    if bucket[1] < LEVEL_MAX or merge(rows, []) != rows:
        raise IndexError("it has too many rows, or they are not in order")
    return node_hash(rows, BITS_PER_LEVEL * LEVEL_MAX)


def _put(bucket: bytes, row: bytes) -> bytes:
    """The bucket, head included, with the row."""
    hashed = row[:HASH_SIZE_BYTES]
    for start in range(_HEAD, len(bucket), ROW_SIZE_BYTES):
        found = bucket[start : start + HASH_SIZE_BYTES]
        if found >= hashed:
            end = start + ROW_SIZE_BYTES if found == hashed else start
            return bucket[:start] + row + bucket[end:]
    return bucket + row
