"""One log entry as bytes: on disk and on the wire the same ones.

    crc32 (4) | index (8) | term (8) | kind (1) | payload

big-endian; the checksum covers everything behind it. A follower checks it before it stages the record, so
that an entry is covered by one checksum from the leader that made it to every disk it is read from.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import NamedTuple

from consensus import limits


class Kind(enum.IntEnum):
    """What an entry is, numbered as PySyncObj's command types (a test compares)."""

    REGULAR = 0
    NO_OP = 1
    MEMBERSHIP = 2


_HEADER = struct.Struct(">IQQB")
_CHECKED = struct.Struct(">QQB")
_CHECKSUM_SIZE_BYTES = 4

HEADER_SIZE_BYTES = _HEADER.size
RECORD_SIZE_BYTES_MAX = HEADER_SIZE_BYTES + limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX


class RecordCorrupt(ValueError):
    """The bytes are not a record."""


class Header(NamedTuple):
    """What a record says of itself."""

    entry_index: int
    entry_term: int
    kind: Kind


def encode(index: int, term: int, kind: Kind, payload: bytes) -> bytes:
    """The record of one entry. The caller has checked the payload's size."""
    body = _CHECKED.pack(index, term, kind) + payload
    return zlib.crc32(body).to_bytes(_CHECKSUM_SIZE_BYTES, "big") + body


def check(record: bytes) -> Header:
    """Checks a record's size, checksum and kind. Raises RecordCorrupt."""
    if not HEADER_SIZE_BYTES <= len(record) <= RECORD_SIZE_BYTES_MAX:
        raise RecordCorrupt(f"a record of {len(record)} bytes")
    checksum, index, term, kind = _HEADER.unpack_from(record)
    if zlib.crc32(memoryview(record)[_CHECKSUM_SIZE_BYTES:]) != checksum:
        raise RecordCorrupt(f"the checksum of the record that calls itself entry {index} is wrong")
    if kind > Kind.MEMBERSHIP:
        raise RecordCorrupt(f"entry {index} is of unknown kind {kind}")
    return Header(index, term, Kind(kind))


def kind_of(record: bytes) -> Kind:
    """The kind of a record that was checked."""
    return Kind(record[HEADER_SIZE_BYTES - 1])


def payload_of(record: bytes) -> bytes:
    """The payload of a record that was checked."""
    return record[HEADER_SIZE_BYTES:]
