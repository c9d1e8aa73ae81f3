"""Small HTTP servers that fail in ways a real node cannot be made to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """The URL of a server on a free port of 127.0.0.1 that gives every request to `handler`."""
    application = web.Application(client_max_size=2**26)
    application.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server()
    try:
        yield str(server.make_url("/")).rstrip("/")
    finally:
        await server.close()


def problem(slug: str, status: int, *, headers: dict[str, str] | None = None, **members: Any) -> web.Response:
    body = {"type": f"urn:stele:problem:{slug}", "title": slug, "status": status, "detail": slug, **members}
    return web.json_response(body, status=status, content_type="application/problem+json", headers=headers)


def drop(request: web.Request) -> web.Response:
    """Breaks the connection off without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
