"""The bytes of a block: revision leaves, transaction information and headers.

Each builder writes canonical JSON (RFC 8785) directly, because a block is written for every
transaction; tests prove each equal to `canonicalize` of the same members.
"""

from __future__ import annotations

import hashlib
from json.encoder import encode_basestring as _json_text  # C code; escapes exactly what RFC 8785 escapes
from typing import Annotated, Literal

import msgspec

from stele.format.errors import InvalidHeader, InvalidTime
from stele.format.limits import HASH_SIZE_BYTES, HEADER_SIZE_BYTES_MAX, INTEGER_MAX, SALT_SIZE_BYTES
from stele.format.merkle import EMPTY_ROOT
from stele.format.times import format_time, parse_time

FORMAT_VERSION = 1
CODEC = "json-rfc8785"
HASH_PROFILE = "rfc6962-sha256"
NO_PREVIOUS = bytes(HASH_SIZE_BYTES)
"""What stands as `prev` in the block at seq 0."""

_sha256 = hashlib.sha256


def commitment(salt: bytes, payload: bytes) -> bytes:
    """SHA-256(salt || payload): hides the payload and binds it. `payload` is b"" for a delete."""
    if len(salt) != SALT_SIZE_BYTES:
        raise ValueError(f"a salt is {SALT_SIZE_BYTES} bytes, not {len(salt)}")
    return _sha256(salt + payload).digest()


def leaf_bytes(
    table: str,
    key: str,
    version: int,
    op: Literal["put", "delete"],
    prev_seq: int | None,
    commitment_hex: str,
) -> bytes:
    """A revision leaf. `table` is the table id, `prev_seq` the block of the key's previous revision."""
    return leaf_with_end(commitment_hex, key, leaf_end(table, version, op, prev_seq))


def leaf_end(table: str, version: int, op: Literal["put", "delete"], prev_seq: int | None) -> str:
    """A leaf behind its key: the same for all documents that are new in a table."""
    previous = "null" if prev_seq is None else prev_seq
    return f',"op":"{op}","prev_seq":{previous},"table":{_json_text(table)},"version":{version}}}'


def leaf_with_end(commitment_hex: str, key: str, end: str) -> bytes:
    """As `leaf_bytes`, whose other arguments `end` was made of."""
    return f'{{"commitment":"{commitment_hex}","key":{_json_text(key)}{end}'.encode()


def information_bytes(by: str, idempotency_key: str | None = None) -> bytes:
    """The transaction's information: who, and the idempotency key when there was one."""
    if idempotency_key is None:
        return f'{{"by":{_json_text(by)}}}'.encode()
    return f'{{"by":{_json_text(by)},"idempotency_key":{_json_text(idempotency_key)}}}'.encode()


def header_bytes(
    *,
    ledger: bytes,
    seq: int,
    prev: bytes,
    at_us: int,
    tx: bytes,
    information_hash: bytes,
    revision_count: int,
    revision_root: bytes,
    kind: Literal["tx", "erasure"] = "tx",
) -> bytes:
    """The header of a block that a transaction or an erasure (stele.format.erasure) makes.

    `ledger` and `tx` are 16-byte ids; `prev` the leaf hash of the previous header; `at_us` microseconds
    since the epoch; `information_hash` SHA-256 of `information_bytes`; `revision_root` the RFC 6962
    root over the revision leaves. Raises InvalidTime.
    """
    return (
        f'{{"at":"{format_time(at_us)}","format":1,"info":"{information_hash.hex()}","kind":"{kind}",'
        f'"ledger":"{ledger.hex()}","prev":"{prev.hex()}","revision_count":{revision_count},'
        f'"revision_root":"{revision_root.hex()}","seq":{seq},"tx":"{tx.hex()}"}}'
    ).encode()


def genesis_header_bytes(
    *, ledger: bytes, name: str, at_us: int, tx: bytes, information_hash: bytes
) -> bytes:
    """The header at seq 0, which names the ledger, its codec and its hash profile. Raises InvalidTime."""
    return (
        f'{{"at":"{format_time(at_us)}","codec":"{CODEC}","format":1,"hash_profile":"{HASH_PROFILE}",'
        f'"info":"{information_hash.hex()}","kind":"genesis","ledger":"{ledger.hex()}",'
        f'"name":{_json_text(name)},"prev":"{NO_PREVIOUS.hex()}","revision_count":0,'
        f'"revision_root":"{EMPTY_ROOT.hex()}","seq":0,"tx":"{tx.hex()}"}}'
    ).encode()


def seal_header_bytes(
    *,
    ledger: bytes,
    seq: int,
    prev: bytes,
    at_us: int,
    tx: bytes,
    information_hash: bytes,
    state_root: bytes,
) -> bytes:
    """The header of a seal: a block without revisions that commits to the state map as of the block
    before it (stele.format.state_map). Arguments as for `header_bytes`. Raises InvalidTime."""
    return (
        f'{{"at":"{format_time(at_us)}","format":1,"info":"{information_hash.hex()}","kind":"seal",'
        f'"ledger":"{ledger.hex()}","prev":"{prev.hex()}","revision_count":0,'
        f'"revision_root":"{EMPTY_ROOT.hex()}","seq":{seq},"state_root":"{state_root.hex()}",'
        f'"tx":"{tx.hex()}"}}'
    ).encode()


_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A block header as its JSON has it: hashes and ids in lowercase hex, `at` in RFC 3339.

    `codec`, `hash_profile` and `name` stand in a genesis block only, `state_root` in a seal only.
    """

    at: str
    codec: str | None = None
    format: Literal[1]
    hash_profile: str | None = None
    info: _Hash
    kind: Literal["tx", "genesis", "seal", "erasure"]
    ledger: _Id
    name: str | None = None
    prev: _Hash
    revision_count: _Count
    revision_root: _Hash
    seq: _Count
    state_root: _Hash | None = None
    tx: _Id

    @property
    def at_us(self) -> int:
        """Commit time in microseconds since the epoch."""
        return parse_time(self.at)


_header_decoder = msgspec.json.Decoder(Header)
_header_encoder = msgspec.json.Encoder(order="sorted")


def parse_header(data: bytes) -> Header:
    """Read header bytes, accepting nothing but the one canonical form; raise InvalidHeader otherwise."""
    if len(data) > HEADER_SIZE_BYTES_MAX:
        raise InvalidHeader(f"a header is at most {HEADER_SIZE_BYTES_MAX} bytes, not {len(data)}")
    try:
        header = _header_decoder.decode(data)
        canonical_time = format_time(header.at_us)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidTime) as error:
        raise InvalidHeader(f"header: {error}") from None
    if canonical_time != header.at:
        raise InvalidHeader(f"header: at must be written {canonical_time}, not {header.at}")
    is_genesis = header.kind == "genesis"
    if is_genesis != (header.seq == 0):
        raise InvalidHeader(f"header: kind {header.kind} at seq {header.seq}")
    if is_genesis and (header.codec, header.hash_profile) != (CODEC, HASH_PROFILE):
        raise InvalidHeader(f"header: unknown codec {header.codec} or hash profile {header.hash_profile}")
    if is_genesis == (header.name is None) or (not is_genesis and (header.codec or header.hash_profile)):
        raise InvalidHeader("header: codec, hash_profile and name belong to a genesis block, all three")
    if header.kind == "erasure" and header.revision_count:
        raise InvalidHeader(f"header: an erasure with {header.revision_count} revisions")
    _check_seal(header)
    # Encoding again settles order, spaces, escapes and repeated members in one comparison.
    if _header_encoder.encode(header) != data:
        raise InvalidHeader("header: not in canonical form")
    return header


def _check_seal(header: Header) -> None:
    is_seal = header.kind == "seal"
    if is_seal != (header.state_root is not None):
        raise InvalidHeader("header: state_root belongs to a seal, and to nothing else")
    if is_seal and header.revision_count:
        raise InvalidHeader(f"header: a seal with {header.revision_count} revisions")
