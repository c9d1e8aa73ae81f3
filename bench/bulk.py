"""Bulk load: streamed NDJSON in, streamed acknowledgements out, counted as they come."""

import asyncio
import re
from time import perf_counter

from bench import limits
from bench.connection import Address, BenchmarkError
from bench.documents import DOCUMENT_BYTES, key

_DONE = re.compile(rb'\{[^{}]*"done":true[^{}]*\}')
_ACCEPTED = re.compile(rb'"accepted":(\d+)')


def chunk(first: int, lines: int) -> bytes:
    """One HTTP chunk (RFC 9112 section 7.1) of documents with the keys from ``first`` on."""
    body = b"".join(
        b'{"key":"%b","data":%b}\n' % (key(number).encode(), DOCUMENT_BYTES)
        for number in range(first, first + lines)
    )
    return b"%x\r\n%b\r\n" % (len(body), body)


async def load_stream(address: Address, path: str, first: int, documents: int) -> None:
    """Load documents over one stream; raises BenchmarkError unless every one was acknowledged."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        async with asyncio.timeout(limits.BULK_TIMEOUT_S), asyncio.TaskGroup() as both:
            both.create_task(_send(writer, path, first, documents))
            both.create_task(_count(reader, documents))
    except* BenchmarkError as errors:
        raise errors.exceptions[0] from None
    except* TimeoutError:
        raise BenchmarkError(f"{documents} documents were not loaded in time") from None
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, path: str, first: int, documents: int) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\n"
    writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
    for offset in range(0, documents, limits.BULK_CHUNK_LINES):
        writer.write(chunk(first + offset, min(limits.BULK_CHUNK_LINES, documents - offset)))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _count(reader: asyncio.StreamReader, documents: int) -> None:
    """Count acknowledgement lines (those of the chunk framing end in CR LF, theirs in LF alone)."""
    lines, tail = 0, b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):
        data = await reader.read(1 << 16)
        if not data:
            raise BenchmarkError(f"the stream ended after {lines} lines: {tail[-300:]!r}")
        framing = data.count(b"\r\n") + (tail.endswith(b"\r") and data.startswith(b"\n"))
        lines += data.count(b"\n") - framing
        tail = (tail + data)[-1000:]
        if lines == 0 and b"\r\n\r\n" in tail and b" 200 " not in tail[:20] and len(data) < 1000:
            raise BenchmarkError(f"bulk was refused: {tail!r}")
    done = _DONE.search(tail)
    accepted = _ACCEPTED.search(done[0]) if done else None
    if accepted is None or int(accepted[1]) != documents or lines != documents + 1:
        raise BenchmarkError(f"{documents} documents sent, {lines - 1} lines came back: {tail[-300:]!r}")


async def load(address: Address, path: str, *, streams: int, documents: int, first: int = 0) -> float:
    """Load ``documents`` over parallel streams; seconds from the first byte to the last answer."""
    share = documents // streams
    began_s = perf_counter()
    await asyncio.gather(
        *(load_stream(address, path, first + number * share, share) for number in range(streams))
    )
    return perf_counter() - began_s
