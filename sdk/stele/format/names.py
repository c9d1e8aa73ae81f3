"""Which names ledgers, tables and documents may have.

Ledger and table names are short ASCII words, so that they stand in addresses, files and metrics
unescaped. Document keys are the user's own and may be any text that survives as one path segment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stele.format.errors import InvalidName
from stele.format.limits import DOCUMENT_KEY_SIZE_BYTES_MAX, NAME_LENGTH_MAX

NAME_RULE = f"1 to {NAME_LENGTH_MAX} characters A-Z a-z 0-9 _ -, beginning with a letter"
KEY_RULE = (
    f"1 to {DOCUMENT_KEY_SIZE_BYTES_MAX} bytes of UTF-8 "
    "without control characters or '/', and not '.' or '..'"
)

_name_matches = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{NAME_LENGTH_MAX - 1}}}").fullmatch
_key_forbids = re.compile("[\x00-\x1f/\x7f-\x9f\ud800-\udfff]").search


def check_ledger_name(name: str) -> str:
    """Return `name` when it may name a ledger; raise InvalidName otherwise."""
    return _check_name(name, "ledger")


def check_table_name(name: str) -> str:
    """Return `name` when it may name a table; raise InvalidName otherwise."""
    return _check_name(name, "table")


def check_document_key(key: str) -> str:
    """Return `key` when it may name a document; raise InvalidName otherwise."""
    if not key:
        raise InvalidName("key", KEY_RULE, "is empty")
    # A character takes at most 4 bytes, so short keys need no encoding to be known as short.
    # Surrogates are refused before the size is taken, because they cannot be encoded.
    bad = _key_forbids(key)
    if bad is not None:
        raise InvalidName("key", KEY_RULE, f"holds U+{ord(bad.group()):04X} at character {bad.start()}")
    if len(key) > DOCUMENT_KEY_SIZE_BYTES_MAX // 4:
        size_bytes = len(key.encode())
        if size_bytes > DOCUMENT_KEY_SIZE_BYTES_MAX:
            raise InvalidName("key", KEY_RULE, f"is {size_bytes} bytes")
    if key in (".", ".."):
        raise InvalidName("key", KEY_RULE, f"is {key!r}")
    return key


def check_document_keys(keys: Sequence[str]) -> None:
    """As `check_document_key`, for all of them."""
    # Most keys are of printable ASCII, which is a quick thing to ask of all at once.
    joined = "/".join(keys)
    lengths = [*map(len, keys)]
    if (
        joined.isascii()
        and joined.isprintable()
        and joined.count("/") == len(keys) - 1
        and min(lengths) > len("..")
        and max(lengths) <= DOCUMENT_KEY_SIZE_BYTES_MAX
    ):
        return
    for key in keys:
        check_document_key(key)


def _check_name(name: str, field: str) -> str:
    if _name_matches(name) is None:
        shown = ascii(name[: NAME_LENGTH_MAX + 1])
        raise InvalidName(field, NAME_RULE, f"{shown} ({len(name)} characters)")
    return name
