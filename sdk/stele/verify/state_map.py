"""Checking what the state map says of a document. Written on its own, with its own hashing.

The map (docs/concepts.md, "The state map") is a quaternary Merkle tree of buckets of rows; a seal's
header holds its root. A proof shows one whole bucket, and with it which keys of that place exist and
that no other does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from msgspec import UnsetType

from stele.verify import shape
from stele.verify.errors import InvalidProof, Malformed
from stele.verify.limits import BUCKET_DEPTH_MAX, BUCKET_ROWS_MAX

_ROW_SIZE_BYTES: Final = 80
_HASH_SIZE_BYTES: Final = 32
_HASH_BITS: Final = 256
_LEDGER_ID_SIZE_BYTES: Final = 16
_EMPTY: Final = bytes(_HASH_SIZE_BYTES)


class StateRow(NamedTuple):
    """A key's newest revision: its version, its block, and the hash of its leaf (which may be a delete's)."""

    version: int
    seq: int
    leaf_hash: bytes


def place_of(ledger_id: str, table_id: str, key: str) -> bytes:
    """The hash under which the map keeps a key. `ledger_id` is 32 hex digits, `table_id` as leaves have
    it ("name@seq"). Raises Malformed."""
    ledger = shape.decode_hex(ledger_id, _LEDGER_ID_SIZE_BYTES, "ledger id")
    try:
        table, encoded_key = table_id.encode(), key.encode()
    except UnicodeEncodeError:
        raise Malformed("table id or key: text with a lone surrogate") from None
    return sha256(b"\x04" + ledger + len(table).to_bytes(4, "big") + table + encoded_key).digest()


def verify_state(proof: object, place: bytes, state_root: bytes) -> StateRow | None:
    """What the map with this root says of the key at `place` (see `place_of`); None: it never existed.

    `proof` is the JSON object of a state proof: "bucket_depth", "rows" (base64 of the bucket's rows),
    "siblings" (base64 of three hashes a level, from the bucket's depth up, in the order of the children) and
    "empty" (which of them are left out, for they have no rows; each such one must be).
    Raises Malformed, and InvalidProof when it does not lead to `state_root`.
    """
    if len(place) != _HASH_SIZE_BYTES or len(state_root) != _HASH_SIZE_BYTES:
        raise Malformed("place and state root: bytes", expected=_HASH_SIZE_BYTES)
    parsed = shape.convert(proof, shape.StateProof, "state proof")
    return check_state_proof(parsed, place, state_root)


def check_state_proof(proof: shape.StateProof, place: bytes, state_root: bytes) -> StateRow | None:
    """As `verify_state`, of a proof whose shape was read already."""
    depth = proof.bucket_depth
    if not 0 <= depth <= BUCKET_DEPTH_MAX or depth % 2:
        expected = f"an even number up to {BUCKET_DEPTH_MAX}"
        raise Malformed("state proof: bucket_depth", expected=expected, found=depth)
    siblings = _siblings(proof, depth)
    if depth and siblings.startswith(_EMPTY * 3):
        raise InvalidProof("state proof: the node above the bucket has too few rows to be divided")
    rows = shape.decode_base64(proof.rows, "state proof: rows")
    if len(rows) % _ROW_SIZE_BYTES or len(rows) > BUCKET_ROWS_MAX * _ROW_SIZE_BYTES:
        expected = f"at most {BUCKET_ROWS_MAX} rows of {_ROW_SIZE_BYTES} bytes"
        raise Malformed("state proof: rows", expected=expected, found=f"{len(rows)} bytes")
    path = int.from_bytes(place, "big") >> (_HASH_BITS - depth)
    found = _find(rows, place, path, depth)
    _check_root(_bucket(rows, depth), path, siblings, state_root)
    return found


def _find(rows: bytes, place: bytes, path: int, depth: int) -> StateRow | None:
    """The row at `place`; every row must be in the bucket's range and in order."""
    found = None
    before = b""
    shift = _HASH_BITS - depth
    for start in range(0, len(rows), _ROW_SIZE_BYTES):
        hashed = rows[start : start + 32]
        if hashed <= before:
            raise Malformed("state proof: rows are not in order, or one stands twice")
        if int.from_bytes(hashed, "big") >> shift != path:
            raise InvalidProof("state proof: a row does not belong to the bucket of the key")
        if hashed == place:
            found = _parsed(rows[start : start + _ROW_SIZE_BYTES])
        before = hashed
    return found


def _parsed(row: bytes) -> StateRow:
    return StateRow(int.from_bytes(row[32:40], "big"), int.from_bytes(row[40:48], "big"), row[48:])


def _siblings(proof: shape.StateProof, depth: int) -> bytes:
    """All of them one after another, from the depth of the bucket up, three a level."""
    shown = shape.decode_base64(proof.siblings, "state proof: siblings")
    count = 3 * (depth // 2)
    if isinstance(proof.empty, UnsetType):
        _expect_siblings(shown, count)
        return shown
    bits = shape.decode_base64(proof.empty, "state proof: empty")
    unused = 8 * len(bits) - count
    empty = int.from_bytes(bits, "big")
    if not 0 <= unused < 8 or not empty or empty & ((1 << unused) - 1):
        raise Malformed("state proof: empty", expected=f"{count} bits, not all of them 0", found=proof.empty)
    _expect_siblings(shown, count - empty.bit_count())
    parts: list[bytes] = []
    at = 0
    for shift in range(8 * len(bits) - 3, unused - 1, -3):
        left_out = empty >> shift & 7
        for bit in (4, 2, 1):
            if left_out & bit:
                parts.append(_EMPTY)
            else:
                parts.append(shown[at : at + _HASH_SIZE_BYTES])
                at += _HASH_SIZE_BYTES
    return b"".join(parts)


def _expect_siblings(shown: bytes, count: int) -> None:
    if len(shown) != count * _HASH_SIZE_BYTES:
        raise Malformed("state proof: siblings", expected=f"{count} hashes", found=f"{len(shown)} bytes")
    # One form only. Across two hashes so many zeros are as unlikely as a hash of zeros.
    if _EMPTY in shown:
        raise Malformed("state proof: siblings", expected="none that has no rows", found="zeros")


def _bucket(rows: bytes, depth: int) -> bytes:
    """The hash of a bucket at this depth; a node without rows is all zeros."""
    return sha256(bytes([2, depth // 2]) + rows).digest() if rows else _EMPTY


def _check_root(node: bytes, path: int, siblings: bytes, state_root: bytes) -> None:
    """Whether the way from a bucket up leads to the root."""
    for start in range(0, len(siblings), 96):
        own = start + ((path & 3) << 5)
        node = sha256(b"\x03" + siblings[start:own] + node + siblings[own : start + 96]).digest()
        path >>= 2
    if node != state_root:
        raise InvalidProof("state proof: root", expected=state_root, found=node)


class _Node:
    """A node of the replayed tree: a bucket with its rows in order, or four children. Its hash is None
    after a change below it."""

    __slots__ = ("children", "hashed", "rows")

    def __init__(self, rows: list[bytes]) -> None:
        self.rows = rows
        self.children: list[_Node] = []
        self.hashed: bytes | None = None

    def put(self, row: bytes, depth: int) -> None:
        """Take in a row, instead of an older one of its key."""
        node = self
        node.hashed = None
        path = int.from_bytes(row[:_HASH_SIZE_BYTES], "big")
        while node.children:
            node = node.children[path >> (_HASH_BITS - 2 - depth) & 3]
            node.hashed = None
            depth += 2
        at = bisect_left(node.rows, row[:_HASH_SIZE_BYTES])
        same = at < len(node.rows) and node.rows[at].startswith(row[:_HASH_SIZE_BYTES])
        node.rows[at : at + same] = [row]
        node.divide(depth)

    def divide(self, depth: int) -> None:
        if len(self.rows) <= BUCKET_ROWS_MAX:
            return
        quarters: list[list[bytes]] = [[], [], [], []]
        for row in self.rows:
            path = int.from_bytes(row[:_HASH_SIZE_BYTES], "big")
            quarters[path >> (_HASH_BITS - 2 - depth) & 3].append(row)
        self.rows = []
        self.children = [_Node(rows) for rows in quarters]
        for child in self.children:
            child.divide(depth + 2)

    def root(self, depth: int) -> bytes:
        if self.hashed is None:
            if self.children:
                below = b"".join(child.root(depth + 2) for child in self.children)
                self.hashed = sha256(b"\x03" + below).digest()
            else:
                self.hashed = _bucket(b"".join(self.rows), depth)
        return self.hashed

    def buckets(self) -> Iterator[list[bytes]]:
        if self.rows:
            yield self.rows
        for child in self.children:
            yield from child.buckets()


class StateReplay:
    """The whole map, rebuilt from a journal's revisions, to recompute the root of every seal.

    Memory: about 200 bytes a key.
    """

    def __init__(self, ledger_id: str) -> None:
        self._ledger_id = ledger_id
        self._top = _Node([])
        self._changed: dict[bytes, bytes] = {}

    def put(self, table_id: str, key: str, row: StateRow) -> None:
        """Take in a revision; raises Malformed."""
        packed = row.version.to_bytes(8, "big") + row.seq.to_bytes(8, "big") + row.leaf_hash
        self._changed[place_of(self._ledger_id, table_id, key)] = packed

    def row(self, table_id: str, key: str) -> StateRow | None:
        """What the map says of a key, without what was taken in since the last `root`. Raises Malformed."""
        place = place_of(self._ledger_id, table_id, key)
        path, node, depth = int.from_bytes(place, "big"), self._top, 0
        while node.children:
            node = node.children[path >> (_HASH_BITS - 2 - depth) & 3]
            depth += 2
        at = bisect_left(node.rows, place)
        if at == len(node.rows) or not node.rows[at].startswith(place):
            return None
        return _parsed(node.rows[at])

    def buckets(self) -> Iterator[bytes]:
        """The rows of every bucket that has some, in order, as of the last `root`."""
        return (b"".join(rows) for rows in self._top.buckets())

    @property
    def rows(self) -> int:
        """How many keys the map has, as of the last `root`."""
        return sum(len(rows) for rows in self._top.buckets())

    def restore(self, rows: bytes) -> None:
        """Take up rows of a map that was replayed before; the next `root` hashes them. Raises Malformed."""
        if len(rows) % _ROW_SIZE_BYTES:
            raise Malformed("rows of a replayed state map", found=f"{len(rows)} bytes")
        for start in range(0, len(rows), _ROW_SIZE_BYTES):
            self._top.put(rows[start : start + _ROW_SIZE_BYTES], 0)

    def root(self) -> bytes:
        """The state root over everything taken in so far."""
        for place, row in self._changed.items():
            self._top.put(place + row, 0)
        self._changed = {}
        return self._top.root(0)
