"""The snapshot that a leader has, and how far each follower that needs it has got it (thesis chapter 5).

At most one snapshot is there at a time. It is taken when a follower needs what the log no longer has, serves
every follower for as long as the log goes on from its end, and is released once nobody fetches it.

A stream works as Progress does: probing, one question is out, repeated with each heartbeat, until it is known
how much the follower has; streaming, chunks leave within a window. A chunk that does not follow the one
before is refused, and the stream probes again.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from consensus import limits
from consensus.budget import Budget
from consensus.log import DurableLog
from consensus.messages import InstallSnapshot, SnapshotResponse
from consensus.snapshot import Snapshot, SnapshotFailed, SnapshotSource
from consensus.stock import Outbox

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SnapshotStream:
    """What one follower has of the snapshot `digest`. What lies between the two offsets is in flight."""

    digest: bytes = b""
    acknowledged: int = 0
    next_offset: int = 0
    probing: bool = True
    probe_out: bool = False

    def restart(self) -> None:
        """Asks again; what is in flight may be lost."""
        self.probing, self.probe_out = True, False

    def answered(self, message: SnapshotResponse) -> None:
        """Takes an answer about `digest`."""
        if not message.accepted:
            if not self.probing:
                self.restart()
            self.acknowledged = self.next_offset = message.offset
            return
        self.acknowledged = max(self.acknowledged, message.offset)
        self.next_offset = max(self.next_offset, self.acknowledged)
        if message.offset == self.next_offset:
            self.probing = False


class SnapshotStreams:
    """Takes, sends and frees the snapshots of one member, as long as it leads."""

    def __init__(
        self,
        source: SnapshotSource,
        log: DurableLog,
        outbox: Outbox,
        budget: Budget,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._log = log
        self._outbox = outbox
        self._budget = budget
        self._clock = clock
        self._retry_at = float("-inf")
        self._pinned: int | None = None
        self.snapshot: Snapshot | None = None

    @property
    def pinned_index(self) -> int | None:
        """The log is needed from here on: the snapshot's last entry, or none after it; None without one."""
        return self._pinned if self.snapshot is None else self.snapshot.index

    def advance(self, applied_index: int, membership_at: Callable[[int], bytes]) -> None:
        """Takes a snapshot, of `applied_index` or later, if there is none that the log goes on from."""
        if self.snapshot is not None:
            if self._log.term_at(self.snapshot.index) is None:
                self.release()
        elif self._pinned is not None:
            self._look_at(membership_at)
        elif self._clock() >= self._retry_at and self._log.term_at(applied_index) is not None:
            self._pinned = applied_index
            self._source.begin()

    def _look_at(self, membership_at: Callable[[int], bytes]) -> None:
        try:
            taken = self._source.taken()
        except SnapshotFailed as error:
            self._give_up(error)
            return
        if taken is None:
            return
        term = self._log.term_at(taken.index)
        if term is None:  # The log outgrew even what is kept for a snapshot.
            self.release()
            return
        self.snapshot = Snapshot(
            taken.digest, taken.size_bytes, taken.index, term, membership_at(taken.index)
        )
        logger.info("snapshot of entry %d taken, %d bytes", taken.index, taken.size_bytes)

    def _give_up(self, error: SnapshotFailed) -> None:
        logger.error("no snapshot for a follower that needs one: %s", error)
        self._retry_at = self._clock() + limits.SNAPSHOT_RETRY_S
        self.release()

    def release(self) -> None:
        if self._pinned is not None:
            self._source.release()
        self._pinned = self.snapshot = None

    def may_send(self, stream: SnapshotStream) -> bool:
        """Whether something should go before the next heartbeat."""
        snapshot = self.snapshot
        if snapshot is None:
            return False
        if stream.digest != snapshot.digest or stream.probing:
            return not stream.probe_out
        in_flight_size_bytes = stream.next_offset - stream.acknowledged
        window_size_bytes = limits.SNAPSHOT_CHUNKS_IN_FLIGHT_MAX * limits.SNAPSHOT_CHUNK_SIZE_BYTES
        return (
            stream.next_offset < snapshot.size_bytes
            and in_flight_size_bytes < window_size_bytes
            and self._budget.open()
        )

    def send(self, peer_id: str, stream: SnapshotStream, term: int, *, heartbeat: bool) -> bool:
        """Puts into the outbox what this follower should get of the snapshot now; whether chunks are among
        it, which are what costs."""
        snapshot = self.snapshot
        if snapshot is None:
            return False
        if stream.digest != snapshot.digest:
            stream.digest, stream.acknowledged, stream.next_offset = snapshot.digest, 0, 0
            stream.restart()
        if heartbeat or (stream.probing and not stream.probe_out):
            stream.probe_out = True
            self._outbox.put(peer_id, InstallSnapshot(term, snapshot, stream.next_offset, 0, b""))
        first_offset = stream.next_offset
        try:
            while not stream.probing and self.may_send(stream):
                data = self._source.read(stream.next_offset, limits.SNAPSHOT_CHUNK_SIZE_BYTES)
                chunk = InstallSnapshot(term, snapshot, stream.next_offset, zlib.crc32(data), data)
                self._outbox.put(peer_id, chunk)
                stream.next_offset += len(data)
                self._budget.spend_on_files(len(data))
        except SnapshotFailed as error:
            self._give_up(error)
        return stream.next_offset > first_offset
