"""The rows of the log on disk: keys, checksums, and what is refused of them.

Integers big-endian:

    e | index (8) | term (8)   ->  record (record.py)
    b                          ->  bounds: crc32, format, first index, last index, term of the last entry
    h                          ->  hard state: crc32, current term, who was voted for (empty: nobody)
    m                          ->  crc32, index (8), the membership as of the log's first entry and the entry
                                   that brought it; none as long as no membership entry was deleted
    i                          ->  crc32, which server this disk makes of its node (identity.py)

An entry's (index, term) stands in its key, in its checksummed record and, for the last one, in the bounds.
A batch that did not reach the disk changes none of the three. So whatever disagrees is rot, and rot is
reported by index and never cut off: what is behind it may have been acknowledged.
"""

from __future__ import annotations

import struct
import zlib

from consensus import membership_history, record
from consensus.errors import LogCorrupt
from consensus.identity import IDENTITY_KEY
from consensus.membership_history import MembershipEntry
from consensus.record import RecordCorrupt

FORMAT = 1
ENTRIES = b"e"
ENTRIES_END = b"f"
BOUNDS_KEY = b"b"
HARD_STATE_KEY = b"h"
MEMBERSHIP_KEY = b"m"
OWN_ROWS = (HARD_STATE_KEY, IDENTITY_KEY)
"""Keys of the rows that say who a node is and what it has promised, whatever its log is."""

_POSITION = struct.Struct(">QQ")
_BOUNDS = struct.Struct(">BQQQ")
_TERM = struct.Struct(">Q")
_CHECKSUM_SIZE_BYTES = 4


def entry_key(index: int, term: int = 0) -> bytes:
    """Key of an entry; with term 0, the smallest key an entry at `index` can have."""
    return ENTRIES + _POSITION.pack(index, term)


def check_entry(key: bytes, row: bytes, index: int, term: int | None) -> int:
    """Checks that a row is the entry at `index` (of `term`, when given); returns its term.

    Raises LogCorrupt.
    """
    try:
        header = record.check(row)
    except RecordCorrupt as error:
        raise LogCorrupt(f"entry {index} is corrupt: {error}", index) from error
    if len(key) != len(ENTRIES) + _POSITION.size or _POSITION.unpack_from(key, 1) != header[:2]:
        raise LogCorrupt(f"entry {index} does not lie under its own key", index)
    if header.entry_index != index:
        raise LogCorrupt(f"entry {index} is missing; the next one is {header.entry_index}", index)
    if term is not None and header.entry_term != term:
        raise LogCorrupt(f"entry {index} is of term {header.entry_term}, expected {term}", index)
    return header.entry_term


def bounds_row(first: int, last: int, last_term: int) -> tuple[bytes, bytes]:
    """The row of a log's bounds, as (key, value)."""
    return BOUNDS_KEY, sealed(_BOUNDS.pack(FORMAT, first, last, last_term))


def decode_bounds(row: bytes) -> tuple[int, int, int]:
    """First index, last index and term of the last entry. Raises LogCorrupt."""
    body = unsealed(row, "bounds")
    if len(body) != _BOUNDS.size or body[0] != FORMAT:
        raise LogCorrupt("the log's bounds are of a format this version does not know")
    _, first, last, last_term = _BOUNDS.unpack(body)
    return first, last, last_term


def hard_state_row(term: int, voted_for: str | None) -> tuple[bytes, bytes]:
    """The row of term and vote, as (key, value)."""
    return HARD_STATE_KEY, sealed(_TERM.pack(term) + (voted_for or "").encode())


def decode_hard_state(row: bytes) -> tuple[int, str | None]:
    """Term and vote. Raises LogCorrupt."""
    body = unsealed(row, "hard state")
    if len(body) < _TERM.size:
        raise LogCorrupt("the log's hard state is too short")
    try:
        voted_for = body[_TERM.size :].decode() or None
    except UnicodeDecodeError as error:
        raise LogCorrupt("the log's hard state names nobody") from error
    return _TERM.unpack_from(body)[0], voted_for


def membership_row(entry: MembershipEntry) -> tuple[bytes, bytes]:
    """The row of the membership as of a log's beginning, as (key, value)."""
    return MEMBERSHIP_KEY, sealed(membership_history.encode(entry))


def sealed(body: bytes) -> bytes:
    """The body of a row, with its checksum."""
    return zlib.crc32(body).to_bytes(_CHECKSUM_SIZE_BYTES, "big") + body


def unsealed(row: bytes, what: str) -> bytes:
    """Raises LogCorrupt."""
    body = row[_CHECKSUM_SIZE_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECKSUM_SIZE_BYTES, "big") != row[:_CHECKSUM_SIZE_BYTES]:
        raise LogCorrupt(f"the checksum of the log's {what} is wrong")
    return body
