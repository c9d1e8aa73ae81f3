"""Proofs that were tampered with never pass, and the incremental tree equals the definition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format import merkle
from stele.verify.errors import InvalidProof, Malformed, VerificationError
from stele.verify.merkle import TreeBuilder, root_of, verify_consistency, verify_inclusion


def leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(index.to_bytes(8, "big")) for index in range(size)]


@given(st.integers(0, 300))
def test_the_incremental_tree(size: int) -> None:
    tree = TreeBuilder()
    hashes = leaves(size)
    for value in hashes:
        tree.append(value)
    assert tree.size == size
    assert tree.root() == merkle.root_of_leaves(hashes) == root_of(hashes)


@given(st.integers(2, 200), st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: Any) -> None:
    hashes = leaves(size)
    root = root_of(hashes)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.path_in_leaves(hashes, index)
    other = data.draw(st.integers(0, size - 1).filter(lambda value: value != index))
    position = data.draw(st.integers(0, len(path) - 1))
    flipped = bytes([path[position][0] ^ 1]) + path[position][1:]
    verify_inclusion(hashes[index], index, size, path, root)
    for leaf, place, total, steps in [
        (hashes[other], index, size, path),
        (hashes[index], other, size, path),
        (hashes[index], index, size, path[:-1]),
        (hashes[index], index, size, [*path, root]),
        (hashes[index], index, size, [*path[:position], flipped, *path[position + 1 :]]),
        (hashes[index], -1, size, path),
        (hashes[index], index, 0, path),
    ]:
        with pytest.raises(VerificationError):
            verify_inclusion(leaf, place, total, steps, root)


@given(st.integers(2, 200), st.data())
def test_a_changed_consistency_proof_is_refused(size: int, data: Any) -> None:
    hashes = leaves(size)
    old = data.draw(st.integers(1, size - 1))
    read_root, old_root = root_of(hashes), root_of(hashes[:old])
    path = merkle.consistency_proof(
        old, size, lambda level, i: root_of(hashes[i << level : (i + 1) << level])
    )
    verify_consistency(old, size, path, old_root, read_root)
    position = data.draw(st.integers(0, len(path) - 1))
    flipped = bytes([path[position][-1] ^ 0x80])
    changed = [*path[:position], path[position][:-1] + flipped, *path[position + 1 :]]
    for m, n, steps, first, second in [
        (old, size, changed, old_root, read_root),
        (old, size, path[:-1], old_root, read_root),
        (old, size, [*path, read_root], old_root, read_root),
        (old, size, path, read_root, old_root),
        (old, size, path, merkle.leaf_hash(b"forged"), read_root),
        (old, size, path, old_root, merkle.leaf_hash(b"forged")),
        (size, old, path, old_root, read_root),
        (0, size, path, old_root, read_root),
        (size, size, path, read_root, read_root),
    ]:
        with pytest.raises(VerificationError):
            verify_consistency(m, n, steps, first, second)


def test_a_path_past_the_root_is_too_long() -> None:
    hashes = leaves(4)
    with pytest.raises(InvalidProof, match="too long"):
        verify_inclusion(hashes[0], 0, 4, [*merkle.path_in_leaves(hashes, 0), hashes[0]], root_of(hashes))
    with pytest.raises(InvalidProof, match="too long"):
        verify_consistency(1, 2, [hashes[1], hashes[2]], hashes[0], root_of(hashes[:2]))


def test_equal_sizes_need_equal_roots() -> None:
    root = root_of(leaves(5))
    verify_consistency(5, 5, [], root, root)
    with pytest.raises(InvalidProof):
        verify_consistency(5, 5, [], root, root_of(leaves(4)))


def test_hashes_of_another_length_are_refused() -> None:
    hashes = leaves(2)
    with pytest.raises(Malformed):
        verify_inclusion(hashes[0], 0, 2, [hashes[1][:31]], root_of(hashes))
    with pytest.raises(Malformed):
        verify_consistency(1, 2, [hashes[1] + b"x"], hashes[0], root_of(hashes))


def test_the_error_says_what_was_expected_and_found() -> None:
    hashes = leaves(2)
    with pytest.raises(InvalidProof) as caught:
        verify_inclusion(hashes[0], 0, 2, [hashes[1]], hashes[0])
    assert caught.value.expected == hashes[0]
    assert caught.value.found == root_of(hashes)
    assert root_of(hashes).hex() in str(caught.value)
