"""From documents to the NDJSON chunks of a bulk load. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from stele.client.encoding import append_json
from stele.client.errors import Invalid
from stele.client.limits import BULK_CHUNK_LINES_MAX, BULK_CHUNK_SIZE_BYTES_MAX
from stele.client.models import Json


class BulkLine(msgspec.Struct, omit_defaults=True):
    """One write of a bulk load.

    `data` is the document, and is left out for a delete. Without `key` the server makes one; without
    `table` the load's own table is meant.
    """

    key: str | None = None
    data: Json | msgspec.UnsetType = msgspec.UNSET
    table: str | None = None
    op: Literal["put", "delete"] = "put"


class Chunk(NamedTuple):
    """Whole lines in one piece: their bytes, and the numbers of the first line and the one past the last."""

    data: bytes
    first: int
    end: int

    def after(self, line: int) -> Chunk:
        """The part of the chunk from line number `line` on."""
        skipped = max(line - self.first, 0)
        return Chunk(self.data.split(b"\n", skipped)[skipped], self.first + skipped, self.end)


Line = BulkLine | bytes
"""A line as a struct, or ready as JSON text without a line feed in it."""


class ChunkBuilder:
    """Collects lines until a chunk is full. Lines are numbered from 1."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._first = 1
        self._end = 1

    def add(self, line: Line) -> bool:
        """Takes one line; returns whether the chunk is now full. Raises Invalid for a line that is none."""
        buffer = self._buffer
        start = len(buffer)
        if type(line) is bytes:
            buffer += line
        else:
            try:
                append_json(line, buffer)
            except Invalid as error:
                raise Invalid(f"line {self._end}: {error}") from error
        # Ready JSON text, also inside a BulkLine, may be laid out over several lines.
        if buffer.find(b"\n", start) >= 0 or len(buffer) == start:
            raise Invalid(f"line {self._end}: ready JSON text is not empty and holds no line feed")
        buffer += b"\n"
        self._end += 1
        return self._end - self._first >= BULK_CHUNK_LINES_MAX or len(buffer) >= BULK_CHUNK_SIZE_BYTES_MAX

    def take(self) -> Chunk:
        """The lines so far, possibly none, as a chunk; the next chunk begins after them."""
        chunk = Chunk(bytes(self._buffer), self._first, self._end)
        self._buffer.clear()
        self._first = self._end
        return chunk


def chunks_of(lines: Iterable[Line]) -> Iterator[Chunk]:
    """All lines in chunks."""
    builder = ChunkBuilder()
    for line in lines:
        if builder.add(line):
            yield builder.take()
    yield builder.take()


class Acknowledgement(msgspec.Struct, frozen=True):
    """What became of one line; the last object of a stream has `done` and no line number.

    `error` is the problem of a refused line. `duplicate`: an earlier attempt with the same
    Idempotency-Key had committed it.
    """

    line: int = 0
    table: str | None = None
    key: str | None = None
    version: int | None = None
    seq: int | None = None
    error: dict[str, Any] | None = None
    duplicate: bool = False
    done: bool = False


_decoder = msgspec.json.Decoder(Acknowledgement)


class AcknowledgementReader:
    """Parses acknowledgements out of the pieces the network brings, many in one go."""

    def __init__(self, line_size_bytes_max: int) -> None:
        self._rest = b""
        self._size_bytes_max = line_size_bytes_max

    def feed(self, piece: bytes) -> list[Acknowledgement]:
        """The acknowledgements completed by `piece`. Raises ValueError for what is none."""
        data = self._rest + piece if self._rest else piece
        complete = data.rfind(b"\n") + 1
        self._rest = data[complete:]
        if len(self._rest) > self._size_bytes_max:
            raise ValueError("an acknowledgement has no end")
        return _decoder.decode_lines(data[:complete]) if complete else []
