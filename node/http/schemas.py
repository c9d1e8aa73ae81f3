"""The forms of request and response bodies: what is decoded, what is encoded, and what OpenAPI shows.

Some answers are written from stored bytes instead (answers.py); their Structs here are their
documentation, and tests decode the answers into them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from node.http.parameters import NUMBER_MAX
from storage.limits import CONDITIONS_PER_TRANSACTION_MAX, OPERATIONS_PER_TRANSACTION_MAX

Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Hashes = Annotated[str, Meta(description="Base64, of hashes one after another.")]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Count = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Name = Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
LedgerName = Annotated[str, Meta(pattern="^([A-Za-z][A-Za-z0-9_-]{0,62}|[$]system)$")]
# The part of the key rule that a JSON Schema can say: no control characters, no slash, no surrogates.
Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=512,
        pattern=r"^[^\u0000-\u001f/\u007f-\u009f\ud800-\udfff]+$",
        description="1 to 512 bytes of UTF-8 without control characters or '/', and not '.' or '..'.",
    ),
]
Document = Annotated[
    dict[str, Any], Meta(extra_json_schema={"additionalProperties": {"$ref": "#/components/schemas/Value"}})
]
# What a document may hold, at any depth; no struct says it.
VALUE_SCHEMA: dict[str, Any] = {
    "description": "Any JSON value without numbers beyond ±(2^53-1).",
    "anyOf": [
        {"type": ["null", "boolean", "string"]},
        {"type": "number", "minimum": -NUMBER_MAX, "maximum": NUMBER_MAX},
        {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
        {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Value"}},
    ],
}
DOCUMENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"$ref": "#/components/schemas/Value"},
}


class Strict(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Base of request bodies: a member nobody knows is refused."""


# --- ledgers and tables -----------------------------------------------------------------------


class LedgerSettings(Strict, kw_only=True, frozen=True):
    deletion_protection: bool | UnsetType = UNSET


class Ledger(msgspec.Struct, kw_only=True, frozen=True):
    name: LedgerName
    id: Hex32
    size: Count
    created_at: Moment
    deletion_protection: bool
    verifier_key: str


class Ledgers(msgspec.Struct, kw_only=True, frozen=True):
    ledgers: list[Ledger]


class TableSettings(Strict, kw_only=True, frozen=True):
    indexes: Annotated[
        list[Document], Meta(max_length=0, description="Not supported yet: must be empty.")
    ] = []


class Table(msgspec.Struct, kw_only=True, frozen=True):
    name: str
    id: str
    state: Literal["active", "dropped"]
    created_seq: Count
    indexes: list[Document] = []


class Tables(msgspec.Struct, kw_only=True, frozen=True):
    tables: list[Table]


# --- documents --------------------------------------------------------------------------------


class Written(msgspec.Struct, kw_only=True, frozen=True):
    ledger: Name
    table: Name
    key: str
    version: Count
    seq: Count
    tx: Hex32
    at: Moment


class Place(msgspec.Struct, kw_only=True, frozen=True):
    header: Document
    path: Hashes
    index: Count | UnsetType = UNSET
    leaf_path: Hashes | UnsetType = UNSET


class PlacedLeaf(msgspec.Struct, kw_only=True, frozen=True):
    leaf: Document
    place: Place


class ShownRevision(msgspec.Struct, kw_only=True, frozen=True):
    leaf: Document
    salt: Hash | UnsetType = UNSET
    data: Document | UnsetType = UNSET
    place: Place | UnsetType = UNSET


class StateProof(msgspec.Struct, kw_only=True, frozen=True):
    bucket_depth: Count
    rows: Hashes
    siblings: Hashes
    empty: Hashes | UnsetType = UNSET


class Entry(msgspec.Struct, kw_only=True, frozen=True):
    revision: ShownRevision | UnsetType = UNSET
    successor: PlacedLeaf | UnsetType = UNSET
    state: StateProof | UnsetType = UNSET
    older: list[ShownRevision] | UnsetType = UNSET


class Seal(msgspec.Struct, kw_only=True, frozen=True):
    header: Document
    path: Hashes


class Proof(msgspec.Struct, kw_only=True, frozen=True):
    checkpoint: str
    document: Entry
    table: Entry
    seal: Seal


class BlockProof(msgspec.Struct, kw_only=True, frozen=True):
    checkpoint: str
    path: Hashes


class DocumentAnswer(msgspec.Struct, kw_only=True, frozen=True):
    key: str
    version: Count
    seq: Count
    tx: Hex32
    at: Moment
    data: Document
    proof: Proof | UnsetType = UNSET


class ListedDocument(msgspec.Struct, kw_only=True, frozen=True):
    key: str
    version: Count
    seq: Count
    at: Moment
    data: Document


class Documents(msgspec.Struct, kw_only=True, frozen=True):
    documents: list[ListedDocument]
    seq: Count
    next: str | UnsetType = UNSET


class ListedRevision(msgspec.Struct, kw_only=True, frozen=True):
    """`erased` is the block of the erasure that removed `data`."""

    version: Count
    seq: Count
    tx: Hex32
    at: Moment
    op: Literal["put", "delete"]
    data: Document | UnsetType = UNSET
    erased: Count | UnsetType = UNSET


class Revisions(msgspec.Struct, kw_only=True, frozen=True):
    revisions: list[ListedRevision]
    next: str | UnsetType = UNSET
    proof: Proof | UnsetType = UNSET


# --- transactions and bulk --------------------------------------------------------------------


class ConditionBody(Strict, kw_only=True, frozen=True):
    """With `version`: the document is at it (null: there is none). Without: unchanged since `read_seq`."""

    table: Name
    key: Key | UnsetType = UNSET
    prefix: Annotated[str, Meta(max_length=512)] | UnsetType = UNSET
    version: Annotated[int, Meta(ge=0, le=NUMBER_MAX)] | UnsetType | None = UNSET


class PutBody(Strict, kw_only=True, frozen=True, tag_field="op", tag="put"):
    table: Name
    key: Key
    data: Document


class DeleteBody(Strict, kw_only=True, frozen=True, tag_field="op", tag="delete"):
    table: Name
    key: Key


class TransactionBody(Strict, kw_only=True, frozen=True):
    operations: Annotated[
        list[PutBody | DeleteBody], Meta(min_length=1, max_length=OPERATIONS_PER_TRANSACTION_MAX)
    ]
    conditions: Annotated[list[ConditionBody], Meta(max_length=CONDITIONS_PER_TRANSACTION_MAX)] = []
    read_seq: Annotated[int, Meta(ge=0, le=NUMBER_MAX)] | UnsetType = UNSET


class RevisionMade(msgspec.Struct, kw_only=True, frozen=True):
    table: str
    key: str
    version: Count


class TransactionAnswer(msgspec.Struct, kw_only=True, frozen=True):
    tx: Hex32
    seq: Count
    at: Moment
    revisions: list[RevisionMade]


class TransactionStatus(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    tx: Hex32
    status: Literal["committed", "refused", "unknown"]
    seq: Count | UnsetType = UNSET
    reason: str | UnsetType = UNSET


# --- journal ----------------------------------------------------------------------------------


class BlockRevision(msgspec.Struct, kw_only=True, frozen=True):
    """`erased`, in the place of `salt` and `data`, is the block of the erasure that removed them."""

    leaf: Document
    salt: Hash | UnsetType = UNSET
    data: Document | UnsetType = UNSET
    erased: Count | UnsetType = UNSET


class Block(msgspec.Struct, kw_only=True, frozen=True):
    header: Document
    info: Document
    revisions: list[BlockRevision]
    proof: BlockProof | UnsetType = UNSET


class Blocks(msgspec.Struct, kw_only=True, frozen=True):
    blocks: list[Block]
    next: Count | UnsetType = UNSET


class Inclusion(msgspec.Struct, kw_only=True, frozen=True):
    seq: Count
    size: Count
    leaf_hash: Hash
    path: list[Hash]


class Consistency(msgspec.Struct, kw_only=True, frozen=True, rename={"from_size": "from", "to_size": "to"}):
    from_size: Count
    to_size: Count
    path: list[Hash]


class ProvedState(msgspec.Struct, kw_only=True, frozen=True):
    table: str
    key: str
    proof: Proof


class KeptCheckpoint(msgspec.Struct, kw_only=True, frozen=True):
    size: Count
    note: str


class Checkpoints(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    checkpoints: list[KeptCheckpoint]
    next: Count | UnsetType = UNSET


# --- operations -------------------------------------------------------------------


class Liveness(msgspec.Struct, kw_only=True, frozen=True):
    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, kw_only=True, frozen=True):
    status: Literal["ok"] = "ok"
    alarms: list[str] | UnsetType = UNSET


class VersionAnswer(msgspec.Struct, kw_only=True, frozen=True):
    version: str
    api: str
