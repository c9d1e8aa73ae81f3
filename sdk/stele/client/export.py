"""The export of a journal as a stream of lines that survives broken connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import aiohttp
import msgspec

from stele.client import retry
from stele.client.errors import ServerFailed
from stele.client.limits import (
    ATTEMPT_TIMEOUT_S,
    EXPORT_FAILURES_MAX,
    LINE_SIZE_BYTES_MAX,
    RETRY_WAIT_INITIAL_S,
    STALL_TIMEOUT_S,
)
from stele.client.transport import Request, Transport

_logger = logging.getLogger("stele.client")


class ExportHead(msgspec.Struct):
    """The first line of an export. `to_seq` is exclusive; `checkpoint` is a signed note."""

    ledger: str
    name: str
    size: int
    from_seq: int = msgspec.field(name="from")
    to_seq: int = msgspec.field(name="to")
    checkpoint: str | None = None

    @classmethod
    def parse(cls, line: bytes) -> ExportHead:
        """Raises ServerFailed."""
        try:
            return msgspec.json.decode(line, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ServerFailed(f"the first line of the export cannot be read: {error}") from error


async def export_lines(
    transport: Transport, ledger_path: str, from_seq: int, to_seq: int | None, *, own: bool = False
) -> AsyncGenerator[bytes, None]:
    """The head once, then the blocks from `from_seq` up to `to_seq`, over as many connections as it takes.

    `own`: whatever node answers shall answer from its own disk.
    """
    head: ExportHead | None = None
    next_seq = from_seq
    failures = 0
    while head is None or next_seq < head.to_seq:
        before = next_seq
        try:
            async with AsyncExitStack() as stack:
                end = head.to_seq if head else to_seq
                request = Request("GET", ledger_path + "/export", query=_query(next_seq, end, own=own))
                response = await _open(transport, request, stack)
                lines = await stack.enter_async_context(aclosing(lines_of(response)))
                first = await anext(lines, None)
                if first is None:
                    raise ConnectionResetError("the export ended before it began")
                if head is None:
                    head = ExportHead.parse(first)
                    yield first
                elif ExportHead.parse(first).ledger != head.ledger:
                    raise ServerFailed("the ledger became another one while it was exported")
                async for line in lines:
                    next_seq += 1
                    yield line
            if next_seq != head.to_seq:
                raise ConnectionResetError(f"the export ended at block {next_seq} of {head.to_seq}")
        except retry.CONNECTION_ERRORS as error:
            failures = failures + 1 if next_seq == before else 1
            if failures > EXPORT_FAILURES_MAX:
                raise retry.final_error(error) from error
            _logger.info("the export goes on from block %d over a new connection: %r", next_seq, error)
            await asyncio.sleep(RETRY_WAIT_INITIAL_S * 2**failures)


def _query(from_seq: int, to_seq: int | None, *, own: bool) -> dict[str, str]:
    query = {"from": str(from_seq)}
    if to_seq is not None:
        query["to"] = str(to_seq)
    if own:
        query["consistency"] = "snapshot"
        if to_seq:
            query["min_seq"] = str(to_seq - 1)
    return query


async def _open(transport: Transport, request: Request, stack: AsyncExitStack) -> aiohttp.ClientResponse:
    try:
        async for attempt in retry.attempts(transport.timeout_s):
            with attempt:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    return await stack.enter_async_context(transport.open(request))
    except retry.RetryLater as later:
        raise later.error from later
    raise ServerFailed("no attempt was made")  # stamina yields at least one


async def lines_of(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """The complete lines of an NDJSON body, without their line feeds.

    Raises TimeoutError when nothing comes for STALL_TIMEOUT_S, ConnectionResetError when the body ends
    inside a line, ServerFailed for a line that is too long.
    """
    rest = b""
    while True:
        async with asyncio.timeout(STALL_TIMEOUT_S):
            piece = await response.content.readany()
        if not piece:
            if rest:
                raise ConnectionResetError("the stream ended inside a line")
            return
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        if len(rest) > LINE_SIZE_BYTES_MAX:
            raise ServerFailed(f"a line is longer than {LINE_SIZE_BYTES_MAX} bytes")
        for line in lines:
            yield line
