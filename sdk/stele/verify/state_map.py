"""Checking what the state map says of a document. Written on its own, with its own hashing.

The map (docs/concepts.md, "The state map") is a quaternary Merkle tree of buckets of rows; a seal's
header holds its root. A proof shows one whole bucket, and with it which keys of that place exist and
that no other does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from msgspec import UnsetType

from stele.verify import shape
from stele.verify.errors import InvalidProof, Malformed
from stele.verify.limits import BUCKET_DEPTH_MAX, BUCKET_DEPTH_MIN, BUCKET_ROWS_MAX

_ROW_SIZE_BYTES: Final = 80
_HASH_SIZE_BYTES: Final = 32
_HASH_BITS: Final = 256
_LEDGER_ID_SIZE_BYTES: Final = 16


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
    "empty" (which of them are left out, for they have no rows).
    Raises Malformed, and InvalidProof when it does not lead to `state_root`.
    """
    if len(place) != _HASH_SIZE_BYTES or len(state_root) != _HASH_SIZE_BYTES:
        raise Malformed("place and state root: bytes", expected=_HASH_SIZE_BYTES)
    parsed = shape.convert(proof, shape.StateProof, "state proof")
    return check_state_proof(parsed, place, state_root)


def check_state_proof(proof: shape.StateProof, place: bytes, state_root: bytes) -> StateRow | None:
    """As `verify_state`, of a proof whose shape was read already."""
    depth = proof.bucket_depth
    if not BUCKET_DEPTH_MIN <= depth <= BUCKET_DEPTH_MAX or depth % 2:
        expected = f"an even number from {BUCKET_DEPTH_MIN} to {BUCKET_DEPTH_MAX}"
        raise Malformed("state proof: bucket_depth", expected=expected, found=depth)
    siblings = _siblings(proof, depth)
    rows = shape.decode_base64(proof.rows, "state proof: rows")
    if len(rows) % _ROW_SIZE_BYTES or len(rows) > BUCKET_ROWS_MAX * _ROW_SIZE_BYTES:
        expected = f"at most {BUCKET_ROWS_MAX} rows of {_ROW_SIZE_BYTES} bytes"
        raise Malformed("state proof: rows", expected=expected, found=f"{len(rows)} bytes")
    path = int.from_bytes(place, "big") >> (_HASH_BITS - depth)
    found = _find(rows, place, path, depth)
    _check_root(rows, path, siblings, state_root)
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
            version = int.from_bytes(rows[start + 32 : start + 40], "big")
            seq = int.from_bytes(rows[start + 40 : start + 48], "big")
            found = StateRow(version, seq, rows[start + 48 : start + 80])
        before = hashed
    return found


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
        hashed = _EMPTY[min(depth, BUCKET_DEPTH_MIN)]
        for bit in (4, 2, 1):
            if left_out & bit:
                parts.append(hashed)
            else:
                parts.append(shown[at : at + _HASH_SIZE_BYTES])
                at += _HASH_SIZE_BYTES
        depth -= 2
    return b"".join(parts)


def _expect_siblings(shown: bytes, count: int) -> None:
    if len(shown) != count * _HASH_SIZE_BYTES:
        raise Malformed("state proof: siblings", expected=f"{count} hashes", found=f"{len(shown)} bytes")


def _check_root(rows: bytes, path: int, siblings: bytes, state_root: bytes) -> None:
    node = sha256(b"\x02" + rows).digest()
    for start in range(0, len(siblings), 96):
        own = start + ((path & 3) << 5)
        node = sha256(b"\x03" + siblings[start:own] + node + siblings[own : start + 96]).digest()
        path >>= 2
    if node != state_root:
        raise InvalidProof("state proof: root", expected=state_root, found=node)


class StateReplay:
    """The whole map, rebuilt from a journal's revisions, to recompute the root of every seal.

    Memory: about 200 bytes a key while buckets have one row, 90 from ten million keys on, and up to
    120 MB for the nodes above.
    """

    def __init__(self, ledger_id: str) -> None:
        self._ledger_id = ledger_id
        self._buckets: dict[int, bytes] = {}
        self._changed: dict[bytes, bytes] = {}
        self._restored: list[int] = []
        # By depth of the children: number of the parent -> its four children, one after another.
        self._children: dict[int, dict[int, bytearray]] = {
            depth: {} for depth in range(2, BUCKET_DEPTH_MIN + 2, 2)
        }

    def put(self, table_id: str, key: str, row: StateRow) -> None:
        """Take in a revision; raises Malformed."""
        packed = row.version.to_bytes(8, "big") + row.seq.to_bytes(8, "big") + row.leaf_hash
        self._changed[place_of(self._ledger_id, table_id, key)] = packed

    def row(self, table_id: str, key: str) -> StateRow | None:
        """What the map says of a key, without what was taken in since the last `root`. Raises Malformed."""
        place = place_of(self._ledger_id, table_id, key)
        rows = self._buckets.get(int.from_bytes(place[:3], "big") >> (24 - BUCKET_DEPTH_MIN), b"")
        at = rows.find(place)
        while at % _ROW_SIZE_BYTES and at >= 0:
            at = rows.find(place, at + 1)
        if at < 0:
            return None
        version = int.from_bytes(rows[at + 32 : at + 40], "big")
        return StateRow(version, int.from_bytes(rows[at + 40 : at + 48], "big"), rows[at + 48 : at + 80])

    def buckets(self) -> Iterator[tuple[int, bytes]]:
        """Every bucket that has rows, as of the last `root`."""
        return iter(self._buckets.items())

    @property
    def rows(self) -> int:
        """How many keys the map has, as of the last `root`."""
        return sum(len(bucket) for bucket in self._buckets.values()) // _ROW_SIZE_BYTES

    def restore(self, bucket: int, rows: bytes) -> None:
        """Take up a bucket of a map that was replayed before; the next `root` hashes it."""
        self._buckets[bucket] = rows
        self._restored.append(bucket)

    def root(self) -> bytes:
        """The state root over everything taken in so far."""
        changed = self._merge()
        for depth in range(BUCKET_DEPTH_MIN, 0, -2):
            changed = self._hash_parents(depth, changed)
        return changed.get(0) or self._root_before()

    def _root_before(self) -> bytes:
        top = self._children[2].get(0)
        return _EMPTY[0] if top is None else sha256(b"\x03" + top).digest()

    def _merge(self) -> dict[int, bytes]:
        """Put the changed rows into their buckets; returns the buckets' new hashes."""
        by_bucket: dict[int, dict[bytes, bytes]] = {}
        for place, row in self._changed.items():
            bucket = int.from_bytes(place[:3], "big") >> (24 - BUCKET_DEPTH_MIN)
            by_bucket.setdefault(bucket, {})[place] = row
        self._changed = {}
        hashes = {}
        for bucket, rows in by_bucket.items():
            packed = self._buckets.get(bucket, b"")
            old = {packed[i : i + 32]: packed[i + 32 : i + 80] for i in range(0, len(packed), 80)}
            merged = sorted((old | rows).items())
            self._buckets[bucket] = b"".join(place + row for place, row in merged)
            hashes[bucket] = _subtree([place + row for place, row in merged], BUCKET_DEPTH_MIN)
        for bucket in self._restored:
            packed = self._buckets[bucket]
            hashes[bucket] = _subtree(
                [packed[i : i + 80] for i in range(0, len(packed), 80)], BUCKET_DEPTH_MIN
            )
        self._restored.clear()
        return hashes

    def _hash_parents(self, depth: int, changed: dict[int, bytes]) -> dict[int, bytes]:
        nodes = self._children[depth]
        parents = set()
        for index, hashed in changed.items():
            parent = nodes.get(index >> 2)
            if parent is None:
                parent = nodes[index >> 2] = bytearray(_EMPTY[depth] * 4)
            start = (index & 3) * 32
            parent[start : start + 32] = hashed
            parents.add(index >> 2)
        return {parent: sha256(b"\x03" + nodes[parent]).digest() for parent in parents}


def _subtree(rows: list[bytes], depth: int) -> bytes:
    """The hash of a node at the buckets' depth or below."""
    if len(rows) <= BUCKET_ROWS_MAX:
        return sha256(b"\x02" + b"".join(rows)).digest()
    return sha256(b"\x03" + b"".join(_subtree(child, depth + 2) for child in _quarters(rows, depth))).digest()


def _quarters(rows: list[bytes], depth: int) -> Iterable[list[bytes]]:
    quarters: tuple[list[bytes], ...] = ([], [], [], [])
    for row in rows:
        quarters[int.from_bytes(row[:32], "big") >> (_HASH_BITS - 2 - depth) & 3].append(row)
    return quarters


def _empty_subtrees() -> dict[int, bytes]:
    node = sha256(b"\x02").digest()
    found = {BUCKET_DEPTH_MIN: node}
    for depth in range(BUCKET_DEPTH_MIN - 2, -1, -2):
        node = sha256(b"\x03" + node * 4).digest()
        found[depth] = node
    return found


_EMPTY: Final = _empty_subtrees()
