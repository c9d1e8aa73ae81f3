"""Snapshots of a simulated disk: satisfies consensus.snapshot, with the faults that a real one has.

Making one takes time and may fail. What was received is not synced: a power cut leaves part of it, or
something else, which the digest must show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from chaos.simulation.disk import DELETE_RANGE, PUT, OrderedRows, Row, SimulatedDisk
from chaos.simulation.scheduler import Scheduler
from consensus.install import replace_log
from consensus.snapshot import Snapshot, SnapshotFailed, Taken
from storage import keys, rows

_MAKING_S_MAX = 0.1
_MAKING_FAILS = 0.05
_KEEPING_FAILS = 0.01

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[Row], list[Row]]).decode


def is_as_sent(content: bytes, snapshot: Snapshot) -> bool:
    """Whether what was received is the snapshot that was announced."""
    return hashlib.sha256(content).digest() == snapshot.digest


class SimulatedSource:
    """Snapshots of one node's disk."""

    def __init__(self, disk: SimulatedDisk, scheduler: Scheduler, faults: Callable[[], bool]) -> None:
        self._disk = disk
        self._faults = faults
        self._scheduler = scheduler
        self._ready_at: float | None = None
        self._content = b""
        self._taken: Taken | None = None

    def begin(self) -> None:
        self.release()
        self._ready_at = self._scheduler.now + self._scheduler.rng.uniform(0.0, _MAKING_S_MAX)

    def taken(self) -> Taken | None:
        if self._ready_at is None or self._scheduler.now < self._ready_at:
            return None
        if self._taken is None:
            self._taken = self._take()
        return self._taken

    def _take(self) -> Taken:
        stored = self._disk.get(keys.APPLIED_INDEX)
        if stored is None or (self._faults() and self._scheduler.rng.random() < _MAKING_FAILS):
            raise SnapshotFailed("simulated")
        state, raft = (family.between(b"", b"\xff" * 9) for family in self._disk.families)
        self._content = _encode((state, raft))
        digest = hashlib.sha256(self._content).digest()
        return Taken(digest, len(self._content), rows.U64.unpack(stored)[0])

    def read(self, offset: int, size_bytes: int, /) -> bytes:
        if self._taken is None:
            raise SnapshotFailed("there is none")
        return self._content[offset : offset + size_bytes]

    def release(self) -> None:
        self._ready_at, self._taken, self._content = None, None, b""


class SimulatedSink:
    """What one node has received; `on_received` is told when all of it is there and has been checked."""

    def __init__(
        self, scheduler: Scheduler, faults: Callable[[], bool], on_received: Callable[[Snapshot], None]
    ) -> None:
        self._scheduler = scheduler
        self._faults = faults
        self._on_received = on_received
        self._name: tuple[bytes, int] | None = None
        self._kept = b""
        self._checking = False

    def offset(self, snapshot: Snapshot, /) -> int:
        name = snapshot.digest, snapshot.size_bytes
        if self._name != name:
            if self._checking:  # As node/snapshots.py: what is being checked must not change.
                raise SnapshotFailed("another snapshot has come, and is about to be installed")
            self._name, self._kept = name, b""
        return len(self._kept)

    def write(self, data: bytes, /) -> None:
        if self._faults() and self._scheduler.rng.random() < _KEEPING_FAILS:
            self._kept = b""
            raise SnapshotFailed("simulated")
        self._kept += data

    def finish(self, snapshot: Snapshot, /) -> None:
        if self._checking:
            return
        self._checking = True
        kept = self._kept

        def checked() -> None:
            if not self._checking or self._kept is not kept:
                return
            if is_as_sent(kept, snapshot):
                self._on_received(snapshot)
            else:
                self.forget()

        self._scheduler.after(self._scheduler.rng.uniform(0.0, _MAKING_S_MAX), checked)

    def discard(self) -> None:
        if not self._checking:
            self._name, self._kept = None, b""

    def forget(self) -> None:
        """It is not what was sent, or not needed any more."""
        self._checking = False
        self.discard()

    def crashed(self, *, power_lost: bool) -> None:
        """What is found after a restart: all of it, or part of it, or something else."""
        self._checking = False
        rng = self._scheduler.rng
        if power_lost and self._kept and rng.random() < 0.5:
            self._kept = self._kept[: rng.randrange(len(self._kept) + 1)]
        elif power_lost and self._kept and rng.random() < 0.5:
            place = rng.randrange(len(self._kept))
            self._kept = self._kept[:place] + b"\0" + self._kept[place + 1 :]

    def completed(self, own: SimulatedDisk, snapshot: Snapshot) -> tuple[OrderedRows, OrderedRows]:
        """The rows of the received database once its log is this node's own."""
        state, raft = (OrderedRows(), OrderedRows())
        received_state, received_raft = _decode(self._kept)
        for family, received in ((state, received_state), (raft, received_raft)):
            for key, value in received:
                family.change(PUT, key, value)
        replace_log(_Received(raft), own.raft_rows, snapshot)
        return state, raft


class _Received:
    """The log's rows of a database that was received, before it is anybody's; a `LogStore`."""

    def __init__(self, family: OrderedRows) -> None:
        self._family = family
        self.get = family.get

    def write(self, puts: Sequence[Row], delete_ranges: Sequence[Row], /) -> None:
        for start, end in delete_ranges:
            self._family.change(DELETE_RANGE, start, end)
        for key, value in puts:
            self._family.change(PUT, key, value)

    def sync(self) -> None:
        """What is received is on no disk of its own before it is renamed into place."""

    def scan(self, start: bytes, end: bytes, /) -> Iterator[Row]:
        return iter(self._family.between(start, end))
