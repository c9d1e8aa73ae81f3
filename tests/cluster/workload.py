"""Clients that write while nodes die, and remember exactly what they were told."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

from tests.cluster.cluster import Cluster

LEDGER = "chaos"
TABLE = "records"
SETTLE_TIMEOUT_S = 40.0
RETRY_S = 0.05


@dataclass
class Told:
    """What the clients were told: acknowledged writes with their block, and refused ones."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    attempts: int = 0
    repeats: int = 0


async def prepare(session: aiohttp.ClientSession, cluster: Cluster) -> None:
    """Creates the ledger and the table, however often it takes."""
    base = cluster.nodes()[0].http
    for url in (f"{base}/v1/ledgers/{LEDGER}", f"{base}/v1/ledgers/{LEDGER}/tables/{TABLE}"):
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            async with session.put(url) as answer:
                if answer.status in (200, 201):
                    break
                assert time.monotonic() < deadline, await answer.text()
            await asyncio.sleep(RETRY_S)


async def settle(
    session: aiohttp.ClientSession,
    cluster: Cluster,
    key: str,
    headers: dict[str, str],
    body: bytes,
    told: Told,
) -> tuple[int, dict[str, object]]:
    """One write, repeated under its idempotency key until some node says what became of it."""
    headers = {**headers, "Idempotency-Key": key, "Content-Type": "application/json"}
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    attempt = hash(key) % cluster.count
    while time.monotonic() < deadline:
        node = cluster.nodes()[attempt % cluster.count]
        url = f"{node.http}/v1/ledgers/{LEDGER}/tables/{TABLE}/documents/{key}"
        attempt += 1
        told.attempts += 1
        try:
            async with session.put(url, data=body, headers=headers) as answer:
                if answer.status in (200, 201, 412):
                    return answer.status, await answer.json()
                problem = await answer.json()
                assert problem.get("retryable"), (answer.status, problem)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            pass  # The node died under the request; its outcome is asked for again below.
        told.repeats += 1
        await asyncio.sleep(RETRY_S)
    raise TimeoutError(f"write {key} was never settled")


async def writer(
    session: aiohttp.ClientSession, cluster: Cluster, name: str, told: Told, stopped: asyncio.Event
) -> None:
    """Creates documents, and every seventh time tries one that must be refused."""
    number = 0
    while not stopped.is_set():
        number += 1
        key = f"{name}-{number}"
        body = b'{"n":%d,"text":"%s"}' % (number, b"x" * (number % 300))
        if number % 7 == 0:
            status, answer = await settle(session, cluster, key, {"If-Match": '"5"'}, body, told)
            assert status == 412, answer
            told.refused.add(key)
        else:
            status, answer = await settle(session, cluster, key, {"If-None-Match": "*"}, body, told)
            assert status == 201, answer
            assert answer["version"] == 0
            told.acknowledged[key] = int(str(answer["seq"]))
