"""The state map: one row for every document key that ever had a revision, under one root.

A map of rows by key hash, as a quaternary Merkle tree (docs/concepts.md, "The state map"; docs/adr/0017).
A node at depth d (an even number of bits) stands for all keys whose hash begins with its d bits:

- without rows, it is 32 zero bytes;
- with 12 rows or fewer, it is a bucket: SHA-256(02 || d / 2 || rows), the rows sorted by key hash;
- with more, it is an inner node: SHA-256(03 || four children), the children by the next two bits.

So the tree is a function of the set of rows alone, and no deeper than the rows make it.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from stele.format.limits import HASH_SIZE_BYTES

BITS_PER_LEVEL: Final = 2
CHILDREN: Final = 1 << BITS_PER_LEVEL

BUCKET_ROWS_MAX: Final = 12
"""A bucket with more rows splits into four by the next two bits."""

ROW_SIZE_BYTES: Final = 80
KEY_HASH_BITS: Final = 8 * HASH_SIZE_BYTES

BUCKET_PREFIX: Final = b"\x02"
INNER_PREFIX: Final = b"\x03"
KEY_PREFIX: Final = b"\x04"

BUCKET_HEAD_SIZE_BYTES: Final = 2
"""What a bucket is hashed with before its rows: the prefix, and half its depth."""

BUCKET_SIZE_BYTES_MAX: Final = BUCKET_HEAD_SIZE_BYTES + BUCKET_ROWS_MAX * ROW_SIZE_BYTES

EMPTY: Final = bytes(HASH_SIZE_BYTES)
"""A node without rows. Nobody knows what hashes to it."""

_sha256 = hashlib.sha256
_row = struct.Struct(">32sQQ32s")
_u32 = struct.Struct(">I")


class Row(NamedTuple):
    """What the map says of a key: its newest revision (which may be a delete)."""

    key_hash: bytes
    version: int
    seq: int
    leaf_hash: bytes


def key_hash_prefix(ledger: bytes, table: str) -> bytes:
    """What a table's key hashes have in common: `ledger` is the 16-byte id, `table` the table id.

    The key hash is SHA-256 of this and the document key in UTF-8: 04 || ledger || length of the table
    id in UTF-8, u32 || table id || key, numbers big-endian.
    """
    encoded = table.encode()
    return KEY_PREFIX + ledger + _u32.pack(len(encoded)) + encoded


def key_hash(ledger: bytes, table: str, key: str) -> bytes:
    """The place of a document in the map."""
    return _sha256(key_hash_prefix(ledger, table) + key.encode()).digest()


def pack_row(key_hash: bytes, version: int, seq: int, leaf_hash: bytes) -> bytes:
    """80 bytes: key hash, version u64, seq u64 (both big-endian), hash of the revision leaf."""
    return _row.pack(key_hash, version, seq, leaf_hash)


def unpack_rows(rows: bytes) -> list[Row]:
    """The rows of a bucket. Raises struct.error unless they are whole."""
    return [Row._make(row) for row in _row.iter_unpack(rows)]


def split(rows: bytes, depth: int) -> list[bytes]:
    """The rows of the four children of a node at `depth`, given its rows in order.

    Raises IndexError below the last bit, where only rows of one key get to."""
    if depth >= KEY_HASH_BITS:
        raise IndexError(f"there are no nodes at depth {depth}")
    # They are in the order of the children already, and alike in all bits above. Depths are even, so that the
    # two bits that matter never lie in different bytes.
    shift = 6 - (depth & 7)
    digits = rows[depth >> 3 :: ROW_SIZE_BYTES]
    first = digits[0] >> shift & -CHILDREN if digits else 0
    ends = [bisect_left(digits, first + child << shift) * ROW_SIZE_BYTES for child in range(1, CHILDREN)]
    return [rows[: ends[0]], rows[ends[0] : ends[1]], rows[ends[1] : ends[2]], rows[ends[2] :]]


def digit(key_hash: bytes, depth: int) -> int:
    """Which child of a node at `depth` a key belongs to: bits `depth` and `depth` + 1 of its hash."""
    # Depths are even, so that the two bits never lie in different bytes.
    return key_hash[depth >> 3] >> (6 - (depth & 7)) & (CHILDREN - 1)


def is_bucket(rows: bytes) -> bool:
    """Whether a node with these rows is a bucket."""
    return len(rows) <= BUCKET_ROWS_MAX * ROW_SIZE_BYTES


def bucket_head(depth: int) -> bytes:
    """What a bucket at this depth begins with."""
    return BUCKET_PREFIX + bytes([depth // BITS_PER_LEVEL])


def bucket_hash(rows: bytes, depth: int) -> bytes:
    """Of a bucket with these rows, sorted and without doubles."""
    return _sha256(bucket_head(depth) + rows).digest() if rows else EMPTY


def inner_hash(children: bytes) -> bytes:
    """`children` is the four hashes, one after another."""
    return _sha256(INNER_PREFIX + children).digest()


def node_hash(rows: bytes, depth: int) -> bytes:
    """The hash of the node at `depth` that holds exactly these rows, sorted and without doubles."""
    if is_bucket(rows):
        return bucket_hash(rows, depth)
    children = split(rows, depth)
    return inner_hash(b"".join(node_hash(child, depth + BITS_PER_LEVEL) for child in children))


def state_root(rows: Sequence[bytes]) -> bytes:
    """The root over packed rows in any order: the definition, for tests and small maps."""
    return node_hash(b"".join(sorted(rows)), 0)


class StateProof(NamedTuple):
    """That a bucket is in the map: `siblings` has three hashes a level, from the bucket's depth up,
    each level's in the order of the children. The bucket shows which of its keys exist, and that no
    other does."""

    bucket_depth: int
    rows: bytes
    siblings: list[bytes]

    def top(self, key_hash: bytes) -> bytes:
        """The hash of the node that the siblings lead to, on the way up from the bucket of this key."""
        depth = self.bucket_depth
        node = bucket_hash(self.rows, depth)
        for start in range(0, len(self.siblings), CHILDREN - 1):
            depth -= BITS_PER_LEVEL
            children = self.siblings[start : start + CHILDREN - 1]
            children.insert(digit(key_hash, depth), node)
            node = inner_hash(b"".join(children))
        return node

    def shown_siblings(self) -> tuple[bytes, bytes]:
        """As a proof shows them: those with rows, one after another, and a bit for each of all that says
        whether it is left out, since it has none. No bits when none is."""
        shown = b"".join(sibling for sibling in self.siblings if sibling != EMPTY)
        empty = 0
        for sibling in self.siblings:
            empty = empty << 1 | (sibling == EMPTY)
        size_bytes = (len(self.siblings) + 7) // 8
        bits = (empty << (8 * size_bytes - len(self.siblings))).to_bytes(size_bytes, "big")
        return shown, bits if empty else b""
