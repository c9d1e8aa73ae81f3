"""A disk that loses power, with RocksDB's semantics (storage/engine.py, docs/adr/0001 and 0004).

One write-ahead log for the Raft rows, which are synced after they are written, and for the state machine's,
which are not: a sync makes everything before it durable. After a power cut what was synced is there, and of
the rest of the log a random number of bytes; the record that this cuts in two is dropped, as recovery does
with a torn tail. After a kill of the process alone everything written is there, because the kernel has it.
"""

from __future__ import annotations

import random
import zlib
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from storage.disk import Batch

Row: TypeAlias = tuple[bytes, bytes]
Change: TypeAlias = tuple[int, int, bytes, bytes]
"""Family, kind (one of the three below) and its operands."""

PUT, DELETE, DELETE_RANGE = range(3)
STATE, RAFT = range(2)
_ENTRIES_GO = (RAFT, DELETE_RANGE)
_HEADER_SIZE_BYTES = 8
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Change]).decode


class DiskFailed(OSError):
    """The disk reports an error; the write may have reached it or not."""


class PowerLost(Exception):
    """The machine went down in the middle of a write."""


class Fate(Enum):
    """What becomes of the next write."""

    DONE = "done"
    FAILED = "failed"
    POWER_LOST = "power lost"


class OrderedRows:
    """Rows in the order of their keys."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def copy(self) -> OrderedRows:
        copied = OrderedRows()
        copied._values, copied._keys = dict(self._values), list(self._keys)
        return copied

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderedRows) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def size_bytes(self) -> int:
        return sum(len(key) + len(value) for key, value in self._values.items())

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def at_or_after(self, key: bytes) -> Row | None:
        place = bisect_left(self._keys, key)
        if place == len(self._keys):
            return None
        found = self._keys[place]
        return found, self._values[found]

    def between(self, start: bytes, end: bytes) -> list[Row]:
        found = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end)]
        return [(key, self._values[key]) for key in found]

    def last(self, start: bytes, end: bytes) -> Row | None:
        place = bisect_left(self._keys, end)
        if place == 0 or self._keys[place - 1] < start:
            return None
        found = self._keys[place - 1]
        return found, self._values[found]

    def change(self, kind: int, first: bytes, second: bytes) -> None:
        if kind == PUT:
            if first not in self._values:
                insort(self._keys, first)
            self._values[first] = second
            return
        end = second if kind == DELETE_RANGE else first + b"\0"
        low, high = bisect_left(self._keys, first), bisect_left(self._keys, end)
        for key in self._keys[low:high]:
            del self._values[key]
        del self._keys[low:high]


class SimulatedBatch:
    """Collects the changes of one record of the write-ahead log."""

    def __init__(self) -> None:
        self.raw: list[Change] = []

    def put(self, key: bytes, value: bytes, /) -> None:
        self.raw.append((STATE, PUT, key, value))

    def delete(self, key: bytes, /) -> None:
        self.raw.append((STATE, DELETE, key, b""))

    def delete_range(self, start: bytes, end: bytes, /) -> None:
        self.raw.append((STATE, DELETE_RANGE, start, end))


class SimulatedCursor:
    """Walks the rows below an end."""

    def __init__(self, rows: OrderedRows, end: bytes) -> None:
        self._rows = rows
        self._end = end
        self._at: bytes | None = None

    def seek(self, key: bytes, /) -> Row | None:
        row = self._rows.at_or_after(key)
        if row is None or row[0] >= self._end:
            self._at = None
            return None
        self._at = row[0]
        return row

    def next(self) -> Row | None:
        return None if self._at is None else self.seek(self._at + b"\0")


class SimulatedDisk:
    """One node's disk; satisfies `storage.disk.Disk`, and `raft_rows` the log's `LogStore`.

    `fate` is asked before each write and each sync, with whether it is a sync and whether it deletes entries
    of the log.
    `on_raft_rows` sees the rows of each batch of the log that came through.
    """

    def __init__(self, rng: random.Random, fate: Callable[[bool, bool], Fate]) -> None:
        self.families = (OrderedRows(), OrderedRows())
        self.raft_rows = SimulatedRaftRows(self)
        self.last_record = b""
        self.on_raft_rows: Callable[[Sequence[Row]], None] = lambda rows: None
        self._rng = rng
        self._fate = fate
        self._durable = (OrderedRows(), OrderedRows())
        self._unsynced: list[list[Change]] = []
        self._unsynced_log = bytearray()
        self._broken = False

    @property
    def durable_raft_rows(self) -> OrderedRows:
        """The log's rows that a power cut now would leave, whatever becomes of what is not synced."""
        return self._durable[RAFT]

    @property
    def size_bytes(self) -> int:
        """Of all rows that are there now."""
        return sum(family.size_bytes for family in self.families)

    def get(self, key: bytes, /) -> bytes | None:
        return self.families[STATE].get(key)

    def scan(self, start: bytes, end: bytes, /) -> Iterator[Row]:
        return iter(self.families[STATE].between(start, end))

    def cursor(self, end: bytes, /) -> SimulatedCursor:
        return SimulatedCursor(self.families[STATE], end)

    def last(self, start: bytes, end: bytes, /) -> Row | None:
        return self.families[STATE].last(start, end)

    def batch(self) -> SimulatedBatch:
        return SimulatedBatch()

    def write(self, batch: Batch, /, *, sync: bool = False) -> None:
        self.append(batch.raw)
        if sync:
            self.sync()

    def append(self, changes: Any) -> None:
        """One record of the write-ahead log. Raises DiskFailed and PowerLost; the node is then down."""
        fate = self._next_fate(False, any(change[:2] == _ENTRIES_GO for change in changes))
        body = _encode(changes)
        record = len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body
        self._unsynced_log += record
        self._meet(fate)
        self.last_record = record
        self._unsynced.append(changes)
        _apply(changes, self.families)

    def sync(self) -> None:
        """Raises DiskFailed and PowerLost; what was not synced may then be on the disk or not."""
        self._meet(self._next_fate(True, False))
        self._make_durable()

    def _next_fate(self, synced: bool, deletes: bool) -> Fate:
        if self._broken:
            raise DiskFailed("the disk failed before")
        return self._fate(synced, deletes)

    def _meet(self, fate: Fate) -> None:
        if fate is not Fate.DONE:
            self._broken = True
            raise DiskFailed("simulated") if fate is Fate.FAILED else PowerLost("simulated")

    def _make_durable(self) -> None:
        for changes in self._unsynced:
            _apply(changes, self._durable)
        self._unsynced.clear()
        self._unsynced_log.clear()

    def replace(self, rows: tuple[OrderedRows, OrderedRows]) -> None:
        """Everything that is on it goes, and `rows` come in its place, as by one rename."""
        self.families = rows
        self._durable = (rows[STATE].copy(), rows[RAFT].copy())
        self._unsynced.clear()
        self._unsynced_log.clear()
        self._broken = False

    def recover(self, *, power_lost: bool) -> int:
        """What the next start finds; returns how many bytes of the write-ahead log are gone."""
        log = bytes(self._unsynced_log)
        kept = len(log)
        if power_lost:
            # The ends are drawn more often: nothing came to the disk, or all of it, untold.
            kept = self._rng.choice((0, kept, self._rng.randint(0, kept)))
        for changes in _whole_records(log[:kept]):
            _apply(changes, self._durable)
        self.families = (self._durable[STATE].copy(), self._durable[RAFT].copy())
        self._unsynced.clear()
        self._unsynced_log.clear()
        self._broken = False
        return len(log) - kept


class SimulatedRaftRows:
    """The Raft log's rows on a simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    def write(self, puts: Sequence[Row], delete_ranges: Sequence[tuple[bytes, bytes]], /) -> None:
        changes = [(RAFT, DELETE_RANGE, start, end) for start, end in delete_ranges]
        changes += [(RAFT, PUT, key, value) for key, value in puts]
        self._disk.append(changes)
        self._disk.on_raft_rows(puts)

    def sync(self) -> None:
        self._disk.sync()

    def get(self, key: bytes, /) -> bytes | None:
        return self._disk.families[RAFT].get(key)

    def scan(self, start: bytes, end: bytes, /) -> Iterator[Row]:
        return iter(self._disk.families[RAFT].between(start, end))


def _apply(changes: Sequence[Change], families: tuple[OrderedRows, OrderedRows]) -> None:
    for family, kind, first, second in changes:
        families[family].change(kind, first, second)


def _whole_records(log: bytes) -> Iterator[list[Change]]:
    """The records of a write-ahead log up to its torn end."""
    place = 0
    while place + _HEADER_SIZE_BYTES <= len(log):
        size = int.from_bytes(log[place : place + 4], "big")
        body = log[place + _HEADER_SIZE_BYTES : place + _HEADER_SIZE_BYTES + size]
        if len(body) < size or zlib.crc32(body).to_bytes(4, "big") != log[place + 4 : place + 8]:
            return
        yield _decode(body)
        place += _HEADER_SIZE_BYTES + size
