"""Keys of the state machine's rows: order-preserving, one kind a byte, a ledger's number next.

    M name                                   what belongs to the whole store (applied index, format, …)
    L ledger name                            the ledgers
    J ledger                                 the journal's end: size, head, refusal ring
    B ledger | seq                           blocks
    T ledger | tile level | tile index       full Merkle tiles
    U ledger | table                         the newest block that touched a table
    C ledger | table | key                   the current revision's place
    D ledger | table | key 00 | ~seq ~leaf   every revision, newest first
    X ledger | transaction id                committed transactions
    I ledger | SHA-256 of idempotency key    first answers
    R ledger | number                        ring of refused transactions
    F ledger | transaction id                refused transactions
    K ledger | size                          signed checkpoints
    Q ledger | size | key id | name          cosignatures of checkpoints
    V ledger | size | key id | name          valid cosignatures over another root than the journal's
    G ledger name                            names of ledgers that were deleted
    E ledger | seq                           erasures, and how far this node is with each
    S ledger | bucket                        the state map's buckets, each as of some seal
    W ledger                                 the journal's size at the seal that all of those have reached
    Z ledger | size                          seals, by the journal's size right after each

Numbers are big-endian so that byte order is number order, `~` is the complement so that newer comes
first. A document key cannot hold a zero byte, so that `key 00` is prefix-free (stele.format.names).
A table's number is the seq of the block that created it.
"""

from __future__ import annotations

import struct

APPLIED_INDEX = b"Mapplied"
COSIGNER = b"Mcosigner"
FORMAT = b"Mformat"
NEXT_LEDGER = b"Mnext-ledger"

LEDGERS = b"L"
DROPPED_LEDGERS = b"G"
PER_LEDGER_KINDS = b"JBTUCDXIRFKEQVSWZ"
BEHIND_ALL = b"\xff"
EVERYTHING = (b"", BEHIND_ALL)

_U64_MAX = (1 << 64) - 1
_U32_MAX = (1 << 32) - 1

_ledger = struct.Struct(">cI").pack
_ledger_u32 = struct.Struct(">cII").pack
_ledger_u64 = struct.Struct(">cIQ").pack
_tile = struct.Struct(">cIBQ").pack
_revision_place = struct.Struct(">QI")
_KEY_ID_SIZE_BYTES = 4
_SIZE_AT = 5
_COSIGNER_AT = _SIZE_AT + 8


def ledger_row(name: str) -> bytes:
    return LEDGERS + name.encode()


def of_ledger(kind: bytes, number: int) -> bytes:
    """The prefix of all rows of one kind of one ledger; the whole key of the journal's end."""
    return _ledger(kind, number)


def ledger_of(key: bytes) -> int:
    """The ledger's number in a key of a kind that has one."""
    return int.from_bytes(key[1:_SIZE_AT], "big")


def end_of(prefix: bytes) -> bytes:
    """The first key after all keys that begin with `prefix` (which must not be all FF)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])


def journal_end(number: int) -> bytes:
    return _ledger(b"J", number)


def block(number: int, seq: int) -> bytes:
    return _ledger_u64(b"B", number, seq)


def tile(number: int, level: int, index: int) -> bytes:
    return _tile(b"T", number, level, index)


def table_use(number: int, table: int) -> bytes:
    return _ledger_u64(b"U", number, table)


def current_of_table(number: int, table: int) -> bytes:
    """Prefix of a table's current rows; a document's row is this and its key."""
    return _ledger_u64(b"C", number, table)


def revisions_of_table(number: int, table: int) -> bytes:
    """Prefix of a table's revisions."""
    return _ledger_u64(b"D", number, table)


def revision_suffix(seq: int, leaf_index: int) -> bytes:
    """What follows `key 00`: newest block first, and within a block the last leaf first."""
    return _revision_place.pack(_U64_MAX - seq, _U32_MAX - leaf_index)


REVISION_SUFFIX_SIZE_BYTES = _revision_place.size


def place_of(suffix: bytes) -> tuple[int, int]:
    """(seq, leaf index) of a `revision_suffix`."""
    seq, leaf_index = _revision_place.unpack(suffix)
    return _U64_MAX - seq, _U32_MAX - leaf_index


def transaction(number: int, tx: bytes) -> bytes:
    return _ledger(b"X", number) + tx


def idempotency(number: int, key_hash: bytes) -> bytes:
    return _ledger(b"I", number) + key_hash


def refusal_ring(number: int, count: int) -> bytes:
    return _ledger_u64(b"R", number, count)


def refusal(number: int, tx: bytes) -> bytes:
    return _ledger(b"F", number) + tx


def checkpoint(number: int, size: int) -> bytes:
    return _ledger_u64(b"K", number, size)


def size_of(key: bytes) -> int:
    """The size in a key of kind K, Q or V."""
    return int.from_bytes(key[_SIZE_AT:_COSIGNER_AT], "big")


def cosignatures_of(number: int, size: int) -> bytes:
    """Prefix of the cosignatures of one checkpoint."""
    return _ledger_u64(b"Q", number, size)


def cosignature(number: int, size: int, key_id: bytes, name: str) -> bytes:
    return cosignatures_of(number, size) + key_id + name.encode()


def contradiction(number: int, size: int, key_id: bytes, name: str) -> bytes:
    return _ledger_u64(b"V", number, size) + key_id + name.encode()


def cosigner_of(key: bytes) -> tuple[bytes, str]:
    """(key id, name) in a key of kind Q or V."""
    key_id_and_name = key[_COSIGNER_AT:]
    return key_id_and_name[:_KEY_ID_SIZE_BYTES], key_id_and_name[_KEY_ID_SIZE_BYTES:].decode()


def dropped_ledger(name: str) -> bytes:
    return DROPPED_LEDGERS + name.encode()


def erasure(number: int, seq: int) -> bytes:
    return _ledger_u64(b"E", number, seq)


def state_bucket(number: int, bucket: int) -> bytes:
    return _ledger_u32(b"S", number, bucket)


def state_written(number: int) -> bytes:
    return _ledger(b"W", number)


def seal(number: int, size: int) -> bytes:
    return _ledger_u64(b"Z", number, size)
