"""A network of TCP proxies, for machines without network namespaces: one for every directed link.

Each node has an address of its own in 127.0.0.0/8, and dials every other through a proxy that only it uses;
its `peers` setting says so. Clients have proxies of their own. A blocked link holds its bytes, as TCP does
through a partition, and delivers them when it is healed. What a proxy cannot do is lose a packet: loss shows
as the stall that a retransmission would cause.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable, Mapping
from contextlib import suppress

from chaos import limits
from chaos.lab.network import CLIENTS, Link, Shape, Told, between_zones

_CHUNK_BYTES = 65_536
_RETRANSMISSION_S = 0.2
"""The least time after which Linux sends a lost segment again (TCP_RTO_MIN)."""


class Proxies:
    """`zones` maps each node to its zone; between zones every chunk takes `latency_s`. Satisfies Network."""

    def __init__(self, zones: Mapping[str, str], latency_s: float = 0.0) -> None:
        self._distant = frozenset(between_zones(zones)) if latency_s else frozenset()
        self._latency_s = latency_s
        # Laboratories side by side take different addresses.
        self._net = f"127.{64 + os.getpid() % 128}"
        self._numbers = {CLIENTS: 0}
        for node_id in zones:
            self._numbers[node_id] = len(self._numbers)
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._blocked: frozenset[Link] = frozenset()
        self._lossy: frozenset[Link] = frozenset()
        self._percent = 0
        self._held = 0
        self._shaped: frozenset[Link] = frozenset()
        self._shape = Shape()
        self._carried = 0
        self._late_s = 0.0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        for source in self._numbers:
            for target in self._numbers:
                await self._open((source, target))

    async def add(self, node_id: str, zone: str) -> None:
        # The others learn its address from the log and dial it without a proxy: it joins, it is not cut off.
        self._numbers[node_id] = len(self._numbers)
        for other in list(self._numbers):
            await self._open((node_id, other))
        await self._open((CLIENTS, node_id))

    async def _open(self, link: Link) -> None:
        source, target = link
        if target == CLIENTS or source == target:
            return
        for port in (limits.HTTP_PORT, limits.RAFT_PORT):

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
                task = asyncio.ensure_future(self._carry(link, port, reader, writer))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

            self._servers.append(await asyncio.start_server(accept, self.dial(source, target), port))

    async def stop(self) -> None:
        await self.block(())
        for server in self._servers:
            server.close()
        self._servers.clear()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def address(self, node_id: str) -> str:
        return f"{self._net}.255.{self._numbers[node_id]}"

    def dial(self, source: str, target: str) -> str:
        if source == target:
            return self.address(target)
        return f"{self._net}.{self._numbers[source]}.{self._numbers[target]}"

    def command(self, node_id: str, command: list[str]) -> list[str]:
        return command

    async def block(self, links: Iterable[Link]) -> None:
        self._blocked = frozenset(links)
        self._change()

    async def lose(self, links: Iterable[Link], percent: int) -> None:
        self._lossy, self._percent = frozenset(links), percent
        self._change()

    @property
    def reorders(self) -> bool:
        return False  # TCP delivers in order, and once.

    async def shape(self, links: Iterable[Link], shape: Shape) -> None:
        self._shaped, self._shape = frozenset(links), shape
        self._carried, self._late_s = 0, 0.0

    async def told(self) -> Told:
        return Told(carried=self._carried, late_s=self._late_s)

    async def _wait_as_shaped(self, size_bytes: int) -> None:
        """Chunks wait one after the other, so that a delay also limits what a connection carries."""
        shape = self._shape
        wait_s = shape.delay_s + random.random() * shape.jitter_s
        if shape.bytes_per_s is not None:
            wait_s += size_bytes / shape.bytes_per_s
        self._carried += 1
        self._late_s += wait_s
        await asyncio.sleep(wait_s)

    def _change(self) -> None:
        self._held = 0
        self._changed.set()
        self._changed = asyncio.Event()

    async def dropped(self) -> int:
        return self._held

    async def _carry(
        self, link: Link, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection, dialled by the link's source; whichever end closes it closes both."""
        source, target = link
        try:
            far_reader, far_writer = await asyncio.open_connection(self.address(target), port)
        except OSError:
            writer.transport.abort()
            return
        there = asyncio.ensure_future(self._pump(link, reader, far_writer))
        back = asyncio.ensure_future(self._pump((target, source), far_reader, writer))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (there, back):
                pump.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            for each in (writer, far_writer):
                each.close()

    async def _pump(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """At most one chunk waits here; behind it the sender's own buffers fill up, and it has to wait."""
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if link in self._lossy and random.random() * 100 < self._percent:
                    self._held += 1
                    await asyncio.sleep(_RETRANSMISSION_S)
                if link in self._distant:
                    await asyncio.sleep(self._latency_s)
                if link in self._shaped:
                    await self._wait_as_shaped(len(chunk))
                if link in self._blocked:
                    self._held += 1
                    while link in self._blocked:
                        await self._changed.wait()
                writer.write(chunk)
                await writer.drain()
            # An end of the stream is a packet, too.
            while link in self._blocked:
                await self._changed.wait()
