"""What the formats refuse. Every error is a `FormatError`, which is a `ValueError`."""

from __future__ import annotations


class FormatError(ValueError):
    """Input that no Stele format allows."""


class CanonicalError(FormatError):
    """JSON that has no canonical form here.

    `path` is a JSON Pointer (RFC 6901) to the offending value, "" for the whole text.
    `code` is stable: json-syntax, duplicate-member, number-out-of-range, not-finite, invalid-utf8,
    lone-surrogate, too-deep, too-large, not-an-object, unsupported-type.
    """

    def __init__(self, path: str, code: str, message: str) -> None:
        super().__init__(f"{message} (at {path})" if path else message)
        self.path = path
        self.code = code
        self.message = message


class InvalidName(FormatError):
    """A ledger name, table name or document key outside the rules.

    `field` names what was checked ("ledger", "table", "key"); `limit` states the rule it broke.
    """

    def __init__(self, field: str, limit: str, found: str) -> None:
        super().__init__(f"{field} {found}: must be {limit}")
        self.field = field
        self.limit = limit


class InvalidTime(FormatError):
    """Text that is no RFC 3339 time, or a time outside the years 1 to 9999."""


class InvalidHeader(FormatError):
    """Bytes that are no block header in canonical form."""


class InvalidProofRequest(FormatError):
    """A tree size or leaf index for which no proof exists."""


class InvalidNote(FormatError):
    """Text or a key name that no signed note can carry."""


class InvalidTile(FormatError):
    """The address of no tile, or an entry that no bundle can carry (C2SP tlog-tiles)."""


class InvalidErasure(FormatError):
    """Information that is not that of an erasure block."""
