"""HTTP to the cluster: which node, how often, for how long.

A call has one deadline. Within it, a request goes to the leader when that is known, to any other
endpoint when a connection fails, and again after a growing wait when the failure is one that passes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from stele.client import retry
from stele.client.errors import OutcomeUnknown, ServerFailed, SteleError, Unavailable, error_of, parse_problem
from stele.client.limits import (
    ANSWER_SIZE_BYTES_MAX,
    ATTEMPT_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    CONNECTIONS_MAX,
)
from stele.client.models import ClusterStatus
from stele.client.route import Route

T = TypeVar("T")

_ELSEWHERE = ("no-leader", "shutting-down")
"""What a node says that can do nothing for now; another one may."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, the same however often it is sent.

    `path` begins with /v1 and is percent-encoded. `repeat` False: sent once, because a second
    time could do it twice. `idempotency_key` goes out as a header and into errors. An attempt that is not
    answered within `attempt_timeout_s` is given up, and the next one goes to another node.
    """

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    repeat: bool = True
    attempt_timeout_s: float = ATTEMPT_TIMEOUT_S

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    def all_headers(self) -> dict[str, str]:
        headers = dict(self.headers or {})
        if self.idempotency_key is not None:
            headers["Idempotency-Key"] = self.idempotency_key
        if self.body is not None:
            headers.setdefault("Content-Type", "application/json")
        return headers

    def url(self, endpoint: str) -> URL:
        return URL(endpoint + self.path, encoded=True).with_query(self.query)


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, read completely."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """The body as `kind`; ServerFailed when it is something else."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ServerFailed(f"the answer is not what this client expects: {error}") from error


class _Call:
    """What the attempts of one call have shown: the last failure, and whether a write may have happened."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._last: BaseException | None = None
        self._uncertain = False

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        cause = error.error if isinstance(error, retry.RetryLater) else error
        if isinstance(cause, OutcomeUnknown):
            self._uncertain = True
        elif not isinstance(cause, (SteleError, *retry.NEVER_CONNECTED)):
            # Broken off or cancelled once the request may have been on its way.
            self._uncertain = True
        if not isinstance(cause, asyncio.CancelledError):
            self._last = cause

    def explain(self, error: Exception) -> SteleError:
        """The error the caller sees: the last real failure rather than "deadline passed"."""
        cause = error
        if isinstance(error, TimeoutError) and isinstance(self._last, Exception):
            cause = self._last
        final = retry.final_error(cause)
        doubtful = self._request.writes and self._uncertain and isinstance(final, Unavailable)
        if doubtful and not isinstance(final, OutcomeUnknown):
            final = OutcomeUnknown(f"{final}; the write may have happened", problem=final.problem)
        final.idempotency_key = self._request.idempotency_key
        return final


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, refused beyond ANSWER_SIZE_BYTES_MAX."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in response.content.iter_any():
        size_bytes += len(piece)
        if size_bytes > ANSWER_SIZE_BYTES_MAX:
            raise ServerFailed(f"the answer is larger than {ANSWER_SIZE_BYTES_MAX} bytes")
        pieces.append(piece)
    return b"".join(pieces)


class Transport:
    """Connections to all endpoints. Must be made and used within one event loop.

    `headers` are sent with every request. `timeout_s` is the deadline of a whole call.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None,
        learns: bool = True,
    ) -> None:
        """`learns`: ask nodes that the cluster names, too, and the leader first."""
        self.route = Route(endpoints, learns=learns)
        self.timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                # Acknowledgements and export lines are read in large pieces.
                read_bufsize=2**20,
            )
        return self._session

    async def call(self, request: Request) -> Answer:
        """Sends the request until it is answered or the deadline has passed. Raises SteleError."""
        call = _Call(request)
        try:
            async with asyncio.timeout(self.timeout_s):
                async for attempt in retry.attempts(self.timeout_s, repeat=request.repeat):
                    await self._refresh()
                    with attempt, call:
                        return await self._once(request)
        except (SteleError, retry.RetryLater, *retry.CONNECTION_ERRORS) as error:
            raise call.explain(error) from error
        raise ServerFailed("no attempt was made")  # stamina yields at least one

    async def _once(self, request: Request) -> Answer:
        async with asyncio.timeout(request.attempt_timeout_s), self.open(request) as response:
            return Answer(response.status, response.headers, await read_body(response))

    @asynccontextmanager
    async def open(
        self, request: Request, *, body: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One answer with status 2xx, its body unread.

        Tries every endpoint once before it raises the last connection error. Any other status is
        raised as a typed error, wrapped in RetryLater when the server says when to come back.
        """
        refusal: Exception | None = None
        for url in self.route.order(time.monotonic()):
            try:
                response = await self.session().request(
                    request.method,
                    request.url(url),
                    data=body if body is not None else request.body,
                    headers=request.all_headers(),
                    allow_redirects=False,
                    # A stream waits until the node has agreed to take it (RFC 9110 section 10.1.1), so that
                    # a refusal arrives before the connection is full of lines nobody reads.
                    expect100=body is not None,
                )
            except retry.NEVER_CONNECTED as error:
                self.route.failed(url, time.monotonic())
                refusal = error
                continue
            except retry.CONNECTION_ERRORS:
                self.route.failed(url, time.monotonic())
                raise
            except asyncio.CancelledError:
                # Not answered in time (or nobody waits any more): it may hang, or pass on to one that does.
                self.route.failed(url, time.monotonic())
                raise
            try:
                await self._check(url, response)
                yield response
            finally:
                # Gives up the connection unless the body was read to its end.
                response.close()
            return
        raise refusal if refusal is not None else ServerFailed("there is no endpoint to ask")

    async def _check(self, url: str, response: aiohttp.ClientResponse) -> None:
        self.route.answered(url, response.headers.get("X-Stele-Node"))
        if 200 <= response.status < 300:
            return
        request_id = response.headers.get("X-Request-Id", "")
        problem = parse_problem(response.status, await read_body(response), request_id)
        if problem.leader is not None:
            self.route.led_by(problem.leader)
        elif problem.slug in _ELSEWHERE:
            # It may be alone in this: cut off, or no member of the cluster any more.
            self.route.failed(url, time.monotonic())
        error = error_of(problem)
        after_s = retry.retry_after_s(response.headers.get("Retry-After"))
        if error.retryable and after_s is not None:
            raise retry.RetryLater(error, after_s)
        raise error

    async def _refresh(self) -> None:
        """Learns the nodes and the leader when an answer showed that something is missing."""
        if not self.route.refresh_due(time.monotonic()):
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                async with self.open(Request("GET", "/v1/cluster")) as response:
                    status = msgspec.json.decode(await read_body(response), type=ClusterStatus)
            self.route.learn(status, time.monotonic())
        except (
            SteleError,
            retry.RetryLater,
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
            *retry.CONNECTION_ERRORS,
        ):
            # Knowing the leader only saves a hop: the request itself will tell what is wrong.
            self.route.refresh_failed(time.monotonic())
