"""Checking RFC 6962 proofs. Written on its own, so that one error cannot hide in prover and checker.

Proof algorithms: RFC 9162 sections 2.1.3.2 and 2.1.4.2, which check what RFC 6962 section 2.1 defines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from hashlib import sha256

from stele.verify.errors import InvalidProof, Malformed

_HASH_SIZE_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """SHA-256 of 00 and the leaf's bytes."""
    return sha256(b"\x00" + data).digest()


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raise InvalidProof unless `path` (bottom up) shows leaf hash `leaf` at `index` of the tree.

    `root` is the tree's root at `size` leaves.
    """
    if not 0 <= index < size:
        raise InvalidProof(f"inclusion: no leaf {index} in a tree of {size}")
    _check_hashes("inclusion", [leaf, *path])
    node, last = index, size - 1
    computed = leaf
    for sibling in path:
        if last == 0:
            raise InvalidProof("inclusion: the path is too long", found=len(path))
        if node & 1 or node == last:
            computed = _inner(sibling, computed)
            # On the right edge a level without a sibling is passed over: its node rises unchanged.
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            computed = _inner(computed, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise InvalidProof("inclusion: the path is too short", found=len(path))
    if computed != root:
        raise InvalidProof(f"inclusion of leaf {index} of {size}: root", expected=root, found=computed)


def verify_consistency(
    old_size: int, new_size: int, path: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Raise InvalidProof unless `path` shows that the tree only grew from `old_size` to `new_size`.

    Nothing can be shown about an empty tree, so `old_size` is at least 1. Equal sizes need equal roots
    and an empty path.
    """
    if not 0 < old_size <= new_size:
        raise InvalidProof(f"consistency: not defined from size {old_size} to {new_size}")
    _check_hashes("consistency", path)
    if old_size == new_size:
        if path:
            raise InvalidProof("consistency: equal sizes need no path", found=len(path))
        if old_root != new_root:
            raise InvalidProof(f"consistency at size {old_size}", expected=old_root, found=new_root)
        return
    old_computed, new_computed = _consistent_roots(old_size, new_size, path, old_root)
    if old_computed != old_root:
        raise InvalidProof(f"consistency: root at {old_size}", expected=old_root, found=old_computed)
    if new_computed != new_root:
        raise InvalidProof(f"consistency: root at {new_size}", expected=new_root, found=new_computed)


def _consistent_roots(
    old_size: int, new_size: int, path: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes]:
    """Both roots as the path computes them (RFC 9162 section 2.1.4.2)."""
    # A complete old tree is a node of the new one: its root starts the path and is not sent.
    hashes = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    if not hashes or not path:
        raise InvalidProof("consistency: the path is empty")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old_computed = new_computed = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise InvalidProof("consistency: the path is too long", found=len(path))
        if node & 1 or node == last:
            old_computed = _inner(sibling, old_computed)
            new_computed = _inner(sibling, new_computed)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new_computed = _inner(new_computed, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise InvalidProof("consistency: the path is too short", found=len(path))
    return old_computed, new_computed


class TreeBuilder:
    """The root of a growing tree in memory for one hash a level: append leaf hashes, ask for the root."""

    def __init__(self) -> None:
        self.size = 0
        # The complete subtrees that make up the tree, largest first: one for each bit set in `size`.
        self._subtrees: list[bytes] = []

    @classmethod
    def restored(cls, size: int, subtrees: Sequence[bytes]) -> TreeBuilder:
        """What `subtrees` said at this size. Raises Malformed."""
        _check_hashes("subtrees", subtrees)
        if size < 0 or len(subtrees) != size.bit_count():
            raise Malformed(f"subtrees of a tree of {size}", expected=size.bit_count(), found=len(subtrees))
        tree = cls()
        tree.size, tree._subtrees = size, list(subtrees)
        return tree

    @property
    def subtrees(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, largest first: all that is needed to go on from here."""
        return tuple(self._subtrees)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        size = self.size
        while size & 1:
            leaf = sha256(b"\x01" + self._subtrees.pop() + leaf).digest()
            size >>= 1
        self._subtrees.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root now; of no leaves, SHA-256 of nothing."""
        if not self._subtrees:
            return hashlib.sha256().digest()
        root = self._subtrees[-1]
        for subtree in reversed(self._subtrees[:-1]):
            root = _inner(subtree, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree of these leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    tree = TreeBuilder()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def _inner(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    for value in hashes:
        if len(value) != _HASH_SIZE_BYTES:
            raise Malformed(f"{what}: bytes of a hash", expected=_HASH_SIZE_BYTES, found=len(value))
