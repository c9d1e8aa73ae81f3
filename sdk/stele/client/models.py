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


class ErasureReplica(msgspec.Struct, frozen=True):
    """How far one node is: it waits for the block, for its Raft log or its files to be cleared, or it did not
    answer."""

    id: str
    complete: bool
    completed_at: datetime | None = None
    waiting_for: str | None = None


class Erasure(msgspec.Struct, frozen=True):
    """An erasure. `versions` are inclusive ranges, `table` is the table's id. Complete: no replica holds what
    was erased any more."""

    ledger: str
    table: str
    key: str
    versions: list[tuple[int, int]]
    reason: str
    seq: int
    tx: str
    at: datetime
    complete: bool
    replicas: list[ErasureReplica]


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


class MemberInfo(msgspec.Struct, frozen=True):
    """A member of the cluster. One that is no voter is a learner: it gets the log and does not count."""

    id: str
    zone: str
    http: str
    raft: str
    voter: bool


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A member as one node sees it. How far the others are (`lag` in log entries), only the leader knows."""

    id: str
    zone: str
    http: str
    raft: str = ""
    role: str = ""
    voter: bool = True
    connected: bool | None = None
    healthy: bool | None = None
    match_index: int | None = None
    lag: int | None = None
    caught_up: bool | None = None
    last_heard_s: float | None = None
    snapshotting: bool | None = None


class ZoneStatus(msgspec.Struct, frozen=True):
    """Whether the cluster would go on if this zone failed now, and if not, `why`."""

    voters: list[str]
    can_lose: bool
    why: str | None = None


class ClusterWarning(msgspec.Struct, frozen=True):
    kind: str
    detail: str


class ClusterStatus(msgspec.Struct, frozen=True):
    """The cluster as the node `node` sees it; `leader` is None while there is none."""

    cluster: str
    node: str
    members: list[MemberStatus]
    leader: str | None = None
    term: int = 0
    quorum: int = 0
    zones: dict[str, ZoneStatus] = {}
    warnings: list[ClusterWarning] = []
    commit_index: int = 0
    applied_index: int = 0
    membership_index: int = 0
    change_pending: bool = False

    def member(self, member_id: str) -> MemberStatus | None:
        """The member with this id, or None."""
        return next((member for member in self.members if member.id == member_id), None)


class Transferred(msgspec.Struct, frozen=True):
    leader: str


class LedgerList(msgspec.Struct, frozen=True):
    ledgers: list[LedgerInfo]


class TableList(msgspec.Struct, frozen=True):
    tables: list[TableInfo]


class BlockPage(msgspec.Struct, frozen=True):
    blocks: list[dict[str, Any]]
    next: str | int | None = None


class KeptCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint that a node keeps, as a signed note."""

    size: int
    note: str


class CheckpointPage(msgspec.Struct, frozen=True):
    checkpoints: list[KeptCheckpoint]
    next: int | None = None


class ReplicaKeys(msgspec.Struct, frozen=True):
    """The keys by which a replica cosigns, its Ed25519 key first."""

    node: str
    verifier_keys: list[str]
    state: str


class ClusterKeys(msgspec.Struct, frozen=True):
    """The keys of a cluster as it states them."""

    cluster: str
    replicas: list[ReplicaKeys]
    log: str | None = None
