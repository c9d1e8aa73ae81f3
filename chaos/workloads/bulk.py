"""Bulk loads: NDJSON streams that are resumed when they break, every line of them an operation of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp

from chaos import limits
from chaos.history import Operation, Outcome, Write
from chaos.workloads.client import LEDGER, TABLE, Client

_CONTENT = {"Content-Type": "application/x-ndjson"}


class Load:
    """One load under one Idempotency-Key, resumed from its first line without an answer until all have one.

    A line whose answer got lost is unknown, unless a later attempt is told that it had been committed.
    """

    def __init__(self, client: Client, documents: Sequence[tuple[str, dict[str, object]]]) -> None:
        self._client = client
        self._documents = documents
        self._repeat_key = client.new_repeat_key()
        self._invoked_ns = 0
        self._next = 0
        self._attempts = 0

    async def run(self) -> None:
        """Every line is recorded when it ends."""
        self._invoked_ns = time.monotonic_ns()
        deadline_s = time.monotonic() + limits.LOAD_TIMEOUT_S
        error = ""
        while self._next < len(self._documents) and (left_s := deadline_s - time.monotonic()) > 0:
            self._attempts += 1
            try:
                async with asyncio.timeout(left_s):
                    error = await self._stream()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
                error = repr(failure)
            if self._next < len(self._documents):
                self._client.another_endpoint()
                await asyncio.sleep(self._client.rng.uniform(0.05, 0.2))
        for number in range(self._next, len(self._documents)):
            self._ended(number, "unknown", error=error)

    async def _stream(self) -> str:
        """One request; returns why it ended before the last line, if it did."""
        lines = [json.dumps({"key": key, "data": data}) for key, data in self._documents[self._next :]]
        headers = {
            **_CONTENT,
            "Idempotency-Key": self._repeat_key,
            "Stele-First-Line": str(self._next + 1),
        }
        url = f"{self._client.another_endpoint()}/v1/ledgers/{LEDGER}/bulk?table={TABLE}"
        timeout = aiohttp.ClientTimeout(total=None, sock_read=limits.OPERATION_TIMEOUT_S)
        body = "".join(f"{line}\n" for line in lines).encode()
        async with self._client.session.post(url, data=body, headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                return f"status {answer.status}"
            async for line in answer.content:
                found: dict[str, Any] = json.loads(line)
                if "line" not in found:
                    return json.dumps(found.get("error", ""))
                if found["line"] != self._next + 1:
                    raise ValueError(f"line {found['line']} was answered, not {self._next + 1}")
                if "error" in found:
                    return json.dumps(found["error"])
                self._ended(self._next, "ok", seq=found.get("seq"), version=found.get("version"))
                self._next += 1
        return "the answer ended early"

    def _ended(
        self,
        number: int,
        outcome: Outcome,
        *,
        seq: int | None = None,
        version: int | None = None,
        error: str = "",
    ) -> Operation:
        key, data = self._documents[number]
        return self._client.record(
            kind="bulk",
            outcome=outcome,
            writes=(Write(TABLE, key, data, version),),
            seq=seq,
            invoked_ns=self._invoked_ns,
            attempts=self._attempts,
            error=error,
        )


async def load_again_and_again(
    client: Client, batches: Iterable[Sequence[tuple[str, dict[str, object]]]], stopped: asyncio.Event
) -> None:
    """One load after the other, with a pause in between, until `stopped`."""
    for documents in batches:
        if stopped.is_set():
            return
        await Load(client, documents).run()
        try:
            async with asyncio.timeout(limits.LOAD_PAUSE_S):
                await stopped.wait()
        except TimeoutError:
            continue
