"""tlog-proof texts and a witness's round against transparency-dev's formats and witness."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stele.verify.checkpoint import Checkpoint, parse_checkpoint, verify_growth
from stele.verify.errors import InvalidProof, Malformed, Mismatch, Unsigned
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from stele.verify.tlog_proof import TlogProof
from tests.vectors import load
from tests.vectors.test_vectors_note import signing_key
from tests.verify.cosigning import cosign

PROOFS = load("tlog_proof_vectors")
WITNESS = load("witness_vectors")


@pytest.mark.parametrize("case", PROOFS["marshal"], ids=lambda case: f"index {case['index']}")
def test_proof_texts(case: dict[str, Any]) -> None:
    extra = case.get("extra_b64")
    proof = TlogProof(
        index=case["index"],
        path=tuple(base64.b64decode(text) for text in case["hashes_b64"]),
        checkpoint=case["checkpoint"],
        extra=None if extra is None else base64.b64decode(extra),
    )
    assert str(proof) == case["want"]
    assert TlogProof.parse(case["want"]) == proof


@pytest.mark.parametrize("case", PROOFS["reject"], ids=lambda case: case["why"])
def test_bad_proof_texts(case: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        TlogProof.parse(case["proof"])


def witness_round() -> tuple[Checkpoint, Checkpoint, list[bytes]]:
    log = VerifierKey.parse(WITNESS["log_vkey"])
    return (
        parse_checkpoint(WITNESS["checkpoint_size5"], log),
        parse_checkpoint(WITNESS["checkpoint_size8"], log),
        [bytes.fromhex(value) for value in WITNESS["consistency_proof_5_to_8_hex"]],
    )


def test_witness_accepts_growth() -> None:
    old, new, path = witness_round()
    assert (old.size, new.size) == (5, 8)
    verify_growth(old, new, path)


def test_witness_refuses_everything_else() -> None:
    old, new, path = witness_round()
    for wrong in (path[:-1], path[::-1], [*path, path[0]], []):
        with pytest.raises(InvalidProof):
            verify_growth(old, new, wrong)
    with pytest.raises(InvalidProof):
        verify_growth(new, old, path)


def test_witness_compares_the_logs_and_lets_any_follow_an_empty_one() -> None:
    old, new, path = witness_round()
    with pytest.raises(Mismatch):
        verify_growth(Checkpoint("another", old.size, old.root), new, path)
    verify_growth(Checkpoint(new.origin, 0, bytes(32)), new, [])
    with pytest.raises(InvalidProof):
        verify_growth(Checkpoint(new.origin, 0, bytes(32)), new, path)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(Unsigned):
        parse_checkpoint(WITNESS["checkpoint_size5"], VerifierKey.parse(WITNESS["other_log_vkey"]))


def test_a_cosigned_checkpoint_meets_the_policy_only_with_its_witness() -> None:
    log = VerifierKey.parse(WITNESS["log_vkey"])
    witness = VerifierKey.parse(WITNESS["witness_vkey"]).for_cosignatures()
    policy = TrustPolicy.k_of_n(log, (witness,), 1)
    note = WITNESS["checkpoint_size8"]
    with pytest.raises(Unsigned):
        parse_checkpoint(note, policy)
    cosigned = note + cosign(note, signing_key(WITNESS["witness_skey"]), timestamp_s=1_700_000_000)
    assert parse_checkpoint(cosigned, policy).size == 8
