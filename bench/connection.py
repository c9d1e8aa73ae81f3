"""HTTP/1.1 clients that cost little: prebuilt requests over bare asyncio protocols.

aiohttp's client takes several times the processor time of the server's share of a request, and on a
machine whose cores are shared with the cluster that would be measured too. Each connection has one
request under way (no pipelining), so the latency is what one caller sees.
"""

import asyncio
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from time import perf_counter
from typing import cast

from bench import limits

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class BenchmarkError(Exception):
    """The peer did something a measurement cannot go on with."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int


@dataclass
class Measurement:
    """What one or more runs of a case gave."""

    elapsed_s: float = 0.0
    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))
    refused: int = 0
    first_refusal: str = ""
    generator_cpu_s: float = 0.0
    peer_cpu_s: float = 0.0

    def add(self, other: "Measurement") -> None:
        self.elapsed_s += other.elapsed_s
        self.latencies_s.extend(other.latencies_s)
        self.refused += other.refused
        self.first_refusal = self.first_refusal or other.first_refusal
        self.generator_cpu_s += other.generator_cpu_s
        self.peer_cpu_s += other.peer_cpu_s

    @property
    def answered_per_s(self) -> float:
        return len(self.latencies_s) / self.elapsed_s if self.elapsed_s else 0.0

    def percentile_ms(self, percent: float) -> float:
        """The latency that this percentage of the requests stayed at or below (nearest rank)."""
        ordered = sorted(self.latencies_s)
        rank = max(0, ceil(percent * len(ordered) / 100) - 1)
        return ordered[rank] * 1000 if ordered else float("nan")


def response_end(data: bytes) -> int:
    """Length of the complete response at the start of ``data``, or -1 when more is to come."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return -1
    length = _CONTENT_LENGTH.search(data, 0, head + 2)
    if length is not None:
        end = head + 4 + int(length[1])
        return end if len(data) >= end else -1
    return len(data) if data.endswith(b"\r\n0\r\n\r\n") else -1


class _Caller(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered, until the deadline."""

    def __init__(self, requests: Sequence[bytes], turn: "count[int]", into: Measurement) -> None:
        self._requests = requests
        self._turn = turn
        self._into = into
        self._buffer = b""
        self._sent_s = 0.0
        self._deadline_s = 0.0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transport in all but their base class.
        self._transport = cast(asyncio.Transport, transport)

    def begin(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._send(perf_counter())

    def _send(self, now_s: float) -> None:
        self._sent_s = now_s
        self._transport.write(self._requests[next(self._turn) % len(self._requests)])

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if response_end(data) < 0:
            if len(data) > limits.RESPONSE_SIZE_BYTES_MAX:
                self._end(BenchmarkError("an answer is larger than a benchmark expects"))
            self._buffer = data
            return
        now_s = perf_counter()
        self._buffer = b""
        if data[9:10] == b"2":
            self._into.latencies_s.append(now_s - self._sent_s)
        else:
            self._into.refused += 1
            self._into.first_refusal = self._into.first_refusal or data.decode(errors="replace")[:2000]
        if now_s >= self._deadline_s or len(self._into.latencies_s) >= limits.SAMPLES_MAX:
            self._end(None)
        else:
            self._send(now_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BenchmarkError(f"the peer closed a connection: {exc}"))

    def _end(self, error: BenchmarkError | None) -> None:
        if not self.finished.done():
            if error is None:
                self.finished.set_result(None)
            else:
                self.finished.set_exception(error)


async def measure(
    address: Address, requests: Sequence[bytes], *, connections: int, seconds: float
) -> Measurement:
    """Keep ``connections`` callers busy for ``seconds``; raises BenchmarkError when one breaks off."""
    loop = asyncio.get_running_loop()
    result = Measurement()
    turn = count()
    pairs = [
        await loop.create_connection(lambda: _Caller(requests, turn, result), address.host, address.port)
        for _ in range(connections)
    ]
    began_s = perf_counter()
    try:
        for _, caller in pairs:
            caller.begin(began_s + seconds)
        async with asyncio.timeout(seconds + limits.ANSWER_TIMEOUT_S):
            await asyncio.gather(*(caller.finished for _, caller in pairs))
        result.elapsed_s = perf_counter() - began_s
    except TimeoutError:
        raise BenchmarkError(f"no answer within {limits.ANSWER_TIMEOUT_S:.0f} s") from None
    finally:
        for transport, caller in pairs:
            caller.finished.cancel()
            transport.close()
    return result


async def ask(address: Address, request: bytes) -> tuple[int, bytes]:
    """One request over a connection of its own: status and body (framing of chunks included)."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(request)
        data = b""
        async with asyncio.timeout(limits.ANSWER_TIMEOUT_S):
            while response_end(data) < 0:
                part = await reader.read(65536)
                if not part:
                    raise BenchmarkError("the peer closed the connection before it answered")
                data += part
        return int(data[9:12]), data[data.index(b"\r\n\r\n") + 4 :]
    finally:
        writer.close()


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n"
    if body:
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body
