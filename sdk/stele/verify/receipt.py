"""Receipts: one JSON file that proves a fact about a ledger to someone who has only a trust policy.

Nothing but the file and the policy is needed, so a receipt can be checked years later and without any server.
The format is described in docs/verifying.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from stele.format.canonical import canonicalize
from stele.format.errors import CanonicalError, InvalidName
from stele.format.names import check_document_key, check_table_name
from stele.verify import shape
from stele.verify.checkpoint import Checkpoint
from stele.verify.document import found_in
from stele.verify.entry import Moment
from stele.verify.errors import Incomplete, Malformed, Mismatch
from stele.verify.limits import CHECKPOINTS_CACHED_MAX, RECEIPT_SIZE_BYTES_MAX
from stele.verify.merkle import leaf_hash, root_of
from stele.verify.policy import TrustPolicy
from stele.verify.proof import ProofVerifier, Proven
from stele.verify.proof_shape import BlockProof, ShownBlock
from stele.verify.shape import Count

Kind = Literal["revision", "current", "absence", "as-of", "history", "block"]


class Receipt(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A claim and its proof. `ledger` is the log's origin, "<cluster>/<ledger>".

    `table` and `key` name a document (all kinds but block), `version` belongs to a revision, `as_of_seq` or
    `as_of` (a time as headers have it) to as-of, `block` (the block as served) to block.
    A revision's data stands inside the proof.
    """

    receipt: Literal[1]
    kind: Kind
    ledger: str
    ledger_id: str
    table: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    version: Count | UnsetType = UNSET
    as_of_seq: Count | UnsetType = UNSET
    as_of: str | UnsetType = UNSET
    block: ShownBlock | UnsetType = UNSET
    proof: dict[str, object]


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """What a receipt was found to prove. `proven` is None for a block, `block` for all others."""

    receipt: Receipt
    checkpoint: Checkpoint
    note: str
    proven: Proven | None
    block: ShownBlock | None


_decoder = msgspec.json.Decoder(Receipt)


def verify_receipt(text: bytes, policy: TrustPolicy) -> ReceiptReport:
    """Check a receipt, offline. Raises VerificationError."""
    return ReceiptVerifier(policy).verify(text)


class ReceiptVerifier:
    """Checks many receipts under one policy, and each checkpoint's signatures once."""

    def __init__(self, policy: TrustPolicy) -> None:
        self._policy = policy
        self._verifiers: dict[tuple[str, str], ProofVerifier] = {}

    def verify(self, text: bytes) -> ReceiptReport:
        """Check a receipt. Raises VerificationError."""
        receipt = parse_receipt(text)
        verifier = self._verifier(receipt)
        if receipt.kind == "block":
            return _verify_block(receipt, verifier)
        _expect_members(receipt, block=False)
        proven = _verify_claim(receipt, verifier)
        return ReceiptReport(receipt, proven.checkpoint, _note_of(receipt), proven, None)

    def _verifier(self, receipt: Receipt) -> ProofVerifier:
        journal = receipt.ledger, receipt.ledger_id
        known = self._verifiers.get(journal)
        if known is None:
            known = ProofVerifier(self._policy, receipt.ledger_id, origin=receipt.ledger)
            if len(self._verifiers) >= CHECKPOINTS_CACHED_MAX:
                del self._verifiers[next(iter(self._verifiers))]
            self._verifiers[journal] = known
        return known


def parse_receipt(text: bytes) -> Receipt:
    """Read a receipt, checking its form only. Raises Malformed."""
    if len(text) > RECEIPT_SIZE_BYTES_MAX:
        raise Malformed("bytes of a receipt", expected=f"<= {RECEIPT_SIZE_BYTES_MAX}", found=len(text))
    receipt = shape.decode(_decoder, text, "receipt")
    _refuse_repeated_members(text)
    return receipt


def _verify_claim(receipt: Receipt, verifier: ProofVerifier) -> Proven:
    table, key = _names(receipt)
    version = None if isinstance(receipt.version, UnsetType) else receipt.version
    moment = _moment(receipt)
    match receipt.kind, version, moment:
        case "revision", int(), None:
            proven = verifier.revision(receipt.proof, table, key, version)
            if proven.revision is None:
                raise Mismatch("the receipt shows no revision", expected=f"version {version}")
        case "current", None, None:
            proven = verifier.current(receipt.proof, table, key)
            if proven.revision is None or proven.revision.op == "delete":
                raise Mismatch("the receipt shows no current revision", expected=repr(key))
        case "absence", None, None:
            proven = verifier.current(receipt.proof, table, key)
            if found_in(proven) in ("document", "erased"):
                raise Mismatch("the receipt of an absence shows a document", found=repr(key))
        case "as-of", None, Moment():
            proven = verifier.as_of(receipt.proof, table, key, moment)
        case "history", None, None:
            proven = verifier.history(receipt.proof, table, key)
            _check_complete(proven)
        case _:
            raise Malformed(f"a receipt of kind {receipt.kind} with members of another kind")
    return proven


def _moment(receipt: Receipt) -> Moment | None:
    seq = None if isinstance(receipt.as_of_seq, UnsetType) else receipt.as_of_seq
    at = None if isinstance(receipt.as_of, UnsetType) else receipt.as_of
    return None if seq is None and at is None else Moment(seq, at)


def _check_complete(proven: Proven) -> None:
    facts = [proven.revision, *proven.older]
    last = facts[-1]
    if last is not None and last.version != 0:
        raise Incomplete("the history ends at version", expected=0, found=last.version)


def _verify_block(receipt: Receipt, verifier: ProofVerifier) -> ReceiptReport:
    _expect_members(receipt, block=True)
    if isinstance(receipt.block, UnsetType):
        raise Malformed("a receipt of a block shows the block")
    block = receipt.block
    proof = shape.convert(receipt.proof, BlockProof, "proof")
    checkpoint = verifier.block(block.header, proof)
    _check_content(block)
    return ReceiptReport(receipt, checkpoint, proof.checkpoint, None, block)


def _check_content(block: ShownBlock) -> None:
    """That the block's information and revisions are those its header commits to."""
    header = block.header
    _expect("info", header.info, hashlib.sha256(shape.canonical(block.info)).hexdigest())
    _expect("revision_count", header.revision_count, len(block.revisions))
    hashes = [leaf_hash(shape.canonical(revision.leaf)) for revision in block.revisions]
    _expect("revision_root", header.revision_root, root_of(hashes).hex())
    for index, revision in enumerate(block.revisions):
        where = f"revision {index}"
        if isinstance(revision.salt, UnsetType):
            if not isinstance(revision.data, UnsetType):
                raise Malformed(f"{where}: data without the salt of its commitment")
            continue
        if (revision.leaf.op == "put") != isinstance(revision.data, dict):
            raise Malformed(f"{where}: data belongs to a put, and to nothing else")
        salt = shape.decode_hex(revision.salt, 32, f"{where}: salt")
        try:
            payload = canonicalize(revision.data) if isinstance(revision.data, dict) else b""
        except CanonicalError as error:
            raise Malformed(f"{where}: data: {error}") from None
        found = hashlib.sha256(salt + payload).hexdigest()
        _expect(f"{where}: commitment", revision.leaf.commitment, found)


def _names(receipt: Receipt) -> tuple[str, str]:
    if isinstance(receipt.table, UnsetType) or isinstance(receipt.key, UnsetType):
        raise Malformed(f"a receipt of kind {receipt.kind} names a table and a key")
    try:
        return check_table_name(receipt.table), check_document_key(receipt.key)
    except InvalidName as error:
        raise Malformed(f"receipt: {error}") from None


def _expect_members(receipt: Receipt, *, block: bool) -> None:
    document = (receipt.table, receipt.key, receipt.version, receipt.as_of_seq, receipt.as_of)
    named = document if block else (receipt.block,)
    if any(member is not UNSET for member in named):
        raise Malformed(f"a receipt of kind {receipt.kind} with members of another kind")


def _note_of(receipt: Receipt) -> str:
    note = receipt.proof.get("checkpoint")
    return note if isinstance(note, str) else ""


def _refuse_repeated_members(text: bytes) -> None:
    """Of a member that stands twice, another reader might take the one that was not checked."""

    def distinct(pairs: list[tuple[str, object]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise Malformed("a member of the receipt stands twice")

    try:
        json.loads(text, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"receipt: {error}") from None


def _expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise Mismatch(what, expected=expected, found=found)
