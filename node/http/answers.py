"""Response bodies, written from the stored bytes: a payload is never parsed to be answered."""

from __future__ import annotations

import msgspec
from aiohttp import web

from node.http.problems import SERVER
from node.http.route import JSON, NDJSON, Call
from stele.format.times import format_time
from storage.view import Revision

encode = msgspec.json.Encoder().encode


def answer(
    body: bytes, *, status: int = 200, etag: int | None = None, location: str | None = None
) -> web.Response:
    """A JSON response."""
    headers = {"Content-Type": JSON}
    if etag is not None:
        headers["ETag"] = f'"{etag}"'
    if location is not None:
        headers["Location"] = location
    return web.Response(body=body, status=status, headers=headers)


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
