"""Checking the answer to a read of a document, with its proof: a document, 404 or 410."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from stele.verify import shape
from stele.verify.entry import Fact, Moment
from stele.verify.errors import Incomplete, Malformed, Mismatch
from stele.verify.proof import ProofVerifier, Proven
from stele.verify.shape import Count

Found = Literal["document", "erased", "gone", "missing"]
"""What an answer says: here it is (200), content erased (410), deleted or table dropped (410), never there
(404)."""


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    """A document as answered."""

    key: str
    version: Count
    seq: Count
    tx: str
    at: str
    data: dict[str, object]
    proof: dict[str, object]
    ledger: str | UnsetType = UNSET
    table: str | UnsetType = UNSET


def verify_document(
    answer: dict[str, object],
    verifier: ProofVerifier,
    table: str,
    key: str,
    *,
    version: int | None = None,
    moment: Moment | None = None,
) -> Proven:
    """Check the JSON of `GET …/documents/{key}?proof=true` against what was asked for.

    Without `version` and `moment` it proves that the document is the current one as of the checkpoint;
    a server can still show an old checkpoint: compare its size with the largest seen.
    Raises VerificationError.
    """
    parsed = shape.convert(answer, _Answer, "answer")
    proof = with_data(parsed.proof, parsed.data)
    proven = _proven(proof, verifier, table, key, version, moment)
    if found_in(proven) != "document" or proven.revision is None:
        raise Mismatch("what stands under the key", expected=found_in(proven), found="document")
    _check_answer(parsed, proven.revision, table, key)
    return proven


def verify_absence(
    proof: dict[str, object],
    verifier: ProofVerifier,
    table: str,
    key: str,
    *,
    version: int | None = None,
    moment: Moment | None = None,
) -> Proven:
    """Check the `proof` of a 404 or 410 answer: that there is no document to show. When its
    content was erased, that is proved too (`Proven.revision.erased_by`).

    Raises VerificationError.
    """
    proven = _proven(proof, verifier, table, key, version, moment)
    if found_in(proven) == "document":
        raise Mismatch("what stands under the key", expected="document", found="nothing")
    return proven


def found_in(proven: Proven) -> Found:
    """What an honest server answers for this proof. Raises Incomplete for a revision without its content."""
    revision = proven.revision
    if revision is None:
        return "gone" if proven.table_state == "dropped" else "missing"
    if revision.op == "delete":
        return "gone"
    if revision.erased_by is not None:
        return "erased"
    if revision.data is None:
        raise Incomplete(f"the content of version {revision.version} is withheld")
    return "document"


def with_data(proof: dict[str, object], data: object) -> dict[str, object]:
    """The proof of an answer with the answered document in it, where receipts have it."""
    document = proof.get("document")
    revision = document.get("revision") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(revision, dict):
        raise Incomplete("the proof shows no revision")
    if "data" in revision:
        raise Malformed("the document stands in the answer, not in its proof")
    return {**proof, "document": {**document, "revision": {**revision, "data": data}}}


def _proven(
    proof: dict[str, object],
    verifier: ProofVerifier,
    table: str,
    key: str,
    version: int | None,
    moment: Moment | None,
) -> Proven:
    if version is not None:
        return verifier.revision(proof, table, key, version, moment)
    if moment is not None:
        return verifier.as_of(proof, table, key, moment)
    return verifier.current(proof, table, key)


def _check_answer(answer: _Answer, revision: Fact, table: str, key: str) -> None:
    _expect("key of the answer", key, answer.key)
    _expect("version", revision.version, answer.version)
    _expect("seq", revision.seq, answer.seq)
    _expect("tx", revision.tx, answer.tx)
    _expect("at", revision.at, answer.at)
    if isinstance(answer.table, str):
        _expect("table of the answer", table, answer.table)


def _expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise Mismatch(what, expected=expected, found=found)
