"""The load generator counts what was answered, and nothing else."""

import asyncio
from array import array
from collections.abc import Awaitable, Callable

import pytest

from bench import bulk, flights, limits, throughput
from bench.connection import Address, BenchmarkError, Measurement, measure, request, response_end

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serving(handler: Handler) -> tuple[asyncio.Server, Address]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, Address("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_a_response_ends_where_it_ends(answer: bytes) -> None:
    assert response_end(answer) == len(answer)
    assert {response_end(answer[:cut]) for cut in range(len(answer))} == {-1}


def test_percentiles_are_nearest_rank() -> None:
    result = Measurement(1.0, array("d", [number / 1000 for number in range(1, 101)]))
    assert result.percentile_ms(50) == pytest.approx(50)
    assert result.percentile_ms(99) == pytest.approx(99)
    assert result.answered_per_s == 100


async def test_refusals_are_not_counted_as_answers() -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head)
            status = b"200 OK" if b"/good" in head else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % status)

    server, address = await serving(handle)
    async with server:
        requests = [request("GET", "/good"), request("GET", "/bad")]
        result = await measure(address, requests, connections=2, seconds=0.05)
    assert len(result.latencies_s) + result.refused == len(asked)
    assert abs(len(result.latencies_s) - result.refused) <= 1
    assert "503" in result.first_refusal


class Worker:
    """Stands for a peer that has used so much processor time whenever it is looked at."""

    def __init__(self, *used_s: float) -> None:
        self.used_s = list(used_s)


async def test_a_turn_begins_once_all_have_been_at_rest_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    period_s = 1 / 1024
    monkeypatch.setattr(limits, "REST_PERIOD_S", period_s)
    monkeypatch.setattr(limits, "REST_S", 3 * period_s)
    monkeypatch.setattr(throughput, "peer_cpu_s", lambda peer: peer.used_s.pop(0))
    # The pause of two periods is too short; at the last look one of them works again.
    one, other = Worker(0, 1, 2, 2, 2, 3, 3, 3, 3, 4), Worker(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    await throughput.rest([one, other])  # type: ignore[list-item]
    assert one.used_s == [4]


async def test_peers_that_never_rest_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REST_PERIOD_S", 0.001)
    monkeypatch.setattr(limits, "REST_TIMEOUT_S", 0.05)
    monkeypatch.setattr(throughput, "peer_cpu_s", lambda peer: peer.used_s.pop())
    with pytest.raises(BenchmarkError, match="did not come to rest"):
        await throughput.rest([Worker(*range(100_000, 0, -1))])  # type: ignore[list-item]


async def test_a_closed_connection_ends_the_run() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server, address = await serving(handle)
    async with server:
        with pytest.raises(BenchmarkError, match="closed"):
            await measure(address, [request("GET", "/")], connections=1, seconds=5)


async def bulk_server(answers: list[tuple[int, bytes]]) -> tuple[asyncio.Server, list[bytes]]:
    """Answers one stream after another with so many lines and this last line."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = (await reader.readuntil(b"\r\n0\r\n\r\n")).split(b"\r\n\r\n", 1)
        heads.append(head)
        assert body.count(b'"data"') == 500
        lines, last = answers.pop(0)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in [b'{"line":%d}\n' % (number + 1) for number in range(lines)] + [last]:
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 22), heads


async def load_from(server: asyncio.Server) -> bulk.Loaded:
    address = Address("127.0.0.1", server.sockets[0].getsockname()[1])

    async def leader() -> Address:
        return address

    async with server:
        return await bulk.load(leader, "/bulk", streams=1, documents=500)


async def test_bulk_believes_only_what_was_acknowledged() -> None:
    server, _ = await bulk_server([(499, b'{"done":true,"accepted":500,"refused":0}\n')])
    with pytest.raises(BenchmarkError, match="500 documents sent, 499"):
        await load_from(server)


async def test_bulk_goes_on_after_a_change_of_leader_under_the_same_key() -> None:
    broken = b'{"done":false,"accepted":100,"refused":400,"error":{"retryable":true}}\n'
    server, heads = await bulk_server([(500, broken), (500, b'{"done":true,"accepted":500,"refused":0}\n')])
    loaded = await load_from(server)
    assert (loaded.documents, loaded.resumed) == (500, 1)
    assert b"Idempotency-Key: " in heads[0]
    assert heads[0] == heads[1]


def test_flights_are_real_and_numbers_are_whole() -> None:
    lines = list(flights.bulk_lines(1000))
    assert len(lines) == 1000
    assert lines[0].startswith('{"key":"flight-000000","data":{"year":2013,"month":1,"day":1,"dep_time":517,')
    assert '"NA"' not in "".join(lines)
