"""What the log needs of a disk: ordered rows, and batches that are on disk when they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class LogStore(Protocol):
    """Ordered rows on disk."""

    def write(
        self, puts: Sequence[tuple[bytes, bytes]], delete_ranges: Sequence[tuple[bytes, bytes]], /
    ) -> None:
        """One atomic batch: the ranges [start, end) are deleted first, then the rows are put.

        On disk when it returns, and with it everything the state machine applied before. An exception
        means that nothing is known about the batch; the node stops.
        """
        ...

    def get(self, key: bytes, /) -> bytes | None:
        """The row under `key`."""
        ...

    def scan(self, start: bytes, end: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order."""
        ...
