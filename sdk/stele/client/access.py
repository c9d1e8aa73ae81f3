"""What every call on a ledger shares: the address, the transport, and the guard of its journal."""

from __future__ import annotations

import uuid
from typing import TypeVar
from urllib.parse import quote

from stele.client.errors import Invalid, NotTrusted
from stele.client.memory import CheckpointMemory
from stele.client.models import Consistency, LedgerInfo
from stele.client.transport import Answer, Request, Transport
from stele.client.trust import Guard, TrustPolicy
from stele.format.errors import InvalidName
from stele.format.names import check_document_key, check_ledger_name, check_table_name

T = TypeVar("T")


def new_idempotency_key() -> str:
    """A key no other write has: a random UUID (RFC 9562 version 4)."""
    return str(uuid.uuid4())


class LedgerAccess:
    """Base of Ledger: reaches one ledger and knows whether its journal is guarded."""

    def __init__(
        self, transport: Transport, name: str, trust: TrustPolicy | None, memory: CheckpointMemory
    ) -> None:
        try:
            self.name = check_ledger_name(name)
        except InvalidName as error:
            raise Invalid(str(error)) from error
        self._transport = transport
        self._trust = trust
        self._memory = memory
        self._known_guard: Guard | None = None
        self._written_seq: int | None = None
        self.path = f"/v1/ledgers/{name}"

    async def info(self) -> LedgerInfo:
        """Size, id and verifier key as the server states them. Raises NotFound."""
        return await self._get("", LedgerInfo)

    async def consistency(self, from_size: int, to_size: int) -> Consistency:
        """The proof that the journal of `to_size` blocks extends that of `from_size` blocks."""
        query = {"from": str(from_size), "to": str(to_size)}
        return await self._get("/proofs/consistency", Consistency, query)

    def note_written(self, seq: int) -> None:
        """The server acknowledged block `seq`: strong reads that are proved must cover it from now on."""
        self._written_seq = seq if self._written_seq is None else max(seq, self._written_seq)

    async def guard(self) -> Guard:
        """The rule by which checkpoints of this ledger are admitted. Raises NotTrusted without a policy."""
        if self._known_guard is None:
            self._known_guard = await self._make_guard()
        return self._known_guard

    async def _make_guard(self) -> Guard:
        if self._trust is None:
            raise NotTrusted("nothing can be verified without a trust policy")
        endpoints = self._transport.route.endpoints
        key = self._trust.key_of(self.name) or self._memory.pinned_key(endpoints, self.name)
        remembered = self._memory.newest(key) if key is not None else None
        if key is None or remembered is None:
            info = await self.info()
            ledger_id = info.id
            if key is None:
                key = info.verifier_key
                self._memory.pin(endpoints, self.name, key)
        else:
            ledger_id = remembered.ledger_id
        return Guard(self._trust, key, ledger_id, self._memory, self.consistency)

    def _table_path(self, table: str) -> str:
        try:
            return f"{self.path}/tables/{check_table_name(table)}"
        except InvalidName as error:
            raise Invalid(str(error)) from error

    def _document_path(self, table: str, key: str) -> str:
        # Checked here as well: "." and ".." as a path segment could name something else on the way.
        try:
            segment = quote(check_document_key(key), safe="")
        except InvalidName as error:
            raise Invalid(str(error)) from error
        return f"{self._table_path(table)}/documents/{segment}"

    async def _get(self, suffix: str, kind: type[T], query: dict[str, str] | None = None) -> T:
        return (await self._call(Request("GET", self.path + suffix, query=query))).decode(kind)

    async def _call(self, request: Request) -> Answer:
        return await self._transport.call(request)
