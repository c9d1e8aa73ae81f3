"""A snapshot source and a sink in memory."""

from __future__ import annotations

from hashlib import sha256

from consensus.snapshot import Snapshot, SnapshotFailed, Taken


class MemorySource:
    """Snapshots of `content`; `ready` says when one can be read, `failure` why none can be made."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.index = 0
        self.begun = 0
        self.held = False
        self.ready = True
        self.failure: str | None = None

    def begin(self) -> None:
        self.begun += 1
        self.held = True

    def taken(self) -> Taken | None:
        if self.failure is not None:
            raise SnapshotFailed(self.failure)
        return Taken(sha256(self.content).digest(), len(self.content), self.index) if self.ready else None

    def read(self, offset: int, size_bytes: int, /) -> bytes:
        if self.failure is not None:
            raise SnapshotFailed(self.failure)
        assert self.held
        return self.content[offset : offset + size_bytes]

    def release(self) -> None:
        self.held = False


class MemorySink:
    """Keeps what comes; `room` is how much it can keep."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.room = room
        self.name: Snapshot | None = None
        self.kept = b""
        self.finished: list[Snapshot] = []

    def offset(self, snapshot: Snapshot, /) -> int:
        if self.name is None or self.name.digest != snapshot.digest:
            self.name, self.kept = snapshot, b""
        return len(self.kept)

    def write(self, data: bytes, /) -> None:
        if len(self.kept) + len(data) > self.room:
            self.discard()
            raise SnapshotFailed("no room")
        self.kept += data

    def finish(self, snapshot: Snapshot, /) -> None:
        self.finished.append(snapshot)

    def discard(self) -> None:
        self.name, self.kept = None, b""
