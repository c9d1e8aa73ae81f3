"""Bulk load: NDJSON in, NDJSON acknowledgements out, in the order of the lines, while lines still come.

Lines are gathered into chunks; a chunk is one transaction, committed while the next one is read. Two
coroutines share a stream: one reads, parses and submits, the other waits for commits and acknowledges.
Between them stands a queue of at most BULK_CHUNKS_IN_FLIGHT_MAX chunks. When it is full nothing more is
read, TCP's window closes, and the sender waits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from consensus.errors import ConsensusError
from node import limits
from node.committer import CommitError
from node.http.answers import begin_stream
from node.http.bodies import BROKEN_BODY, accept_body, broken_off, check_encoding
from node.http.bulk_lines import Chunk, LineCutter, LineReader, TooLong
from node.http.failures import problem_of, refusal
from node.http.parameters import Query
from node.http.preconditions import idempotency_key, request_digest
from node.http.problems import Problem
from node.http.route import IDEMPOTENCY_KEY, NDJSON, Answer, Call, Content, Header, Route
from node.http.services import ANONYMOUS, Services
from node.http.views import typed_query
from stele.format.errors import InvalidName
from stele.format.names import check_table_name
from storage.commands import Operation, Transact
from storage.errors import LedgerUnknown
from storage.outcomes import Committed, Outcome, Refused

FIRST_LINE = Header(
    "Stele-First-Line",
    "Number of the first line sent, when a load is resumed (default 1).",
    "^[1-9][0-9]{0,15}$",
    "1",
)

# A refusal of these says that no later chunk can fare better.
_FINAL_REFUSALS = frozenset(("idempotency-key-reused", "ledger-unknown"))


class BulkQuery(Query, kw_only=True, frozen=True):
    table: Annotated[str, Meta(description="Table of lines that name none.")] = "default"


async def post_bulk(services: Services, call: Call) -> web.StreamResponse:
    check_encoding(call)
    ledger = call.names[0]
    if services.store.ledger(ledger) is None:
        raise LedgerUnknown(ledger)
    load = _Load(services, call)
    await accept_body(call)
    response = await begin_stream(call, services.config.node_id)
    await load.run(response)
    await response.write_eof()
    return response


class _Load:
    """One stream."""

    def __init__(self, services: Services, call: Call) -> None:
        self._services = services
        self._call = call
        self._ledger = call.names[0]
        table = typed_query(call, BulkQuery).table
        try:
            check_table_name(table)
        except InvalidName as error:
            raise Problem("invalid-parameter", str(error), field="table") from error
        self._key = idempotency_key(call)
        self._digest = b"" if self._key is None else request_digest(call, table.encode())
        self._line = _first_line(call) - 1
        self._reader = LineReader(table, self._check_table, self._new_key, services.stamps.salts)
        self._known_tables: set[str] = set()
        self._chunk = Chunk()
        self._queue: asyncio.Queue[tuple[Chunk, asyncio.Future[Outcome] | None] | None] = asyncio.Queue(
            limits.BULK_CHUNKS_IN_FLIGHT_MAX
        )
        self._failure: Problem | None = None
        self._accepted = 0
        self._refused = 0

    async def run(self, response: web.StreamResponse) -> None:
        """Raises ConnectionError when the sender is gone; what was committed by then stays."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._acknowledge(response))
                try:
                    await self._read()
                except BROKEN_BODY as error:
                    # The sender may have closed its half only, and learns what became of the lines before.
                    self._failure = broken_off(error, streamed=True)
                await self._queue.put(None)
        except ExceptionGroup as failures:
            # One of the two fails first and takes the other with it.
            raise failures.exceptions[0] from failures
        problem = self._failure
        await response.write(
            b'{"done":%b,"accepted":%d,"refused":%d%b}\n'
            % (
                b"true" if problem is None else b"false",
                self._accepted,
                self._refused,
                b"" if problem is None else b',"error":' + problem.encoded(),
            )
        )

    # --- reading ------------------------------------------------------------------------------

    async def _read(self) -> None:
        async for lines in self._batches():
            if isinstance(lines, TooLong):
                await self._refuse(_line_too_long())
            else:
                operations = self._reader.read_together(lines)
                await (self._take_each(lines) if operations is None else self._take(operations))
            if self._failure is not None:
                return
        if self._failure is None:
            await self._flush()

    async def _take_each(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            if self._failure is not None:
                return
            if not line:
                self._line += 1
                continue
            try:
                operation = self._reader.read(line)
            except Problem as problem:
                await self._refuse(problem)
            else:
                await self._take([operation])

    async def _refuse(self, problem: Problem) -> None:
        """Refuses the next line."""
        self._line += 1
        self._chunk.refuse(self._line, problem)
        if self._chunk.full:
            await self._flush()

    async def _take(self, operations: list[Operation]) -> None:
        """Takes the operations of the next lines, one each."""
        if self._chunk.operations and self._stands_apart(operations[0]):
            await self._flush()
        taken = 0
        while taken < len(operations) and self._failure is None:
            count = self._chunk.take(self._line + 1, operations[taken:])
            taken += count
            self._line += count
            if self._chunk.full:
                await self._flush()

    def _stands_apart(self, operation: Operation) -> bool:
        """Whether the next line's may not go into the chunk that is begun: a delete goes alone, and a resumed
        load knows by one line number what is committed, so that its chunks have no gaps."""
        return operation.op == "delete" or (self._key is not None and self._chunk.last_line != self._line)

    async def _batches(self) -> AsyncIterator[bytes | TooLong]:
        """Complete lines, as they come, with line feeds between them; empty ones too."""
        cutter = LineCutter()
        while piece := await self._next_piece():
            for lines in cutter.cut(piece):
                yield lines
        for lines in cutter.end():
            yield lines

    async def _next_piece(self) -> bytes:
        content = self._call.request.content
        if self._chunk.lines:
            try:
                async with asyncio.timeout(limits.BULK_PAUSE_S):
                    return await content.readany()
            except TimeoutError:
                await self._flush()
        try:
            async with asyncio.timeout(limits.BULK_IDLE_TIMEOUT_S):
                return await content.readany()
        except TimeoutError:
            self._failure = Problem("incomplete-body", f"no line came for {limits.BULK_IDLE_TIMEOUT_S:.0f} s")
            return b""

    async def _flush(self) -> None:
        """Submit what has gathered, and wait while too much is on its way."""
        chunk, self._chunk = self._chunk, Chunk()
        self._known_tables.clear()
        if not chunk.lines:
            return
        future: asyncio.Future[Outcome] | None = None
        if chunk.operations:
            try:
                future = await self._services.committer.submit_patiently(self._command(chunk))
            except (CommitError, ConsensusError) as error:
                future = asyncio.get_running_loop().create_future()
                future.set_exception(error)
        await self._queue.put((chunk, future))
        # Parsing is work without a pause; others are let in between chunks.
        await asyncio.sleep(0)

    def _command(self, chunk: Chunk) -> Transact:
        stamps = self._services.stamps
        at = stamps.now_us()
        return Transact(
            self._ledger,
            stamps.transaction_id(at),
            at,
            ANONYMOUS,
            tuple(chunk.operations),
            idempotency_key=self._key,
            request_digest=self._digest,
            bulk_line=None if self._key is None else chunk.first_line,
        )

    def _new_key(self) -> str:
        stamps = self._services.stamps
        return stamps.transaction_id(stamps.now_us()).hex()

    def _check_table(self, name: str) -> None:
        """Raises Problem for a table that cannot be written. Looked up once a chunk."""
        if name in self._known_tables:
            return
        try:
            check_table_name(name)
            table = self._services.store.view(self._ledger).table(name)
        except InvalidName as error:
            raise Problem("invalid-name", str(error), field="table") from error
        except LedgerUnknown as error:
            raise Problem("ledger-unknown", str(error)) from error
        if table is None:
            raise Problem("table-unknown", f"there is no table {name!r}", field="table")
        if table.state != "active":
            raise Problem("table-dropped", f"table {name!r} was dropped", field="table")
        self._known_tables.add(name)

    # --- acknowledging ------------------------------------------------------------------------

    async def _acknowledge(self, response: web.StreamResponse) -> None:
        while item := await self._queue.get():
            chunk, future = item
            text, accepted, refused = await self._settled(chunk, future)
            self._accepted += accepted
            self._refused += refused
            self._services.metrics.bulk_accepted.inc(accepted)
            self._services.metrics.bulk_refused.inc(refused)
            await response.write(text)

    async def _settled(self, chunk: Chunk, future: asyncio.Future[Outcome] | None) -> tuple[bytes, int, int]:
        if future is None:
            return chunk.refuse_all(None)
        try:
            outcome = await future
        except (CommitError, ConsensusError) as error:
            problem = problem_of(error) or Problem("internal-error", "the commit failed")
            # Later chunks must not be committed behind a gap: the sender resumes from here.
            self._failure = problem
            return chunk.refuse_all(problem)
        if isinstance(outcome, Committed):
            return chunk.acknowledge(outcome)
        if isinstance(outcome, Refused):
            problem = refusal(outcome)
            if outcome.reason in _FINAL_REFUSALS:
                self._failure = problem
            return chunk.refuse_all(problem)
        raise TypeError(f"a transaction cannot have the outcome {type(outcome).__name__}")


def _first_line(call: Call) -> int:
    text = call.header(FIRST_LINE.name)
    if text is None:
        return 1
    if not re.fullmatch(FIRST_LINE.pattern, text):
        raise Problem(
            "invalid-header", "Stele-First-Line must be a line number from 1", field=FIRST_LINE.name
        )
    return int(text)


def _line_too_long() -> Problem:
    return Problem(
        "body-too-large",
        f"a line may have at most {limits.BULK_LINE_SIZE_BYTES_MAX} bytes",
        limit=limits.BULK_LINE_SIZE_BYTES_MAX,
    )


ROUTES = (
    Route(
        "POST",
        "/v1/ledgers/{ledger}/bulk",
        post_bulk,
        operation_id="bulkLoad",
        summary="Load documents: NDJSON in, acknowledgements out while lines still come",
        description=(
            'A line is {"op"?: "put" or "delete", "table"?, "key"?, "data"}. Read the answer while sending: '
            "the server stops reading when acknowledgements are not taken. With an Idempotency-Key the "
            "load can be resumed: lines committed before are answered as duplicates."
        ),
        tag="transactions",
        leader="always",
        query=BulkQuery,
        headers=(IDEMPOTENCY_KEY, FIRST_LINE),
        body=Content(NDJSON, schema={"type": "string"}, required=False),
        answers={
            200: Answer(
                "A line for each line, in order, then a line with `done` and the counts.",
                Content(NDJSON, schema={"type": "string"}),
            )
        },
        problems=("ledger-unknown", "invalid-header"),
        streams=True,
    ),
)
