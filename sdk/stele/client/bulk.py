"""Bulk load: documents stream out, acknowledgements stream in, and a broken connection is resumed.

What is sent and not acknowledged stays in a bounded window. When the connection breaks, the lines
of the window go out again under the same Idempotency-Key, beginning with the first line that has no
acknowledgement (header Stele-First-Line); the server answers "duplicate" for those it had committed.
When the window is full the source waits, when nothing new comes from the source the server waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any

import aiohttp
import msgspec

from stele.client import retry
from stele.client.bulk_lines import Acknowledgement, AcknowledgementReader, Chunk, ChunkBuilder, Line
from stele.client.errors import OutcomeUnknown, Problem, ServerFailed, SteleError, Unavailable, error_of
from stele.client.limits import (
    ANSWER_SIZE_BYTES_MAX,
    BULK_FLUSH_S,
    BULK_NO_PROGRESS_S_MAX,
    BULK_REFUSALS_KEPT_MAX,
    BULK_WINDOW_LINES_MAX,
    BULK_WINDOW_SIZE_BYTES_MAX,
    STALL_TIMEOUT_S,
)
from stele.client.transport import Request, Transport

_logger = logging.getLogger("stele.client")

OnAcknowledged = Callable[[list[Acknowledgement]], None]


class Refusal(msgspec.Struct, frozen=True):
    """A line the server refused, and why."""

    line: int
    problem: Problem


class BulkReport(msgspec.Struct, frozen=True):
    """What became of a load. `duplicates` (counted in accepted) were committed by an earlier attempt.

    `refusals` lists the first BULK_REFUSALS_KEPT_MAX refused lines, `refused` counts them all.
    """

    accepted: int
    refused: int
    duplicates: int
    refusals: list[Refusal]
    reconnections: int
    idempotency_key: str


class LoadEnded(Exception):
    """The load has failed: there is no use in offering more. run() raises the reason."""


class BulkLoad:
    """One load. A source calls offer() and finish(); run() sends, and returns when all is acknowledged."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        *,
        table: str,
        idempotency_key: str,
        acknowledged: OnAcknowledged | None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._table = table
        self._key = idempotency_key
        self._acknowledged = acknowledged
        self._window: deque[Chunk] = deque()
        self._window_size_bytes = 0
        self._dropped_chunks = 0
        self._next = 1  # the first line without an acknowledgement
        self._end = 1  # the line after the last one offered
        self._changed = asyncio.Condition()
        self._finished = False
        self._source_error: Exception | None = None
        self._ended = False
        self._accepted = self._refused = self._duplicates = self._streams = 0
        self._refusals: list[Refusal] = []
        self._sent = False
        self._deadline: asyncio.Timeout | None = None  # of the stream that is open

    async def offer(self, chunk: Chunk) -> None:
        """Takes the next chunk, and returns when there is room for another. Raises LoadEnded."""
        async with self._changed:
            if chunk.end > chunk.first:
                self._window.append(chunk)
                self._window_size_bytes += len(chunk.data)
                self._end = chunk.end
                self._changed.notify_all()
            await self._changed.wait_for(self._has_room)
            if self._ended:
                raise LoadEnded

    async def finish(self, error: Exception | None = None) -> None:
        """The source has no more lines, or failed with `error`, which run() then raises."""
        async with self._changed:
            self._finished = True
            self._source_error = error
            self._changed.notify_all()
        if error is not None and self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(0)  # ends the open stream: what it could still bring is of no use

    def _has_room(self) -> bool:
        return self._ended or (
            self._end - self._next < BULK_WINDOW_LINES_MAX
            and self._window_size_bytes < BULK_WINDOW_SIZE_BYTES_MAX
        )

    async def run(self) -> BulkReport:
        """Sends everything offered. Raises SteleError; its idempotency_key resumes the load."""
        try:
            complete = False
            while not complete:
                async for attempt in retry.attempts(BULK_NO_PROGRESS_S_MAX):
                    with attempt:
                        complete = await self._stream()
        except retry.RetryLater as later:
            raise self._failure(later) from later
        except (SteleError, *retry.CONNECTION_ERRORS) as error:
            raise self._failure(error) from error
        finally:
            async with self._changed:
                self._ended = True
                self._changed.notify_all()
        return BulkReport(
            accepted=self._accepted,
            refused=self._refused,
            duplicates=self._duplicates,
            refusals=self._refusals,
            reconnections=self._streams - 1,
            idempotency_key=self._key,
        )

    def _failure(self, error: Exception) -> Exception:
        if error is self._source_error:
            return error
        final = retry.final_error(error)
        if self._sent and isinstance(final, Unavailable) and self._next < self._end:
            known = f"lines up to {self._next - 1} are acknowledged, some after them may be committed"
            final = OutcomeUnknown(f"{final}; {known}", problem=final.problem)
        final.idempotency_key = self._key
        return final

    async def _stream(self) -> bool:
        """One connection. Returns whether the load is complete; False: broken, but it went forward."""
        async with self._changed:
            # A server ends a stream that stays silent, so there is none before there is a line to send.
            await self._changed.wait_for(partial(self._knows_more_than, self._dropped_chunks))
        if self._source_error is not None:
            raise self._source_error
        self._streams += 1
        before = self._next
        request = Request(
            "POST",
            self._path,
            query={"table": self._table},
            headers={"Content-Type": "application/x-ndjson", "Stele-First-Line": str(before)},
            idempotency_key=self._key,
        )
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S) as self._deadline:
                async with self._transport.open(request, body=self._lines()) as response:
                    await self._read(response)
            return True
        except (retry.RetryLater, SteleError, *retry.CONNECTION_ERRORS) as error:
            if self._source_error is not None:
                raise self._source_error from None
            if self._next == before or retry.backoff(error) is False:
                raise
            _logger.info("the load goes on from line %d over a new connection: %r", self._next, error)
            return False
        finally:
            self._deadline = None

    async def _lines(self) -> AsyncIterator[bytes]:
        """The request body of one connection: the window first, then what the source brings."""
        position = self._dropped_chunks
        first = True
        while True:
            async with self._changed:
                await self._changed.wait_for(partial(self._knows_more_than, position))
                if self._source_error is not None:
                    raise self._source_error
                if not self._has_chunk(position):
                    return
                position = max(position, self._dropped_chunks)
                chunk = self._window[position - self._dropped_chunks]
            position += 1
            data = chunk.after(self._next).data if first else chunk.data
            first = False
            if self._deadline is not None and self._deadline.when() is None:
                self._touch()
            self._sent = True
            yield data

    def _knows_more_than(self, position: int) -> bool:
        return self._finished or self._has_chunk(position)

    def _has_chunk(self, position: int) -> bool:
        return position - self._dropped_chunks < len(self._window)

    def _touch(self) -> None:
        """Begins the time for the next acknowledgement anew; there is none while none is owed."""
        if self._deadline is not None and not self._deadline.expired():
            owed = self._end > self._next or self._finished
            self._deadline.reschedule(asyncio.get_running_loop().time() + STALL_TIMEOUT_S if owed else None)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        reader = AcknowledgementReader(ANSWER_SIZE_BYTES_MAX)
        while True:
            self._touch()
            piece = await response.content.readany()
            if not piece:
                raise ConnectionResetError("the acknowledgements ended before the load did")
            try:
                acknowledgements = reader.feed(piece)
            except (ValueError, RecursionError) as error:
                raise ServerFailed(f"an acknowledgement cannot be read: {error}") from error
            last = acknowledgements.pop() if acknowledgements and not acknowledgements[-1].line else None
            await self._take(acknowledgements)
            if last is not None:
                self._check_end(last)
                return

    def _check_end(self, last: Acknowledgement) -> None:
        """Raises unless the server ended the stream because everything was done."""
        if last.done and self._finished and self._next == self._end:
            return
        if last.error is None:
            raise ServerFailed("the server ended the load before it had all lines")
        problem = parse_refusal(last.error)
        if problem.slug == "incomplete-body":
            raise ConnectionResetError(problem.detail)  # the source paused for longer than a node waits
        raise error_of(problem)

    async def _take(self, acknowledgements: list[Acknowledgement]) -> None:
        before = self._next
        try:
            for acknowledgement in acknowledgements:
                if acknowledgement.line != self._next:
                    line = acknowledgement.line
                    raise ServerFailed(f"line {line} was acknowledged in place of {self._next}")
                if acknowledgement.error is not None:
                    self._take_refusal(acknowledgement.line, acknowledgement.error)
                else:
                    self._accepted += 1
                    self._duplicates += acknowledgement.duplicate
                self._next += 1
        finally:
            await self._settle(acknowledgements[: self._next - before])

    async def _settle(self, acknowledgements: list[Acknowledgement]) -> None:
        if self._acknowledged is not None and acknowledgements:
            self._acknowledged(acknowledgements)
        async with self._changed:
            while self._window and self._window[0].end <= self._next:
                self._window_size_bytes -= len(self._window.popleft().data)
                self._dropped_chunks += 1
            self._changed.notify_all()

    def _take_refusal(self, line: int, document: dict[str, Any]) -> None:
        problem = parse_refusal(document)
        if problem.retryable:
            # Not an answer to this line but to this moment: the line goes out again.
            raise error_of(problem)
        self._refused += 1
        if len(self._refusals) < BULK_REFUSALS_KEPT_MAX:
            self._refusals.append(Refusal(line, problem))


def parse_refusal(document: dict[str, Any]) -> Problem:
    """The problem inside an acknowledgement. Raises ServerFailed."""
    try:
        return msgspec.convert(document, Problem)
    except msgspec.ValidationError as error:
        raise ServerFailed(f"a refusal cannot be read: {error}") from error


async def load(load: BulkLoad, lines: Iterable[Line] | AsyncIterable[Line]) -> BulkReport:
    """Runs a load from an iterable. A plain iterable is read on the event loop and must not block."""
    source = asyncio.create_task(_pump(load, lines), name="stele bulk source")
    try:
        return await load.run()
    finally:
        source.cancel()
        await asyncio.gather(source, return_exceptions=True)


async def _pump(load: BulkLoad, lines: Iterable[Line] | AsyncIterable[Line]) -> None:
    error: Exception | None = None
    try:
        if isinstance(lines, AsyncIterable):
            await _pump_slowly(load, lines)
        else:
            builder = ChunkBuilder()
            for line in lines:
                if builder.add(line):
                    await load.offer(builder.take())
                    await asyncio.sleep(0)
            await load.offer(builder.take())
    except LoadEnded:
        return
    except Exception as failure:  # the source is the caller's: run() raises whatever it raised
        error = failure
    await load.finish(error)


async def _pump_slowly(load: BulkLoad, lines: AsyncIterable[Line]) -> None:
    """From a source that may pause: what has gathered is sent after BULK_FLUSH_S at the latest."""
    builder = ChunkBuilder()

    async def flush() -> None:
        while True:
            await asyncio.sleep(BULK_FLUSH_S)
            await load.offer(builder.take())

    flusher = asyncio.create_task(flush(), name="stele bulk flush")
    try:
        async for line in lines:
            if builder.add(line):
                await load.offer(builder.take())
    finally:
        flusher.cancel()
        await asyncio.gather(flusher, return_exceptions=True)
    await load.offer(builder.take())
