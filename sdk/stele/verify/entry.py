"""What a proof shows of one key: checking each claim about its revisions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from stele.format.canonical import canonicalize
from stele.format.errors import CanonicalError
from stele.verify import shape
from stele.verify.erasures import is_named
from stele.verify.errors import BrokenChain, Incomplete, InvalidProof, Malformed, Mismatch
from stele.verify.evidence import Evidence, check_previous
from stele.verify.merkle import leaf_hash
from stele.verify.proof_shape import Entry, PlacedLeaf, ShownErasure, ShownRevision
from stele.verify.state_map import StateRow

_SALT_SIZE_BYTES = 32


class Subject(NamedTuple):
    """A document: the id of its table, and its key."""

    table_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A revision that was proved.

    `tx` and `at` are None where only the state proof names the revision. `data` is None for a delete, and for
    a revision whose content was erased or is withheld: then `opened` is False. `erased_by` is the block that
    is proved to have erased it.
    """

    version: int
    seq: int
    op: Literal["put", "delete"]
    prev_seq: int | None
    tx: str | None
    at: str | None
    data: dict[str, object] | None
    opened: bool
    erased_by: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a journal: after block `seq`, or after every block committed at or before `at`.

    `at` is a time as block headers have it. Blocks never go back in time, so both cut the journal in two.
    """

    seq: int | None = None
    at: str | None = None

    def __post_init__(self) -> None:
        """Raises Malformed unless exactly one is given."""
        if (self.seq is None) == (self.at is None):
            raise Malformed("a moment is either a block or a time")
        if self.at is not None:
            shape.check_time(self.at, "as_of")

    def __str__(self) -> str:
        return self.at if self.at is not None else f"block {self.seq}"

    def covers(self, seq: int, at: str | None) -> bool:
        """Whether the block `seq`, committed at `at`, is of this moment or earlier."""
        if self.seq is not None:
            return seq <= self.seq
        if at is None or self.at is None:
            raise Incomplete(f"as of {self}: no place that tells the time of block {seq}")
        return at <= self.at


def current_fact(evidence: Evidence, entry: Entry, subject: Subject) -> Fact | None:
    """The newest revision as of the checkpoint, deletes included; None when there never was one."""
    _expect_absent(entry.successor, "successor")
    _expect_absent(entry.older, "older")
    return _newest(evidence, entry, subject)


def revision_fact(
    evidence: Evidence, entry: Entry, subject: Subject, version: int, moment: Moment | None
) -> Fact | None:
    """Revision `version`; None when the key had not got that far by the checkpoint, or by `moment`."""
    _expect_absent(entry.older, "older")
    if not isinstance(entry.revision, UnsetType):
        fact = _placed_fact(evidence, entry.revision, subject)
        if fact.version != version:
            raise Mismatch("version", expected=version, found=fact.version)
        if moment is not None and not moment.covers(fact.seq, fact.at):
            raise Mismatch("block of the revision", expected=f"by {moment}", found=fact.seq)
        _expect_absent(entry.successor, "successor")
        _expect_absent(entry.state, "state")
        return fact
    if not isinstance(entry.successor, UnsetType) and moment is not None:
        # The revision asked for, or one before it, came later.
        later = _placed_leaf(evidence, entry.successor, subject)
        if later.leaf.version > version or moment.covers(later.place.header.seq, later.place.header.at):
            raise InvalidProof(f"version {later.leaf.version} does not show version {version} missing")
        _expect_absent(entry.state, "state")
        return None
    row = _state_row(evidence, entry, subject)
    if row is not None and row.version >= version:
        raise InvalidProof(f"version {version} is said to be missing, yet there is version {row.version}")
    _expect_absent(entry.successor, "successor")
    return None


def fact_as_of(evidence: Evidence, entry: Entry, subject: Subject, moment: Moment) -> Fact | None:
    """The newest revision at a moment, deletes included; None when there was none yet.

    A time later than the checkpoint means the checkpoint; a block that it does not cover is refused.
    """
    _expect_absent(entry.older, "older")
    if moment.seq is not None and not 0 <= moment.seq < evidence.checkpoint.size:
        raise InvalidProof(f"a checkpoint of size {evidence.checkpoint.size} knows no {moment}")
    if isinstance(entry.successor, UnsetType):
        newest = _newest(evidence, entry, subject)
        if newest is not None and not moment.covers(newest.seq, newest.at):
            raise InvalidProof(f"as of {moment}: the newest revision is of block {newest.seq}")
        return newest
    _expect_absent(entry.state, "state")
    later = _placed_leaf(evidence, entry.successor, subject)
    if moment.covers(later.place.header.seq, later.place.header.at):
        raise InvalidProof(f"as of {moment}: the successor is of block {later.place.header.seq}")
    if isinstance(entry.revision, UnsetType):
        if later.leaf.version != 0:
            raise InvalidProof(f"as of {moment}: version {later.leaf.version} has one before it")
        return None
    fact = _placed_fact(evidence, entry.revision, subject)
    if not moment.covers(fact.seq, fact.at):
        raise InvalidProof(f"as of {moment}: the revision is of block {fact.seq}")
    _check_follows(later.leaf.version, later.leaf.prev_seq, fact)
    return fact


def history_facts(evidence: Evidence, entry: Entry, subject: Subject) -> tuple[Fact | None, tuple[Fact, ...]]:
    """The newest revision and those shown before it, without a gap; (None, ()) when there never was one."""
    _expect_absent(entry.successor, "successor")
    newest = _newest(evidence, entry, subject)
    if newest is None:
        _expect_absent(entry.older, "older revisions of a key that never existed")
        return None, ()
    return newest, _older_facts(evidence, entry, subject, newest)


def older_facts(evidence: Evidence, entry: Entry, subject: Subject, after: Fact) -> tuple[Fact, ...]:
    """The revisions right before `after`, which was proved, newest first and without a gap."""
    for member in (entry.successor, entry.revision, entry.state):
        _expect_absent(member, "successor, revision or state")
    return _older_facts(evidence, entry, subject, after)


def _older_facts(evidence: Evidence, entry: Entry, subject: Subject, after: Fact) -> tuple[Fact, ...]:
    facts: list[Fact] = []
    last = after
    erasure = UNSET if isinstance(entry.revision, UnsetType) else entry.revision.erasure
    for shown in [] if isinstance(entry.older, UnsetType) else entry.older:
        revision = _with_erasure(shown, erasure)
        erasure = erasure if isinstance(revision.erasure, UnsetType) else revision.erasure
        fact = _placed_fact(evidence, revision, subject)
        _check_follows(last.version, last.prev_seq, fact)
        facts.append(fact)
        last = fact
    return tuple(facts)


def _with_erasure(revision: ShownRevision, last: ShownErasure | UnsetType) -> ShownRevision:
    """In a history, an erasure that is shown with one revision speaks for those after it that it names."""
    if revision.salt is not UNSET or revision.erasure is not UNSET or isinstance(last, UnsetType):
        return revision
    erasure, leaf = last.info.erasure, revision.leaf
    if isinstance(erasure, UnsetType) or not is_named(erasure, leaf.table, leaf.key, leaf.version):
        return revision
    return msgspec.structs.replace(revision, erasure=last)


def _newest(evidence: Evidence, entry: Entry, subject: Subject) -> Fact | None:
    row = _state_row(evidence, entry, subject)
    if row is None:
        _expect_absent(entry.revision, "revision of a key that never existed")
        return None
    if isinstance(entry.revision, UnsetType):
        raise Incomplete(f"version {row.version} stands under {subject.key!r}, and is not shown")
    revision = entry.revision
    hashed = _checked_leaf(revision.leaf, subject)
    if hashed != row.leaf_hash or revision.leaf.version != row.version:
        raise Mismatch(
            "newest revision", expected=f"version {row.version}, {row.leaf_hash.hex()}", found=hashed
        )
    if isinstance(revision.place, UnsetType):
        check_previous(revision.leaf, row.seq)
        return _fact(evidence, revision, row.seq, None)
    fact = _placed_fact(evidence, revision, subject, row.seq)
    if fact.seq != row.seq:
        raise Mismatch("block of the newest revision", expected=row.seq, found=fact.seq)
    return fact


def _state_row(evidence: Evidence, entry: Entry, subject: Subject) -> StateRow | None:
    proof: shape.StateProof | UnsetType = entry.state
    if isinstance(proof, UnsetType):
        raise Incomplete(f"no state proof of {subject.key!r} in {subject.table_id}")
    return evidence.state_row(subject.table_id, subject.key, proof)


def _placed_fact(
    evidence: Evidence, revision: ShownRevision, subject: Subject, named_seq: int | None = None
) -> Fact:
    if isinstance(revision.place, UnsetType):
        raise Incomplete(f"no place of version {revision.leaf.version} in the journal")
    header = revision.place.header
    evidence.check_place(_checked_leaf(revision.leaf, subject), revision.place, "revision", named_seq)
    check_previous(revision.leaf, header.seq)
    return _fact(evidence, revision, header.seq, header)


def _placed_leaf(evidence: Evidence, placed: PlacedLeaf, subject: Subject) -> PlacedLeaf:
    """The same, after its place was checked."""
    evidence.check_place(_checked_leaf(placed.leaf, subject), placed.place, "successor")
    check_previous(placed.leaf, placed.place.header.seq)
    return placed


def _checked_leaf(leaf: shape.Leaf, subject: Subject) -> bytes:
    """The leaf's hash, when it is one of this document."""
    if leaf.table != subject.table_id:
        raise Mismatch("table of the leaf", expected=subject.table_id, found=leaf.table)
    if leaf.key != subject.key:
        raise Mismatch("key of the leaf", expected=subject.key, found=leaf.key)
    return leaf_hash(shape.canonical(leaf))


def _check_follows(version: int, prev_seq: int | None, before: Fact) -> None:
    """Raise unless a revision with this version and `prev_seq` is the one right after `before`."""
    if version != before.version + 1:
        raise BrokenChain("version before", expected=version - 1, found=before.version)
    if prev_seq != before.seq:
        raise BrokenChain(f"block of version {before.version}", expected=prev_seq, found=before.seq)


def _fact(evidence: Evidence, revision: ShownRevision, seq: int, header: shape.Header | None) -> Fact:
    leaf = revision.leaf
    data = None if isinstance(revision.data, UnsetType) else revision.data
    opened = not isinstance(revision.salt, UnsetType)
    if isinstance(revision.salt, UnsetType):
        _expect_absent(revision.data, "data without the salt of its commitment")
    else:
        _expect_absent(revision.erasure, "the erasure of content that is shown")
        _check_commitment(leaf, revision.salt, data)
    shown = revision.erasure
    erased_by = None if isinstance(shown, UnsetType) else evidence.check_erasure(leaf, seq, shown)
    tx, at = (None, None) if header is None else (header.tx, header.at)
    return Fact(leaf.version, seq, leaf.op, leaf.prev_seq, tx, at, data, opened, erased_by)


def _check_commitment(leaf: shape.Leaf, salt: str, data: dict[str, object] | None) -> None:
    if (leaf.op == "put") != (data is not None):
        raise Malformed("data belongs to a put, and to nothing else")
    salted = shape.decode_hex(salt, _SALT_SIZE_BYTES, "salt")
    try:
        payload = b"" if data is None else canonicalize(data)
    except CanonicalError as error:
        raise Malformed(f"data: {error}") from None
    found = hashlib.sha256(salted + payload).hexdigest()
    if found != leaf.commitment:
        raise Mismatch("commitment to the data", expected=leaf.commitment, found=found)


def _expect_absent(member: object, what: str) -> None:
    if member is not UNSET:
        raise Malformed(f"a member that does not belong to this claim: {what}")
