"""What a route is: one declaration that registers the handler and documents it in OpenAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from aiohttp import web

from node.http.parameters import Query

if TYPE_CHECKING:
    from node.http.answers import Response
    from node.http.services import Services

JSON = "application/json"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"


class Call:
    """One request on its way through a handler."""

    __slots__ = (
        "names",
        "parsed_query",
        "raw_path",
        "request",
        "request_id",
        "reserved_bytes",
        "route",
        "streaming",
    )

    def __init__(self, request: web.BaseRequest, request_id: str) -> None:
        self.request = request
        self.request_id = request_id
        self.raw_path = ""
        self.reserved_bytes = 0
        self.streaming = False
        self.names: tuple[str, ...] = ()
        self.route: Route
        self.parsed_query: Query

    @property
    def method(self) -> str:
        return self.request.method

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)


Handler = Callable[["Services", Call], Awaitable["Response"]]


@dataclass(frozen=True)
class Header:
    """A request header that a route reads."""

    name: str
    description: str
    pattern: str
    example: str


@dataclass(frozen=True)
class Content:
    """A body: its media type, and either the Struct it decodes to or a JSON Schema."""

    media_type: str
    struct: type[msgspec.Struct] | None = None
    schema: Mapping[str, Any] | None = None
    required: bool = True
    description: str = ""


@dataclass(frozen=True)
class Answer:
    """A success: what it means, its body, and the headers worth knowing."""

    description: str
    content: Content | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Leader = Literal["always", "asked"]
"""always: only the leader can do it, other nodes forward it unread. asked: the handler finds out."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    handler: Handler
    operation_id: str
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    description: str = ""
    leader: Leader = "asked"
    query: type[Query] = Query
    headers: tuple[Header, ...] = ()
    body: Content | None = None
    problems: tuple[str, ...] = ()
    """Slugs beyond those that any request can get."""

    streams: bool = False
    """The answer is written piece by piece, so that its length is not known and HEAD is not offered."""


IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "A repeated request with the same key gets the first answer and writes nothing again.",
    "^[!-~]{1,255}$",
    "order-4711",
)
IF_MATCH = Header(
    "If-Match",
    'Write only when the document is at this version, as "3" with the quotes.',
    '^"(0|[1-9][0-9]{0,15})"$',
    '"3"',
)
IF_NONE_MATCH = Header("If-None-Match", "* writes only when there is no such document.", r"^\*$", "*")
IF_NONE_MATCH_ETAG = Header(
    "If-None-Match",
    "The ETag of a copy: answered 304 while it is current.",
    '^"(0|[1-9][0-9]{0,15})"$',
    '"3"',
)
