"""One client: a request at a time, tried again at other nodes, and what became of it written down.

It does not use the SDK on purpose: a judge should not hear the witness through the accused's own words.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp

from chaos import limits
from chaos.history import Kind, Operation, Outcome, Write
from chaos.workloads.pace import Pace

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


class Request(NamedTuple):
    """What a client asks of the ledger, at whichever node."""

    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = MappingProxyType({})


def document_path(key: str) -> str:
    return f"/tables/{TABLE}/documents/{key}"


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
        pace: Pace | None = None,
    ) -> None:
        self.number = number
        self.rng = rng
        self._session = session
        self._endpoints = list(endpoints)
        self._endpoint = rng.choice(self._endpoints)
        self._record = record
        self._pace = pace

    async def turn(self) -> None:
        """Returns when the next operation may begin."""
        if self._pace is not None:
            await self._pace.turn()

    async def put(self, key: str, data: dict[str, object], *, over: Operation | None = None) -> Operation:
        """Writes a document; with `over`, a read of it, only if it is still what that showed."""
        headers = {} if over is None else {"If-Match": f'"{over.version}"'}
        writes = (Write(TABLE, key, data),)
        shown = None if over is None else over.data
        request = Request("PUT", document_path(key), data, headers)
        return await self.write("put", writes, request, over=shown)

    async def delete(self, key: str) -> Operation:
        return await self.write("delete", (Write(TABLE, key, None),), Request("DELETE", document_path(key)))

    async def transact(
        self, kind: Kind, documents: Mapping[str, dict[str, object]], versions: Mapping[str, int | None]
    ) -> Operation:
        """Writes several documents in one transaction, if each is still at its version; None: if there is
        no such document."""
        body = {
            "conditions": [
                {"table": TABLE, "key": key, "version": version} for key, version in versions.items()
            ],
            "operations": [
                {"op": "put", "table": TABLE, "key": key, "data": data} for key, data in documents.items()
            ],
        }
        writes = tuple(Write(TABLE, key, data) for key, data in documents.items())
        return await self.write(kind, writes, Request("POST", "/transactions", body))

    async def get(self, key: str) -> Operation:
        """A strong read."""
        await self.turn()
        return await self.read("get", key, document_path(key))

    async def read(self, kind: Kind, key: str, path: str, **asked: Any) -> Operation:
        """A read of one document, strong or of the past; `asked` are members of the record."""
        invoked_ns = time.monotonic_ns()
        answer = await self.ask(Request("GET", path))
        shown: dict[str, Any] = {}
        outcome = answer.outcome
        if outcome == "ok":
            shown = {name: answer.body[name] for name in ("version", "seq", "data")}
        elif answer.status == 410:
            outcome, shown = "ok", {"version": answer.body["current_version"]}
        elif answer.status == 404 and answer.error == "not-found":
            outcome = "ok"
        return self.ended(
            answer, kind=kind, outcome=outcome, table=TABLE, key=key, invoked_ns=invoked_ns, **asked, **shown
        )

    async def write(
        self,
        kind: Kind,
        writes: tuple[Write, ...],
        request: Request,
        *,
        over: dict[str, object] | None = None,
        repeat_key: str | None = None,
    ) -> Operation:
        """`repeat_key`: the Idempotency-Key; by default one of its own."""
        await self.turn()
        invoked_ns = time.monotonic_ns()
        # The same key with every attempt: the ledger promises one revision, whatever got lost.
        headers = {**request.headers, "Idempotency-Key": repeat_key or self.new_repeat_key()}
        answer = await self.ask(request._replace(headers=headers))
        seq, at = None, ""
        if answer.outcome == "ok":
            seq, at = int(answer.body["seq"]), str(answer.body["at"])
            versions = [each["version"] for each in answer.body.get("revisions", [answer.body])]
            writes = tuple(
                Write(write.table, write.key, write.data, version)
                for write, version in zip(writes, versions, strict=True)
            )
        return self.ended(
            answer,
            kind=kind,
            outcome=answer.outcome,
            writes=writes,
            seq=seq,
            over=over,
            as_of=at,
            invoked_ns=invoked_ns,
        )

    def new_repeat_key(self) -> str:
        return f"{self.number}-{self.rng.getrandbits(128):032x}"

    def ended(self, answer: Answer, **members: Any) -> Operation:
        return self.record(attempts=answer.attempts, error=answer.error, **members)

    def record(self, **members: Any) -> Operation:
        operation = Operation(client=self.number, ledger=LEDGER, completed_ns=time.monotonic_ns(), **members)
        self._record(operation)
        return operation

    def another_endpoint(self) -> str:
        """Leaves the node that it is bound to."""
        self._endpoint = self.rng.choice(self._endpoints)
        return self._endpoint

    @property
    def session(self) -> aiohttp.ClientSession:
        return self._session

    async def ask(self, request: Request) -> Answer:
        """Asks until there is an answer that settles the matter, or time is up."""
        deadline_s = time.monotonic() + limits.OPERATION_TIMEOUT_S
        attempts, harmless, error = 0, True, ""
        while True:
            attempts += 1
            left_s = deadline_s - time.monotonic()
            try:
                status, answer = await self._attempt(request, left_s)
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
            self.another_endpoint()
            pause_s = self.rng.uniform(0.01, 0.05) * min(attempts, 8)
            if time.monotonic() + pause_s >= deadline_s:
                return Answer(0, {}, attempts, harmless, error)
            await asyncio.sleep(pause_s)

    async def _attempt(self, request: Request, timeout_s: float) -> tuple[int, dict[str, Any]]:
        data = None if request.body is None else json.dumps(request.body).encode()
        url = f"{self._endpoint}/v1/ledgers/{LEDGER}{request.path}"
        async with asyncio.timeout(min(timeout_s, limits.ATTEMPT_TIMEOUT_S)):
            async with self._session.request(
                request.method, url, data=data, headers=request.headers
            ) as response:
                return response.status, json.loads(await response.read())
