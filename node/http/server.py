"""From a request to its answer: routing, forwarding, errors, and what every answer carries."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import cast

import structlog
from aiohttp import web

from consensus.errors import InvariantBroken as ReplicationBroken
from consensus.errors import NotLeader
from node import limits
from node.http.answers import Response
from node.http.connection import Connection
from node.http.failures import problem_of
from node.http.parameters import Query, parse_query
from node.http.problems import SERVER, Problem
from node.http.route import Call, Route
from node.http.router import Router
from node.http.services import Services
from storage.errors import InvariantBroken, StorageFailed

_log = structlog.get_logger("node.http")

_REQUEST_ID = re.compile(f"[!-~]{{1,{limits.REQUEST_ID_LENGTH_MAX}}}")
_NO_ROUTE = "(none)"
_FATAL = (InvariantBroken, StorageFailed, ReplicationBroken)
"""What a handler must not answer: the node stops instead."""


class Dispatcher:
    """Answers every request. `on_fatal` ends the process; it is called for a broken invariant."""

    def __init__(
        self, services: Services, routes: Iterable[Route], on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._services = services
        self._router = Router(routes)
        self._on_fatal = on_fatal
        self._in_flight = 0
        self._node_id = services.config.node_id
        # Unique over restarts, and a counter costs nothing.
        self._request_ids = map(
            f"{services.config.node_id}-{os.urandom(4).hex()}-{{:x}}".format, itertools.count(1)
        )
        services.metrics.requests_in_flight.set_function(lambda: self._in_flight)

    async def __call__(self, request: web.BaseRequest) -> Response:
        started = perf_counter()
        given = request.headers.get("X-Request-Id")
        call = Call(request, given if given and _REQUEST_ID.fullmatch(given) else next(self._request_ids))
        self._in_flight += 1
        try:
            response = await self._answer(call)
        except Exception as error:
            response = await self._failed(call, error)
        finally:
            self._in_flight -= 1
            if call.reserved_bytes:
                self._services.budget.release(call)
        if not response.prepared:
            headers = response.headers
            headers.setdefault("X-Stele-Node", self._node_id)
            headers["X-Request-Id"] = call.request_id
            headers["Server"] = SERVER
        self._services.metrics.request(*_label(call), response.status, perf_counter() - started)
        return response

    async def _answer(self, call: Call) -> Response:
        if self._in_flight > limits.REQUESTS_IN_FLIGHT_MAX:
            raise Problem("overloaded", "too many requests at once", limit=limits.REQUESTS_IN_FLIGHT_MAX)
        _check_origin(call)
        self._resolve(call)
        services = self._services
        route = call.route
        if route.leader == "always" and not services.replica.is_leader:
            return await services.forwarder.forward(call, services.replica.leader_id)
        try:
            return await route.handler(services, call)
        except NotLeader as error:
            if route.leader == "always":
                raise
            # A read found out that it needs the leader.
            return await services.forwarder.forward(call, error.leader_id)

    def _resolve(self, call: Call) -> None:
        target = call.request.raw_path
        if not target.startswith("/"):
            # RFC 9112, section 3.2.2: a server must accept the absolute form too.
            target = call.request.rel_url.raw_path_qs
        call.raw_path = target
        path, question_mark, query = target.partition("?")
        self._router.resolve(call, path)
        if question_mark and query:
            call.parsed_query = parse_query(call.route.query, query)
        else:
            call.parsed_query = _without_query(call.route.query)

    async def _failed(self, call: Call, error: Exception) -> web.StreamResponse:
        if isinstance(error, _FATAL):
            self._on_fatal(error)
        if call.streaming:
            # The head is sent. Breaking off is the only way left to say that this is not the whole answer.
            if call.request.transport is not None:
                call.request.transport.abort()
            if not isinstance(error, ConnectionError):
                _log.warning("an answer broke off", request_id=call.request_id, error=repr(error))
            raise ConnectionResetError("the answer broke off") from error
        problem = problem_of(error)
        if problem is None:
            if isinstance(error, ConnectionError):
                raise error
            _log.error("a request failed", request_id=call.request_id, path=call.raw_path, exc_info=error)
            problem = Problem("internal-error", f"the server failed; its log has request {call.request_id}")
        return problem.response(call.request_id)


def _check_origin(call: Call) -> None:
    """Refuse what a browser sends for a page of another site.

    The API listens on the loopback without authentication, and a browser lets any page send simple POSTs
    there; it marks them with Origin (RFC 6454, section 7). Raises Problem.
    """
    headers = call.request.headers
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != headers.get("Host"):
        raise Problem("cross-origin", f"requests from {origin[:255]!r} are refused", field="Origin")


_query_defaults: dict[type[Query], Query] = {}


def _without_query(kind: type[Query]) -> Query:
    """The decoded form of no query string at all. Raises Problem when one is needed."""
    found = _query_defaults.get(kind)
    if found is None:
        found = _query_defaults[kind] = parse_query(kind, "")
    return found


def _label(call: Call) -> tuple[str, str]:
    try:
        return call.route.method, call.route.path
    except AttributeError:
        return _NO_ROUTE, _NO_ROUTE


class HttpServer(web.Server):
    """aiohttp's server without its application layer, which the route table replaces."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(
            # An answer need not be a StreamResponse, only do what aiohttp asks of one (answers.WholeAnswer).
            cast("Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]", dispatcher),
            access_log=None,
            keepalive_timeout=limits.KEEPALIVE_TIMEOUT_S,
            max_line_size=limits.REQUEST_LINE_SIZE_BYTES_MAX,
            max_field_size=limits.HEADER_SIZE_BYTES_MAX,
            lingering_time=limits.LINGERING_TIMEOUT_S,
            read_bufsize=limits.READ_BUFFER_SIZE_BYTES,
            # aiohttp takes half of a compressed body for all of it; an encoded one is refused (bodies.py).
            auto_decompress=False,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > limits.CONNECTIONS_MAX:
            # Each may hold a read buffer before any handler sees it, so their number needs a bound.
            transport.abort()

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)
