"""Honest and forged ledgers, and servers that answer what they like, for the tests of lying operators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from stele.client import Client, InProcessMemory, Ledger, TrustPolicy
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy as Policy
from tests.client.log import Log
from tests.client.served import Handler, serving
from tests.verify.claims import COSIGNERS, REPLICAS

CORRUPT = REPLICAS[:1]
"""What the operator holds besides the log's key."""

K = 2


def honest(documents: int = 3) -> Log:
    log = Log(replicas=REPLICAS)
    for number in range(documents):
        log.put(f"k{number}", {"n": number})
    return log


def forged(documents: int = 3, *, changed: str = "k1") -> Log:
    """Another history of the same ledger, signed by those whom the operator controls."""
    log = Log(replicas=CORRUPT)
    for number in range(documents):
        key = f"k{number}"
        log.put(key, {"n": 1_000_000 if key == changed else number})
    return log


def policy(log: Log, k: int = K) -> TrustPolicy:
    return TrustPolicy.parse(str(Policy.k_of_n(VerifierKey.parse(log.key.verifier_key()), COSIGNERS, k)))


@asynccontextmanager
async def reading(
    handler: Handler, log: Log, memory: InProcessMemory | None = None, *, k: int = K
) -> AsyncIterator[Ledger]:
    async with serving(handler) as url, Client([url], trust=policy(log, k), memory=memory) as client:
        yield client.ledger("cars")


def lying(log: Log, lie: Callable[[str], web.StreamResponse | None]) -> Handler:
    """An honest server but for documents, where `lie` may answer instead."""

    async def handle(request: web.Request) -> web.StreamResponse:
        key = request.path.partition("/documents/")[2]
        return (lie(key) if key else None) or await log.handle(request)

    return handle


def history_of(log: Log) -> dict[str, Any]:
    proof = log.prover().history("default", "k1")
    listed = []
    document = proof["document"]
    for revision in [document["revision"], *document.get("older", [])]:
        header, leaf = revision["place"]["header"], revision["leaf"]
        entry = {"version": leaf["version"], "seq": header["seq"], "tx": header["tx"], "at": header["at"]}
        entry["op"] = leaf["op"]
        if "data" in revision:
            entry["data"] = revision.pop("data")
        listed.append(entry)
    return {"revisions": listed, "proof": proof}
