"""An export survives broken connections and notices when it is cut short."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from stele.client import Client, ServerFailed, Unavailable
from tests.client.served import drop, serving

BLOCKS = 50


class Exported:
    """Sends `pieces[n]` blocks over connection n and breaks it off; the last one is complete."""

    def __init__(self, *pieces: int, ledgers: tuple[str, ...] = ("L",)) -> None:
        self.pieces = list(pieces)
        self.ledgers = ledgers
        self.asked: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        start, end = int(request.query["from"]), int(request.query.get("to", BLOCKS))
        ledger = self.ledgers[min(len(self.asked), len(self.ledgers)) - 1]
        head = {"export": 1, "ledger": ledger, "name": "cars", "from": start, "to": end, "size": BLOCKS}
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(json.dumps(head).encode() + b"\n")
        count = self.pieces.pop(0) if self.pieces else end - start
        for seq in range(start, start + count):
            await response.write(b'{"seq":%d}\n' % seq)
        if self.asked[-1].get("to") is not None and not self.pieces:
            return response
        if start + count < end:
            await response.write(b'{"half')
            return drop(request)
        return response


async def exported(server: Exported) -> list[bytes]:
    async with serving(server.handle) as url, Client([url]) as client:
        return [line async for line in client.ledger("cars").export()]


async def test_every_block_comes_once_over_broken_connections() -> None:
    server = Exported(10, 0, 25)
    lines = await exported(server)
    assert [json.loads(line)["seq"] for line in lines[1:]] == list(range(BLOCKS))
    assert json.loads(lines[0])["to"] == BLOCKS
    asked = [(int(query["from"]), query.get("to")) for query in server.asked]
    assert asked[0] == (0, None)
    assert [start for start, _ in asked] == [0, 10, 10, 35]
    assert {end for _, end in asked[1:]} == {str(BLOCKS)}


async def test_a_server_that_gets_nowhere_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stele.client.export.EXPORT_FAILURES_MAX", 2)
    with pytest.raises(Unavailable):
        await exported(Exported(10, 0, 0, 0, 0))


async def test_another_ledger_in_the_middle_is_an_error() -> None:
    with pytest.raises(ServerFailed, match="another"):
        await exported(Exported(10, ledgers=("L", "M")))


async def test_what_is_no_export_is_an_error() -> None:
    async def nonsense(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>\n")

    async with serving(nonsense) as url, Client([url]) as client:
        with pytest.raises(ServerFailed):
            await anext(client.ledger("cars").export())
