"""Passing a request on to the leader, once, with its body streamed both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from node import limits
from node.http.bodies import BROKEN_BODY, accept_body, broken_off, check_encoding
from node.http.problems import SERVER, Problem
from node.http.route import Call

FORWARDED = "X-Stele-Forwarded"

# Hop-by-hop headers (RFC 9110, section 7.6.1) and what aiohttp sets itself.
_NOT_PASSED = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "expect",
        "host",
        "keep-alive",
        "origin",  # Compared with Host where the request came in; the leader's host is another.
        "proxy-authenticate",
        "proxy-authorization",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        FORWARDED.lower(),
    )
)

# An answer of at most this length is passed on in one piece.
_WHOLE_ANSWER_SIZE_BYTES_MAX = 1 << 20


class _ConnectionLost(aiohttp.ClientError):
    """The connection to the leader broke after the request may have left."""


async def _never_again(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    # aiohttp repeats PUT and DELETE by itself when a kept connection turns out dead (RFC 9112, section
    # 9.3.1 allows it for idempotent methods). A second PUT is a second revision here, so never.
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLost(str(error)) from error


class Forwarder:
    """Sends what only the leader can do to the leader's HTTP address."""

    def __init__(self, node_id: str, url_of_node: Callable[[str], str | None]) -> None:
        """`url_of_node` is asked each time: members come and go."""
        self._node_id = node_id
        self._url_of_node = url_of_node
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limits.FORWARD_CONNECTIONS_MAX),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_never_again,),
        )

    async def close(self) -> None:
        await self._session.close()

    async def forward(self, call: Call, leader_id: str | None) -> web.StreamResponse:
        """Answer with what the leader answers. Raises Problem (no-leader, outcome-unknown)."""
        if leader_id is None or leader_id == self._node_id:
            raise Problem("no-leader", "no leader is known; an election takes a second or two")
        url = self._url_of_node(leader_id)
        if url is None:
            raise Problem(
                "no-leader",
                f"the leader is {leader_id}, whose address this node does not know",
                leader=leader_id,
            )
        if call.header(FORWARDED) is not None:
            raise Problem(
                "no-leader",
                f"the request was passed on by another node, and the leader is {leader_id}",
                leader=leader_id,
            )
        if call.route.body is not None:
            check_encoding(call)
        body = _Body(call)
        try:
            async with self._session.request(
                call.method,
                URL(url + call.raw_path, encoded=True),
                data=body.data(),
                headers=self._headers(call),
                allow_redirects=False,
                timeout=_timeout(call),
            ) as upstream:
                body.answer = upstream
                return await _relay(call, upstream)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Problem(
                "no-leader", f"the leader, {leader_id}, cannot be reached: {error}", leader=leader_id
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            if call.streaming:
                raise
            if body.broke is not None:
                raise broken_off(body.broke, streamed=call.route.streams) from error
            if call.method in ("GET", "HEAD"):
                raise Problem(
                    "no-leader", f"the leader, {leader_id}, did not answer: {error}", leader=leader_id
                ) from error
            raise Problem(
                "outcome-unknown", f"the leader, {leader_id}, broke off: {error}", leader=leader_id
            ) from error

    async def get(self, node_id: str, path: str, timeout_s: float) -> bytes | None:
        """The body of another node's own 200 answer to GET `path`, None when there is none in time."""
        url = self._url_of_node(node_id)
        if url is None:
            return None
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            async with self._session.get(
                URL(url + path, encoded=True), headers={"Accept-Encoding": "identity"}, timeout=timeout
            ) as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    def _headers(self, call: Call) -> CIMultiDict[str]:
        headers = CIMultiDict(
            (name, value) for name, value in call.request.headers.items() if name.lower() not in _NOT_PASSED
        )
        headers[FORWARDED] = self._node_id
        # The answer is passed on as it comes, and its encoding is not: Content-Encoding is of one hop here.
        headers["Accept-Encoding"] = "identity"
        headers["X-Request-Id"] = call.request_id
        return headers


def _timeout(call: Call) -> aiohttp.ClientTimeout:
    # A bulk stream is silent for as long as its sender is, and the leader watches over that.
    silence_s = limits.BULK_IDLE_TIMEOUT_S if call.route.streams else limits.FORWARD_ANSWER_TIMEOUT_S
    return aiohttp.ClientTimeout(
        total=None, sock_connect=limits.FORWARD_CONNECT_TIMEOUT_S, sock_read=silence_s
    )


class _Body:
    """A request's body on its way through. `broke` says that its sender, not the leader, broke off."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.broke: Exception | None = None
        self.answer: aiohttp.ClientResponse | None = None

    def data(self) -> bytes | AsyncIterator[bytes] | None:
        request = self._call.request
        if not request.body_exists:
            return None
        if request.content.is_eof() and request.content.exception() is None:
            return request.content.read_nowait(-1)
        return self._read_on()

    async def _read_on(self) -> AsyncIterator[bytes]:
        await accept_body(self._call)
        try:
            while chunk := await self._call.request.content.readany():
                yield chunk
        except BROKEN_BODY as error:
            self.broke = error
            if self.answer is not None:
                # It began while the body was still coming, and will not end: the leader waits for the rest.
                self.answer.close()
            raise


async def _relay(call: Call, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = CIMultiDict(
        (name, value) for name, value in upstream.headers.items() if name.lower() not in _NOT_PASSED
    )
    length = upstream.content_length
    if call.method == "HEAD":
        if length is not None:
            headers["Content-Length"] = str(length)
        return web.Response(status=upstream.status, headers=headers)
    if length is not None and length <= _WHOLE_ANSWER_SIZE_BYTES_MAX:
        return web.Response(status=upstream.status, headers=headers, body=await upstream.read())
    headers["Server"] = SERVER
    response = web.StreamResponse(status=upstream.status, headers=headers)
    if length is not None:
        response.content_length = length
    elif upstream.status not in (204, 304):
        response.enable_chunked_encoding()
    call.streaming = True
    await response.prepare(call.request)
    async for chunk in upstream.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response
