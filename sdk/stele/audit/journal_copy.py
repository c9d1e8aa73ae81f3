"""An auditor's own copy of a journal: a directory of plain files, of which one process is the owner.

`journal.ndjson` has a line that names the ledger, then a block a line, as exported. Blocks are added only
after all of them were checked against a signed checkpoint, which is then `checkpoint.note`. `replay.state` is
what the replay has come to, so that the next one is short. What contradicts a checkpoint is kept beside it,
under the name of evidence.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from stele.files import write_whole
from stele.verify.limits import EXPORT_LINE_SIZE_BYTES_MAX


class CopyDamaged(Exception):
    """The copy cannot be used. It is never repaired on its own: it is the auditor's memory."""


class CopyHead(msgspec.Struct, forbid_unknown_fields=True):
    """The first line: which journal this is a copy of."""

    stele_copy: int
    ledger: str
    ledger_id: str
    origin: str


class JournalCopy:
    """The files of one copy."""

    def __init__(self, directory: Path, head: CopyHead) -> None:
        """Opens or makes the copy. Raises CopyDamaged when it is of another journal, or in use."""
        self.directory = directory
        self._journal = directory / "journal.ndjson"
        self._incoming = directory / "incoming.ndjson"
        self._note = directory / "checkpoint.note"
        self._replay = directory / "replay.state"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("ab")
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._incoming.unlink(missing_ok=True)
            if not self._journal.exists():
                write_whole(self._journal, msgspec.json.encode(head) + b"\n")
            self._begin_bytes = self._check_head(head)
            self._cut_torn_line()
        except OSError as error:
            raise CopyDamaged(f"cannot use {directory}: {error.strerror or error}") from error

    def close(self) -> None:
        """Lets another process have the copy."""
        self._lock.close()

    @property
    def size_bytes(self) -> int:
        return self._journal.stat().st_size

    def note(self) -> str | None:
        """The checkpoint that the copy was last checked against."""
        try:
            return self._note.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CopyDamaged(f"cannot read {self._note}: {error}") from error

    def blocks(self, offset_bytes: int | None = None) -> Iterator[bytes]:
        """Every block of the copy, in order; or those from an offset on, at which one begins."""
        with self._journal.open("rb") as file:
            file.seek(self._begin_bytes if offset_bytes is None else offset_bytes)
            while line := file.readline(EXPORT_LINE_SIZE_BYTES_MAX + 2):
                yield line.removesuffix(b"\n")

    @property
    def begin_bytes(self) -> int:
        """Where the first block begins."""
        return self._begin_bytes

    def hashed(self, offset_bytes: int) -> hashlib._Hash:
        """SHA-256 over the file up to an offset, to go on with. Raises CopyDamaged when it is shorter."""
        digest = hashlib.sha256()
        try:
            with self._journal.open("rb") as file:
                while offset_bytes and (piece := file.read(min(1 << 20, offset_bytes))):
                    digest.update(piece)
                    offset_bytes -= len(piece)
        except OSError as error:
            raise CopyDamaged(f"cannot read {self._journal}: {error.strerror or error}") from error
        if offset_bytes:
            raise CopyDamaged(f"{self._journal} is shorter than it was")
        return digest

    def keep_replay(self, frames: Iterable[bytes]) -> None:
        """Keep what the replay of the copy has come to (stele.verify.saved_chain)."""
        temporary = self._replay.with_name(self._replay.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                for frame in frames:
                    file.write(len(frame).to_bytes(4, "big") + frame)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._replay)
        except OSError as error:
            raise CopyDamaged(f"cannot write {self._replay}: {error.strerror or error}") from error

    def replay(self) -> Iterator[bytes] | None:
        """The frames that `keep_replay` kept; None when there are none."""
        return self._frames() if self._replay.exists() else None

    def _frames(self) -> Iterator[bytes]:
        with self._replay.open("rb") as file:
            while len(size := file.read(4)) == 4:
                yield file.read(min(int.from_bytes(size, "big"), EXPORT_LINE_SIZE_BYTES_MAX))

    def incoming(self) -> Incoming:
        """Where blocks go that are not yet checked against a checkpoint."""
        return Incoming(self._incoming)

    def accept(self, incoming: Incoming, note: str) -> None:
        """Add blocks that were checked, and the checkpoint that they were checked against."""
        incoming.close()
        try:
            with self._incoming.open("rb") as source, self._journal.open("ab") as file:
                while piece := source.read(1 << 20):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            write_whole(self._note, note.encode())
            self._incoming.unlink()
        except OSError as error:
            raise CopyDamaged(f"cannot write {self.directory}: {error.strerror or error}") from error

    def refuse(self, incoming: Incoming, note: str) -> Path:
        """Keep what contradicts a signed checkpoint, as evidence; where it is."""
        incoming.close()
        number = sum(1 for _ in self.directory.glob("evidence-*.note"))
        evidence = self.directory / f"evidence-{number}.ndjson"
        os.replace(self._incoming, evidence)
        write_whole(evidence.with_suffix(".note"), note.encode())
        return evidence

    def _check_head(self, head: CopyHead) -> int:
        with self._journal.open("rb") as file:
            line = file.readline(EXPORT_LINE_SIZE_BYTES_MAX)
        try:
            found = msgspec.json.decode(line, type=CopyHead)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CopyDamaged(f"{self._journal} is no copy of a journal: {error}") from error
        if found != head:
            raise CopyDamaged(f"{self._journal} is a copy of {found.origin} ({found.ledger_id})")
        return len(line)

    def _cut_torn_line(self) -> None:
        """A crash may have left the beginning of a line at the end, or lines that no checkpoint covers."""
        with self._journal.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            while end > self._begin_bytes:
                start = max(self._begin_bytes, end - (1 << 20))
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            file.truncate(end)


class Incoming:
    """Blocks on their way into the copy."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def add(self, line: bytes) -> None:
        self._file.write(line + b"\n")

    def close(self) -> None:
        self._file.close()
