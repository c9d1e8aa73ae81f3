"""The client: `Client` for asyncio, `BlockingClient` for everything else.

from stele.client import BlockingClient, TrustPolicy

with BlockingClient("http://127.0.0.1:7400", trust=TrustPolicy(verifier_key)) as client:
    cars = client.ledger("cars")
    cars.put("default", "VIN-1", {"owner": "Ada"})
    print(cars.get("default", "VIN-1").data)
"""

from stele.client.blocking import BlockingClient, BlockingLedger
from stele.client.bulk import BulkReport, Refusal
from stele.client.bulk_lines import Acknowledgement, BulkLine
from stele.client.client import Client
from stele.client.errors import (
    ConditionFailed,
    Conflict,
    DeletionProtected,
    Gone,
    IdempotencyKeyReused,
    Invalid,
    MemoryDamaged,
    NotFound,
    NotTrusted,
    OutcomeUnknown,
    Problem,
    Rollback,
    ServerFailed,
    SplitView,
    SteleError,
    Unavailable,
    VerificationFailed,
    VersionMismatch,
)
from stele.client.ledger import Ledger
from stele.client.memory import CheckpointFile, CheckpointMemory, InProcessMemory
from stele.client.models import (
    ClusterStatus,
    ClusterWarning,
    Committed,
    Consistency,
    Delete,
    Document,
    Erasure,
    ErasureReplica,
    Inclusion,
    LedgerInfo,
    MemberInfo,
    MemberStatus,
    Put,
    Revision,
    TableInfo,
    TransactionStatus,
    Unchanged,
    VersionIs,
    Written,
    ZoneStatus,
)
from stele.client.trust import SignedCheckpoint, TrustPolicy

__all__ = [
    "Client",
    "Ledger",
    "BlockingClient",
    "BlockingLedger",
    "TrustPolicy",
    "SignedCheckpoint",
    "CheckpointMemory",
    "CheckpointFile",
    "InProcessMemory",
    "Put",
    "Delete",
    "VersionIs",
    "Unchanged",
    "BulkLine",
    "BulkReport",
    "Refusal",
    "Acknowledgement",
    "Document",
    "Revision",
    "Written",
    "Committed",
    "TransactionStatus",
    "Erasure",
    "ErasureReplica",
    "LedgerInfo",
    "TableInfo",
    "ClusterStatus",
    "ClusterWarning",
    "MemberInfo",
    "MemberStatus",
    "ZoneStatus",
    "Inclusion",
    "Consistency",
    "Problem",
    "SteleError",
    "Invalid",
    "NotFound",
    "Gone",
    "Conflict",
    "VersionMismatch",
    "ConditionFailed",
    "IdempotencyKeyReused",
    "DeletionProtected",
    "Unavailable",
    "OutcomeUnknown",
    "ServerFailed",
    "VerificationFailed",
    "SplitView",
    "Rollback",
    "NotTrusted",
    "MemoryDamaged",
]
