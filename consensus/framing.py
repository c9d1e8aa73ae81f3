"""Frames on a stream: four bytes of length, big-endian, then as many bytes of body."""

from __future__ import annotations

from collections.abc import Iterator

from consensus.errors import MalformedMessage

_LENGTH_SIZE_BYTES = 4


def frame(body: bytes) -> bytes:
    """One frame. Messages are bounded where they are built, so the length always fits."""
    return len(body).to_bytes(_LENGTH_SIZE_BYTES, "big") + body


class FrameReader:
    """Cuts a stream into bodies of 1 to `size_bytes_max` bytes; the limit may change between two of them."""

    def __init__(self, size_bytes_max: int) -> None:
        self.size_bytes_max = size_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the bodies that `data` completes.

        Raises MalformedMessage as soon as a length is over the limit, before its body is awaited.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH_SIZE_BYTES:
                body_start = start + _LENGTH_SIZE_BYTES
                size_bytes = int.from_bytes(buffer[start:body_start], "big")
                if not 0 < size_bytes <= self.size_bytes_max:
                    raise MalformedMessage(f"a frame of {size_bytes} bytes; at most {self.size_bytes_max}")
                if len(buffer) - body_start < size_bytes:
                    return
                start = body_start + size_bytes
                yield bytes(memoryview(buffer)[body_start:start])
        finally:
            del buffer[:start]
