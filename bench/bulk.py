"""Bulk load: streamed NDJSON in, streamed acknowledgements out, counted as they come."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from uuid import uuid4

from bench import limits
from bench.connection import Address, BenchmarkError
from bench.documents import DOCUMENT_BYTES, key

FindLeader = Callable[[], Awaitable[Address]]

_DONE = re.compile(rb'\{[^{}]*"done":true[^{}]*\}')
_ACCEPTED = re.compile(rb'"accepted":(\d+)')


def chunk(first: int, lines: int) -> bytes:
    """One HTTP chunk (RFC 9112 section 7.1) of documents with the keys from ``first`` on."""
    body = b"".join(
        b'{"key":"%b","data":%b}\n' % (key(number).encode(), DOCUMENT_BYTES)
        for number in range(first, first + lines)
    )
    return b"%x\r\n%b\r\n" % (len(body), body)


class StreamBroken(BenchmarkError):
    """The stream ended early for a reason that passes, such as a change of leader."""


def _cause(errors: ExceptionGroup[Exception]) -> Exception:
    """What to say of the failures of sending and of reading."""
    for each in errors.exceptions:
        if isinstance(each, BenchmarkError):
            return each
    for each in errors.exceptions:
        if isinstance(each, OSError):
            return StreamBroken(str(each))
    return errors


async def load_stream(address: Address, path: str, load_id: str, first: int, documents: int) -> None:
    """Load documents over one stream; raises BenchmarkError unless every one was acknowledged."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        async with asyncio.timeout(limits.BULK_TIMEOUT_S), asyncio.TaskGroup() as both:
            both.create_task(_send(writer, path, load_id, first, documents))
            both.create_task(_count(reader, documents))
    # No except*: what is raised in one comes out in a group of its own before Python 3.11.4.
    except TimeoutError:
        raise BenchmarkError(f"{documents} documents were not loaded in time") from None
    except ExceptionGroup as errors:
        raise _cause(errors) from None
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, path: str, load_id: str, first: int, documents: int) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\n"
    head += f"Idempotency-Key: {load_id}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    for offset in range(0, documents, limits.BULK_CHUNK_LINES):
        writer.write(chunk(first + offset, min(limits.BULK_CHUNK_LINES, documents - offset)))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _count(reader: asyncio.StreamReader, documents: int) -> None:
    """Count acknowledgement lines (those of the chunk framing end in CR LF, theirs in LF alone)."""
    lines, head, tail = 0, b"", b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):
        data = await reader.read(1 << 16)
        if not data:
            raise StreamBroken(f"the stream ended after {lines} lines: {tail[-300:]!r}")
        framing = data.count(b"\r\n") + (tail.endswith(b"\r") and data.startswith(b"\n"))
        lines += data.count(b"\n") - framing
        tail = (tail + data)[-1000:]
        head = (head + data)[:12]
        if not b"HTTP/1.1 200".startswith(head):
            raise (StreamBroken if b" 503" in head else BenchmarkError)(f"bulk was refused: {tail!r}")
    done = _DONE.search(tail)
    accepted = _ACCEPTED.search(done[0]) if done else None
    if accepted is None and b'"retryable":true' in tail:
        raise StreamBroken(f"the load was broken off: {tail[-300:]!r}")
    if accepted is None or int(accepted[1]) != documents or lines != documents + 1:
        raise BenchmarkError(f"{documents} documents sent, {lines - 1} lines came back: {tail[-300:]!r}")


@dataclass(frozen=True)
class Loaded:
    """What a load took. A stream that was broken off goes on where it stopped (`resumed` counts)."""

    documents: int
    elapsed_s: float
    resumed: int = 0


async def load(leader: FindLeader, path: str, *, streams: int, documents: int, first: int = 0) -> Loaded:
    """Load ``documents`` over parallel streams, from the first byte to the last answer."""
    share = documents // streams
    began_s = perf_counter()
    resumed = await asyncio.gather(
        *(_load_until_done(leader, path, first + number * share, share) for number in range(streams))
    )
    return Loaded(share * streams, perf_counter() - began_s, sum(resumed))


async def _load_until_done(leader: FindLeader, path: str, first: int, documents: int) -> int:
    """Repeat a stream under the same Idempotency-Key until it is through; how often it was repeated."""
    load_id = uuid4().hex
    for attempt in range(limits.BULK_ATTEMPTS_MAX):
        try:
            await load_stream(await leader(), path, load_id, first, documents)
        except StreamBroken:
            if attempt + 1 == limits.BULK_ATTEMPTS_MAX:
                raise
            await asyncio.sleep(limits.BULK_RESUME_PAUSE_S)
        else:
            return attempt
    raise AssertionError("the last attempt returns or raises")
