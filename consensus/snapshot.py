"""Snapshots (Raft thesis chapter 5): what consensus needs of whoever makes, keeps and installs them.

A snapshot is the state machine as it is after one entry, as a sequence of bytes whose inner form is nobody's
business here. A leader takes one with a SnapshotSource when a follower needs entries that the log no longer
has, and sends it in chunks; the follower keeps them in a SnapshotSink. Whoever drives the node stops it once
the sink has the whole of it, replaces the follower's state, and starts it again: a core never changes its
log or its state machine under itself.

Both are called on the core's thread, between its other work, and must not keep it waiting.
"""

from __future__ import annotations

from typing import Annotated, Protocol

from msgspec import Meta, Struct

from consensus import limits

Size = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Snapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Which snapshot: a leader says this with every chunk.

    `digest` is the SHA-256 of the whole sequence and the snapshot's name; `size_bytes` its length. `index`
    is the last entry in it and `term` that entry's term; `membership` is the cluster's as of that entry, as
    it lies in the log.
    """

    digest: Digest
    size_bytes: Size
    index: Size
    term: Size
    membership: Annotated[bytes, Meta(max_length=limits.MEMBERSHIP_SIZE_BYTES_MAX)]


class Taken(Struct, frozen=True):
    """What a source knows of the snapshot it has; fields as in Snapshot."""

    digest: bytes
    size_bytes: int
    index: int


class SnapshotFailed(Exception):
    """There is no snapshot: none could be made, what was made is gone, or what comes cannot be kept."""


class SnapshotSource(Protocol):
    """Makes snapshots of this node's state machine; has one at a time."""

    def begin(self) -> None:
        """Begins to make one in the place of any that there is. Nothing is told here of how it ends."""
        ...

    def taken(self) -> Taken | None:
        """The one that was begun, from when it can be read; None before. Raises SnapshotFailed when it could
        not be made; then, after a `release`, `begin` may be tried again."""
        ...

    def read(self, offset: int, size_bytes: int, /) -> bytes:
        """`size_bytes` of the sequence from `offset` on, fewer at its end. Raises SnapshotFailed."""
        ...

    def release(self) -> None:
        """Nobody needs it, or what is being made of it, any more. Safe to call when there is none."""
        ...


class SnapshotSink(Protocol):
    """Keeps the chunks of one snapshot at a time, over restarts if it can, and then has it installed."""

    def offset(self, snapshot: Snapshot, /) -> int:
        """How many bytes of `snapshot` are kept; drops whatever is kept of another one.

        Called before each `write`. Raises SnapshotFailed when there is no room for it.
        """
        ...

    def write(self, data: bytes, /) -> None:
        """Keeps what follows. Raises SnapshotFailed when it cannot be kept; what is kept is then dropped."""
        ...

    def finish(self, snapshot: Snapshot, /) -> None:
        """All of it is kept: check it and have the node installed with it. Returns at once, and may be
        called again. What does not pass the check is dropped, and comes again; what passes, but cannot be
        installed, stops the node (F8)."""
        ...

    def discard(self) -> None:
        """It is not needed any more: the log goes on from where it is. Safe to call when there is none."""
        ...
