"""Bounds on what a verifier reads from someone it does not trust, units in the names."""

from __future__ import annotations

from typing import Final

NOTE_SIZE_BYTES_MAX: Final = 1_000_000
NOTE_SIGNATURES_MAX: Final = 100
"""Both as golang.org/x/mod/sumdb/note has them; C2SP asks for at least 16 signatures."""

CHECKPOINT_SIZE_MAX: Final = 2**63 - 1
TIMESTAMP_MAX_S: Final = 2**63 - 1
"""POSIX seconds in a cosignature (C2SP tlog-cosignature)."""

PATH_LENGTH_MAX: Final = 64
"""Hashes in a proof: a tree of 2**63 leaves needs no more."""

PATH_TEXT_LENGTH_MAX: Final = 2_732
"""So many hashes of 32 bytes in base64."""

SEQ_MAX: Final = 2**53 - 1
"""Counts stand in JSON, where larger integers are not exact (RFC 7493)."""

HISTORY_REVISIONS_MAX: Final = 10_000
"""Revisions in the proof of a complete history."""

RECEIPT_SIZE_BYTES_MAX: Final = 64 << 20
CHECKPOINTS_CACHED_MAX: Final = 16
"""Checkpoints whose signatures a verifier need not check again."""

TABLES_CACHED_MAX: Final = 64
"""Tables of each of them whose entry it need not check again."""

POLICY_SIZE_BYTES_MAX: Final = 1 << 18
POLICY_ENTRIES_MAX: Final = 256
"""Logs, witnesses and groups of a policy; C2SP tlog-policy asks for 32 of each."""

EXPORT_START_SIZE_BYTES_MAX: Final = 2 << 20
"""The first line of an export, whose checkpoint is the largest part of it."""

EXPORT_LINE_SIZE_BYTES_MAX: Final = 64 << 20
"""One block of an export. It bounds the verifier's memory together with the key history."""

PROGRESS_EVERY_BLOCKS: Final = 1000

SAVED_ROWS_PER_FRAME_MAX: Final = 16_384
"""Keys or buckets of a replay that are kept together."""

BUCKET_DEPTH_MAX: Final = 256
BUCKET_ROWS_MAX: Final = 12
"""Of the state map: bits of a key hash that lead to a bucket, and the rows of a bucket."""

STATE_SIBLINGS_MAX: Final = 3 * BUCKET_DEPTH_MAX // 2
STATE_SIBLINGS_TEXT_LENGTH_MAX: Final = 16_384
STATE_EMPTY_TEXT_LENGTH_MAX: Final = 64
"""So many hashes of 32 bytes, and a bit for each, in base64."""

STATE_ROWS_TEXT_LENGTH_MAX: Final = 1_280
"""A full bucket, 12 rows of 80 bytes, in base64."""

ADD_CHECKPOINT_SIZE_BYTES_MAX: Final = 128 << 10
WITNESS_PATH_LENGTH_MAX: Final = 63
"""Proof lines of a request to a witness (C2SP tlog-witness)."""
