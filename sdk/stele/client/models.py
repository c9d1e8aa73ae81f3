"""What the server answers, as immutable structs. Members a newer server adds are ignored.

Times are datetime objects in UTC with microseconds. `seq` counts blocks from 0, `version` counts the
revisions of one document from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

Json = Mapping[str, Any] | msgspec.Raw
"""A document: a JSON object, also as msgspec.Raw when its text is at hand."""


class LedgerInfo(msgspec.Struct, frozen=True):
    """One ledger. `size` is the number of blocks in its journal."""

    name: str
    id: str
    size: int
    created_at: datetime
    deletion_protection: bool
    verifier_key: str


class TableInfo(msgspec.Struct, frozen=True):
    """One table. `id` is its name with the seq of the block that created it."""

    name: str
    id: str
    state: Literal["active", "dropped"]
    created_seq: int
    indexes: list[Any] = []


class Written(msgspec.Struct, frozen=True):
    """A committed put or delete of one document."""

    table: str
    key: str
    version: int
    seq: int
    tx: str
    at: datetime


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a document. Lists leave out `tx`; `proof` is there when it was asked for."""

    key: str
    version: int
    seq: int
    tx: str | None = None
    at: datetime
    data: dict[str, Any]
    proof: dict[str, Any] | None = None


class Revision(msgspec.Struct, frozen=True):
    """One line of a document's history; `data` is None for a delete, and for a revision whose content the
    block `erased` erased."""

    version: int
    seq: int
    tx: str
    at: datetime
    op: Literal["put", "delete"]
    data: dict[str, Any] | None = None
    erased: int | None = None


class DocumentPage(msgspec.Struct, frozen=True):
    documents: list[Document]
    seq: int
    next: str | None = None


class RevisionPage(msgspec.Struct, frozen=True):
    revisions: list[Revision]
    next: str | int | None = None


class Put(msgspec.Struct, frozen=True, tag_field="op", tag="put"):
    """A write of a transaction: `data` becomes the document's next revision."""

    table: str
    key: str
    data: Json


class Delete(msgspec.Struct, frozen=True, tag_field="op", tag="delete"):
    """A delete of a transaction: a revision without data; the history stays."""

    table: str
    key: str


Operation = Put | Delete


class VersionIs(msgspec.Struct, frozen=True):
    """Condition: the document stands at this version; None: there is no such document."""

    table: str
    key: str
    version: int | None


class Unchanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """Condition: nothing here changed since read_seq: one key, a key prefix, or the whole table."""

    table: str
    key: str | None = None
    prefix: str | None = None


Condition = VersionIs | Unchanged


class RevisionMade(msgspec.Struct, frozen=True):
    table: str
    key: str
    version: int


class Committed(msgspec.Struct, frozen=True):
    """A committed transaction, with one entry an operation in their order."""

    tx: str
    seq: int
    at: datetime
    revisions: list[RevisionMade]


class TransactionStatus(msgspec.Struct, frozen=True):
    """What became of a transaction id."""

    tx: str
    status: Literal["committed", "refused", "unknown"]
    seq: int | None = None
    reason: str | None = None


class Inclusion(msgspec.Struct, frozen=True):
    """RFC 6962 inclusion proof of block `seq` in the tree of `size` blocks; hashes in hex."""

    seq: int
    size: int
    leaf_hash: str
    path: list[str]


class Consistency(msgspec.Struct, frozen=True, rename={"from_size": "from", "to_size": "to"}):
    """RFC 6962 consistency proof between two tree sizes; hashes in hex."""

    from_size: int
    to_size: int
    path: list[str]


class NodeStatus(msgspec.Struct, frozen=True):
    id: str
    zone: str
    http: str
    role: str = ""
    match_index: int | None = None
    connected: bool | None = None


class ClusterStatus(msgspec.Struct, frozen=True):
    """The cluster as the node `node` sees it; `leader` is None while there is none."""

    cluster: str
    node: str
    nodes: list[NodeStatus]
    leader: str | None = None
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0


class Transferred(msgspec.Struct, frozen=True):
    leader: str


class LedgerList(msgspec.Struct, frozen=True):
    ledgers: list[LedgerInfo]


class TableList(msgspec.Struct, frozen=True):
    tables: list[TableInfo]


class BlockPage(msgspec.Struct, frozen=True):
    blocks: list[dict[str, Any]]
    next: str | int | None = None
