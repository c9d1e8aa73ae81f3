"""Response bodies, written from the stored bytes: a payload is never parsed to be answered."""

from __future__ import annotations

import time
from email.utils import formatdate

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from node.http.problems import SERVER
from node.http.route import JSON, NDJSON, Call
from stele.format.times import format_time
from storage.view import Revision

encode = msgspec.json.Encoder().encode


class WholeAnswer(web.Response):
    """Head and body in one write, past the steps that aiohttp takes for what these answers never are:
    chunked, compressed, with cookies. Those are a sixth of what aiohttp's server costs a request.

    Where the head depends on the request (HEAD, HTTP/1.0, a connection that ends) it is aiohttp's.
    """

    _written = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        usual = request.version == HttpVersion11 and request.method != "HEAD" and request.keep_alive
        if not usual or self.prepared or self.keep_alive is False or not isinstance(self.body, bytes):
            return await super().prepare(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(self.head(len(self.body)) + self.body)
        request.writer.output_size += len(self.body)
        self._written = True
        return None

    def head(self, size_bytes: int) -> bytes:
        """The head for a body of this size. Raises ValueError for a header that would be two."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}", f"Content-Length: {size_bytes}", date_header()]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1:
            raise ValueError("a line break in a header")
        return head.encode() + b"\r\n\r\n"

    async def write_eof(self, data: bytes = b"") -> None:
        if not self._written:
            await super().write_eof(data)

    @property
    def keep_alive(self) -> bool | None:
        return True if self._written else super().keep_alive


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
) -> web.Response:
    """A JSON response."""
    headers = {"Content-Type": JSON}
    if etag is not None:
        headers["ETag"] = f'"{etag}"'
    if location is not None:
        headers["Location"] = location
    return WholeAnswer(body=body, status=status, headers=headers)


def answer_struct(value: msgspec.Struct, *, status: int = 200) -> web.Response:
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
