"""What a leader knows of one follower, after Progress of etcd-io/raft (tracker/progress.go).

Probing: it is not known where the logs agree; one message is out at a time, repeated with each heartbeat.
Replicating: `next_index` advances as entries are sent, so many batches are in flight, within bounds.
Snapshot: it needs what the log no longer has and gets no entries; heartbeats probe where the snapshot ends,
and the first that is accepted ends this state.

There is no timer for lost messages. A heartbeat asks for the entry before `next_index`: when a batch was
lost it is refused, and when only the answer was lost it acknowledges everything at once.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from consensus import limits
from consensus.snapshot_streams import SnapshotStream


@dataclass(slots=True)
class Progress:
    """0 <= match_index < next_index. What lies between the two is in flight."""

    next_index: int
    match_index: int = 0
    probing: bool = True
    probe_out: bool = False
    commit_sent: int = 0
    commit_sent_at: float = -math.inf
    confirmed_round: int = 0
    promised_round: int = 0
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    in_flight_size_bytes: int = 0
    stream: SnapshotStream | None = None
    recovering: bool = False
    behind: bool = False
    heard_at: float = -math.inf
    added_at: float = -math.inf

    def may_send_entries(self, last_index: int) -> bool:
        """Whether there are entries to send and the window has room for them."""
        if self.next_index > last_index or self.stream is not None:
            return False
        if self.probing:
            return not self.probe_out
        return (
            len(self.in_flight) < limits.IN_FLIGHT_BATCHES_MAX
            and self.in_flight_size_bytes < limits.IN_FLIGHT_SIZE_BYTES_MAX
        )

    def may_send_commit(self, commit_index: int, now: float) -> bool:
        """Whether the follower should be told of a new commit index in a message of its own: entries have
        not told it of one lately, and none are on their way."""
        return (
            not self.probing
            and not self.in_flight
            and self.commit_sent < min(commit_index, self.match_index)
            and now >= self.commit_sent_at + limits.COMMIT_NOTICE_INTERVAL_S
        )

    def sent(self, last_index: int, size_bytes: int, commit_index: int, now: float) -> None:
        """An append message left that ends at `last_index` and holds `size_bytes` of entries."""
        if commit_index > self.commit_sent:
            self.commit_sent, self.commit_sent_at = commit_index, now
        if self.probing:
            self.probe_out = True
        elif last_index >= self.next_index:
            self.next_index = last_index + 1
            self.in_flight.append((last_index, size_bytes))
            self.in_flight_size_bytes += size_bytes

    def accepted(self, index: int) -> None:
        """The follower holds everything up to `index`."""
        self.match_index = max(self.match_index, index)
        while self.in_flight and self.in_flight[0][0] <= index:
            self.in_flight_size_bytes -= self.in_flight.popleft()[1]
        if self.probing:
            self.probing = self.probe_out = False
            self.next_index = self.match_index + 1
        else:
            self.next_index = max(self.next_index, self.match_index + 1)

    def begin_snapshot(self) -> None:
        """The log no longer has what this follower needs next."""
        self.restart()
        self.stream = SnapshotStream()

    def end_snapshot(self) -> None:
        """The follower holds an entry of the log; it is brought to its end from there."""
        self.stream = None
        self.recovering = True

    def refused(self, prev_index: int, candidate: int, floor: int) -> bool:
        """The follower does not have `prev_index`; try `candidate` next, but nothing below `floor`.

        False when there is nothing lower left to try: the next heartbeat will ask again.
        """
        if self.probing and prev_index != self.next_index - 1:
            return True  # A late answer to an earlier probe.
        if not self.probing and prev_index <= self.match_index:
            return True  # A late answer; the follower has acknowledged that index since.
        was_probing, asked = self.probing, self.next_index
        self.restart()
        self.next_index = max(self.match_index + 1, floor, min(prev_index, candidate))
        self.probe_out = was_probing and self.next_index >= asked
        return not self.probe_out

    def restart(self) -> None:
        """Begins to probe; what is in flight may be lost."""
        self.probe_out = False
        if self.stream is not None:
            self.stream.restart()
        if self.probing:
            return
        self.probing = True
        self.commit_sent = min(self.commit_sent, self.match_index)
        self.next_index = self.match_index + 1
        self.in_flight.clear()
        self.in_flight_size_bytes = 0
