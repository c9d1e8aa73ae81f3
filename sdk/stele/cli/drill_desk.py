"""The way from `stele drill` to the demo cluster that it damages: a Unix socket that only a demo has."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from stele.cli.exits import InputError

T = TypeVar("T")

SOCKET = "drill.sock"
ANSWER_SIZE_BYTES_MAX = 1 << 20


class DemoNode(msgspec.Struct):
    """A node of the demo."""

    id: str
    http: str


class Demo(msgspec.Struct):
    """The cluster as its desk describes it."""

    nodes: list[DemoNode]
    policy: str


class Altered(msgspec.Struct):
    """The byte that was altered."""

    kind: str
    where: str
    row: str
    byte: int
    size_bytes: int
    before: int
    after: int


class Looked(msgspec.Struct):
    """How the damaged node's processes ended, and what it said before."""

    ends: list[int]
    said: list[str]


class Desk:
    """One drill. The demo heals what is damaged as soon as this is closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, demo: Path) -> Desk:
        """Raises InputError for a directory that is not that of a running demo cluster."""
        try:
            streams = await asyncio.open_unix_connection(demo / SOCKET, limit=ANSWER_SIZE_BYTES_MAX)
        except OSError as error:
            raise InputError(
                f"{demo} is not the data directory of a demo cluster that runs, and nothing else is ever "
                f"drilled: {error.strerror or error}"
            ) from error
        return cls(*streams)

    async def describe(self) -> Demo:
        """Raises InputError, also for a cluster that is not all on this machine."""
        demo = await self._ask("describe", Demo)
        for node in demo.nodes:
            if not ip_address(urlsplit(node.http).hostname or "::").is_loopback:
                raise InputError(f"{node.http} is not on the loopback: this is no demo")
        return demo

    async def alter(self, node: str, **target: Any) -> Altered:
        """Stop the node, alter a byte, start it without its scrub. Raises InputError."""
        return await self._ask("alter", Altered, node=node, **target)

    async def scrub(self) -> None:
        """Start the node again, with its scrub."""
        await self._ask("scrub", dict[str, Any])

    async def look(self) -> Looked:
        return await self._ask("look", Looked)

    async def heal(self) -> None:
        """Have the node begin with nothing, and get everything from the others. Raises InputError."""
        await self._ask("heal", dict[str, Any])

    def close(self) -> None:
        self._writer.close()

    async def _ask(self, do: str, shape: type[T], **members: Any) -> T:
        self._writer.write(msgspec.json.encode({"do": do, **members}) + b"\n")
        try:
            await self._writer.drain()
            answer = msgspec.json.decode(await self._reader.readline(), type=dict[str, Any])
            if "refused" in answer:
                raise InputError(f"the demo refuses: {answer['refused']}")
            return msgspec.convert(answer, shape)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise InputError(f"the demo does not answer: {error}") from error
