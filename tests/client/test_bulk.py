"""Bulk load over connections that break: every line once, in order, with bounded memory."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from stele.client import Acknowledgement, BlockingClient, BulkLine, Client, Invalid, NotFound, OutcomeUnknown
from stele.client import limits as client_limits
from stele.client.bulk_lines import AcknowledgementReader, Chunk, chunks_of
from tests.client.served import drop, problem, serving


class Table:
    """Takes lines as a node does; breaks the connection after `break_after` lines of each stream.

    `swallow`: so many committed lines are not acknowledged before it breaks.
    """

    def __init__(self, *, break_after: list[int] | None = None, swallow: int = 0) -> None:
        self.rows: dict[int, bytes] = {}
        self.firsts: list[int] = []
        self.keys: set[str] = set()
        self.break_after = break_after or []
        self.swallow = swallow

    async def handle(self, request: web.Request) -> web.StreamResponse:
        first = int(request.headers["Stele-First-Line"])
        self.firsts.append(first)
        self.keys.add(request.headers["Idempotency-Key"])
        left = self.break_after.pop(0) if self.break_after else -1
        response = web.StreamResponse()
        await response.prepare(request)
        number = first
        async for line in request.content:
            duplicate = number in self.rows
            assert self.rows.setdefault(number, line) == line
            left -= 1
            acknowledged = {"line": number, "table": "t", "key": "k", "version": 0, "seq": 1}
            if left == 0:
                return drop(request)
            if left < 0 or left >= self.swallow:
                await response.write(
                    json.dumps({"line": number, "duplicate": True} if duplicate else acknowledged).encode()
                    + b"\n"
                )
            number += 1
        await response.write(b'{"done":true,"accepted":0,"refused":0}\n')
        return response


def lines(count: int) -> Iterator[BulkLine]:
    return (BulkLine(key=f"k{number}", data={"n": number}) for number in range(1, count + 1))


async def test_a_load_survives_broken_connections() -> None:
    table = Table(break_after=[700, 1, 1500, 3], swallow=2)
    seen: list[Acknowledgement] = []
    async with serving(table.handle) as url, Client([url]) as client:
        report = await client.ledger("cars").bulk(lines(5000), on_acknowledged=seen.extend)
    assert (report.accepted, report.refused) == (5000, 0)
    assert report.reconnections == 4
    assert report.duplicates > 0
    assert [acknowledgement.line for acknowledgement in seen] == list(range(1, 5001))
    assert [json.loads(table.rows[number])["data"]["n"] for number in range(1, 5001)] == list(range(1, 5001))
    assert table.keys == {report.idempotency_key}
    assert table.firsts == sorted(table.firsts)


async def test_an_async_source_that_pauses_is_sent_on() -> None:
    table = Table()
    arrived = asyncio.Event()

    async def slowly() -> AsyncIterator[BulkLine]:
        yield BulkLine(key="a", data={})
        await asyncio.wait_for(arrived.wait(), 5)  # set by the acknowledgement of the line before
        yield BulkLine(key="b", data={})

    async with serving(table.handle) as url, Client([url]) as client:
        report = await client.ledger("cars").bulk(slowly(), on_acknowledged=lambda _: arrived.set())
    assert report.accepted == 2


async def test_an_empty_load_is_a_load() -> None:
    async with serving(Table().handle) as url, Client([url]) as client:
        assert (await client.ledger("cars").bulk([])).accepted == 0


async def test_refused_lines_are_reported_and_do_not_stop_the_load() -> None:
    refusal = {"type": "urn:stele:problem:not-an-object", "status": 400, "detail": "no", "title": "no"}

    async def handle(request: web.Request) -> web.StreamResponse:
        count = len((await request.read()).splitlines())
        answers = [
            {"line": n, "error": refusal} if n % 2 else {"line": n, "key": "k"} for n in range(1, count + 1)
        ]
        text = "".join(json.dumps(answer) + "\n" for answer in [*answers, {"done": True}])
        return web.Response(text=text)

    async with serving(handle) as url, Client([url]) as client:
        report = await client.ledger("cars").bulk(lines(2001))
    assert (report.accepted, report.refused) == (1000, 1001)
    assert len(report.refusals) == client_limits.BULK_REFUSALS_KEPT_MAX
    assert (report.refusals[1].line, report.refusals[1].problem.detail) == (3, "no")


async def test_a_retryable_refusal_is_sent_again() -> None:
    """A commit that failed on the way is answered for its lines, and the stream ends without being done."""
    again = {"type": "urn:stele:problem:outcome-unknown", "status": 503, "retryable": True, "detail": "?"}
    table = Table()

    async def handle(request: web.Request) -> web.StreamResponse:
        if table.firsts:
            return await table.handle(request)
        table.firsts.append(1)
        body = [{"line": 1}, {"line": 2, "error": again}, {"line": 3, "error": again}]
        body.append({"done": False, "error": again})
        return web.Response(text="".join(json.dumps(line) + "\n" for line in body))

    async with serving(handle) as url, Client([url]) as client:
        report = await client.ledger("cars").bulk(lines(3))
    assert (report.accepted, report.refused, report.reconnections) == (3, 0, 1)
    assert table.firsts == [1, 2]
    assert sorted(table.rows) == [2, 3]


async def test_a_load_that_cannot_begin_says_why() -> None:
    async def unknown(request: web.Request) -> web.StreamResponse:
        return problem("ledger-unknown", 404)

    async with serving(unknown) as url, Client([url]) as client:
        with pytest.raises(NotFound):
            await client.ledger("cars").bulk(lines(100_000), idempotency_key="key")


async def test_a_load_that_gets_nowhere_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stele.client.bulk.BULK_NO_PROGRESS_S_MAX", 0.3)

    async def broken(request: web.Request) -> web.StreamResponse:
        return drop(request)

    async with serving(broken) as url, Client([url]) as client:
        with pytest.raises(OutcomeUnknown) as failed:
            await client.ledger("cars").bulk(lines(10), idempotency_key="key")
    assert failed.value.idempotency_key == "key"


async def test_a_failing_source_fails_the_load() -> None:
    def source() -> Iterator[BulkLine]:
        yield BulkLine(key="a", data={})
        raise LookupError("no more")

    async with serving(Table().handle) as url, Client([url]) as client:
        with pytest.raises(LookupError, match="no more"):
            await client.ledger("cars").bulk(source())
        with pytest.raises(Invalid, match="line 2"):
            await client.ledger("cars").bulk([b"{}", b"{\n}"])
        with pytest.raises(Invalid, match="line 1"):
            await client.ledger("cars").bulk([BulkLine(key="a", data={"x": float("inf")})])


async def test_memory_stays_bounded_when_the_server_is_slow() -> None:
    """A server that acknowledges nothing for a while gets no more than the window."""
    held = asyncio.Event()
    taken = 0

    def source() -> Iterator[BulkLine]:
        nonlocal taken
        for number in range(300_000):
            taken += 1
            yield BulkLine(key=str(number), data={"text": "x" * 100})

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await held.wait()
        number = 0
        async for _ in request.content:
            number += 1
            await response.write(b'{"line":%d}\n' % number)
        await response.write(b'{"done":true}\n')
        return response

    async with serving(slow) as url, Client([url]) as client:
        tracemalloc.start()
        load = asyncio.create_task(client.ledger("cars").bulk(source()))
        previous = -1
        while taken != previous or taken == 0:
            previous = taken
            await asyncio.sleep(0.2)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert taken <= client_limits.BULK_WINDOW_LINES_MAX + client_limits.BULK_CHUNK_LINES_MAX
        assert peak_bytes < 4 * client_limits.BULK_WINDOW_SIZE_BYTES_MAX
        load.cancel()
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await load


def test_the_blocking_client_loads_from_the_callers_thread() -> None:
    table, threads = Table(break_after=[600]), set[int]()

    def source() -> Iterator[BulkLine]:
        for line in lines(2000):
            threads.add(threading.get_ident())
            yield line

    async def run() -> None:
        async with serving(table.handle) as url:
            await asyncio.to_thread(load, url)

    def load(url: str) -> None:
        with BlockingClient([url]) as client:
            report = client.ledger("cars").bulk(source())
        assert (report.accepted, report.reconnections) == (2000, 1)
        assert threads == {threading.get_ident()}

    asyncio.run(run())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=3), max_size=5))
def test_chunks_hold_each_line_once(documents: list[dict[str, object]]) -> None:
    chunks = list(chunks_of(BulkLine(key="k", data=document) for document in documents))
    text = b"".join(chunk.data for chunk in chunks)
    assert [json.loads(line)["data"] for line in text.splitlines()] == documents
    assert chunks[-1].end == len(documents) + 1


def test_a_chunk_can_be_taken_up_in_the_middle() -> None:
    chunk = Chunk(b"a\nbb\nccc\n", 5, 8)
    assert chunk.after(5) == chunk
    assert chunk.after(3) == chunk
    assert chunk.after(7) == Chunk(b"ccc\n", 7, 8)


@given(st.lists(st.integers(1, 9), max_size=20), st.data())
def test_acknowledgements_are_read_however_they_are_cut(numbers: list[int], data: st.DataObject) -> None:
    text = b"".join(b'{"line":%d}\n' % number for number in numbers)
    reader = AcknowledgementReader(1000)
    found: list[Acknowledgement] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += reader.feed(text[:size])
        text = text[size:]
    assert [acknowledgement.line for acknowledgement in found] == numbers
    with pytest.raises(ValueError, match="end"):
        reader.feed(b"x" * 1001)
    with pytest.raises(msgspec.DecodeError):
        AcknowledgementReader(1000).feed(b"nonsense\n")
