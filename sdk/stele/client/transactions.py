"""Transactions over several documents, and bulk loads."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Any

from stele.client.access import LedgerAccess, new_idempotency_key
from stele.client.bulk import BulkLoad, BulkReport, OnAcknowledged, load
from stele.client.bulk_lines import Line
from stele.client.encoding import encode_json
from stele.client.models import Committed, Condition, Operation, TransactionStatus
from stele.client.transport import Request


class Transactions(LedgerAccess):
    """Writing several documents at once."""

    async def transact(
        self,
        operations: Sequence[Operation],
        *,
        conditions: Sequence[Condition] = (),
        read_seq: int | None = None,
        idempotency_key: str | None = None,
    ) -> Committed:
        """Commits all operations in one block, or none when a condition does not hold.

        Unchanged conditions compare with the state after block `read_seq`. Raises ConditionFailed, Invalid,
        NotFound, OutcomeUnknown.
        """
        body: dict[str, Any] = {"operations": list(operations)}
        if conditions:
            body["conditions"] = list(conditions)
        if read_seq is not None:
            body["read_seq"] = read_seq
        return await self.transact_json(encode_json(body), idempotency_key=idempotency_key)

    async def transact_json(self, body: bytes, *, idempotency_key: str | None = None) -> Committed:
        """As transact, with the request body as JSON text."""
        key = idempotency_key or new_idempotency_key()
        request = Request("POST", self.path + "/transactions", body=body, idempotency_key=key)
        committed = (await self._call(request)).decode(Committed)
        self.note_written(committed.seq)
        return committed

    async def transaction(self, tx: str) -> TransactionStatus:
        """What became of a transaction: committed, refused, or unknown to the cluster."""
        return await self._get(f"/transactions/{tx}", TransactionStatus)

    async def bulk(
        self,
        lines: Iterable[Line] | AsyncIterable[Line],
        *,
        table: str = "default",
        idempotency_key: str | None = None,
        on_acknowledged: OnAcknowledged | None = None,
    ) -> BulkReport:
        """Loads any number of documents with bounded memory, in order, over connections that may break.

        `lines` are BulkLine structs, or bytes when the JSON text of a line is at hand. A plain iterable is
        read on the event loop and must not block; an async one may. `table` is for lines that name none.
        Refused lines do not stop the load: the report lists them. `on_acknowledged` gets every
        acknowledgement, in order, many at a time. The same lines with the same `idempotency_key` finish a
        load that was broken off.
        """
        return await load(self.bulk_load(table, idempotency_key, on_acknowledged), lines)

    def bulk_load(
        self, table: str, idempotency_key: str | None, on_acknowledged: OnAcknowledged | None
    ) -> BulkLoad:
        """A load to be fed by hand; bulk() is the usual way."""
        self._table_path(table)  # refuses a bad name before anything is sent
        return BulkLoad(
            self._transport,
            self.path + "/bulk",
            table=table,
            idempotency_key=idempotency_key or new_idempotency_key(),
            acknowledged=on_acknowledged,
        )
