"""RFC 6962 trees and proofs against transparency-dev/merkle."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stele.format import merkle
from stele.verify import merkle as checker
from stele.verify.errors import VerificationError
from tests.vectors import load

ROOTS = load("roots")
PROOFS = load("merkle_proofs")
LEAVES = [bytes.fromhex(leaf) for leaf in ROOTS["leaves_hex"]]


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def decode_all(texts: list[str] | None) -> list[bytes]:
    return [base64.b64decode(text) for text in texts or []]


def test_leaf_hashes() -> None:
    expected = ROOTS["leaf_hashes_hex"]
    assert [merkle.leaf_hash(leaf).hex() for leaf in LEAVES] == expected
    assert [checker.leaf_hash(leaf).hex() for leaf in LEAVES] == expected


def test_hasher_cases() -> None:
    hashes = {case["desc"]: case["hash"] for case in ROOTS["hasher"]}
    assert merkle.EMPTY_ROOT.hex() == hashes["empty"]
    assert merkle.leaf_hash(b"").hex() == hashes["leaf ''"]
    assert merkle.leaf_hash(b"L123456").hex() == hashes["leaf 'L123456'"]
    assert merkle.node_hash(b"N123", b"N456").hex() == hashes["node 'N123','N456'"]


@pytest.mark.parametrize("size", range(9))
def test_roots(size: int) -> None:
    expected = ROOTS["roots_by_size_hex"][size]
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES[:size]]
    tree = checker.TreeBuilder()
    for value in hashes:
        tree.append(value)
    assert merkle.root_of_leaves(hashes).hex() == expected
    assert checker.root_of(hashes).hex() == expected
    assert tree.root().hex() == expected


def inclusion_holds(case: dict[str, Any]) -> bool:
    try:
        checker.verify_inclusion(
            decode(case["leafHash"]),
            case["leafIdx"],
            case["treeSize"],
            decode_all(case["proof"]),
            decode(case["root"]),
        )
    except VerificationError:
        return False
    return True


def consistency_holds(case: dict[str, Any]) -> bool:
    try:
        checker.verify_consistency(
            case["size1"],
            case["size2"],
            decode_all(case["proof"]),
            decode(case["root1"]),
            decode(case["root2"]),
        )
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize("case", PROOFS["inclusion"], ids=lambda case: case["case"])
def test_inclusion(case: dict[str, Any]) -> None:
    assert inclusion_holds(case) is not case["wantErr"]


@pytest.mark.parametrize("case", PROOFS["consistency"], ids=lambda case: case["case"])
def test_consistency(case: dict[str, Any]) -> None:
    assert consistency_holds(case) is not case["wantErr"]


def test_good_inclusion_cases_equal_our_proofs() -> None:
    checked = 0
    for case in PROOFS["inclusion"]:
        if not case["wantErr"] and case["treeSize"] <= len(LEAVES):
            hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES[: case["treeSize"]]]
            assert merkle.path_in_leaves(hashes, case["leafIdx"]) == decode_all(case["proof"])
            checked += 1
    assert checked > 0
