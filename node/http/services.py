"""What handlers work with: the parts of a node, joined by node/app.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.replica import Replica
from node.checkpoints import Checkpoints
from node.committer import Committer
from node.compacting import Compacting
from node.config import Config
from node.disk_watch import DiskWatch
from node.erasing import Erasing
from node.http.bodies import BodyBudget
from node.http.forward import Forwarder
from node.http.shared_proofs import SharedProofs
from node.limits import BODIES_IN_FLIGHT_BYTES_MAX
from node.membership import MembershipWatch
from node.reads import Reads
from node.scrubbing import Scrubbing
from node.sealing import Sealing
from node.signing import Signing
from node.stamps import Stamps
from node.telemetry import Metrics
from node.witnessing import Witnessing
from storage.store import Store

ANONYMOUS = "anonymous"
"""Who a transaction is by, as long as nobody can say who he is."""


@dataclass
class Services:
    config: Config
    store: Store
    replica: Replica
    membership: MembershipWatch
    committer: Committer
    reads: Reads
    signing: Signing
    sealing: Sealing
    forwarder: Forwarder
    stamps: Stamps
    scrubbing: Scrubbing
    erasing: Erasing
    witnessing: Witnessing
    disk_watch: DiskWatch
    compacting: Compacting
    metrics: Metrics
    openapi_document: bytes
    budget: BodyBudget = field(default_factory=lambda: BodyBudget(BODIES_IN_FLIGHT_BYTES_MAX))
    shared_proofs: SharedProofs = field(default_factory=SharedProofs)
    draining: bool = False
    """Set when the node begins to stop: readyz then says so."""

    @property
    def checkpoints(self) -> Checkpoints:
        return self.signing.checkpoints
