"""The asynchronous client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal

from stele.client.encoding import encode_json
from stele.client.errors import Invalid
from stele.client.ledger import Ledger
from stele.client.limits import STATUS_TIMEOUT_S, TIMEOUT_S_DEFAULT
from stele.client.memory import CheckpointMemory, InProcessMemory
from stele.client.models import (
    ClusterKeys,
    ClusterStatus,
    LedgerInfo,
    LedgerList,
    MemberInfo,
    Transferred,
)
from stele.client.transport import Request, Transport
from stele.client.trust import TrustPolicy

_MEMBER_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Client:
    """A cluster, through any of its nodes.

    `endpoints`: one or more of "http://host:port". `trust`: whose signatures count; with one, reads are
    verified. `memory`: where checkpoints are remembered, by default in the process. `timeout_s`: the
    deadline of a call with all its retries; streams have their own. `only_these`: never ask a node that
    is not among the endpoints, which may still pass on to the leader what only that can answer.

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
        only_these: bool = False,
    ) -> None:
        addresses = endpoints.split(",") if isinstance(endpoints, str) else endpoints
        self._transport = Transport(addresses, timeout_s=timeout_s, headers=headers, learns=not only_these)
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

    async def cluster(self, *, consistency: Literal["strong", "snapshot"] = "snapshot") -> ClusterStatus:
        """Members, leader, progress, zones and warnings, as the node that answers sees them.

        Strong: as the leader sees them, which alone knows how far each member is and what could be lost.
        """
        query = {"consistency": consistency}
        request = Request("GET", "/v1/cluster", query, attempt_timeout_s=STATUS_TIMEOUT_S)
        return (await self._transport.call(request)).decode(ClusterStatus)

    async def add_member(self, member_id: str, *, zone: str, raft: str, http: str) -> MemberInfo:
        """Adds a node as a learner; one that is there with the same addresses stays as it is.

        `raft` and `http` ("host:port") are where the other members reach it; it waits with `join = true`.
        Raises Conflict for an id or address that is taken or was used before, and for too many members.
        """
        body = encode_json({"id": member_id, "zone": zone, "raft": raft, "http": http})
        answer = await self._transport.call(Request("POST", "/v1/cluster/members", body=body))
        return answer.decode(MemberInfo)

    async def promote_member(self, member_id: str) -> MemberInfo:
        """Makes a learner a voter; a voter stays one.

        Raises Conflict while it has not caught up, NotFound when there is no such member.
        """
        answer = await self._transport.call(Request("POST", f"{_member_path(member_id)}/promote"))
        return answer.decode(MemberInfo)

    async def remove_member(self, member_id: str) -> None:
        """Takes a member out of the cluster, for good: its id is never used again.

        Raises NotFound when there is no such member (any more), Conflict when it is the last voter or too
        few of the others can be reached.
        """
        await self._transport.call(Request("DELETE", _member_path(member_id)))

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


def _member_path(member_id: str) -> str:
    """Raises Invalid for an id no member can have."""
    if not _MEMBER_ID.fullmatch(member_id):
        raise Invalid(f"{member_id!r} is not the id of a node")
    return f"/v1/cluster/members/{member_id}"
