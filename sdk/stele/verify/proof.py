"""Checking what a server says about a document: that it is so, under a checkpoint the policy accepts.

Each claim has a method of `ProofVerifier`: the current revision or that there is none, one version, the
revision as of a block, the complete history, a block. What a policy of cosigners adds, and what stays
unproved, is in docs/concepts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, UnsetType

from stele.verify import shape
from stele.verify.checkpoint import Checkpoint, parse_checkpoint, policy_of
from stele.verify.entry import (
    Fact,
    Moment,
    Subject,
    current_fact,
    fact_as_of,
    history_facts,
    older_facts,
    revision_fact,
)
from stele.verify.errors import Malformed, Mismatch
from stele.verify.evidence import Evidence
from stele.verify.history import CATALOGUE
from stele.verify.limits import CHECKPOINTS_CACHED_MAX, TABLES_CACHED_MAX
from stele.verify.merkle import leaf_hash, verify_inclusion
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from stele.verify.proof_shape import BlockProof, DocumentProof, Entry, Seal

TableState = Literal["active", "dropped", "absent"]


@dataclass(frozen=True, slots=True)
class Proven:
    """What was proved, as of `checkpoint`.

    `table` is the id of the table that bore the name, None when there was none. `revision` is the revision
    in question, a delete included; None when there was none, or none that a dropped table would show.
    `older` is filled by a history: from the revision before `revision` down to version 0.
    """

    checkpoint: Checkpoint
    table: str | None
    table_state: TableState
    revision: Fact | None
    older: tuple[Fact, ...] = ()


class _Known:
    """What was found under one checkpoint. The same seal, or the same entry of the same table, is not checked
    twice: most proofs that follow each other share them."""

    __slots__ = ("checkpoint", "evidence", "seal", "tables")

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.seal: Seal | UnsetType = UNSET
        self.evidence: Evidence | None = None
        self.tables: dict[str, tuple[Entry, str | None, TableState]] = {}


class ProofVerifier:
    """Checks proofs about one ledger.

    `trust` is the ledger's log key or a policy; `ledger_id` 32 hex digits; `origin` the log's identity
    "<cluster>/<ledger>", by default the name of the policy's only log. What the last few checkpoints have in
    common, signatures above all, is not checked twice.
    """

    def __init__(
        self, trust: VerifierKey | TrustPolicy, ledger_id: str, *, origin: str | None = None
    ) -> None:
        """Raises Unsigned when no log of the policy can speak for `origin`."""
        policy = policy_of(trust)
        self.policy = policy if origin is None else policy.for_origin(origin)
        shape.decode_hex(ledger_id, 16, "ledger id")
        self.ledger_id = ledger_id
        self._known: dict[str, _Known] = {}

    def checkpoint(self, note: str) -> Checkpoint:
        """The checkpoint in a signed note that fulfils the policy. Raises VerificationError."""
        return self._under(note).checkpoint

    def _under(self, note: str) -> _Known:
        known = self._known.get(note)
        if known is None:
            known = _Known(parse_checkpoint(note, self.policy))
            if len(self._known) >= CHECKPOINTS_CACHED_MAX:
                del self._known[next(iter(self._known))]
            self._known[note] = known
        return known

    def current(self, proof: object, table: str, key: str) -> Proven:
        """What stands under the key as of the proof's checkpoint: a revision, a delete, or nothing."""
        evidence, parsed = self._open(proof)
        table_id, state = self._table(evidence, parsed, table, None)
        if table_id is None or state == "dropped":
            _expect_nothing(parsed.document, f"table {table!r} is {state}")
            return Proven(evidence.checkpoint, table_id, state, None)
        found = current_fact(evidence, parsed.document, Subject(table_id, key))
        return Proven(evidence.checkpoint, table_id, state, found)

    def revision(
        self, proof: object, table: str, key: str, version: int, moment: Moment | None = None
    ) -> Proven:
        """Revision number `version`, or that the key has not got that far. Dropped tables answer too.

        With a `moment`, the table is the one that bore the name then, and only revisions until then count.
        """
        evidence, parsed = self._open(proof)
        table_id, state = self._table(evidence, parsed, table, moment)
        if table_id is None:
            _expect_nothing(parsed.document, f"there is no table {table!r}")
            return Proven(evidence.checkpoint, None, state, None)
        subject = Subject(table_id, key)
        found = revision_fact(evidence, parsed.document, subject, version, moment)
        return Proven(evidence.checkpoint, table_id, state, found)

    def as_of(self, proof: object, table: str, key: str, moment: Moment) -> Proven:
        """What stood under the key at a moment: a revision, a delete, or nothing."""
        evidence, parsed = self._open(proof)
        table_id, state = self._table(evidence, parsed, table, moment)
        if table_id is None or state == "dropped":
            _expect_nothing(parsed.document, f"table {table!r} is {state} as of {moment}")
            return Proven(evidence.checkpoint, table_id, state, None)
        found = fact_as_of(evidence, parsed.document, Subject(table_id, key), moment)
        return Proven(evidence.checkpoint, table_id, state, found)

    def history(self, proof: object, table: str, key: str) -> Proven:
        """The newest revision of the key and those before it that are shown, without a gap.

        The history is complete when the last one is version 0.
        """
        evidence, parsed = self._open(proof)
        table_id, state = self._table(evidence, parsed, table, None)
        if table_id is None:
            _expect_nothing(parsed.document, f"there is no table {table!r}")
            return Proven(evidence.checkpoint, None, state, None)
        newest, older = history_facts(evidence, parsed.document, Subject(table_id, key))
        return Proven(evidence.checkpoint, table_id, state, newest, older)

    def older(
        self, proof: object, table_id: str, key: str, after: Fact
    ) -> tuple[Checkpoint, tuple[Fact, ...]]:
        """Further revisions of a history: those right before `after`, which was proved earlier."""
        evidence, parsed = self._open(proof)
        return evidence.checkpoint, older_facts(evidence, parsed.document, Subject(table_id, key), after)

    def block(self, header: shape.Header, proof: BlockProof) -> Checkpoint:
        """Check that a block with this header stands in the journal."""
        checkpoint = self.checkpoint(proof.checkpoint)
        if header.ledger != self.ledger_id:
            raise Mismatch("ledger id", expected=self.ledger_id, found=header.ledger)
        path = shape.decode_hashes(proof.path, "path")
        leaf = leaf_hash(shape.canonical(header))
        verify_inclusion(leaf, header.seq, checkpoint.size, path, checkpoint.root)
        return checkpoint

    def _open(self, proof: object) -> tuple[Evidence, DocumentProof]:
        parsed = shape.convert(proof, DocumentProof, "proof")
        known = self._under(parsed.checkpoint)
        if known.evidence is None or known.seal != parsed.seal:
            known.evidence = Evidence(known.checkpoint, self.ledger_id, parsed.seal)
            known.seal = parsed.seal
            # Tables are known by this seal. A proof without one must not live on what another has shown.
            known.tables = {}
        return known.evidence, parsed

    def _table(
        self, evidence: Evidence, proof: DocumentProof, name: str, moment: Moment | None
    ) -> tuple[str | None, TableState]:
        """The id of the table that bears the name now, or bore it at a moment, and its state."""
        if moment is not None:
            return self._checked_table(evidence, proof.table, name, moment)
        tables = self._under(proof.checkpoint).tables
        known = tables.get(name)
        if known is None or known[0] != proof.table:
            known = proof.table, *self._checked_table(evidence, proof.table, name, None)
            if len(tables) >= TABLES_CACHED_MAX:
                tables.clear()
            tables[name] = known
        return known[1:]

    def _checked_table(
        self, evidence: Evidence, entry: Entry, name: str, moment: Moment | None
    ) -> tuple[str | None, TableState]:
        """As `_table`.

        Each table is a document of the catalogue under its name; its id is the name with the block that
        created it, which a drop names as the one before (docs/adr/0002-table-ids.md).
        """
        subject = Subject(CATALOGUE, name)
        if moment is None:
            found = current_fact(evidence, entry, subject)
        else:
            found = fact_as_of(evidence, entry, subject, moment)
        if found is None:
            return None, "absent"
        data = found.data
        if found.op != "put" or data is None or data.get("name") != name:
            raise Malformed(f"entry of table {name!r} in the catalogue", found=data)
        match data.get("state"):
            case "active":
                return f"{name}@{found.seq}", "active"
            case "dropped" if found.prev_seq is not None:
                return f"{name}@{found.prev_seq}", "dropped"
            case other:
                raise Malformed(f"state of table {name!r} in the catalogue", found=other)


def _expect_nothing(entry: Entry, why: str) -> None:
    if entry != Entry():
        raise Malformed(f"{why}, so there is nothing to show of the document")
