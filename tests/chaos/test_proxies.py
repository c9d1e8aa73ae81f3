"""Links of proxies: they carry, hold one way, deliver afterwards, and count what they held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos import limits
from chaos.lab.network import CLIENTS
from chaos.lab.proxies import Proxies

ZONES = {"n0": "zone-a", "n1": "zone-b"}


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


@pytest.fixture
async def network() -> AsyncIterator[Proxies]:
    """Two nodes; n1 listens and sends every line back."""
    proxies = Proxies(ZONES)
    await proxies.start()
    server = await asyncio.start_server(echo, proxies.address("n1"), limits.RAFT_PORT)
    yield proxies
    await proxies.stop()
    server.close()


async def until_held(network: Proxies) -> None:
    async with asyncio.timeout(5):
        while not await network.dropped():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("blocked", [("n0", "n1"), ("n1", "n0")])
async def test_a_blocked_direction_holds_and_then_delivers(
    network: Proxies, blocked: tuple[str, str]
) -> None:
    reader, writer = await asyncio.open_connection(network.dial("n0", "n1"), limits.RAFT_PORT)
    writer.write(b"one\n")
    assert await reader.readline() == b"one\n"
    await network.block([blocked])
    writer.write(b"two\n")
    await until_held(network)
    reading = asyncio.ensure_future(reader.readline())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(reading), 0.05)
    await network.block([])
    assert await reading == b"two\n"
    writer.close()


async def test_other_links_go_on_and_a_dead_node_closes(network: Proxies) -> None:
    await network.block([("n0", "n1"), ("n1", "n0")])
    reader, writer = await asyncio.open_connection(network.dial(CLIENTS, "n1"), limits.RAFT_PORT)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    assert await network.dropped() == 0
    writer.close()
    # Nobody listens for clients at n0.
    reader, writer = await asyncio.open_connection(network.dial(CLIENTS, "n0"), limits.RAFT_PORT)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_loss_is_a_stall(network: Proxies) -> None:
    reader, writer = await asyncio.open_connection(network.dial("n0", "n1"), limits.RAFT_PORT)
    await network.lose([("n0", "n1")], 100)
    writer.write(b"late\n")
    assert await reader.readline() == b"late\n"
    assert await network.dropped() == 1
    writer.close()
