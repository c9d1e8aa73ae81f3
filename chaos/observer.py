"""Asks every node again and again what it thinks it is, for the lanes of the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec

from chaos import limits

Role = Literal["leader", "follower", "candidate", "learner", "unknown", "silent"]
"""As GET /v1/cluster tells, or `silent` when the node does not answer."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One line of nodes.jsonl: what the node says from `at_ns` (monotonic) on, until its next line."""

    at_ns: int
    node: str
    role: Role
    term: int | None = None


class Observer:
    """Writes a line whenever what a node says has changed. `endpoints` maps nodes to their addresses."""

    def __init__(self, endpoints: Mapping[str, str], path: Path) -> None:
        self._endpoints = endpoints
        self._path = path
        self._last: dict[str, tuple[Role, int | None]] = {}

    async def run(self, stopped: asyncio.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=limits.OBSERVE_TIMEOUT_S)
        with self._path.open("ab") as lines:
            async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
                for node in self._endpoints:
                    tasks.create_task(self._watch(session, node, stopped, lines))

    async def _watch(
        self, session: aiohttp.ClientSession, node: str, stopped: asyncio.Event, lines: Any
    ) -> None:
        while not stopped.is_set():
            # What an answer tells was so at the latest when it came, and silence began when it was asked.
            at_ns = time.monotonic_ns()
            seen = await _ask(session, self._endpoints[node], node)
            if seen != self._last.get(node):
                self._last[node] = seen
                role, term = seen
                line = Sighting(at_ns=at_ns, node=node, role=role, term=term)
                lines.write(msgspec.json.encode(line) + b"\n")
            await asyncio.sleep(limits.OBSERVE_PERIOD_S)


async def _ask(session: aiohttp.ClientSession, endpoint: str, node: str) -> tuple[Role, int | None]:
    try:
        async with session.get(f"{endpoint}/v1/cluster?consistency=snapshot") as answer:
            if answer.status != 200:
                return "silent", None
            body = await answer.json()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return "silent", None
    role: Role = next((each["role"] for each in body["members"] if each["id"] == node), "unknown")
    return role, int(body["term"])
