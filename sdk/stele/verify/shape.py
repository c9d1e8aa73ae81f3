"""The forms that untrusted JSON must have: exact types, no member too many, integers within bounds.

A struct encodes to canonical JSON (RFC 8785) again: its member names are ASCII, its numbers integers
in range and its strings valid, for which msgspec and RFC 8785 agree.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from stele.verify.errors import Malformed
from stele.verify.limits import (
    PATH_TEXT_LENGTH_MAX,
    SEQ_MAX,
    STATE_EMPTY_TEXT_LENGTH_MAX,
    STATE_ROWS_TEXT_LENGTH_MAX,
    STATE_SIBLINGS_TEXT_LENGTH_MAX,
)

HASH_SIZE_BYTES = 32

Count = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
Path = Annotated[str, msgspec.Meta(max_length=PATH_TEXT_LENGTH_MAX)]
"""Hashes, one after another, in base64."""


class Header(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A block header; `codec`, `hash_profile` and `name` in the genesis block only, `state_root` in seals."""

    at: str
    codec: str | UnsetType = UNSET
    format: Literal[1]
    hash_profile: str | UnsetType = UNSET
    info: str
    kind: Literal["tx", "genesis", "seal", "erasure"]
    ledger: str
    name: str | UnsetType = UNSET
    prev: str
    revision_count: Count
    revision_root: str
    seq: Count
    state_root: str | UnsetType = UNSET
    tx: str

    @property
    def names_ledger(self) -> bool:
        """Whether any of the genesis block's own members is there."""
        return not (self.codec is UNSET and self.hash_profile is UNSET and self.name is UNSET)


class Erasure(msgspec.Struct, forbid_unknown_fields=True):
    """Which revisions of a document an erasure block names: inclusive ranges of versions."""

    key: str
    reason: str
    table: str
    versions: list[tuple[Count, Count]]


class Information(msgspec.Struct, forbid_unknown_fields=True):
    """Who ran the transaction; `erasure` in the block of one only."""

    by: str
    erasure: Erasure | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    """A revision leaf."""

    commitment: str
    key: str
    op: Literal["put", "delete"]
    prev_seq: Count | None
    table: str
    version: Count


class Revision(msgspec.Struct, forbid_unknown_fields=True):
    """A leaf with what opens its commitment, or with the block that erased it (`erased`). `data` stays text
    until it is canonicalised."""

    leaf: Leaf
    salt: str | UnsetType = UNSET
    data: msgspec.Raw | UnsetType = UNSET
    erased: Count | UnsetType = UNSET


class Block(msgspec.Struct, forbid_unknown_fields=True):
    """A block as served."""

    header: Header
    info: Information
    revisions: list[Revision]


class ExportStart(msgspec.Struct, forbid_unknown_fields=True):
    """The first line of an export: blocks `from_` to `to` (exclusive) of a journal of `size` blocks."""

    export: Literal[1]
    ledger: str
    name: str
    from_: Count = msgspec.field(name="from")
    to: Count
    size: Count
    checkpoint: str | None


class StateProof(msgspec.Struct, forbid_unknown_fields=True):
    """One bucket of the state map and what leads from it to the state root, in base64. `empty` has a bit for
    each sibling, the first one's highest: one without rows is left out, because its hash is known."""

    bucket_depth: Count
    rows: Annotated[str, msgspec.Meta(max_length=STATE_ROWS_TEXT_LENGTH_MAX)]
    siblings: Annotated[str, msgspec.Meta(max_length=STATE_SIBLINGS_TEXT_LENGTH_MAX)]
    empty: Annotated[str, msgspec.Meta(max_length=STATE_EMPTY_TEXT_LENGTH_MAX)] | UnsetType = UNSET


_Shape = TypeVar("_Shape", bound=msgspec.Struct)

_encode = msgspec.json.Encoder(order="sorted").encode


def decode(decoder: msgspec.json.Decoder[_Shape], text: bytes, where: str) -> _Shape:
    """Read JSON text as a shape; raise Malformed."""
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{where}: {error}") from None


def convert(value: object, shape: type[_Shape], where: str) -> _Shape:
    """Read parsed JSON as a shape; raise Malformed."""
    try:
        return msgspec.convert(value, shape)
    # ValueError: a lone surrogate, or an integer of too many digits, stands where another type is expected.
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise Malformed(f"{where}: {error}") from None


def canonical(value: Header | Information | Leaf) -> bytes:
    """Canonical JSON of a shape; raise Malformed for text that UTF-8 cannot hold."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        raise Malformed(f"{type(value).__name__.lower()}: text with a lone surrogate") from None


def decode_hex(text: str, size_bytes: int, what: str) -> bytes:
    """Lowercase hex of an exact size; raise Malformed."""
    try:
        decoded = bytes.fromhex(text)
    except ValueError:
        decoded = b""
    # bytes.fromhex also takes capitals and spaces.
    if len(decoded) != size_bytes or decoded.hex() != text:
        raise Malformed(what, expected=f"{size_bytes} bytes in lowercase hex", found=text[:80])
    return decoded


def decode_base64(text: str, what: str) -> bytes:
    """Base64 with padding, in its one form; raise Malformed."""
    try:
        decoded = a2b_base64(text)
        # a2b_base64 passes over what is not base64, and takes any unused bits at the end.
        if b2a_base64(decoded, newline=False) == text.encode():
            return decoded
    except (Base64Error, ValueError):
        pass
    raise Malformed(what, expected="base64 with padding (RFC 4648)", found=text[:48])


def decode_hashes(text: str, what: str) -> list[bytes]:
    """Hashes that stand one after another in base64; raise Malformed."""
    decoded = decode_base64(text, what)
    if len(decoded) % HASH_SIZE_BYTES:
        raise Malformed(f"{what}: bytes", expected=f"a multiple of {HASH_SIZE_BYTES}", found=len(decoded))
    return [decoded[start : start + HASH_SIZE_BYTES] for start in range(0, len(decoded), HASH_SIZE_BYTES)]


def check_time(text: str, what: str) -> None:
    """Raise Malformed unless the text is UTC with six decimals, so that such texts sort as their times."""
    try:
        written = datetime.fromisoformat(text).isoformat(timespec="microseconds")
    except ValueError:
        written = ""
    if written.removesuffix("+00:00") + "Z" != text:
        raise Malformed(what, expected="a time such as 2026-11-23T13:35:31.123456Z", found=text[:64])
