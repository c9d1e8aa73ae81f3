"""The state map of one ledger: its buckets on the disk, the tree above them in memory.

It is the map as of the newest seal: rows of later revisions wait in `LedgerState.unsealed`, so that a
proof always fits the newest seal's root. A bucket is one row of the store, whole; the tree is rebuilt
from the buckets when the store is opened.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_DEPTH_MIN,
    BUCKET_PREFIX,
    BUCKET_SIZE_BYTES_MAX,
    CHILDREN,
    ROW_SIZE_BYTES,
    StateProof,
    digit,
    is_bucket,
    node_hash,
    split,
)
from storage import keys, limits
from storage.disk import Disk
from storage.state_tree import StateTree

_first_u32 = struct.Struct(">I").unpack_from
_SHIFT = 32 - BUCKET_DEPTH_MIN

_sha256 = hashlib.sha256


class StateMap:
    """The map of the ledger with this number, as of its newest seal, with what is staged for the next one."""

    def __init__(self, disk: Disk, number: int) -> None:
        self._disk = disk
        self._number = number
        self._tree = StateTree()
        self._staged: dict[int, bytes] = {}
        # New rows of full buckets. What splits costs in proportion to its rows, and that once a seal.
        self._full: dict[int, list[bytes]] = {}
        self._recent = RecentBuckets()

    @property
    def root(self) -> bytes:
        return self._tree.root

    @property
    def staged(self) -> int:
        """How many buckets have changed since the newest seal, as far as they were staged."""
        return len(self._staged)

    def load(self) -> None:
        """Rebuilds the tree: one pass over the buckets."""
        prefix = keys.of_ledger(b"S", self._number)
        start = len(prefix)
        stored = self._disk.scan(prefix, keys.end_of(prefix))
        self._tree.load((int.from_bytes(key[start:], "big"), _hash(bucket)) for key, bucket in stored)

    def stage(self, rows: Iterable[bytes], read: Callable[[bytes], bytes | None]) -> None:
        """Puts packed rows into their buckets, each instead of an older one of its key, for the next seal.

        `read` gives a bucket, as of the newest seal, by its key in the store.
        """
        sha256, staged, tree, ledger = _sha256, self._staged, self._tree, self._number
        take_recent = self._recent.take
        changed: dict[int, bytes] = {}
        for row in rows:
            number = bucket_of(row)
            bucket = staged.get(number)
            if bucket is None and tree.has_rows(number):
                bucket = take_recent(number) or read(keys.state_bucket(ledger, number)) or b""
                staged[number] = bucket
            if not bucket:
                bucket = row
            elif len(bucket) < BUCKET_SIZE_BYTES_MAX:
                bucket = _put(bucket, row)
            else:
                self._full.setdefault(number, []).append(row)
                continue
            staged[number] = bucket
            changed[number] = sha256(BUCKET_PREFIX + bucket).digest()
        tree.stage(changed)

    def seal(self, write: Callable[[bytes, bytes], None]) -> None:
        """Makes what was staged the map; `write` takes each bucket that changed, by its key in the store."""
        for number, rows in self._full.items():
            bucket = self._staged[number] = merge(self._staged[number], rows)
            self._tree.stage({number: _hash(bucket)})
        self._tree.seal()
        for number in sorted(self._staged):
            write(keys.state_bucket(self._number, number), self._staged[number])
        self._recent.keep(self._staged)
        self._staged, self._full = {}, {}

    def forget(self) -> None:
        """Drops what was staged."""
        self._staged, self._full = {}, {}
        self._tree.forget()

    def proof(self, key_hash: bytes) -> StateProof:
        """The proof of what the map says of a key, or that it says nothing."""
        number = bucket_of(key_hash)
        rows = self._disk.get(keys.state_bucket(self._number, number)) or b""
        depth = BUCKET_DEPTH_MIN
        below: list[list[bytes]] = []
        while not is_bucket(rows, depth):
            children = split(rows, depth)
            own = digit(key_hash, depth)
            depth += BITS_PER_LEVEL
            below.append([node_hash(children[i], depth) for i in range(CHILDREN) if i != own])
            rows = children[own]
        siblings = [sibling for level in reversed(below) for sibling in level]
        return StateProof(depth, rows, siblings + self._tree.siblings(number))


class RecentBuckets:
    """The buckets of the newest seals, so that keys that are written again and again cost no reading."""

    def __init__(self) -> None:
        self._buckets: dict[int, bytes] = {}
        self._size_bytes = 0

    def take(self, number: int) -> bytes | None:
        """The bucket, which is about to change, if it is here."""
        bucket = self._buckets.pop(number, None)
        if bucket is not None:
            self._size_bytes -= len(bucket) + limits.RECENT_BUCKET_SIZE_BYTES
        return bucket

    def keep(self, sealed: dict[int, bytes]) -> None:
        """Keeps those of a seal, and of older ones what there is room for."""
        for number, bucket in sealed.items():
            self.take(number)
            self._buckets[number] = bucket
            self._size_bytes += len(bucket) + limits.RECENT_BUCKET_SIZE_BYTES
        # One walk for all that go: each walk passes the places of all that went before.
        excess_bytes, oldest = self._size_bytes - limits.RECENT_BUCKETS_SIZE_BYTES_MAX, []
        for number, bucket in self._buckets.items():
            if excess_bytes <= 0:
                break
            excess_bytes -= len(bucket) + limits.RECENT_BUCKET_SIZE_BYTES
            oldest.append(number)
        for number in oldest:
            self.take(number)


def bucket_of(key_hash: bytes) -> int:
    """The number of the node at depth 20 that a key belongs to; takes a row as well."""
    number: int = _first_u32(key_hash)[0]
    return number >> _SHIFT


def merge(bucket: bytes, rows: list[bytes]) -> bytes:
    """The bucket with `rows`, each instead of an older row of its key if there is one."""
    starts = range(0, len(bucket), ROW_SIZE_BYTES)
    by_key = {bucket[i : i + HASH_SIZE_BYTES]: bucket[i : i + ROW_SIZE_BYTES] for i in starts}
    by_key.update((row[:HASH_SIZE_BYTES], row) for row in rows)
    return b"".join(sorted(by_key.values()))


def _hash(bucket: bytes) -> bytes:
    """The node at depth 20 with these rows."""
    if len(bucket) <= BUCKET_SIZE_BYTES_MAX:
        return _sha256(BUCKET_PREFIX + bucket).digest()
    return node_hash(bucket, BUCKET_DEPTH_MIN)


def _put(bucket: bytes, row: bytes) -> bytes:
    hashed = row[:HASH_SIZE_BYTES]
    low, high = 0, len(bucket) // ROW_SIZE_BYTES
    while low < high:
        middle = (low + high) >> 1
        start = middle * ROW_SIZE_BYTES
        if bucket[start : start + HASH_SIZE_BYTES] < hashed:
            low = middle + 1
        else:
            high = middle
    start = low * ROW_SIZE_BYTES
    end = start + ROW_SIZE_BYTES if bucket.startswith(hashed, start) else start
    return bucket[:start] + row + bucket[end:]
