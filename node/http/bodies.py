"""Request bodies: read within a limit, decoded strictly.

Nothing is written before a body is complete and valid, so a half-sent one leaves no trace.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from aiohttp import ClientPayloadError, StreamReader
from aiohttp.http_exceptions import HttpProcessingError

from node import limits
from node.http.parameters import field_problem
from node.http.problems import Problem
from node.http.route import Call
from stele.format.canonical import parse, parse_object
from stele.format.errors import CanonicalError

_SLUGS = {
    "json-syntax": "invalid-json",
    "duplicate-member": "duplicate-member",
    "number-out-of-range": "invalid-number",
    "not-finite": "invalid-number",
    "invalid-utf8": "invalid-utf8",
    "lone-surrogate": "invalid-utf8",
    "too-deep": "nesting-too-deep",
    "too-large": "body-too-large",
    "not-an-object": "not-an-object",
    "unsupported-type": "invalid-json",
}

BROKEN_BODY = (ClientPayloadError, HttpProcessingError, ConnectionError)
"""What reading a body raises when its sender breaks off."""

StructType = TypeVar("StructType", bound=msgspec.Struct)


class BodyBudget:
    """Counts the bytes of the request bodies in memory, so that their sum has a bound."""

    def __init__(self, size_bytes_max: int) -> None:
        self._left_bytes = size_bytes_max

    def reserve(self, call: Call, size_bytes: int) -> None:
        """Raises Problem (overloaded)."""
        if size_bytes > self._left_bytes:
            raise Problem(
                "overloaded", "too many large requests at once", limit=limits.BODIES_IN_FLIGHT_BYTES_MAX
            )
        self._left_bytes -= size_bytes
        call.reserved_bytes += size_bytes

    def release(self, call: Call) -> None:
        self._left_bytes += call.reserved_bytes
        call.reserved_bytes = 0


async def accept_body(call: Call) -> None:
    """Tell a client that asked first (Expect: 100-continue; RFC 9110, section 10.1.1) to send the body."""
    if call.request.headers.get("Expect", "").lower() == "100-continue":
        await call.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim answer is no part of the final one, whose head is not sent yet.
        call.request.writer.output_size = 0


def check_encoding(call: Call) -> None:
    """Raises Problem for a body that is compressed (RFC 9110, section 15.5.16)."""
    encoding = call.request.headers.get("Content-Encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise Problem(
            "unsupported-encoding",
            f"Content-Encoding is {encoding[:64]!r}; send the body as it is",
            field="Content-Encoding",
            headers={"Accept-Encoding": "identity", "Connection": "close"},
        )


async def read_body(call: Call, budget: BodyBudget, size_bytes_max: int) -> bytes:
    """The whole body. Raises Problem (body-too-large, incomplete-body, overloaded, unsupported-encoding)."""
    check_encoding(call)
    content = call.request.content
    if content.is_eof() and not content.exception():
        body = content.read_nowait(-1)
        if len(body) > size_bytes_max:
            raise _too_large(size_bytes_max)
        return body
    length = call.request.content_length
    if length is not None and length > size_bytes_max:
        raise _too_large(size_bytes_max)
    budget.reserve(call, size_bytes_max if length is None else length)
    await accept_body(call)
    try:
        async with asyncio.timeout(limits.BODY_DEADLINE_S):
            return await _read_within(content, size_bytes_max)
    except TimeoutError as error:
        raise Problem(
            "incomplete-body",
            f"the body stopped for {limits.BODY_TIMEOUT_S:.0f} s, or took longer than "
            f"{limits.BODY_DEADLINE_S:.0f} s; nothing was written",
        ) from error
    except BROKEN_BODY as error:
        raise broken_off(error) from error


def broken_off(error: Exception, *, streamed: bool = False) -> Problem:
    """The problem for one of `BROKEN_BODY`. Of what is streamed, a part may have been done by then."""
    reason = (error.message if isinstance(error, HttpProcessingError) else str(error)).rstrip(".")
    done = "lines before that may have been committed" if streamed else "nothing was written"
    return Problem("incomplete-body", f"the body broke off ({reason}); {done}")


async def _read_within(content: StreamReader, size_bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        async with asyncio.timeout(limits.BODY_TIMEOUT_S):
            chunk = await content.readany()
        if not chunk:
            return b"".join(chunks)
        size_bytes += len(chunk)
        if size_bytes > size_bytes_max:
            raise _too_large(size_bytes_max)
        chunks.append(chunk)


def _too_large(size_bytes_max: int) -> Problem:
    # What is still on its way is not read: the connection ends with this answer.
    return Problem(
        "body-too-large",
        f"the body may have at most {size_bytes_max} bytes",
        limit=size_bytes_max,
        headers={"Connection": "close"},
    )


def document_problem(error: CanonicalError, limit: int) -> Problem:
    """The problem for JSON that has no canonical form here."""
    slug = _SLUGS[error.code]
    return Problem(
        slug,
        str(error),
        field=error.path if error.path else msgspec.UNSET,
        limit=limit if slug == "body-too-large" else msgspec.UNSET,
    )


def parse_document(body: bytes) -> bytes:
    """The canonical bytes of a document. Raises Problem."""
    try:
        return parse_object(body, size_bytes_max=limits.DOCUMENT_SIZE_BYTES_MAX)[1]
    except CanonicalError as error:
        raise document_problem(error, limits.DOCUMENT_SIZE_BYTES_MAX) from error


def parse_struct(body: bytes, kind: type[StructType], size_bytes_max: int) -> tuple[StructType, bytes]:
    """Decode a JSON body into `kind`; also its canonical bytes. Raises Problem.

    The canonical parser refuses what msgspec lets pass (duplicate members, numbers that round),
    msgspec then checks the form.
    """
    try:
        value, canonical = parse(body, size_bytes_max=size_bytes_max)
    except CanonicalError as error:
        raise document_problem(error, size_bytes_max) from error
    if not isinstance(value, dict):
        raise Problem("not-an-object", "the body must be a JSON object")
    try:
        return msgspec.convert(value, kind, strict=True), canonical
    except msgspec.ValidationError as error:
        raise field_problem(error) from error
