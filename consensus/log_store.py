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

        On disk after the next `sync`. An exception means that nothing is known about the batch; the node
        stops.
        """
        ...

    def sync(self) -> None:
        """On disk is, when it returns, everything written before the call, and everything that the state
        machine applied before the last `write`.

        May run on a thread of its own, beside reads and writes of the node's. An exception means that nothing
        is known about what was written; the node stops.
        """
        ...

    def get(self, key: bytes, /) -> bytes | None:
        """The row under `key`."""
        ...

    def scan(self, start: bytes, end: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order."""
        ...
