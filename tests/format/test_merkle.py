"""Roots and proofs over a hash reader, against RFC 6962's recursive definitions and the checker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format import merkle
from stele.format.errors import InvalidProofRequest
from stele.verify.merkle import verify_consistency, verify_inclusion


def leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(index.to_bytes(8, "big")) for index in range(size)]


def reader_of(hashes: list[bytes]) -> merkle.HashReader:
    """Complete subtrees only, as a store keeps them."""

    def read(level: int, index: int) -> bytes:
        width = 1 << level
        start = index * width
        assert start + width <= len(hashes), "asked for a subtree that is not complete"
        return definition_root(hashes[start : start + width])

    return read


def split(size: int) -> int:
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def definition_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1."""
    if not hashes:
        return merkle.EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return merkle.node_hash(definition_root(hashes[:k]), definition_root(hashes[k:]))


def definition_path(index: int, hashes: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1."""
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if index < k:
        return [*definition_path(index, hashes[:k]), definition_root(hashes[k:])]
    return [*definition_path(index - k, hashes[k:]), definition_root(hashes[:k])]


def definition_subproof(m: int, hashes: list[bytes], complete: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2."""
    n = len(hashes)
    if m == n:
        return [] if complete else [definition_root(hashes)]
    k = split(n)
    if m <= k:
        return [*definition_subproof(m, hashes[:k], complete), definition_root(hashes[k:])]
    return [*definition_subproof(m - k, hashes[k:], False), definition_root(hashes[:k])]


@pytest.mark.parametrize("size", range(1, 34))
def test_all_proofs_of_small_trees(size: int) -> None:
    hashes = leaves(size)
    read = reader_of(hashes)
    root = definition_root(hashes)
    assert merkle.tree_root(size, read) == root
    assert merkle.root_of_leaves(hashes) == root
    for index in range(size):
        path = merkle.inclusion_proof(index, size, read)
        assert path == definition_path(index, hashes)
        assert merkle.path_in_leaves(hashes, index) == path
        verify_inclusion(hashes[index], index, size, path, root)
    for old in range(1, size + 1):
        path = merkle.consistency_proof(old, size, read)
        assert path == definition_subproof(old, hashes, True)
        verify_consistency(old, size, path, definition_root(hashes[:old]), root)


@given(st.integers(1, 700).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_proofs_of_larger_trees(case: tuple[int, int]) -> None:
    size, index = case
    hashes = leaves(size)
    read = reader_of(hashes)
    root = merkle.tree_root(size, read)
    verify_inclusion(hashes[index], index, size, merkle.inclusion_proof(index, size, read), root)
    old_root = merkle.tree_root(index + 1, read)
    verify_consistency(index + 1, size, merkle.consistency_proof(index + 1, size, read), old_root, root)


def test_the_empty_tree() -> None:
    read = reader_of([])
    assert merkle.tree_root(0, read) == merkle.EMPTY_ROOT == merkle.root_of_leaves([])


@pytest.mark.parametrize(
    "ask",
    [
        lambda read: merkle.inclusion_proof(4, 4, read),
        lambda read: merkle.inclusion_proof(-1, 4, read),
        lambda read: merkle.inclusion_proof(0, 0, read),
        lambda read: merkle.consistency_proof(0, 4, read),
        lambda read: merkle.consistency_proof(5, 4, read),
        lambda read: merkle.consistency_proof(-1, 4, read),
        lambda read: merkle.tree_root(-1, read),
        lambda _: merkle.path_in_leaves([], 0),
        lambda _: merkle.path_in_leaves(leaves(3), 3),
        lambda _: merkle.path_in_leaves(leaves(3), -1),
    ],
)
def test_impossible_requests(ask: Callable[[merkle.HashReader], object]) -> None:
    with pytest.raises(InvalidProofRequest):
        ask(reader_of(leaves(4)))
