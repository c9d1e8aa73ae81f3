"""RFC 6962 trees as pure functions over a hash reader (golang.org/x/mod/sumdb/tlog is the model).

A `HashReader` answers `(level, index)` with the hash of the complete subtree of 2**level leaves that
begins at leaf `index * 2**level`. Where hashes are kept is the reader's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from stele.format.errors import InvalidProofRequest

HashReader = Callable[[int, int], bytes]

_sha256 = hashlib.sha256

EMPTY_ROOT = _sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """H(00 || data), RFC 6962 section 2.1."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """H(01 || left || right), RFC 6962 section 2.1."""
    return _sha256(b"\x01" + left + right).digest()


def root_of_leaves(hashes: Sequence[bytes]) -> bytes:
    """Root of a tree given all its leaf hashes; EMPTY_ROOT when there are none."""
    if not hashes:
        return EMPTY_ROOT
    while len(hashes) > 1:
        hashes = _next_level(hashes)
    return hashes[0]


def path_in_leaves(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Inclusion path of leaf `index` in the tree of these leaf hashes, bottom up.

    Meant for the leaves of one block. Raises InvalidProofRequest when there is no such leaf.
    """
    _check(0 <= index < len(hashes), f"leaf {index} of {len(hashes)}")
    path = []
    while len(hashes) > 1:
        sibling = index ^ 1
        if sibling < len(hashes):
            path.append(hashes[sibling])
        hashes = _next_level(hashes)
        index >>= 1
    return path


def tree_root(size: int, read: HashReader) -> bytes:
    """Root of the first `size` leaves; EMPTY_ROOT for size 0."""
    _check(size >= 0, f"size {size}")
    return _range_root(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: HashReader) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, bottom up.

    Raises InvalidProofRequest unless 0 <= index < size.
    """
    _check(0 <= index < size, f"leaf {index} of {size}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, read))
            end = middle
        else:
            path.append(_range_root(start, middle, read))
            start = middle
    path.reverse()
    return path


def consistency_proof(old_size: int, new_size: int, read: HashReader) -> list[bytes]:
    """PROOF(old_size, D[new_size]) of RFC 6962 section 2.1.2, empty when the sizes are equal.

    Raises InvalidProofRequest unless 0 < old_size <= new_size (nothing is proved about an empty tree).
    """
    _check(0 < old_size <= new_size, f"from size {old_size} to size {new_size}")
    path = []
    start, end = 0, new_size
    # `complete` is RFC 6962's b: true while the old tree is the left edge of what is left to look at,
    # when its root is known to the verifier already and need not be sent.
    complete = True
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_range_root(middle, end, read))
            end = middle
        else:
            path.append(_range_root(start, middle, read))
            start = middle
            complete = False
    if not complete:
        path.append(_range_root(start, end, read))
    path.reverse()
    return path


def _next_level(hashes: Sequence[bytes]) -> list[bytes]:
    paired = [_sha256(b"\x01" + hashes[i] + hashes[i + 1]).digest() for i in range(0, len(hashes) - 1, 2)]
    if len(hashes) % 2:
        paired.append(hashes[-1])  # an odd one out rises unchanged: the same tree as RFC 6962's split
    return paired


def _range_root(start: int, end: int, read: HashReader) -> bytes:
    """Hash of leaves [start, end), where start is a multiple of every complete subtree inside."""
    pieces = []
    while start < end:
        level = (end - start).bit_length() - 1
        pieces.append(read(level, start >> level))
        start += 1 << level
    root = pieces.pop()
    while pieces:
        root = node_hash(pieces.pop(), root)
    return root


def _split(size: int) -> int:
    """Largest power of two smaller than `size` (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _check(allowed: bool, what: str) -> None:
    if not allowed:
        raise InvalidProofRequest(f"no proof exists for {what}")
