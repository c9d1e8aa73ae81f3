"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from stele.client.encoding import encode_json
from stele.client.ledger import Ledger
from stele.client.limits import TIMEOUT_S_DEFAULT
from stele.client.memory import CheckpointMemory, InProcessMemory
from stele.client.models import ClusterKeys, ClusterStatus, LedgerInfo, LedgerList, Transferred
from stele.client.transport import Request, Transport
from stele.client.trust import TrustPolicy


class Client:
    """A cluster, through any of its nodes.

    `endpoints`: one or more of "http://host:port". `trust`: whose signatures count; with one, reads are
    verified. `memory`: where checkpoints are remembered, by default in the process. `timeout_s`: the
    deadline of a call with all its retries; streams have their own.

        async with Client(["http://127.0.0.1:7400"], trust=TrustPolicy(key)) as client:
            document = await client.ledger("cars").get("default", "VIN-1")
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        trust: TrustPolicy | None = None,
        memory: CheckpointMemory | None = None,
        timeout_s: float = TIMEOUT_S_DEFAULT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        addresses = endpoints.split(",") if isinstance(endpoints, str) else endpoints
        self._transport = Transport(addresses, timeout_s=timeout_s, headers=headers)
        self._trust = trust
        self._memory = memory if memory is not None else InProcessMemory()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self._transport.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints given, as URLs."""
        return self._transport.route.endpoints

    def ledger(self, name: str) -> Ledger:
        """A ledger by name; nothing is sent. Raises Invalid for a name no ledger can have."""
        return Ledger(self._transport, name, self._trust, self._memory)

    async def create_ledger(self, name: str, *, deletion_protection: bool | None = None) -> LedgerInfo:
        """Creates a ledger, or sets the deletion protection of an existing one where it is given."""
        path = self.ledger(name).path
        body = {} if deletion_protection is None else {"deletion_protection": deletion_protection}
        answer = await self._transport.call(Request("PUT", path, body=encode_json(body)))
        return answer.decode(LedgerInfo)

    async def delete_ledger(self, name: str) -> None:
        """Deletes a ledger with all its history. Raises DeletionProtected while it is protected."""
        await self._transport.call(Request("DELETE", self.ledger(name).path))

    async def ledgers(self) -> list[LedgerInfo]:
        """All ledgers of the cluster."""
        return (await self._transport.call(Request("GET", "/v1/ledgers"))).decode(LedgerList).ledgers

    async def cluster(self) -> ClusterStatus:
        """Nodes, leader and progress, as the node that answers sees them."""
        return (await self._transport.call(Request("GET", "/v1/cluster"))).decode(ClusterStatus)

    async def keys(self) -> ClusterKeys:
        """The keys of the log and of the replicas, as the cluster states them: nothing here is verified."""
        return (await self._transport.call(Request("GET", "/v1/cluster/keys"))).decode(ClusterKeys)

    async def transfer_leadership(self, target: str | None = None) -> str:
        """Hands the leadership to the node `target`, or to the most complete one; returns who leads then.

        Raises Invalid for a node that does not exist, Unavailable when nobody took over in time.
        """
        body = {} if target is None else {"target": target}
        request = Request("POST", "/v1/cluster/transfer", body=encode_json(body), repeat=False)
        return (await self._transport.call(request)).decode(Transferred).leader
