"""Every bound of the formats, with its unit in its name."""

from __future__ import annotations

from typing import Final

DOCUMENT_SIZE_BYTES_MAX: Final = 1 << 20
"""A document, both as sent and in its canonical form."""

JSON_DEPTH_MAX: Final = 64
"""Objects and arrays inside each other; the outermost counts as 1."""

INTEGER_MAX: Final = 2**53 - 1
"""Largest magnitude of an integer that every JSON reader keeps exactly (RFC 8785 appendix D, RFC 7493)."""

HEADER_SIZE_BYTES_MAX: Final = 4095
"""A block header stays under 4 KiB."""

NAME_LENGTH_MAX: Final = 63
"""Characters of a ledger or table name."""

DOCUMENT_KEY_SIZE_BYTES_MAX: Final = 512
"""UTF-8 bytes of a document key."""

HASH_SIZE_BYTES: Final = 32
SALT_SIZE_BYTES: Final = 32
LEDGER_ID_SIZE_BYTES: Final = 16
TRANSACTION_ID_SIZE_BYTES: Final = 16

TREE_SIZE_MAX: Final = 2**53 - 1
"""Blocks of a journal: `seq` must stay an exact JSON integer."""

TIMESTAMP_MAX_S: Final = 2**63 - 1
"""POSIX seconds in a cosignature (C2SP tlog-cosignature)."""
