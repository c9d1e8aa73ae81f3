"""A LogStore on a RocksDB of its own, and a state machine that remembers what it was given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict, ReadOptions, WriteBatch


class RocksStore:
    """Rows in RocksDB."""

    def __init__(self, path: Path) -> None:
        self._database = Rdict(str(path), Options(raw_mode=True))
        self.batches = 0

    def write(
        self, puts: Sequence[tuple[bytes, bytes]], delete_ranges: Sequence[tuple[bytes, bytes]]
    ) -> None:
        batch = WriteBatch(raw_mode=True)
        for start, end in delete_ranges:
            batch.delete_range(start, end)
        for key, value in puts:
            batch.put(key, value)
        self._database.write(batch)
        self.batches += 1

    def sync(self) -> None:
        self._database.flush_wal(sync=True)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._database.get(key)
        return value

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        rows = self._database.iter(options)
        rows.seek(start)
        while rows.valid():
            key: Any = rows.key()
            value: Any = rows.value()
            yield key, value
            rows.next()

    def overwrite(self, key: bytes, value: bytes) -> None:
        """Damages a row behind the log's back."""
        self._database.put(key, value)

    def delete(self, key: bytes) -> None:
        """Loses a row behind the log's back."""
        self._database.delete(key)

    def close(self) -> None:
        self._database.close()


class Recorder:
    """A state machine: the payloads applied, in order; the result of applying one is its number."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []

    @property
    def applied_index(self) -> int:
        return self.applied[-1][0] if self.applied else 0

    def apply(self, index: int, payload: bytes) -> object:
        self.applied.append((index, payload))
        return len(self.applied)
