"""The state map as its definition reads, for tests: small, slow and on its own."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

ROWS_MAX = 12

Rows = dict[bytes, bytes]
"""Key hash to what follows it in a row."""


def key_hash(ledger: bytes, table_id: str, key: str) -> bytes:
    table = table_id.encode()
    return _sha256(b"\x04" + ledger + len(table).to_bytes(4, "big") + table + key.encode())


def row_tail(version: int, seq: int, leaf: bytes) -> bytes:
    return version.to_bytes(8, "big") + seq.to_bytes(8, "big") + leaf


def root(rows: Rows) -> bytes:
    return _node(sorted(rows.items()), 0)


def prove(rows: Rows, hashed: bytes) -> dict[str, Any]:
    """The state proof of a key hash, present or not."""
    here = sorted(rows.items())
    siblings: list[list[tuple[bytes, bool]]] = []
    depth = 0
    while len(here) > ROWS_MAX:
        children = [[row for row in here if _digit(row[0], depth) == digit] for digit in range(4)]
        here = children.pop(_digit(hashed, depth))
        depth += 2
        siblings.append([(_node(child, depth), not child) for child in children])
    packed = b"".join(name + tail for name, tail in here)
    upwards = [each for level in siblings[::-1] for each in level]
    bits = "".join("1" if empty else "0" for _, empty in upwards)
    bits += "0" * (-len(bits) % 8)
    proof = {
        "bucket_depth": depth,
        "rows": base64.b64encode(packed).decode(),
        "siblings": base64.b64encode(b"".join(node for node, empty in upwards if not empty)).decode(),
    }
    if "1" in bits:
        proof["empty"] = base64.b64encode(int(bits, 2).to_bytes(len(bits) // 8, "big")).decode()
    return proof


def _node(rows: list[tuple[bytes, bytes]], depth: int) -> bytes:
    if not rows:
        return bytes(32)
    if len(rows) <= ROWS_MAX:
        return _sha256(bytes([2, depth // 2]) + b"".join(name + tail for name, tail in rows))
    children = ([row for row in rows if _digit(row[0], depth) == digit] for digit in range(4))
    return _sha256(b"\x03" + b"".join(_node(child, depth + 2) for child in children))


def _digit(hashed: bytes, depth: int) -> int:
    return int.from_bytes(hashed, "big") >> (254 - depth) & 3


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
