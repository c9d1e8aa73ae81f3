"""Documents and tables of a ledger."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from stele.client.access import LedgerAccess, new_idempotency_key
from stele.client.encoding import encode_json
from stele.client.errors import Invalid, ServerFailed, VerificationFailed
from stele.client.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from stele.client.models import (
    Document,
    DocumentPage,
    Json,
    Revision,
    RevisionPage,
    TableInfo,
    TableList,
    Written,
)
from stele.client.transport import Request
from stele.client.trust import parse_key
from stele.verify.document import verify_document
from stele.verify.errors import VerificationError

ReadConsistency = Literal["strong", "snapshot"]


class Documents(LedgerAccess):
    """Reading and writing single documents."""

    async def create_table(self, table: str) -> TableInfo:
        """Creates a table; an existing one stays as it is."""
        answer = await self._call(Request("PUT", self._table_path(table), body=b"{}"))
        return answer.decode(TableInfo)

    async def table(self, table: str) -> TableInfo:
        """One table. Raises NotFound."""
        return (await self._call(Request("GET", self._table_path(table)))).decode(TableInfo)

    async def tables(self) -> list[TableInfo]:
        """All tables, dropped ones included."""
        return (await self._get("/tables", TableList)).tables

    async def drop_table(self, table: str) -> TableInfo:
        """Drops a table: no reads or writes of the present any more; its history stays."""
        return (await self._call(Request("DELETE", self._table_path(table)))).decode(TableInfo)

    async def put(
        self,
        table: str,
        key: str,
        data: Json,
        *,
        if_version: int | None = None,
        if_absent: bool = False,
        idempotency_key: str | None = None,
    ) -> Written:
        """Writes the next revision of a document.

        `if_version`: only when it stands at this version; `if_absent`: only when there is none. Raises
        VersionMismatch, Invalid, NotFound (no such table), OutcomeUnknown.
        """
        return await self._write(
            "PUT",
            self._document_path(table, key),
            data,
            _precondition(if_version, if_absent),
            idempotency_key,
        )

    async def add(self, table: str, data: Json, *, idempotency_key: str | None = None) -> Written:
        """Writes a document under a key that the server makes."""
        return await self._write("POST", self._table_path(table) + "/documents", data, {}, idempotency_key)

    async def delete(
        self, table: str, key: str, *, if_version: int | None = None, idempotency_key: str | None = None
    ) -> Written:
        """Writes a revision without data. The document is then Gone; its history stays."""
        return await self._write(
            "DELETE", self._document_path(table, key), None, _precondition(if_version, False), idempotency_key
        )

    async def _write(
        self, method: str, path: str, data: Json | None, headers: dict[str, str], key: str | None
    ) -> Written:
        body = None if data is None else encode_json(data)
        key = key or new_idempotency_key()
        request = Request(method, path, body=body, headers=headers, idempotency_key=key)
        return (await self._call(request)).decode(Written)

    async def get(
        self,
        table: str,
        key: str,
        *,
        version: int | None = None,
        as_of_seq: int | None = None,
        as_of: datetime | str | None = None,
        consistency: ReadConsistency = "strong",
        min_seq: int | None = None,
        verify: bool | None = None,
    ) -> Document:
        """One revision of a document: the current one, a version, or what stood at a block or time.

        `verify` defaults to whether the client has a trust policy. A verified answer is proved to stand in
        the journal at the version, block and time it says, under a checkpoint that extends all those seen
        before. That no newer revision exists is not proved. Raises NotFound, Gone, VerificationFailed.
        """
        verify = self._trust is not None if verify is None else verify
        query = _view_query(as_of_seq, as_of, consistency, min_seq)
        if version is not None:
            query["version"] = str(version)
        path = self._document_path(table, key)
        if not verify:
            return (await self._call(Request("GET", path, query=query))).decode(Document)
        guard = await self.guard()
        floor = guard.newest() if consistency == "strong" else None
        answer = await self._call(Request("GET", path, query=query | {"proof": "true"}))
        members = answer.decode(dict[str, Any])
        try:
            document = msgspec.convert(members, Document)
        except msgspec.ValidationError as error:
            raise ServerFailed(f"the answer is not what this client expects: {error}") from error
        _check_asked(document, version, as_of_seq)
        note = _note_of(members)
        try:
            checkpoint = verify_document(members, guard.ledger_id, table, key, parse_key(guard.verifier_key))
        except VerificationError as error:
            raise VerificationFailed(
                f"the document {key!r} of table {table!r} is not what the journal holds: {error}", seen=note
            ) from error
        await guard.admit(note, checkpoint, floor)
        return document

    async def history(
        self, table: str, key: str, *, limit: int | None = None
    ) -> AsyncGenerator[Revision, None]:
        """The revisions of a document, newest first; also of a deleted one or of a dropped table."""
        path = self._document_path(table, key) + "/history"
        left = limit
        after: str | None = None
        while left is None or left > 0:
            query = {"limit": str(min(left or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX))}
            if after is not None:
                query["after"] = after
            page = (await self._call(Request("GET", path, query=query))).decode(RevisionPage)
            for revision in page.revisions:
                yield revision
            if page.next is None:
                return
            after = str(page.next)
            left = None if left is None else left - len(page.revisions)

    async def scan(
        self,
        table: str,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int | None = None,
        as_of_seq: int | None = None,
        as_of: datetime | str | None = None,
        consistency: ReadConsistency = "strong",
        min_seq: int | None = None,
    ) -> AsyncGenerator[Document, None]:
        """The documents of a table in the order of their keys, as they stood at one block.

        All pages show the block that the first one showed. `prefix` restricts to keys that begin with it,
        `after` begins past a key, `limit` counts documents.
        """
        query = _view_query(as_of_seq, as_of, consistency, min_seq)
        if prefix:
            query["prefix"] = prefix
        path = self._table_path(table) + "/documents"
        left = limit
        while left is None or left > 0:
            query["limit"] = str(min(left or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX))
            if after is not None:
                query["after"] = after
            page = (await self._call(Request("GET", path, query=query))).decode(DocumentPage)
            for document in page.documents:
                yield document
            if page.next is None:
                return
            after = page.next
            query.pop("as_of", None)
            query["as_of_seq"] = str(page.seq)
            left = None if left is None else left - len(page.documents)


def _precondition(if_version: int | None, if_absent: bool) -> dict[str, str]:
    if if_version is not None and if_absent:
        raise Invalid("if_version and if_absent exclude each other")
    if if_absent:
        return {"If-None-Match": "*"}
    return {} if if_version is None else {"If-Match": f'"{if_version}"'}


def _view_query(
    as_of_seq: int | None, as_of: datetime | str | None, consistency: ReadConsistency, min_seq: int | None
) -> dict[str, str]:
    if as_of_seq is not None and as_of is not None:
        raise Invalid("as_of_seq and as_of exclude each other")
    query: dict[str, str] = {}
    if as_of_seq is not None:
        query["as_of_seq"] = str(as_of_seq)
    if as_of is not None:
        query["as_of"] = as_of if isinstance(as_of, str) else _time_text(as_of)
    if consistency != "strong":
        query["consistency"] = consistency
    if min_seq is not None:
        query["min_seq"] = str(min_seq)
    return query


def _time_text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise Invalid("as_of needs a time zone")
    return moment.astimezone(UTC).isoformat()


def _note_of(members: dict[str, Any]) -> str:
    proof = members.get("proof")
    note = proof.get("checkpoint") if isinstance(proof, dict) else None
    if not isinstance(note, str):
        raise VerificationFailed("the server sent no proof")
    return note


def _check_asked(document: Document, version: int | None, as_of_seq: int | None) -> None:
    """A proof shows that a revision is in the journal, not that it is the one that was asked for."""
    if version is not None and document.version != version:
        raise VerificationFailed(f"version {document.version} came in place of {version}")
    if as_of_seq is not None and document.seq > as_of_seq:
        raise VerificationFailed(f"a revision of block {document.seq} came as of block {as_of_seq}")
