"""What the state machine needs of a disk: ordered rows, and writes that are all or nothing.

`storage.engine.Engine` is one on RocksDB; the simulation (chaos/simulation) has one that loses power.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Batch(Protocol):
    """Rows of one atomic write, applied in the order they came."""

    @property
    def raw(self) -> Any:
        """The batch as the disk that made it knows it."""
        ...

    def put(self, key: bytes, value: bytes, /) -> None: ...
    def delete(self, key: bytes, /) -> None: ...
    def delete_range(self, start: bytes, end: bytes, /) -> None:
        """Deletes the rows with start <= key < end."""
        ...


class Cursor(Protocol):
    """A position among rows; both methods return the row there, or None past the end."""

    def seek(self, key: bytes, /) -> tuple[bytes, bytes] | None:
        """Goes to the first row at or after `key`."""
        ...

    def next(self) -> tuple[bytes, bytes] | None: ...


class Rows(Protocol):
    """What there is to read. Every method raises `StorageFailed` when the disk fails."""

    def get(self, key: bytes, /) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order, as they are when the scan begins."""
        ...


class Disk(Rows, Protocol):
    """As for `Rows`, every method raises `StorageFailed` when the disk fails."""

    def cursor(self, end: bytes, /) -> Cursor:
        """A cursor over the rows below `end`."""
        ...

    def last(self, start: bytes, end: bytes, /) -> tuple[bytes, bytes] | None:
        """The last row with start <= key < end."""
        ...

    def batch(self) -> Batch:
        """An empty batch for `write` of this disk."""
        ...

    def write(self, batch: Batch, /, *, sync: bool = False) -> None:
        """Writes `batch` atomically; on return it is on disk when `sync` is set, with all before it."""
        ...
