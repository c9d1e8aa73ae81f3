"""A snapshot of another node's store: received, checked, and made this node's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from storage import directory
from storage.directory import Step, nothing
from storage.engine import Engine, RaftRows
from storage.errors import SnapshotInvalid
from storage.received_check import carry_notes, check_received
from storage.sequence import FileTable, SequenceReader
from storage.snapshot import SnapshotCancelled
from storage.store import Store

_FILES = "files"
_HEADER = "header"
_NAME = "name"


class _Name(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Which snapshot is being received."""

    digest: bytes
    size_bytes: int


class ReceivedSnapshot:
    """What has come of one snapshot, in received/ of the data directory; it goes on there after a restart.

    What is kept is not synced as it comes: a power cut may damage it, and `check` finds that out. All methods
    but `check` belong on the event loop's thread.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / directory.RECEIVED
        self._name: _Name | None = None
        self._header = b""
        self._table: FileTable | None = None
        self._offset = 0
        self._descriptor: tuple[str, int] | None = None
        self._load()

    def _load(self) -> None:
        """Finds what a former process received."""
        if not self._path.exists():
            return
        try:
            self._name = msgspec.msgpack.decode((self._path / _NAME).read_bytes(), type=_Name)
            table = self._take_header((self._path / _HEADER).read_bytes())
        except (OSError, msgspec.MsgspecError, SnapshotInvalid):
            self.discard()
            return
        for entry in table.files if table else ():
            file = self._path / _FILES / entry.name
            size_bytes = min(file.stat().st_size, entry.size_bytes) if file.exists() else 0
            self._offset += size_bytes
            if size_bytes < entry.size_bytes:
                break

    def offset(self, digest: bytes, size_bytes: int) -> int:
        """How many bytes of this snapshot are kept; begins it, in the place of another, when it is new.

        Raises DiskSpaceShort and OSError.
        """
        name = _Name(digest, size_bytes)
        if self._name != name:
            self.discard()
            directory.check_room(self._data_dir, size_bytes)
            (self._path / _FILES).mkdir(parents=True)
            (self._path / _NAME).write_bytes(msgspec.msgpack.encode(name))
            self._name = name
        return self._offset

    def write(self, data: bytes) -> None:
        """Keeps what follows. Raises SnapshotInvalid, DiskSpaceShort and OSError, and drops what was kept."""
        try:
            self._write(data)
        except BaseException:
            self.discard()
            raise

    def _write(self, data: bytes) -> None:
        directory.check_room(self._data_dir, len(data))
        table = self._table
        if table is None:
            known = len(self._header)
            table = self._take_header(self._header + data)
            if table is None:
                return
            (self._path / _HEADER).write_bytes(self._header)
            data = data[self._offset - known :]
        written = 0
        for entry, start, size in table.pieces(self._offset, len(data)):
            if entry is not None:
                self._write_piece(entry.name, start, data[written : written + size])
            written += size
        self._offset += written

    def _take_header(self, start: bytes) -> FileTable | None:
        """The sequence's beginning, as far as it is known. Raises SnapshotInvalid."""
        self._table = FileTable.parse(start)
        self._header = start if self._table is None else self._table.header
        self._offset = len(self._header)
        if self._table is not None and self._name and self._table.size_bytes != self._name.size_bytes:
            raise SnapshotInvalid("the files of a snapshot are not as long as it should be")
        return self._table

    def _write_piece(self, name: str, start: int, data: bytes) -> None:
        if self._descriptor is None or self._descriptor[0] != name:
            self._close()
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = name, os.open(self._path / _FILES / name, flags, 0o644)
        written = os.pwrite(self._descriptor[1], data, start)
        if written != len(data):
            raise OSError(f"{written} of {len(data)} bytes were written to {name}")

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor[1])
            self._descriptor = None

    def discard(self) -> None:
        """Drops what was received, if anything was. Raises OSError."""
        self._close()
        if self._name is not None or self._path.exists():
            directory.remove(self._path)
        self._name, self._table, self._header, self._offset = None, None, b"", 0

    def close(self) -> None:
        """Lets go of the files, which stay."""
        self._close()

    def check(self, applied_index: int, cancelled: threading.Event) -> None:
        """Checks everything that was received, and leaves it as it is. May take long, on any thread.

        Raises SnapshotCancelled, SnapshotInvalid when it is not what was sent, and what `check_received`
        raises when what was sent is not a sound store.
        """
        files = self._path / _FILES
        name = self._name
        try:
            for entry in self._table.files if self._table else ():
                (files / entry.name).touch()  # One without a byte has not come with any.
            directory.sync_tree(files)
            reader = SequenceReader(files)
            try:
                digest = reader.digest(cancelled.is_set)
            finally:
                reader.close()
        except OSError as error:
            raise SnapshotInvalid(f"a snapshot that was received cannot be read: {error}") from error
        if cancelled.is_set():
            raise SnapshotCancelled("the node stops")
        if name is None or digest != name.digest:
            raise SnapshotInvalid("a snapshot that was received is not the one that was sent")
        check_received(files, applied_index)

    def complete(self, store: Store, own: Callable[[RaftRows], None], step: Step = nothing) -> None:
        """Makes the checked snapshot the database that the next start opens.

        `own` makes its Raft rows this node's. `store`, this node's present one, must not contradict the
        snapshot; its signed checkpoints are taken over. It is not to be written to any more. Raises
        StorageError and OSError, and what `own` raises.
        """
        step("take")
        self._close()
        completing = self._data_dir / directory.COMPLETING
        directory.remove(completing)
        (self._path / _FILES).rename(completing)
        self.discard()
        engine = Engine(completing)
        try:
            carry_notes(store, engine)
            step("own")
            own(engine.raft_rows)
            engine.flush()
        finally:
            engine.close()
        directory.complete(self._data_dir, step)
