"""Response bodies, written from the stored bytes: a payload is never parsed to be answered."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias

import msgspec
from aiohttp import HttpVersion11, web

from node.http.problems import SERVER
from node.http.route import JSON, NDJSON, Call
from stele.format.times import format_time
from storage.view import Revision

encode = msgspec.json.Encoder().encode


class WholeAnswer:
    """An answer whose body is known: head and body in one write.

    aiohttp takes it for one of its own responses, which can also be chunked, compressed and carry cookies,
    and cost 4 us more. Where the head depends on the request (HEAD, HTTP/1.0, a connection that ends) it
    becomes one.
    """

    __slots__ = ("_becomes", "body", "headers", "status")

    prepared = False

    def __init__(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.body = body
        self.status = status
        self.headers = headers
        self._becomes: web.Response | None = None

    async def prepare(self, request: web.BaseRequest) -> None:
        if request.version != HttpVersion11 or request.method == "HEAD" or not request.keep_alive:
            self._becomes = web.Response(body=self.body, status=self.status, headers=self.headers)
            await self._becomes.prepare(request)
            return
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(self.head() + self.body)
        request.writer.output_size += len(self.body)

    def head(self) -> bytes:
        """Raises ValueError for a header that would be two."""
        given = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        if given.count("\n") != len(self.headers):
            raise ValueError("a line break in a header")
        start = _STATUS_LINES[self.status]
        return f"{start}Content-Length: {len(self.body)}\r\n{date_header()}\r\n{given}\r\n".encode()

    async def write_eof(self) -> None:
        if self._becomes is not None:
            await self._becomes.write_eof()

    @property
    def keep_alive(self) -> bool | None:
        return True if self._becomes is None else self._becomes.keep_alive


Response: TypeAlias = WholeAnswer | web.StreamResponse
"""What a handler answers."""

_STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n" for each in HTTPStatus}
_now: tuple[int, str] = (0, "")


def date_header() -> str:
    """The Date header (RFC 9110, section 6.6.1), made once a second."""
    global _now
    second = int(time.time())
    if _now[0] != second:
        _now = second, f"Date: {formatdate(second, usegmt=True)}"
    return _now[1]


def answer(
    body: bytes, *, status: int = 200, etag: int | None = None, location: str | None = None
) -> WholeAnswer:
    """A JSON response."""
    headers = {"Content-Type": JSON}
    if etag is not None:
        headers["ETag"] = f'"{etag}"'
    if location is not None:
        headers["Location"] = location
    return WholeAnswer(body, status, headers)


def answer_struct(value: msgspec.Struct, *, status: int = 200) -> WholeAnswer:
    return answer(encode(value), status=status)


async def begin_stream(call: Call, node_id: str, media_type: str = NDJSON) -> web.StreamResponse:
    """Send the head of an answer that follows piece by piece."""
    response = web.StreamResponse(
        headers={
            "Content-Type": media_type,
            "X-Stele-Node": node_id,
            "X-Request-Id": call.request_id,
            "Server": SERVER,
        }
    )
    response.enable_chunked_encoding()
    call.streaming = True
    await response.prepare(call.request)
    return response


def document_body(revision: Revision, proof: bytes | None = None) -> bytes:
    """The answer of GET document."""
    ending = b"}" if proof is None else b',"proof":' + proof + b"}"
    return (
        b'{"key":%b,"version":%d,"seq":%d,"tx":"%b","at":"%b","data":%b'
        % (
            encode(revision.key),
            revision.version,
            revision.seq,
            revision.tx.hex().encode(),
            format_time(revision.at).encode(),
            revision.payload,
        )
        + ending
    )


def listed_document(revision: Revision) -> bytes:
    """One document of a list."""
    return b'{"key":%b,"version":%d,"seq":%d,"at":"%b","data":%b}' % (
        encode(revision.key),
        revision.version,
        revision.seq,
        format_time(revision.at).encode(),
        revision.payload,
    )


def listed_revision(revision: Revision) -> bytes:
    """One revision of a history."""
    data = b',"data":' + revision.payload if revision.op == "put" else b""
    if revision.erased_by is not None:
        data = b',"erased":%d' % revision.erased_by
    return b'{"version":%d,"seq":%d,"tx":"%b","at":"%b","op":"%b"%b}' % (
        revision.version,
        revision.seq,
        revision.tx.hex().encode(),
        format_time(revision.at).encode(),
        revision.op.encode(),
        data,
    )


def written_body(ledger: str, table: str, key: str, version: int, seq: int, tx: bytes, at: int) -> bytes:
    """The answer of a PUT, POST or DELETE of one document."""
    return b'{"ledger":"%b","table":"%b","key":%b,"version":%d,"seq":%d,"tx":"%b","at":"%b"}' % (
        ledger.encode(),
        table.encode(),
        encode(key),
        version,
        seq,
        tx.hex().encode(),
        format_time(at).encode(),
    )
