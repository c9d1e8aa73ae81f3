"""A server that knows the whole state map can prove what a key's one bucket says, in one form; no more."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
from typing import Any

import pytest

from stele.verify.errors import InvalidProof, Malformed, VerificationError
from stele.verify.state_map import StateRow, verify_state
from tests.verify import naive_map

EMPTY = bytes(32)
Pairs = list[tuple[bytes, bytes]]


def rows_of(count: int) -> naive_map.Rows:
    """Some near each other, so that nodes without rows, and others with few, are beside the way."""
    chosen = random.Random(count)
    prefixes = [b"", b"\0", bytes(3), b"\xff\xff", b"\x40"]
    rows = {}
    for _ in range(count):
        prefix = chosen.choice(prefixes)
        rows[prefix + chosen.randbytes(32 - len(prefix))] = naive_map.row_tail(3, 9, chosen.randbytes(32))
    return rows


def node(rows: Pairs, depth: int) -> bytes:
    """As the map has it below an inner node; below a bucket, what the rule would make there."""
    if not rows:
        return EMPTY
    if len(rows) <= naive_map.ROWS_MAX:
        return hashlib.sha256(bytes([2, depth // 2]) + b"".join(h + tail for h, tail in rows)).digest()
    return hashlib.sha256(b"\3" + b"".join(node(child, depth + 2) for child in split(rows, depth))).digest()


def split(rows: Pairs, depth: int) -> list[Pairs]:
    return [[row for row in rows if digit(row[0], depth) == child] for child in range(4)]


def digit(key_hash: bytes, depth: int) -> int:
    return int.from_bytes(key_hash, "big") >> (254 - depth) & 3


def shown(depth: int, rows: Pairs, siblings: list[bytes], left_out: list[bool]) -> dict[str, Any]:
    bits = "".join("01"[out] for out in left_out)
    bits += "0" * (-len(bits) % 8)
    packed = b"".join(sibling for sibling, out in zip(siblings, left_out, strict=True) if not out)
    proof: dict[str, Any] = {
        "bucket_depth": depth,
        "rows": base64.b64encode(b"".join(h + tail for h, tail in rows)).decode(),
        "siblings": base64.b64encode(packed).decode(),
    }
    if "1" in bits:
        proof["empty"] = base64.b64encode(int(bits, 2).to_bytes(len(bits) // 8, "big")).decode()
    return proof


def ways(rows: Pairs, key_hash: bytes, levels: int) -> list[tuple[int, Pairs, list[bytes]]]:
    """For each node on the way to the key and below its bucket: depth, rows, and the siblings from it up."""
    found: list[tuple[int, Pairs, list[bytes]]] = [(0, rows, [])]
    for depth in range(0, 2 * levels, 2):
        children = split(found[-1][1], depth)
        own = children.pop(digit(key_hash, depth))
        found.append((depth + 2, own, [node(child, depth + 2) for child in children] + found[-1][2]))
    return found


def claims(rows: Pairs, key_hash: bytes) -> list[Pairs]:
    """What a bucket may be said to hold: all, nothing, not the key, not another, an older row."""
    without = [row for row in rows if row[0] != key_hash]
    older = [(h, naive_map.row_tail(2, 7, bytes(32)) if h == key_hash else tail) for h, tail in rows]
    added = sorted([*without, (key_hash, naive_map.row_tail(4, 11, bytes(32)))])
    return [rows, rows[:12], [], without, without[:12], rows[1:], older, added, added[:12], rows[::-1]]


@pytest.mark.parametrize("count", [0, 1, 12, 13, 60, 300])
def test_one_bucket_in_one_form_proves(count: int) -> None:
    rows = rows_of(count)
    root, pairs = naive_map.root(rows), sorted(rows.items())
    assert node(pairs, 0) == root
    chosen = random.Random(1)
    names = [bytes(32), b"\xff" * 32, chosen.randbytes(32), *chosen.sample(sorted(rows), min(count, 9))]
    for key_hash in names:
        honest = naive_map.prove(rows, key_hash)
        row = rows.get(key_hash)
        expected = row and StateRow(3, 9, row[16:])
        accepted = []
        for depth, held, siblings in ways(pairs, key_hash, 14):
            for claimed in claims(held, key_hash):
                for proof in forms(depth, claimed, siblings):
                    try:
                        found = verify_state(proof, key_hash, root)
                    except VerificationError:
                        continue
                    assert found == expected
                    accepted.append(proof)
        assert accepted
        assert all(proof == honest for proof in accepted)


def forms(depth: int, rows: Pairs, siblings: list[bytes]) -> list[dict[str, Any]]:
    """With the siblings without rows left out, with all shown, with some; at another depth; more siblings."""
    empty = [sibling == EMPTY for sibling in siblings]
    every_other = [out and at % 2 == 0 for at, out in enumerate(empty)]
    found = [shown(depth, rows, siblings, each) for each in (empty, [False] * len(empty), every_other)]
    found += [{**found[0], "bucket_depth": depth + by} for by in (-2, 2) if depth + by >= 0]
    return [*found, shown(depth + 2, rows, [EMPTY] * 3 + siblings, [True] * 3 + empty)]


def test_a_node_with_few_rows_is_not_divided() -> None:
    """No replica comes to the root of a tree of another shape; where a proof shows it, it is refused."""
    name, tail = bytes(32), naive_map.row_tail(1, 1, bytes(32))
    bucket = hashlib.sha256(b"\2\1" + name + tail).digest()
    root = hashlib.sha256(b"\3" + bucket + EMPTY * 3).digest()
    proof = shown(2, [(name, tail)], [EMPTY] * 3, [True] * 3)
    with pytest.raises(InvalidProof, match="too few rows"):
        verify_state(proof, name, root)


def test_no_other_bits_say_what_is_left_out() -> None:
    rows = rows_of(60)
    key_hash = bytes(32)
    honest, root = naive_map.prove(rows, key_hash), naive_map.root(rows)
    bits = base64.b64decode(honest["empty"])
    assert verify_state(honest, key_hash, root) is None
    for byte, bit in itertools.product(range(len(bits)), range(8)):
        changed = bytearray(bits)
        changed[byte] ^= 1 << bit
        with pytest.raises((Malformed, InvalidProof)):
            verify_state({**honest, "empty": base64.b64encode(changed).decode()}, key_hash, root)
    for other in (bits + b"\0", b"\0" + bits, bits[:-1]):
        with pytest.raises(Malformed):
            verify_state({**honest, "empty": base64.b64encode(other).decode()}, key_hash, root)
