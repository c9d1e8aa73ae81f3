"""A directory of RocksDB's files as one sequence of bytes, and back.

    length of the table (4, big-endian) | table | the files, one after the other

The table is a MessagePack array of [name, size in bytes], in the order of the names. Only names that RocksDB
gives (and rocksdict, to its settings) are taken, so that what comes from elsewhere stays inside its
directory.
"""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from storage import limits
from storage.errors import SnapshotInvalid

_LENGTH_SIZE_BYTES = 4
_NAME = r"^(\d{6,20}\.(sst|log|blob)|(MANIFEST|OPTIONS)-\d{6,20}|CURRENT|IDENTITY|rocksdict-config\.json)$"


class FileEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A file of the sequence."""

    name: Annotated[str, Meta(pattern=_NAME)]
    size_bytes: Annotated[int, Meta(ge=0, le=1 << 50)]


_decode = msgspec.msgpack.Decoder(list[FileEntry]).decode


class FileTable:
    """What is where in a sequence. `header` is its beginning, with the length."""

    def __init__(self, header: bytes, files: list[FileEntry]) -> None:
        self.header = header
        self.files = files
        self.offsets = list(accumulate((each.size_bytes for each in files), initial=len(header)))
        self.size_bytes = self.offsets[-1]

    @classmethod
    def of(cls, directory: Path) -> FileTable:
        """The table of the files that are in `directory`."""
        names = sorted(each.name for each in directory.iterdir() if re.match(_NAME, each.name))
        files = [FileEntry(name, (directory / name).stat().st_size) for name in names]
        table = msgspec.msgpack.encode(files)
        return cls(len(table).to_bytes(_LENGTH_SIZE_BYTES, "big") + table, files)

    @classmethod
    def parse(cls, start: bytes) -> FileTable | None:
        """The table that a sequence begins with; None while more of it is needed. Raises SnapshotInvalid."""
        length = int.from_bytes(start[:_LENGTH_SIZE_BYTES], "big")
        if length > limits.SNAPSHOT_TABLE_SIZE_BYTES_MAX:
            raise SnapshotInvalid(f"a table of {length} bytes")
        end = _LENGTH_SIZE_BYTES + length
        if len(start) < max(end, _LENGTH_SIZE_BYTES + 1):
            return None
        try:
            files = _decode(start[_LENGTH_SIZE_BYTES:end])
        except msgspec.MsgspecError as error:
            raise SnapshotInvalid(f"not a table of files: {error}") from error
        if len({each.name for each in files}) != len(files):
            raise SnapshotInvalid("a file is named twice")
        return cls(start[:end], files)

    def pieces(self, offset: int, size_bytes: int) -> Iterator[tuple[FileEntry | None, int, int]]:
        """(file, offset in it, size) of each piece of the sequence; None is the header."""
        end = min(offset + size_bytes, self.size_bytes)
        while offset < end:
            place = bisect_right(self.offsets, offset) - 1
            entry = self.files[place] if place >= 0 else None
            begin = self.offsets[place] if place >= 0 else 0
            stop = self.offsets[place + 1] if place >= 0 else len(self.header)
            yield entry, offset - begin, min(end, stop) - offset
            offset = min(end, stop)


class SequenceReader:
    """The sequence of the files in a directory, which must not change meanwhile. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.table = FileTable.of(directory)
        self._open: tuple[str, int] | None = None

    def read(self, offset: int, size_bytes: int) -> bytes:
        """`size_bytes` from `offset` on, fewer at the end."""
        parts: list[bytes] = []
        for entry, start, size in self.table.pieces(offset, size_bytes):
            if entry is None:
                parts.append(self.table.header[start : start + size])
                continue
            part = os.pread(self._descriptor(entry.name), size, start)
            if len(part) != size:
                raise OSError(f"{self._directory / entry.name} is shorter than it was")
            parts.append(part)
        return b"".join(parts)

    def _descriptor(self, name: str) -> int:
        if self._open is None or self._open[0] != name:
            self.close()
            self._open = name, os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
        descriptor = self._open[1]
        return descriptor

    def read_ahead(self, offset: int, size_bytes: int) -> None:
        """Has the kernel fetch what will be read next, so that `read` need not wait for the disk."""
        for entry, start, size in self.table.pieces(offset, size_bytes):
            if entry is not None and self._open is not None and self._open[0] == entry.name:
                os.posix_fadvise(self._open[1], start, size, os.POSIX_FADV_WILLNEED)

    def digest(self, cancelled: Callable[[], bool] = lambda: False) -> bytes:
        """SHA-256 of the sequence. Takes at most half of a processor; ends early when `cancelled`, with a
        digest of nothing."""
        hashed = sha256()
        for offset in range(0, self.table.size_bytes, limits.SNAPSHOT_READ_SIZE_BYTES):
            began_s = time.perf_counter()
            if cancelled():
                break
            hashed.update(self.read(offset, limits.SNAPSHOT_READ_SIZE_BYTES))
            time.sleep(time.perf_counter() - began_s)
        return hashed.digest()

    def close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None
