"""The tile-backed tree against RFC 6962 computed from scratch, over several full tiles and restarts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stele.format.merkle import consistency_proof, inclusion_proof, node_hash, root_of_leaves
from stele.verify.merkle import verify_consistency, verify_inclusion
from storage.errors import InvariantBroken
from storage.tree import TILE_SIZE_BYTES, JournalTree

LEAVES = [hashlib.sha256(b"%d" % n).digest() for n in range(66_000)]


def grow(size: int) -> tuple[JournalTree, dict[tuple[int, int], bytes]]:
    tiles: dict[tuple[int, int], bytes] = {}
    tree = JournalTree(lambda level, index: tiles[level, index])
    for leaf in LEAVES[:size]:
        for level, index, tile in tree.append(leaf):
            tiles[level, index] = tile
    return tree, tiles


TREE, TILES = grow(len(LEAVES))


def slow_node(level: int, index: int) -> bytes:
    if level == 0:
        return LEAVES[index]
    return node_hash(slow_node(level - 1, 2 * index), slow_node(level - 1, 2 * index + 1))


def test_tiles_are_complete_subtrees() -> None:
    assert sorted(TILES) == [(0, n) for n in range(257)] + [(1, 0)]
    assert {len(tile) for tile in TILES.values()} == {TILE_SIZE_BYTES}
    assert TILES[1, 0][:32] == root_of_leaves(LEAVES[:256])


@given(st.integers(1, len(LEAVES)))
@settings(max_examples=30, deadline=None)
def test_roots_and_restarts(size: int) -> None:
    expected = root_of_leaves(LEAVES[:size])
    assert TREE.root(size) == expected
    restarted = JournalTree(lambda level, index: TILES[level, index])
    restarted.load(size, lambda seq: LEAVES[seq])
    assert restarted.root(size) == expected
    for leaf in LEAVES[size : size + 300]:
        restarted.append(leaf)
    assert restarted.size == min(size + 300, len(LEAVES))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_proofs_convince_the_independent_verifier(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    root = TREE.root(size)
    path = TREE.inclusion(index, size)
    verify_inclusion(LEAVES[index], index, size, path, root)
    proof = TREE.consistency(old, size)
    verify_consistency(old, size, proof, TREE.root(old), root)
    if size <= 600:
        assert path == inclusion_proof(index, size, slow_node)
        assert proof == consistency_proof(old, size, slow_node)


def test_a_node_that_is_not_there_is_a_broken_invariant() -> None:
    tree, _ = grow(300)
    for level, index in [(0, 300), (8, 1), (9, 0), (1, 150)]:
        with pytest.raises(InvariantBroken):
            tree.node(level, index)


def test_tiles_of_the_tree_that_the_specification_counts() -> None:
    """C2SP tlog-tiles, "Partial Tiles": a tree of size 70,000."""
    stored: dict[tuple[int, int], bytes] = {}
    tree = JournalTree(lambda level, index: stored[level, index])
    leaves = [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(70_000)]
    for leaf in leaves:
        for level, index, tile in tree.append(leaf):
            stored[level, index] = tile
    assert sorted(stored) == [*((0, index) for index in range(273)), (1, 0)]
    assert tree.tile(0, 273, 112) == b"".join(leaves[273 * 256 :])
    assert tree.tile(0, 273, 1) == leaves[273 * 256]
    assert tree.tile(1, 1, 17) == b"".join(tree.node(8, 256 + each) for each in range(17))
    assert tree.tile(2, 0, 1) == tree.node(16, 0)
    for level, index, width in [(0, 273, 113), (0, 274, 1), (1, 1, 18), (2, 0, 2), (3, 0, 1), (0, 0, 0)]:
        with pytest.raises(InvariantBroken):
            tree.tile(level, index, width)
