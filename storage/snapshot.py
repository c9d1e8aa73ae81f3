"""Snapshots of a store: a checkpoint of the database that other nodes fetch, as a sequence of bytes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from storage import directory, keys, limits, rows
from storage.engine import Engine
from storage.errors import StorageError, StorageFailed
from storage.sequence import SequenceReader


class StoreSnapshot(NamedTuple):
    """What was made. `applied_index` is the Raft index of the last entry whose effects are in it."""

    digest: bytes
    size_bytes: int
    applied_index: int


class SnapshotCancelled(StorageError):
    """Nobody needs the snapshot any more."""


class StoreSnapshots:
    """Makes one snapshot at a time of an open database, next to it.

    `make` and `remove` may take long and belong on one thread of their own; `read` and `release` on the event
    loop's. Making one takes little room at first, but keeps files that the database would delete.
    """

    def __init__(self, engine: Engine, data_dir: Path) -> None:
        self._engine = engine
        self._path = data_dir / directory.CHECKPOINT
        self._reader: SequenceReader | None = None

    def make(self, cancelled: threading.Event) -> StoreSnapshot:
        """Makes one, unless it is `cancelled` first. Raises SnapshotCancelled, DiskSpaceShort, StorageFailed
        and OSError."""
        _check_wanted(cancelled)
        directory.remove(self._path)
        directory.check_room(self._path.parent, 2 * limits.WRITE_BUFFER_SIZE_BYTES)
        self._engine.checkpoint(self._path)
        copy = Engine(self._path, read_only=True)
        try:
            stored = copy.get(keys.APPLIED_INDEX)
        finally:
            copy.close()
        if stored is None:
            raise StorageFailed("there is nothing to make a snapshot of")
        reader = SequenceReader(self._path)
        try:
            digest = reader.digest(cancelled.is_set)
        finally:
            reader.close()
        _check_wanted(cancelled)
        return StoreSnapshot(digest, reader.table.size_bytes, rows.U64.unpack(stored)[0])

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Part of the sequence. Raises DiskSpaceShort when the files that it keeps endanger the database, and
        OSError."""
        directory.check_room(self._path.parent, 0)
        if self._reader is None:
            self._reader = SequenceReader(self._path)
        data = self._reader.read(offset, size_bytes)
        self._reader.read_ahead(offset + len(data), limits.SNAPSHOT_READ_AHEAD_SIZE_BYTES)
        return data

    def release(self) -> None:
        """Lets go of the files."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def remove(self) -> None:
        """Deletes it. Raises OSError."""
        directory.remove(self._path)


def _check_wanted(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise SnapshotCancelled("the snapshot is not needed any more")
