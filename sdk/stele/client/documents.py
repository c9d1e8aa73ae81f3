"""Documents and tables of a ledger."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Literal

from stele.client.access import new_idempotency_key
from stele.client.encoding import encode_json
from stele.client.errors import Invalid
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
from stele.client.proved import ProvedReads, Question
from stele.client.times import moment_of
from stele.client.transport import Request
from stele.verify.entry import Moment

ReadConsistency = Literal["strong", "snapshot"]


class Documents(ProvedReads):
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
        written = (await self._call(request)).decode(Written)
        self.note_written(written.seq)
        return written

    def _verifies(self, verify: bool | None) -> bool:
        return self._trust is not None if verify is None else verify

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

        `verify` defaults to whether the client has a trust policy. A verified answer is proved: that it is
        the current revision (or the one asked for), as of a checkpoint that fulfils the policy, extends all
        those seen before, and covers what this object has written. So are NotFound and Gone for a document
        or a table. Raises NotFound, Gone, VerificationFailed.
        """
        asked = Question(table, key, version, moment_of(as_of_seq, as_of))
        query = _view_query(asked.moment, consistency, min_seq)
        if version is not None:
            query["version"] = str(version)
        path = self._document_path(table, key)
        if not self._verifies(verify):
            return (await self._call(Request("GET", path, query=query))).decode(Document)
        floor = await self.floor(strong=consistency == "strong", min_seq=min_seq)
        return await self.get_proved(path, query, asked, floor)

    async def history(
        self, table: str, key: str, *, limit: int | None = None, verify: bool | None = None
    ) -> AsyncGenerator[Revision, None]:
        """The revisions of a document, newest first; also of a deleted one or of a dropped table.

        `verify` as for `get`: each page is proved, and that none is missing between the newest revision and
        the last one shown.
        """
        path = self._document_path(table, key) + "/history"
        if self._verifies(verify):
            async with aclosing(self.history_proved(path, Question(table, key), limit)) as revisions:
                async for revision in revisions:
                    yield revision
            return
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
        query = _view_query(moment_of(as_of_seq, as_of), consistency, min_seq)
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


def _view_query(moment: Moment | None, consistency: ReadConsistency, min_seq: int | None) -> dict[str, str]:
    query: dict[str, str] = {}
    if moment is not None:
        query["as_of_seq" if moment.at is None else "as_of"] = moment.at or str(moment.seq)
    if consistency != "strong":
        query["consistency"] = consistency
    if min_seq is not None:
        query["min_seq"] = str(min_seq)
    return query
