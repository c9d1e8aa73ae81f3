"""Checking proofs of the state map: which revision of a key is the newest one, or that there is none."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

from stele.verify.errors import InvalidProof, Malformed
from stele.verify.limits import STATE_BUCKET_ROWS_MAX, STATE_DEPTH_MAX, STATE_DEPTH_MIN

ROW_SIZE_BYTES = 80
_KEY_SIZE_BYTES = 32
_HASH_SIZE_BYTES = 32
_numbers = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class StateRow:
    """The newest revision of a key: its version, its block, and the hash of its leaf."""

    version: int
    seq: int
    leaf: bytes


def key_hash(ledger: bytes, table_id: str, key: str) -> bytes:
    """SHA-256(04, ledger id, length and text of the table id, document key)."""
    table = table_id.encode()
    return sha256(b"\x04" + ledger + struct.pack(">I", len(table)) + table + key.encode()).digest()


def verify_state(
    hashed: bytes, depth: int, rows: bytes, siblings: list[bytes], root: bytes
) -> StateRow | None:
    """The row of a key hash in the map with this root; None when the map has no such row.

    `siblings` lead from the bucket at `depth` up. Raises Malformed and InvalidProof.
    """
    if not STATE_DEPTH_MIN <= depth <= STATE_DEPTH_MAX:
        raise Malformed("depth of a bucket", expected=f"{STATE_DEPTH_MIN} to {STATE_DEPTH_MAX}", found=depth)
    if len(siblings) != depth or any(len(node) != _HASH_SIZE_BYTES for node in siblings):
        raise Malformed("siblings of a bucket", expected=f"{depth} hashes", found=len(siblings))
    count, rest = divmod(len(rows), ROW_SIZE_BYTES)
    if rest or count > STATE_BUCKET_ROWS_MAX:
        raise Malformed("bytes of a bucket", expected=f"<= {STATE_BUCKET_ROWS_MAX} rows", found=len(rows))
    found = _find(hashed, depth, rows)
    node = sha256(b"\x02" + rows).digest()
    path = int.from_bytes(hashed, "big") >> (256 - depth)
    for sibling in siblings:
        left, right = (sibling, node) if path & 1 else (node, sibling)
        node = sha256(b"\x03" + left + right).digest()
        path >>= 1
    if node != root:
        raise InvalidProof("state proof: root", expected=root, found=node)
    return found


def _find(hashed: bytes, depth: int, rows: bytes) -> StateRow | None:
    """The key's row; also checks that the rows are in order and belong into this bucket."""
    prefix = int.from_bytes(hashed, "big") >> (256 - depth)
    before = b""
    found = None
    for start in range(0, len(rows), ROW_SIZE_BYTES):
        name = rows[start : start + _KEY_SIZE_BYTES]
        if name <= before:
            raise InvalidProof("rows of a bucket are not in order")
        if int.from_bytes(name, "big") >> (256 - depth) != prefix:
            raise InvalidProof("a row of another bucket")
        before = name
        if name == hashed:
            version, seq = _numbers.unpack_from(rows, start + _KEY_SIZE_BYTES)
            found = StateRow(version, seq, rows[start + 48 : start + ROW_SIZE_BYTES])
    return found
