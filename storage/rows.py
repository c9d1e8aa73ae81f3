"""Values of the state machine's rows. Each has one encoding, so that fsck can compare bytes."""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

from storage.outcomes import Committed, Refused

U64 = struct.Struct(">Q")
ROOT_SIZE_BYTES = 32
_CURRENT = struct.Struct(">QQIB32s")
_unpack_current_start = struct.Struct(">QQ").unpack_from
_REVISION = struct.Struct(">QIBQQ16s32s")
REVISION_HEAD_SIZE_BYTES = _REVISION.size
"""Of a revision's row, before its payload."""

OPS = ("put", "delete")
OP_NUMBERS = {"put": 0, "delete": 1}
_ERASED = 0x80
"""Set in the operation's byte when the payload is gone and the erasure's block is in the salt's place."""
_SALT_SIZE_BYTES = 32


class Current(NamedTuple):
    """Where a document's newest revision is, with what the state map will commit to."""

    version: int
    seq: int
    leaf_index: int
    op: int
    leaf_hash: bytes


encode_current = _CURRENT.pack
"""The row of a `Current`, whose members it takes in order."""


def decode_current(row: bytes) -> Current:
    return Current._make(_CURRENT.unpack(row))


def current_version_and_seq(row: bytes) -> tuple[int, int]:
    """What the next revision needs of a current row."""
    version, seq = _unpack_current_start(row)
    return version, seq


class RevisionRow(NamedTuple):
    """A revision as stored; `prev_seq` is None for version 0 (stored as 0, others plus one).

    `erased_by` is the block of the erasure that took `salt` and `payload`, which are then empty.
    """

    version: int
    leaf_index: int
    op: int
    at: int
    prev_seq: int | None
    tx: bytes
    salt: bytes
    payload: bytes
    erased_by: int | None = None


revision_head = _REVISION.pack
"""A revision's row before its payload, from the members of a `RevisionRow` in order, `prev_seq` as stored."""


def encode_revision(
    version: int,
    leaf_index: int,
    op: int,
    at: int,
    prev_seq: int | None,
    tx: bytes,
    salt: bytes,
    payload: bytes,
) -> bytes:
    stored_prev = 0 if prev_seq is None else prev_seq + 1
    return revision_head(version, leaf_index, op, at, stored_prev, tx, salt) + payload


def decode_revision(row: bytes) -> RevisionRow:
    version, leaf_index, op, at, stored_prev, tx, salt = _REVISION.unpack_from(row)
    prev_seq = None if stored_prev == 0 else stored_prev - 1
    if op & _ERASED:
        erased_by = int.from_bytes(salt, "big")
        return RevisionRow(version, leaf_index, op & ~_ERASED, at, prev_seq, tx, b"", b"", erased_by)
    return RevisionRow(version, leaf_index, op, at, prev_seq, tx, salt, row[_REVISION.size :])


def erased_revision(row: bytes, erased_by: int) -> bytes:
    """The row without what its leaf commits to; `erased_by` is the erasure's block."""
    version, leaf_index, op, at, stored_prev, tx, _ = _REVISION.unpack_from(row)
    place = erased_by.to_bytes(_SALT_SIZE_BYTES, "big")
    return _REVISION.pack(version, leaf_index, op | _ERASED, at, stored_prev, tx, place)


class LedgerRow(msgspec.Struct, array_like=True, frozen=True):
    number: int
    id: bytes
    created_at: int
    deletion_protection: bool


class Sealed(msgspec.Struct, array_like=True, frozen=True):
    """A seal: the journal's `size` right after it and `root` at that size, and the `state_root` that it
    commits to (the state after the block before it)."""

    size: int
    root: bytes
    state_root: bytes

    @property
    def seal_seq(self) -> int:
        """The seal's own block."""
        return self.size - 1


class JournalEnd(msgspec.Struct, array_like=True, frozen=True):
    """The end of a ledger's journal. `head` is the leaf hash of the last header; refusals
    `refusals_from` up to, but not including, `refusals_to` are in the ring. `sealed` is the newest seal."""

    size: int
    head: bytes
    refusals_from: int
    refusals_to: int
    sealed: Sealed | None


class StoredBlock(msgspec.Struct, array_like=True, frozen=True):
    """A block: its header, its transaction's information, and its revision leaves, all canonical
    JSON. Payloads and salts stand once, in the revisions' own rows."""

    header: bytes
    information: bytes
    leaves: tuple[bytes, ...]


class ErasureRow(msgspec.Struct, array_like=True, frozen=True):
    """An erasure, as far as this node is with it.

    `raft_index` is the Raft entry that brought it: this entry and all before it must leave the Raft log.
    `table` and `key` say which document's rows must leave the files. `completed_at` is when both were done
    here, in microseconds since the epoch; 0 before. Unlike everything else it is this node's own.
    """

    raft_index: int
    table: int
    key: str
    completed_at: int = 0


class FirstAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What an idempotency key was answered. `line` is the highest bulk line committed under it.

    `request_digest` is empty once what was requested is erased: a digest without salt would let a guess be
    confirmed.
    """

    request_digest: bytes
    outcome: Committed | Refused
    line: int | None = None


class RefusalPlace(msgspec.Struct, array_like=True, frozen=True):
    """An element of the ring of refused transactions; `key_hash` is empty without idempotency key."""

    tx: bytes
    key_hash: bytes


encode = msgspec.msgpack.Encoder().encode
decode_ledger = msgspec.msgpack.Decoder(LedgerRow).decode
decode_journal_end = msgspec.msgpack.Decoder(JournalEnd).decode
decode_sealed = msgspec.msgpack.Decoder(Sealed).decode
decode_block = msgspec.msgpack.Decoder(StoredBlock).decode
decode_erasure = msgspec.msgpack.Decoder(ErasureRow).decode
decode_first_answer = msgspec.msgpack.Decoder(FirstAnswer).decode
decode_refusal_place = msgspec.msgpack.Decoder(RefusalPlace).decode
decode_refusal = msgspec.msgpack.Decoder(Refused).decode
