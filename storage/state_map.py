"""The state map of one ledger: its buckets on the disk, the tree above them in memory.

It is the map as of the newest seal: rows of later revisions wait in `LedgerState.unsealed`, so that a
proof always fits the newest seal's root. A bucket is one row of the store, whole; the tree is rebuilt
from the buckets when the store is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import groupby

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_DEPTH_MIN,
    BUCKET_PREFIX,
    BUCKET_ROWS_MAX,
    CHILDREN,
    ROW_SIZE_BYTES,
    StateProof,
    digit,
    is_bucket,
    node_hash,
    split,
)
from storage import keys
from storage.disk import Disk
from storage.state_tree import StateTree

_SHIFT = 24 - BUCKET_DEPTH_MIN
_BUCKET_SIZE_BYTES_MAX = BUCKET_ROWS_MAX * ROW_SIZE_BYTES

_sha256 = hashlib.sha256


class StateMap:
    """The map of the ledger with this number, as of its newest seal."""

    def __init__(self, disk: Disk, number: int) -> None:
        self._disk = disk
        self._number = number
        self._tree = StateTree()

    @property
    def root(self) -> bytes:
        return self._tree.root

    def load(self) -> None:
        """Rebuilds the tree: one pass over the buckets."""
        prefix = keys.of_ledger(b"S", self._number)
        start = len(prefix)
        numbers: list[int] = []
        hashes: list[bytes] = []
        for key, bucket in self._disk.scan(prefix, keys.end_of(prefix)):
            numbers.append(int.from_bytes(key[start:], "big"))
            hashes.append(node_hash(bucket, BUCKET_DEPTH_MIN))
        self._tree.update(numbers, hashes)

    def update(
        self,
        rows: Iterable[bytes],
        read: Callable[[bytes], bytes | None],
        write: Callable[[bytes, bytes], None],
    ) -> None:
        """Puts packed rows, sorted and one a key, into their buckets, and hashes what changed.

        `read` and `write` give and take a bucket by its key in the store.
        """
        numbers: list[int] = []
        hashes: list[bytes] = []
        for number, group in groupby(rows, bucket_of):
            key = keys.state_bucket(self._number, number)
            bucket = read(key) or b"" if self._tree.has_rows(number) else b""
            for row in group:
                bucket = put_row(bucket, row) if bucket else row
            write(key, bucket)
            numbers.append(number)
            hashes.append(
                _sha256(BUCKET_PREFIX + bucket).digest()
                if len(bucket) <= _BUCKET_SIZE_BYTES_MAX
                else node_hash(bucket, BUCKET_DEPTH_MIN)
            )
        self._tree.update(numbers, hashes)

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


def bucket_of(key_hash: bytes) -> int:
    """The number of the node at depth 20 that a key belongs to; takes a row as well."""
    return int.from_bytes(key_hash[:3], "big") >> _SHIFT


def put_row(bucket: bytes, row: bytes) -> bytes:
    """The bucket with `row` in its place, instead of an older row of the same key if there is one."""
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
