"""Checking a document that a server answered with its proof."""

from __future__ import annotations

import hashlib
import re

from stele.format.canonical import canonicalize
from stele.format.errors import CanonicalError
from stele.verify import shape
from stele.verify.checkpoint import Checkpoint, TrustPolicy, parse_checkpoint
from stele.verify.errors import BrokenChain, Malformed, Mismatch
from stele.verify.merkle import leaf_hash, verify_inclusion
from stele.verify.note import VerifierKey

_table_id_matches = re.compile("([A-Za-z][A-Za-z0-9_-]{0,62})@(0|[1-9][0-9]{0,15})").fullmatch
_HASH_SIZE_BYTES = 32
_TRANSACTION_ID_SIZE_BYTES = 16


def verify_document(
    answer: dict[str, object],
    ledger_id: str,
    table: str,
    key: str,
    trust: VerifierKey | TrustPolicy,
) -> Checkpoint:
    """Check that a document revision stands in the ledger, and return the checkpoint that says so.

    `answer` is the JSON of `GET …/documents/{key}?proof=true`, `ledger_id` 32 hex digits, `table` the
    table's name; `trust` holds the ledger's log key, whose name is "<cluster>/<ledger name>".

    It proves that this data was committed under this key, version, seq, transaction and time. It does
    not prove that no later revision exists. A server can also show an old checkpoint: compare its
    size with the largest seen.

    Raises VerificationError.
    """
    parsed = shape.convert(answer, shape.DocumentAnswer, "answer")
    proof = parsed.proof
    header, leaf = proof.header, proof.leaf
    policy = TrustPolicy(trust) if isinstance(trust, VerifierKey) else trust

    _check_claims(parsed, ledger_id, table, key, policy.log.name)
    _check_table(leaf.table, table, header.seq)
    _check_previous(leaf, header.seq)
    _check_commitment(parsed)

    verify_inclusion(
        leaf_hash(shape.canonical(leaf)),
        proof.leaf_index,
        header.revision_count,
        _decode_path(proof.leaf_path, "leaf_path"),
        shape.decode_hex(header.revision_root, _HASH_SIZE_BYTES, "revision_root"),
    )
    checkpoint = parse_checkpoint(proof.checkpoint, policy)
    _expect("size of the checkpoint", proof.size, checkpoint.size)
    path = _decode_path(proof.path, "path")
    verify_inclusion(leaf_hash(shape.canonical(header)), header.seq, checkpoint.size, path, checkpoint.root)
    return checkpoint


def _check_claims(answer: shape.DocumentAnswer, ledger_id: str, table: str, key: str, log_name: str) -> None:
    """What the answer says must be what was asked for, and what its proof says."""
    header, leaf = answer.proof.header, answer.proof.leaf
    _expect("key of the answer", key, answer.key)
    _expect("key of the leaf", key, leaf.key)
    _expect("version", leaf.version, answer.version)
    _expect("seq", header.seq, answer.seq)
    _expect("tx", header.tx, answer.tx)
    _expect("at", header.at, answer.at)
    _expect("ledger id", ledger_id, header.ledger)
    _expect("kind of the block", "tx", header.kind)
    if header.names_ledger:
        raise Malformed("codec, hash_profile and name belong to the header of the genesis block only")
    _expect("operation", "put", leaf.op)
    if isinstance(answer.ledger, str):
        _expect("ledger of the answer", log_name.rpartition("/")[2], answer.ledger)
    if isinstance(answer.table, str):
        _expect("table of the answer", table, answer.table)
    shape.check_time(header.at, "at")
    shape.decode_hex(header.tx, _TRANSACTION_ID_SIZE_BYTES, "tx")


def _check_table(table_id: str, table: str, seq: int) -> None:
    parts = _table_id_matches(table_id)
    if parts is None:
        raise Malformed("table of the leaf", expected=f"{table}@<seq>", found=table_id[:96])
    _expect("table of the leaf", table, parts[1])
    if int(parts[2]) > seq:
        raise BrokenChain("block that created the table", expected=f"<= {seq}", found=parts[2])


def _check_previous(leaf: shape.Leaf, seq: int) -> None:
    if (leaf.prev_seq is None) != (leaf.version == 0):
        raise BrokenChain(f"prev_seq of version {leaf.version}", found=leaf.prev_seq)
    if leaf.prev_seq is not None and leaf.prev_seq > seq:
        raise BrokenChain("prev_seq", expected=f"<= {seq}", found=leaf.prev_seq)


def _check_commitment(answer: shape.DocumentAnswer) -> None:
    salt = shape.decode_hex(answer.proof.salt, _HASH_SIZE_BYTES, "salt")
    try:
        payload = canonicalize(answer.data)
    except CanonicalError as error:
        raise Malformed(f"data: {error}") from None
    _expect(
        "commitment to the data", answer.proof.leaf.commitment, hashlib.sha256(salt + payload).hexdigest()
    )


def _decode_path(path: list[str], what: str) -> list[bytes]:
    return [shape.decode_hex(text, _HASH_SIZE_BYTES, f"{what}[{index}]") for index, text in enumerate(path)]


def _expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise Mismatch(what, expected=expected, found=found)
