"""Every checkpoint that was ever served is of the one journal that all nodes ended with.

Two checkpoints are consistent when both are roots of the same growing tree (RFC 6962, section 2.1), so each
against the journal's own tree is every pair against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from chaos.checkers.anomaly import Anomaly
from chaos.workloads.verifying import Held
from stele.verify.merkle import TreeBuilder


class _Block(msgspec.Struct):
    header: msgspec.Raw


_decode_block = msgspec.json.Decoder(_Block).decode


def check(held: Sequence[Held], refuted: Sequence[str], blocks: Iterable[bytes]) -> list[Anomaly]:
    """`blocks`: of an export that verifies (replicas.py); `refuted`: what a reader refuted at once."""
    found = [Anomaly("every checkpoint served verifies", each) for each in refuted]
    roots = roots_of(blocks)
    signed: dict[tuple[str, int], Held] = {}
    for each in held:
        origin, size, root = each.checkpoint.origin, each.checkpoint.size, each.checkpoint.root
        first = signed.setdefault((origin, size), each)
        if first.checkpoint.root != root:
            what = f"size {size}: {first.checkpoint.root.hex()} by {first.node}, {root.hex()} by {each.node}"
            found.append(Anomaly("no two roots for one size", what))
        if size >= len(roots):
            what = f"{each.node} served one of {size} blocks; the journal has {len(roots) - 1}"
            found.append(Anomaly("a checkpoint is of what is committed", what))
        elif roots[size] != root:
            what = f"{each.node} served {root.hex()} for {size} blocks, whose root is {roots[size].hex()}"
            found.append(Anomaly("every pair of checkpoints is consistent", what))
    return found


def roots_of(blocks: Iterable[bytes]) -> list[bytes]:
    """The root at every size from 0 on."""
    tree = TreeBuilder()
    roots = [tree.root()]
    for line in blocks:
        header = _decode_block(line).header
        tree.append(sha256(b"\x00" + bytes(header)).digest())
        roots.append(tree.root())
    return roots
