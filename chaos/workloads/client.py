"""One client: a request at a time, tried again at other nodes, and what became of it written down.

It does not use the SDK on purpose: a judge should not hear the witness through the accused's own words.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp

from chaos import limits
from chaos.history import Kind, Operation, Outcome, Write

LEDGER = "chaos"
TABLE = "registers"
_REFUSED = frozenset({404, 409, 410, 412})
_HARMLESS = frozenset({"no-leader", "overloaded", "shutting-down"})
"""Problems that say that nothing was written."""


class Answer(NamedTuple):
    """The last answer of an operation; `harmless` when no attempt can have had an effect."""

    status: int
    body: dict[str, Any]
    attempts: int
    harmless: bool
    error: str

    @property
    def outcome(self) -> Outcome:
        if 200 <= self.status < 300:
            return "ok"
        if self.status in _REFUSED or self.harmless:
            return "refused"
        return "unknown"


class ConnectionLost(aiohttp.ClientError):
    """A connection broke after the request may have left."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    # aiohttp sends PUT and DELETE again by itself when a kept connection turns out dead. When that second
    # try finds nobody listening, the error says that nothing was sent, and the first one may be committed.
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionLost(str(error)) from error


def new_session() -> aiohttp.ClientSession:
    """A session for clients: as many connections as they want, and nothing sent twice unasked."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), middlewares=(_send_once,))


class Client:
    """Bound to one node until that one fails it; `record` takes every operation when it has ended."""

    def __init__(
        self,
        number: int,
        session: aiohttp.ClientSession,
        endpoints: Sequence[str],
        rng: random.Random,
        record: Callable[[Operation], None],
    ) -> None:
        self.number = number
        self._session = session
        self._endpoints = list(endpoints)
        self._rng = rng
        self._endpoint = rng.choice(self._endpoints)
        self._record = record

    async def put(self, key: str, data: dict[str, object], *, over: Operation | None = None) -> Operation:
        """Writes a document; with `over`, a read of it, only if it is still what that showed."""
        headers = {} if over is None else {"If-Match": f'"{over.version}"'}
        path = f"/tables/{TABLE}/documents/{key}"
        writes = (Write(TABLE, key, data),)
        shown = None if over is None else over.data
        return await self._write("put", writes, "PUT", path, data, headers, over=shown)

    async def delete(self, key: str) -> Operation:
        path = f"/tables/{TABLE}/documents/{key}"
        return await self._write("delete", (Write(TABLE, key, None),), "DELETE", path, None, {})

    async def transfer(
        self, documents: Mapping[str, dict[str, object]], versions: Mapping[str, int]
    ) -> Operation:
        """Writes several documents in one transaction, if each is still at its version."""
        body = {
            "conditions": [
                {"table": TABLE, "key": key, "version": version} for key, version in versions.items()
            ],
            "operations": [
                {"op": "put", "table": TABLE, "key": key, "data": data} for key, data in documents.items()
            ],
        }
        writes = tuple(Write(TABLE, key, data) for key, data in documents.items())
        return await self._write("transfer", writes, "POST", "/transactions", body, {})

    async def get(self, key: str) -> Operation:
        """A strong read."""
        invoked_ns = time.monotonic_ns()
        answer = await self._ask("GET", f"/tables/{TABLE}/documents/{key}", None, {})
        shown: dict[str, Any] = {}
        outcome = answer.outcome
        if outcome == "ok":
            shown = {name: answer.body[name] for name in ("version", "seq", "data")}
        elif answer.status == 410:
            outcome, shown = "ok", {"version": answer.body["current_version"]}
        elif answer.status == 404:
            outcome = "ok"
        return self._ended(
            answer, kind="get", outcome=outcome, table=TABLE, key=key, invoked_ns=invoked_ns, **shown
        )

    async def _write(
        self,
        kind: Kind,
        writes: tuple[Write, ...],
        method: str,
        path: str,
        body: object,
        headers: dict[str, str],
        over: dict[str, object] | None = None,
    ) -> Operation:
        invoked_ns = time.monotonic_ns()
        # The same key with every attempt: the ledger promises one revision, whatever got lost.
        key = f"{self.number}-{self._rng.getrandbits(128):032x}"
        answer = await self._ask(method, path, body, {**headers, "Idempotency-Key": key})
        seq = None
        if answer.outcome == "ok":
            seq = int(answer.body["seq"])
            versions = [each["version"] for each in answer.body.get("revisions", [answer.body])]
            writes = tuple(
                Write(write.table, write.key, write.data, version)
                for write, version in zip(writes, versions, strict=True)
            )
        return self._ended(
            answer,
            kind=kind,
            outcome=answer.outcome,
            writes=writes,
            seq=seq,
            over=over,
            invoked_ns=invoked_ns,
        )

    def _ended(self, answer: Answer, **members: Any) -> Operation:
        operation = Operation(
            client=self.number,
            ledger=LEDGER,
            completed_ns=time.monotonic_ns(),
            attempts=answer.attempts,
            error=answer.error,
            **members,
        )
        self._record(operation)
        return operation

    async def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> Answer:
        """Asks until there is an answer that settles the matter, or time is up."""
        deadline_s = time.monotonic() + limits.OPERATION_TIMEOUT_S
        attempts, harmless, error = 0, True, ""
        while True:
            attempts += 1
            left_s = deadline_s - time.monotonic()
            try:
                status, answer = await self._attempt(method, path, body, headers, left_s)
            except (aiohttp.ClientConnectorError, ConnectionRefusedError) as failure:
                error = repr(failure)  # Nothing was sent.
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
                error, harmless = repr(failure), False
            else:
                slug = str(answer.get("type", "")).rpartition(":")[2]
                error = slug
                if status < 500:
                    return Answer(status, answer, attempts, harmless=False, error=slug)
                harmless = harmless and slug in _HARMLESS
            self._endpoint = self._rng.choice(self._endpoints)
            pause_s = self._rng.uniform(0.01, 0.05) * min(attempts, 8)
            if time.monotonic() + pause_s >= deadline_s:
                return Answer(0, {}, attempts, harmless, error)
            await asyncio.sleep(pause_s)

    async def _attempt(
        self, method: str, path: str, body: object, headers: dict[str, str], timeout_s: float
    ) -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self._endpoint}/v1/ledgers/{LEDGER}{path}"
        async with asyncio.timeout(min(timeout_s, limits.ATTEMPT_TIMEOUT_S)):
            async with self._session.request(method, url, data=data, headers=headers) as response:
                return response.status, json.loads(await response.read())
